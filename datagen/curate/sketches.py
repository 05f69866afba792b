"""Sketches on disk: Arrow files that are mapped, so that memory does not grow with the text.

A part holds some thousand rows: their ids, their keys in each band, their shingles. A file appears
whole under its name or not at all, so that a killed run finds what it had finished.
"""

from __future__ import annotations

import resource
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from datagen.curate.exact import Rows
from datagen.curate.minhash import Parts, Sketches
from datagen.curate.words import Hashes
from datagen.errors import DataError
from datagen.shards.parquet import write_bytes

_INDEX = "index.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SketchFiles:
    """The rows of several parts, one after another, as they lie on disk."""

    tables: tuple[pa.RecordBatch, ...]

    @classmethod
    def open(cls, paths: Sequence[Path]) -> SketchFiles:
        """Map the parts; their pages are read when they are looked at."""
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        return cls(tables=tuple(_mapped(path) for path in paths))

    def __len__(self) -> int:
        """How many rows all parts have."""
        return sum(table.num_rows for table in self.tables)

    def ids(self, rows: Rows) -> list[str]:
        """The ids of some rows."""
        starts = np.concatenate(([0], np.cumsum([t.num_rows for t in self.tables], dtype=np.int64)))
        part = np.searchsorted(starts, rows, side="right") - 1
        found: list[str] = []
        for one, row in zip(part.tolist(), (rows - starts[part]).tolist(), strict=True):
            found.append(self.tables[one].column("id")[row].as_py())
        return found

    def band(self, number: int) -> Hashes:
        """The keys of all rows in one band, shape (n,)."""
        parts = [table.column(f"band_{number}").to_numpy() for table in self.tables]
        return np.concatenate([np.zeros(0, np.uint64), *parts])

    def parts(self) -> Parts:
        """The shingles of all rows, as they are mapped."""
        columns = [table.column("shingles") for table in self.tables]
        return Parts(
            shingles=[column.values.to_numpy() for column in columns],
            begins=[column.offsets.to_numpy() for column in columns],
        )


def write_sketches(path: Path, ids: pa.Array, found: Sketches) -> None:
    """Write the sketches of one batch of rows as a part."""
    bands = found.keys.shape[1]
    shingles = pa.LargeListArray.from_arrays(pa.array(found.begins), pa.array(found.shingles))
    columns = [ids, shingles, *(pa.array(found.keys[:, band].copy()) for band in range(bands))]
    names = ["id", "shingles", *(f"band_{band}" for band in range(bands))]
    batch = pa.RecordBatch.from_arrays(columns, names)
    temporary = path.with_name(f".{path.name}.tmp")
    with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
    temporary.replace(path)


def is_whole(path: Path) -> bool:
    """Whether a part can be read; one that a power cut left behind cannot."""
    try:
        _mapped(path)
    except (OSError, pa.ArrowException, IndexError):
        return False
    return True


def _mapped(path: Path) -> pa.RecordBatch:
    return pa.ipc.open_file(pa.memory_map(str(path), "r")).get_batch(0)


# --- an index: the parts of earlier runs ----------------------------------------------------------


def index_parts(
    index: Path | None, settings: Mapping[str, Any], states: Sequence[Mapping[str, Any]]
) -> tuple[list[Path], bool]:
    """The parts of the runs before this one, and whether the index holds this one's already.

    DataError where they were made with other settings.
    """
    record = _read_index(index)
    if index is None or record is None:
        return [], False
    if record["settings"] != dict(settings):
        raise DataError(
            "this index was made with other settings or by another version",
            where=str(index / _INDEX),
            fix="use the settings it names, or another --index",
        )
    mine = next((run["begin"] for run in record["runs"] if run["tables"] == list(states)), None)
    return [index / name for name in record["parts"][:mine]], mine is not None


def _read_index(index: Path | None) -> dict[str, Any] | None:
    if index is None or not (index / _INDEX).is_file():
        return None
    record: dict[str, Any] = orjson.loads((index / _INDEX).read_bytes())
    return record


def index_homes(index: Path, parts: int) -> Rows:
    """The row kept for each row of so many first parts."""
    return np.fromfile(index / f"homes-{parts:08}.i8", "<i8")


def extend_index(
    index: Path,
    settings: Mapping[str, Any],
    states: Sequence[Mapping[str, Any]],
    added: Sequence[Path],
    cluster: Rows,
) -> None:
    """Add the new parts and every row's home; `index.json` is written last."""
    index.mkdir(parents=True, exist_ok=True)
    record = _read_index(index) or {"settings": settings, "parts": [], "runs": []}
    names: list[str] = record["parts"]
    begin = len(names)
    for path in added:
        name = f"{len(names):08}.arrow"
        shutil.copyfile(path, index / name)
        names.append(name)
    write_bytes(index / f"homes-{len(names):08}.i8", cluster.astype("<i8").tobytes())
    record["runs"].append({"tables": states, "begin": begin})
    write_bytes(index / _INDEX, orjson.dumps(record, option=orjson.OPT_INDENT_2))

"""Sketches on disk: Arrow files that are mapped, so that memory does not grow with the text.

A part holds some thousand rows: their ids, their keys in each band, their shingles. A file appears
whole under its name or not at all, so that a killed run finds what it had finished.
"""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from datagen.curate.exact import Rows
from datagen.curate.minhash import Parts, Sketches
from datagen.curate.words import Hashes


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

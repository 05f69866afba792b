"""Dedup of tables that somebody brings: sketches a batch, clusters once, kept rows a table.

The result hangs on the rows and their ids alone: not on the order of files, on how rows lie in
them, or on the number of workers. A run that was killed goes on from the batches it had finished.
With an index, rows are compared with those of earlier runs too, whose text is not read again.

Memory: some 300 MB with one worker, libraries included, and about 160 bytes a row; the shingles of
pairs that are being compared are at most 300 MB. Sketches are mapped, which counts as resident
memory but can be taken back. On disk: 0.8 bytes a byte of text, until the end.
"""

from __future__ import annotations

import re
import shutil
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from datagen.curate.exact import Rows
from datagen.curate.minhash import Clusters, Forest, candidate_pairs, join, settle, sketch
from datagen.curate.sketches import (
    SketchFiles,
    extend_index,
    index_homes,
    index_parts,
    is_whole,
    write_sketches,
)
from datagen.errors import DataError
from datagen.shards.parquet import FileEntry, write_bytes, write_parquet
from datagen.shards.tables import (
    TextBatch,
    TextTable,
    id_hashes,
    read_table,
    refuse_repeated_ids,
    write_rows,
)
from datagen.workspace.specs import MinhashSpec

CLUSTERS = "clusters.parquet"
REPORT = "dedup.json"
_WORK = ".work"
_TABLE_SCHEMA = pa.schema(
    [
        ("id", pa.large_string()),
        ("cluster", pa.large_string()),
        ("size", pa.int64()),
        ("kept", pa.bool_()),
        ("similarity", pa.float32()),
    ]
)
_NUMBERS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class DedupReport:
    """What a run came to; `clusters` are those of more than one row, `mended` rows were no UTF-8.

    `indexed` is how many rows of earlier runs the new ones were compared with; `finished` says that
    an earlier run on the same inputs had done all of it.
    """

    rows: int
    kept: int
    dropped: int
    clusters: int
    largest: int
    text_bytes: int
    mended: int
    indexed: int
    files: tuple[FileEntry, ...]
    finished: bool = False


def dedup_tables(
    tables: Sequence[TextTable],
    out: Path,
    spec: MinhashSpec,
    *,
    workers: int = 1,
    index: Path | None = None,
) -> DedupReport:
    """Write the rows to keep of every table, and `clusters.parquet` with one row an input row.

    Of each cluster the row with the smallest id is kept, numbers in ids compared as numbers; a row
    of the index before all others. Raises DataError for what cannot be read, and for ids that come
    twice, also where the index has one already.
    """
    from datagen.curate.kernels import source_digest

    if any(table.name in (CLUSTERS, REPORT) for table in tables):
        raise DataError(
            f"an input is named like an output, {CLUSTERS} or {REPORT}",
            where=str(out),
            fix="rename the input",
        )
    settings = {"spec": spec.model_dump(mode="json"), "code": source_digest()}
    states = [_state(table) for table in tables]
    known, indexed = index_parts(index, settings, states)
    identity = {**settings, "index": [path.name for path in known], "tables": states}
    if (report := _finished(out, identity)) is not None:
        return report
    work = _work_folder(out, identity)
    paths, size, mended = _sketch(tables, work, spec, workers, _hashes_of(known))
    files = SketchFiles.open([*known, *paths])
    homes = np.zeros(0, np.int64) if index is None or not known else index_homes(index, len(known))
    old = len(homes)
    found = _clusters(files, spec, old, homes, workers)
    entries = [_write_clusters(out, files, found, old)]
    entries += _write_kept(tables, out, found.kept[old:])
    dropped = int((~found.kept[old:]).sum())
    sizes = found.size[old:][found.size[old:] > 1]
    report = DedupReport(
        rows=len(files) - old,
        kept=len(files) - old - dropped,
        dropped=dropped,
        clusters=len(np.unique(found.cluster[old:][found.size[old:] > 1])),
        largest=int(sizes.max(initial=1)),
        text_bytes=size,
        mended=mended,
        indexed=old,
        files=tuple(entries),
    )
    if index is not None and not indexed:
        extend_index(index, settings, states, paths, found.cluster)
    record = {"identity": identity, "report": asdict(report)}
    write_bytes(out / REPORT, orjson.dumps(record, option=orjson.OPT_INDENT_2))
    shutil.rmtree(work)
    return report


# --- a run's inputs and what is left of an earlier one -------------------------------------------


def _state(table: TextTable) -> dict[str, Any]:
    """What tells whether a table is the one that an earlier run read."""
    stat = table.path.stat()
    return {
        "name": table.name,
        "id_field": table.id_field,
        "text_field": table.text_field,
        "bytes": stat.st_size,
        "modified_ns": stat.st_mtime_ns,
    }


def _finished(out: Path, identity: Mapping[str, Any]) -> DedupReport | None:
    path = out / REPORT
    if not path.is_file():
        return None
    record = orjson.loads(path.read_bytes())
    entries = tuple(FileEntry(**entry) for entry in record["report"]["files"])
    whole = all(
        (out / e.path).is_file() and (out / e.path).stat().st_size == e.bytes for e in entries
    )
    if record["identity"] != identity or not whole:
        path.unlink()
        return None
    return DedupReport(**{**record["report"], "files": entries, "finished": True})


def _work_folder(out: Path, identity: Mapping[str, Any]) -> Path:
    """The folder of finished batches, emptied where it belongs to other inputs."""
    work = out / _WORK
    about = work / "inputs.json"
    if not about.is_file() or orjson.loads(about.read_bytes()) != identity:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        write_bytes(about, orjson.dumps(identity))
    return work


# --- sketches ------------------------------------------------------------------------------------


def _sketch(
    tables: Sequence[TextTable],
    work: Path,
    spec: MinhashSpec,
    workers: int,
    known: npt.NDArray[np.uint64],
) -> tuple[list[Path], int, int]:
    """Sketch every batch that is not there yet; the parts in order, bytes of text, mended rows."""
    paths: list[Path] = []
    hashes: list[npt.NDArray[np.uint64]] = []
    size = mended = 0
    pending: deque[Future[None]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for number, table in enumerate(tables):
            mine = [np.zeros(0, np.uint64)]
            for batch in read_table(table, whole=False):
                path = work / f"{number:05}-{batch.first:012}.arrow"
                paths.append(path)
                mine.append(id_hashes(batch.ids))
                size += _text_bytes(batch.texts)
                mended += batch.mended
                if not is_whole(path):
                    pending.append(pool.submit(_sketch_batch, batch, path, spec))
                while len(pending) > workers:
                    pending.popleft().result()
            hashes.append(np.concatenate(mine))
        for waiting in pending:
            waiting.result()
    refuse_repeated_ids(tables, hashes)
    _refuse_known_ids(tables, hashes, known)
    return paths, size, mended


def _sketch_batch(batch: TextBatch, path: Path, spec: MinhashSpec) -> None:
    write_sketches(path, batch.ids, sketch(batch.texts, spec))


def _text_bytes(texts: pa.Array) -> int:
    offsets = np.frombuffer(texts.buffers()[1], np.int64)
    return int(offsets[texts.offset + len(texts)] - offsets[texts.offset])


def _hashes_of(parts: Sequence[Path]) -> npt.NDArray[np.uint64]:
    tables = SketchFiles.open(parts).tables
    return np.concatenate([np.zeros(0, np.uint64), *(id_hashes(t.column("id")) for t in tables)])


def _refuse_known_ids(
    tables: Sequence[TextTable],
    hashes: Sequence[npt.NDArray[np.uint64]],
    known: npt.NDArray[np.uint64],
) -> None:
    for table, mine in zip(tables, hashes, strict=True):
        rows = np.flatnonzero(np.isin(mine, known))
        if len(rows):
            raise DataError(
                f"{len(rows)} ids, the first of them this row's, are in the index already",
                where=f"{table.path}#{rows[0]}",
                fix="give the rows ids of their own, or leave out what was indexed before",
            )


# --- clusters ------------------------------------------------------------------------------------


def _clusters(
    files: SketchFiles, spec: MinhashSpec, old: int, homes: Rows, workers: int
) -> Clusters:
    """The clusters of all rows: those of the first `old` stand, in `homes` (old,)."""
    count = len(files)
    # An order that is the rows' own, wherever they lie: that of their ids' hashes.
    hashes = [id_hashes(table.column("id")) for table in files.tables]
    order = np.argsort(np.concatenate([np.zeros(0, np.uint64), *hashes]), kind="stable")
    ranks = np.empty(count, np.int64)
    ranks[order] = np.arange(count)
    forest = Forest(ranks)
    forest.join(np.stack((np.arange(old), homes), axis=1))
    parts = files.parts()
    join(forest, _bands(files, spec, ranks, old, workers), parts, spec)
    return settle(_kept(files, forest.roots(), old, homes), parts, spec)


def _bands(
    files: SketchFiles, spec: MinhashSpec, ranks: Rows, old: int, workers: int
) -> Iterator[Rows]:
    """The candidates of each band in turn, some bands ahead; none among the old rows alone."""

    def pairs(band: int) -> Rows:
        found = candidate_pairs(files.band(band), ranks)
        return found[(found >= old).any(axis=1)]

    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[Future[Rows]] = deque()
        for band in range(spec.banding[0]):
            ahead.append(pool.submit(pairs, band))
            if len(ahead) > workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _kept(files: SketchFiles, roots: Rows, old: int, homes: Rows) -> Rows:
    """The row kept for each row (n,): of the smallest id in its cluster, an old one first.

    What an earlier run kept stays kept, also where a new row joins two of its clusters.
    """
    home = np.arange(len(roots))
    size = np.bincount(roots, minlength=len(roots))
    members = np.flatnonzero(size[roots] > 1)
    if len(members):
        members = members[np.argsort(roots[members], kind="stable")]
        begins = np.flatnonzero(np.diff(roots[members], prepend=-1))
        for group in np.split(members, begins[1:]):
            among = group[group < old]
            among = np.unique(homes[among]) if len(among) else group
            names = files.ids(among)
            best = min(range(len(among)), key=lambda place: _natural(names[place]))
            home[group] = among[best]
    home[:old] = homes
    return home


def _natural(name: str) -> tuple[Any, ...]:
    """Sort key of an id in which runs of digits compare as numbers."""
    pieces = _NUMBERS.split(name)
    numbers = [piece.lstrip("0") for piece in pieces[1::2]]
    pieces[1::2] = ["" for _ in numbers]
    return (*zip(pieces[::2], [*((len(n), n) for n in numbers), (0, "")], strict=True), name)


# --- what comes out ------------------------------------------------------------------------------


def _write_clusters(out: Path, files: SketchFiles, found: Clusters, old: int) -> FileEntry:
    kept = found.kept

    def batches() -> Iterator[pa.RecordBatch]:
        start = 0
        for table in files.tables:
            rows = slice(start, start + table.num_rows)
            start += table.num_rows
            if rows.start < old:
                continue
            names = table.column("id")
            dropped = np.flatnonzero(~kept[rows])
            if len(dropped):
                instead = files.ids(found.cluster[rows][dropped])
                names = pc.replace_with_mask(
                    names, pa.array(~kept[rows]), pa.array(instead, pa.large_string())
                )
            yield pa.RecordBatch.from_arrays(
                [
                    table.column("id"),
                    names,
                    pa.array(found.size[rows]),
                    pa.array(kept[rows]),
                    pa.array(found.similarity[rows]),
                ],
                schema=_TABLE_SCHEMA,
            )

    out.mkdir(parents=True, exist_ok=True)
    return write_parquet(out, CLUSTERS, batches(), _TABLE_SCHEMA)


def _write_kept(
    tables: Sequence[TextTable], out: Path, kept: npt.NDArray[np.bool_]
) -> list[FileEntry]:
    start = 0

    def rows(table: TextTable) -> Iterator[pa.RecordBatch]:
        nonlocal start
        for batch in read_table(table):
            mask = kept[start : start + batch.rows.num_rows]
            start += batch.rows.num_rows
            yield batch.rows if mask.all() else batch.rows.filter(pa.array(mask))

    return [write_rows(table, out, rows(table)) for table in tables]

"""Decontaminate tables that somebody brings: hits a table, formulas once, kept rows a table.

What was found in a table is kept beside the results under a name made of all that decides it, so
that a run that was killed goes on, and a later one with more inputs reads those alone. The result
hangs on rows and benchmarks: not on the order of files or the number of workers.

Memory: some 32 MB of text a worker, the benchmarks, 8 bytes a row, and all hits.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter, deque
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

from datagen import __version__
from datagen.curate.benchmarks import Benchmark
from datagen.curate.decontaminate import Hit, ItemKey, cut, find_hits_arrow, formulas, without
from datagen.curate.questions import BenchmarkIndex, load_benchmarks
from datagen.errors import DataError
from datagen.shards.parquet import (
    FileEntry,
    file_sha256,
    publish_file,
    write_bytes,
    write_parquet,
)
from datagen.shards.tables import (
    TextBatch,
    TextTable,
    id_hashes,
    read_table,
    refuse_repeated_ids,
    write_rows,
)
from datagen.workspace.specs import DecontaminateSpec

HITS = "hits.parquet"
REPORT = "decontaminate.json"
_WORK = ".found"
_HIT_SCHEMA = pa.schema(
    [
        ("id", pa.large_string()),
        ("benchmark", pa.string()),
        ("item", pa.string()),
        ("tier", pa.string()),
        ("coverage", pa.float64()),
        ("start", pa.int64()),
        ("end", pa.int64()),
    ]
)
_CODE = ("benchmarks", "questions", "matches", "decontaminate", "decontaminate_tables")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecontaminateReport:
    """What a run came to: rows with hits were dropped, or cut; `tiers` counts hits by both names.

    `formulas` are items that too many texts hold to be leaks, `mended` rows were no UTF-8, `read`
    is how many of the tables were read now, and not in an earlier run.
    """

    rows: int
    kept: int
    dropped: int
    cut: int
    hits: int
    tiers: Mapping[str, Mapping[str, int]]
    items: int
    formulas: int
    text_bytes: int
    mended: int
    read: int
    files: tuple[FileEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What a table holds: its hits by row, with the row's id, and figures of all its rows."""

    hashes: npt.NDArray[np.uint64]
    hits: Mapping[int, tuple[str, list[Hit]]]
    text_bytes: int
    mended: int


def decontaminate_tables(
    tables: Sequence[TextTable],
    benchmarks: Sequence[Benchmark],
    out: Path,
    spec: DecontaminateSpec,
    *,
    workers: int = 1,
) -> DecontaminateReport:
    """Write the rows to keep of every table, and `hits.parquet` with one row a hit, by id.

    Raises DataError for what cannot be read, for ids that come twice, and for a benchmark without
    a question.
    """
    _refuse_names(tables, out)
    work = out / _WORK
    work.mkdir(parents=True, exist_ok=True)
    about = _identity(benchmarks, spec)
    index = load_benchmarks(benchmarks, spec)
    _refuse_empty(benchmarks, index)
    paths = [work / f"{_digest([about, _state(table)])}.json" for table in tables]
    read = 0
    with ThreadPoolExecutor(workers) as pool:
        for table, path in zip(tables, paths, strict=True):
            if not path.is_file():
                _write_found(path, _scan(table, index, pool, workers))
                read += 1
    found = [_read_found(path) for path in paths]
    refuse_repeated_ids(tables, [one.hashes for one in found])
    rows = sum(len(one.hashes) for one in found)
    forms = formulas((hits for one in found for _, hits in one.hits.values()), rows, spec)
    files = [
        _write_kept(table, out, path, one, index, forms)
        for table, path, one in zip(tables, paths, found, strict=True)
    ]
    entry, tiers = _write_hits(out, found, forms)
    for stale in set(work.iterdir()) - {*paths, *(path.with_suffix(".kept") for path in paths)}:
        stale.unlink()
    kept = sum(file.rows for file in files)
    touched = sum(1 for one in found for _, hits in one.hits.values() if without(hits, forms))
    report = DecontaminateReport(
        rows=rows,
        kept=kept,
        dropped=rows - kept,
        cut=touched - (rows - kept),
        hits=entry.rows,
        tiers=tiers,
        items=sum(len(question.items) for question in index.questions),
        formulas=len(forms),
        text_bytes=sum(one.text_bytes for one in found),
        mended=sum(one.mended for one in found),
        read=read,
        files=(entry, *files),
    )
    # How much of it was done in this run is for eyes alone: equal inputs give equal files.
    record = {name: value for name, value in asdict(report).items() if name != "read"}
    write_bytes(out / REPORT, orjson.dumps(record, option=orjson.OPT_INDENT_2))
    return report


def _refuse_names(tables: Sequence[TextTable], out: Path) -> None:
    for table in tables:
        if table.name in (HITS, REPORT):
            raise DataError(
                f"an input is named like an output, {HITS} or {REPORT}",
                where=str(table.path),
                fix="rename the input",
            )
        if (out / table.name).resolve() == table.path:
            raise DataError(
                "the kept rows would take the place of the input",
                where=str(table.path),
                fix="name another folder with -o",
            )


def _refuse_empty(benchmarks: Sequence[Benchmark], index: BenchmarkIndex) -> None:
    asked = {item.benchmark for question in index.questions for item in question.items}
    for spec, files in benchmarks:
        if spec.name not in asked:
            raise DataError(
                f"benchmark {spec.name!r} has no question to look for",
                where=files[0].name if files else f"benchmark {spec.name}",
                fix="check its files, its 'split' and 'fields: question:'; short ones may be "
                "ignored by 'short_items'",
            )


# --- what decides a result -----------------------------------------------------------------------


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def _identity(benchmarks: Sequence[Benchmark], spec: DecontaminateSpec) -> str:
    """A digest of the settings, of the benchmarks' bytes and of the code that looks for them."""
    from datagen.curate.kernels import source_digest

    here = Path(__file__).parent
    return _digest(
        [
            __version__,
            source_digest(),
            [file_sha256(here / f"{name}.py") for name in _CODE],
            spec.model_dump(mode="json"),
            [
                [one.model_dump(mode="json"), [[f.name, file_sha256(f.path)] for f in files]]
                for one, files in benchmarks
            ],
        ]
    )


def _state(table: TextTable) -> list[Any]:
    """What tells whether a table is the one that an earlier run read."""
    stat = table.path.stat()
    return [table.name, table.id_field, table.text_field, stat.st_size, stat.st_mtime_ns]


# --- hits ----------------------------------------------------------------------------------------


def _scan(
    table: TextTable, index: BenchmarkIndex, pool: ThreadPoolExecutor, workers: int
) -> _Found:
    """Look through a table, `workers` batches at a time."""
    hashes = [np.zeros(0, np.uint64)]
    hits: dict[int, tuple[str, list[Hit]]] = {}
    size = mended = 0
    pending: deque[tuple[TextBatch, Future[dict[int, list[Hit]]]]] = deque()

    def settle() -> None:
        batch, waiting = pending.popleft()
        for row, mine in waiting.result().items():
            hits[batch.first + row] = batch.ids[row].as_py(), mine

    for batch in read_table(table, whole=False):
        hashes.append(id_hashes(batch.ids))
        size += _text_bytes(batch.texts)
        mended += batch.mended
        pending.append((batch, pool.submit(find_hits_arrow, batch.texts, index)))
        while len(pending) > workers:
            settle()
    while pending:
        settle()
    return _Found(hashes=np.concatenate(hashes), hits=hits, text_bytes=size, mended=mended)


def _text_bytes(texts: pa.Array) -> int:
    offsets = np.frombuffer(texts.buffers()[1], np.int64)
    return int(offsets[texts.offset + len(texts)] - offsets[texts.offset])


def _write_found(path: Path, found: _Found) -> None:
    record = {
        "hashes": found.hashes.astype("<u8").tobytes().hex(),
        "hits": [[row, id_, list(map(asdict, hits))] for row, (id_, hits) in found.hits.items()],
        "text_bytes": found.text_bytes,
        "mended": found.mended,
    }
    write_bytes(path, orjson.dumps(record))


def _read_found(path: Path) -> _Found:
    record = orjson.loads(path.read_bytes())
    return _Found(
        hashes=np.frombuffer(bytes.fromhex(record["hashes"]), "<u8"),
        hits={row: (id_, [Hit(**hit) for hit in hits]) for row, id_, hits in record["hits"]},
        text_bytes=record["text_bytes"],
        mended=record["mended"],
    )


def _write_hits(
    out: Path, found: Sequence[_Found], forms: set[ItemKey]
) -> tuple[FileEntry, dict[str, dict[str, int]]]:
    rows = sorted(
        (id_, hit)
        for one in found
        for id_, mine in one.hits.values()
        for hit in without(mine, forms)
    )
    columns: dict[str, list[Any]] = {"id": [id_ for id_, _ in rows]}
    for name in _HIT_SCHEMA.names[1:]:
        columns[name] = [getattr(hit, name) for _, hit in rows]
    batch = pa.RecordBatch.from_pydict(columns, schema=_HIT_SCHEMA)
    tiers: dict[str, dict[str, int]] = {}
    counts = Counter((hit.benchmark, hit.tier) for _, hit in rows)
    for (benchmark, tier), count in sorted(counts.items()):
        tiers.setdefault(benchmark, {})[tier] = count
    return write_parquet(out, HITS, [batch], _HIT_SCHEMA), tiers


# --- kept rows -----------------------------------------------------------------------------------


def _write_kept(
    table: TextTable,
    out: Path,
    path: Path,
    found: _Found,
    index: BenchmarkIndex,
    forms: set[ItemKey],
) -> FileEntry:
    """Write a table's kept rows, unless an earlier run did and nothing has changed since."""
    hits = {row: without(mine, forms) for row, (_, mine) in found.hits.items()}
    hits = {row: mine for row, mine in hits.items() if mine}
    about = _digest([[row, list(map(str, mine))] for row, mine in sorted(hits.items())])
    mark = path.with_suffix(".kept")
    if mark.is_file():
        before = orjson.loads(mark.read_bytes())
        entry = FileEntry(**before["entry"])
        target = out / entry.path
        if before["about"] == about and target.is_file() and target.stat().st_size == entry.bytes:
            return entry
    if hits or found.mended:
        entry = write_rows(table, out, _kept(table, hits, index, forms))
    else:
        entry = _copy(table, out, len(found.hashes))
    write_bytes(mark, orjson.dumps({"about": about, "entry": asdict(entry)}))
    return entry


def _kept(
    table: TextTable, hits: Mapping[int, list[Hit]], index: BenchmarkIndex, forms: set[ItemKey]
) -> Iterator[pa.RecordBatch]:
    for batch in read_table(table):
        last = batch.first + len(batch.ids)
        mine = {row - batch.first: hits[row] for row in hits if batch.first <= row < last}
        kept = np.ones(len(batch.ids), np.bool_)
        texts: dict[int, str] = {}
        for row, found in mine.items():
            rest = None
            if index.spec.on_hit == "cut":
                text = batch.texts[row].as_buffer().to_pybytes().decode(errors="replace")
                rest = cut(text, found, index, forms)
            if rest is None:
                kept[row] = False
            else:
                texts[row] = rest
        rows = _with_texts(table, batch.rows, texts) if texts else batch.rows
        yield rows.filter(pa.array(kept))


def _with_texts(table: TextTable, rows: pa.RecordBatch, texts: Mapping[int, str]) -> pa.RecordBatch:
    """The rows with some texts replaced, in a column or in lines of JSON."""
    place = rows.schema.get_field_index(table.text_field if table.is_parquet else "line")
    field, column = rows.schema.field(place), rows.column(place)
    values: list[Any] = [text for _, text in sorted(texts.items())]
    if not table.is_parquet:
        lines = [json.loads(column[row].as_py()) for row in sorted(texts)]
        values = [
            json.dumps({**line, table.text_field: text}, ensure_ascii=False).encode(
                errors="replace"
            )
            for line, text in zip(lines, values, strict=True)
        ]
    mask = np.zeros(len(column), np.bool_)
    mask[list(texts)] = True
    plain = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    column = pc.replace_with_mask(column.cast(plain), pa.array(mask), pa.array(values, plain))
    if plain != field.type:
        column = column.dictionary_encode().cast(field.type)
    return rows.set_column(place, field, column)


def _copy(table: TextTable, out: Path, rows: int) -> FileEntry:
    """A table of which all is kept, byte by byte."""
    target = out / table.name
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.copyfile(table.path, temporary)
    return publish_file(temporary, out, table.name, rows=rows)

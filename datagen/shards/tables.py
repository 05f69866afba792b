"""Tables that somebody brings: their rows in batches, and the kept ones in the same form.

Parquet and JSON lines (`.jsonl`, `.ndjson`, plain, `.gz` or `.zst`). Of each row the id and the
text are known; all else is carried along as it stands. Memory holds a batch of some 16 MB.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from datagen.errors import DataError
from datagen.shards.parquet import FileEntry, publish_file, write_parquet

BATCH_BYTES = 1 << 24
_BATCH_ROWS = 1 << 14
_LINE_BYTES = 1 << 30
_BUFFER_BYTES = 1 << 20
"""Of a column's compressed bytes at once: a row group of hundreds of MB is never held whole."""
_CODECS = {".gz": "gzip", ".zst": "zstd"}
_GZIP_LEVEL = 4
_LINES = (".jsonl", ".ndjson")
_LINE = pa.schema([("line", pa.large_binary())])


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """One input file; `name` is its output's path too, and what errors call it is its path."""

    name: str
    path: Path
    id_field: str
    text_field: str

    @property
    def is_parquet(self) -> bool:
        """Whether it is Parquet; else it is JSON lines."""
        return self.path.suffix.lower() == ".parquet"


@dataclass(frozen=True, kw_only=True)
class TextBatch:
    """Rows of a table: parallel ids and texts, both large_string, and the rows as they stand.

    `rows` has all the columns of a Parquet file, or one column `line` of bytes; `first` is the
    number of its first row, `mended` counts the rows that were no UTF-8.
    """

    first: int
    ids: pa.Array
    texts: pa.Array
    rows: pa.RecordBatch
    mended: int = 0


# --- which files ---------------------------------------------------------------------------------


def find_tables(inputs: Sequence[Path], *, id_field: str, text_field: str) -> list[TextTable]:
    """The tables among files and folders, by name; a folder gives all that lie below it.

    A name is a file's own, or its path below the inputs' common folder where two share it.
    DataError for what is not there, is of another kind, or comes twice.
    """
    paths = sorted(path for given in inputs for path in _files(given))
    for one, two in pairwise(paths):
        if one == two:
            raise DataError("comes twice among the inputs", where=str(one), fix="name it once")
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        common = Path(os.path.commonpath([path.parent for path in paths]))
        names = [path.relative_to(common).as_posix() for path in paths]
    return sorted(
        (
            TextTable(name=name, path=path, id_field=id_field, text_field=text_field)
            for name, path in zip(names, paths, strict=True)
        ),
        key=lambda table: table.name,
    )


def _files(given: Path) -> list[Path]:
    path = given.resolve()
    if path.is_dir():
        below = [inner for inner in path.rglob("*") if _is_table(inner) and inner.is_file()]
        if below:
            return below
        problem = "no .parquet, .jsonl, .jsonl.gz or .jsonl.zst file lies in this folder"
    elif not path.exists():
        problem = "no such file"
    elif _is_table(path):
        return [path]
    else:
        problem = "neither .parquet nor .jsonl (plain, .gz or .zst)"
    raise DataError(problem, where=str(given), fix="name Parquet or JSON lines files, or a folder")


def _is_table(path: Path) -> bool:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _CODECS:
        suffixes.pop()
        return bool(suffixes) and suffixes[-1] in _LINES
    return bool(suffixes) and suffixes[-1] in (".parquet", *_LINES)


# --- their rows ----------------------------------------------------------------------------------


def read_table(table: TextTable, *, whole: bool = True) -> Iterator[TextBatch]:
    """The rows of a table in order; without `whole`, `rows` has no columns.

    A text that is null or absent is empty. DataError with file and row or line for what cannot be
    read, a column that is missing or no text, and an id that is null.
    """
    try:
        yield from (_read_parquet if table.is_parquet else _read_lines)(table, whole)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"cannot be read: {error}", where=str(table.path), fix="fetch or write the file again"
        ) from error


def _read_parquet(table: TextTable, whole: bool) -> Iterator[TextBatch]:
    # Buffered ahead, all that was read of the file would stay in memory until its end.
    with pq.ParquetFile(
        table.path, page_checksum_verification=True, buffer_size=_BUFFER_BYTES, pre_buffer=False
    ) as file:
        schema = file.schema_arrow
        for field in (table.id_field, table.text_field):
            if field not in schema.names:
                raise _no_field(str(table.path), field, schema.names)
        columns = None if whole else list({table.id_field: None, table.text_field: None})
        first = 0
        rows = _batch_rows(file, table.text_field)
        for batch in file.iter_batches(batch_size=rows, columns=columns, use_threads=False):
            ids = _as_text(table, batch.column(table.id_field), "id", first)
            ids.validate(full=True)
            if ids.null_count:
                number = first + int(np.flatnonzero(ids.is_null().to_numpy(False))[0])
                raise _no_id(table, f"{table.path}#{number}")
            texts = _as_text(table, batch.column(table.text_field), "text", first)
            if texts.null_count:
                texts = texts.fill_null("")
            kept = batch.cast(_row_schema(batch.schema)) if whole else batch.select([])
            yield TextBatch(first=first, ids=ids, texts=texts, rows=kept)
            first += batch.num_rows


def _row_schema(schema: pa.Schema) -> pa.Schema:
    """The schema with string views, which Arrow cannot filter, as plain strings."""
    for place, field in enumerate(schema):
        if field.type == pa.string_view():
            schema = schema.set(place, field.with_type(pa.large_string()))
    return schema


def _batch_rows(file: pq.ParquetFile, text_field: str) -> int:
    """Rows that hold about BATCH_BYTES of text where the texts are largest."""
    metadata = file.metadata
    rows = _BATCH_ROWS
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema == text_field and group.num_rows:
                mean = column.total_uncompressed_size / group.num_rows
                rows = min(rows, int(BATCH_BYTES / max(mean, 1)))
    return max(rows, 1)


def _as_text(table: TextTable, column: pa.Array, what: str, first: int) -> pa.Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view()
    number = what == "id" and pa.types.is_integer(kind)
    if not text and not number and not pa.types.is_null(kind):
        field = table.id_field if what == "id" else table.text_field
        raise DataError(
            f"column {field!r} holds {kind}, which is no {what}",
            where=f"{table.path}#{first}",
            fix=f"name a column of strings{' or integers' if what == 'id' else ''} "
            f"with --{what}-field",
        )
    if pa.types.is_integer(kind):
        column = column.cast(pa.string())
    return column if pa.types.is_large_string(column.type) else column.cast(pa.large_string())


def _read_lines(table: TextTable, whole: bool) -> Iterator[TextBatch]:
    ids: list[str] = []
    texts: list[str] = []
    lines: list[bytes] = []
    size = first = mended = number = 0
    probed = False
    raw = pa.OSFile(str(table.path), "rb")
    codec = _CODECS.get(table.path.suffix.lower())
    with pa.CompressedInputStream(raw, codec) if codec else raw as stream:
        for number, line in enumerate(_split(stream, table), start=1):
            if not line.strip():
                continue
            where = f"{table.path}:{number}"
            row, whole_line, broken = _json_row(line, where)
            if not probed and table.text_field not in row:
                raise _no_field(where, table.text_field, row)
            probed = True
            ids.append(_line_id(table, row, where))
            texts.append(_line_text(table, row, where))
            lines.append(whole_line)
            mended += broken
            size += len(line)
            if size >= BATCH_BYTES or len(ids) >= _BATCH_ROWS:
                yield _line_batch(first, ids, texts, lines if whole else None, mended)
                first += len(ids)
                ids, texts, lines, size, mended = [], [], [], 0, 0
        if ids:
            yield _line_batch(first, ids, texts, lines if whole else None, mended)


def _split(stream: Any, table: TextTable) -> Iterator[bytes]:
    """Lines without their ends, a byte order mark left out."""
    rest: list[bytes] = []
    begun = False
    while block := stream.read(BATCH_BYTES):
        block = block if begun else block.removeprefix(b"\xef\xbb\xbf")
        begun = True
        head, *more = block.split(b"\n")
        rest.append(head)
        if more:
            yield b"".join(rest)
            yield from more[:-1]
            rest = [more[-1]]
        elif sum(map(len, rest)) > _LINE_BYTES:
            raise DataError(
                f"a line longer than {_LINE_BYTES >> 20} MiB",
                where=str(table.path),
                fix="write one JSON object a line",
            )
    yield b"".join(rest)


def _json_row(line: bytes, where: str) -> tuple[Mapping[str, Any], bytes, bool]:
    """A line's object, the line, and whether it had to be mended to be UTF-8."""
    broken = False
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        text = line.decode(errors="replace")
        broken = text.encode() != line
        line = text.encode() if broken else line
        try:
            # What orjson refuses and JSON writers make all the same: NaN, halves of surrogates.
            row = json.loads(text)
        except (ValueError, RecursionError):
            raise DataError(
                f"not JSON: {error}", where=where, fix="correct the line, or take it out"
            ) from error
    if not isinstance(row, dict):
        raise DataError(
            f"a JSON {type(row).__name__}, not an object",
            where=where,
            fix="write one object a line, with an id and a text",
        )
    return row, line, broken


def _line_id(table: TextTable, row: Mapping[str, Any], where: str) -> str:
    value = row.get(table.id_field)
    if isinstance(value, str):
        return _scalar(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None and table.id_field not in row:
        raise _no_field(where, table.id_field, row)
    if value is None:
        raise _no_id(table, where)
    raise DataError(
        f"id {value!r} is neither text nor an integer",
        where=where,
        fix="name a field of strings or integers with --id-field",
    )


def _line_text(table: TextTable, row: Mapping[str, Any], where: str) -> str:
    value = row.get(table.text_field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(
            f"field {table.text_field!r} holds a {type(value).__name__}, which is no text",
            where=where,
            fix="name a field of strings with --text-field",
        )
    return _scalar(value)


def _scalar(text: str) -> str:
    """The text with halves of surrogate pairs, which have no UTF-8, replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="surrogatepass").decode(errors="replace")
    return text


def _line_batch(
    first: int, ids: list[str], texts: list[str], lines: list[bytes] | None, mended: int
) -> TextBatch:
    rows = pa.RecordBatch.from_arrays(
        [] if lines is None else [pa.array(lines, pa.large_binary())],
        schema=pa.schema([]) if lines is None else _LINE,
    )
    return TextBatch(
        first=first,
        ids=pa.array(ids, pa.large_string()),
        texts=pa.array(texts, pa.large_string()),
        rows=rows,
        mended=mended,
    )


def _no_field(where: str, field: str, have: Iterable[str]) -> DataError:
    return DataError(
        f"no field {field!r}; the fields are {', '.join(sorted(have))}",
        where=where,
        fix="name the columns with --id-field and --text-field",
    )


def _no_id(table: TextTable, where: str) -> DataError:
    return DataError(
        f"the id in {table.id_field!r} is null",
        where=where,
        fix="give every row an id, or name another column with --id-field",
    )


# --- the kept ones -------------------------------------------------------------------------------


def write_rows(table: TextTable, directory: Path, rows: Iterable[pa.RecordBatch]) -> FileEntry:
    """Write rows, as `read_table` gave them, in the table's own form below `directory`.

    Whole or not at all. A Parquet file has the schema of its input, and checksums on its pages.
    """
    if table.is_parquet:
        schema = _row_schema(pq.read_schema(table.path))
        return write_parquet(directory, table.name, rows, schema)
    target = directory / table.name
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    count = 0
    with temporary.open("wb") as file, _compressed(file, target.suffix.lower()) as stream:
        for batch in rows:
            lines = batch.column(0).to_pylist()
            if lines:
                stream.write(b"\n".join(lines) + b"\n")
            count += len(lines)
    return publish_file(temporary, directory, table.name, rows=count)


def _compressed(file: BinaryIO, suffix: str) -> AbstractContextManager[Any]:
    if suffix == ".gz":
        # Without a name and a time, so that equal rows give equal bytes.
        return gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0)
    if suffix == ".zst":
        packed: AbstractContextManager[Any] = pa.CompressedOutputStream(file, "zstd")
        return packed
    return nullcontext(file)


# --- their ids -----------------------------------------------------------------------------------


def id_hashes(ids: pa.Array) -> npt.NDArray[np.uint64]:
    """64-bit hashes of ids as text, by which `refuse_repeated_ids` compares them."""
    digest = xxhash.xxh3_64_intdigest
    return np.fromiter((digest(one.encode()) for one in ids.to_pylist()), np.uint64, len(ids))


def refuse_repeated_ids(
    tables: Sequence[TextTable], hashes: Sequence[npt.NDArray[np.uint64]]
) -> None:
    """Raise DataError where two rows of the tables have one id, with the places of both.

    `hashes` holds those of each table's rows, in order. 16 bytes a row; files are read again only
    where two hashes are equal.
    """
    ordered = np.sort(np.concatenate([*hashes, np.zeros(0, np.uint64)]))
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(repeated):
        return
    seen: dict[str, str] = {}
    for table, mine in zip(tables, hashes, strict=True):
        rows = np.flatnonzero(np.isin(mine, repeated))
        if not len(rows):
            continue
        for batch in read_table(table, whole=False):
            inside = rows[(rows >= batch.first) & (rows < batch.first + len(batch.ids))]
            for row in inside.tolist():
                name = batch.ids[row - batch.first].as_py()
                if name in seen:
                    raise DataError(
                        f"the id {name!r} stands at {seen[name]} already",
                        where=f"{table.path}#{row}",
                        fix="give every row an id of its own, or name another column with "
                        "--id-field",
                    )
                seen[name] = f"{table.path}#{row}"

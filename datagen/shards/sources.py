"""A pinned source as seeds: which files, their rows as they stand, and the seeds drawn from them.

Reading streams: memory holds one block of rows, whatever the size of a file.
"""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from datagen.errors import DataError, WorkspaceError
from datagen.record import Seed

DRAW_BLOCK_ROWS = 4096
_PARQUET_BATCH_ROWS = 256
_CSV_BLOCK_BYTES = 1 << 24
_LINE_BYTES = 1 << 28
_COLUMN_PROBE_ROWS = 1000
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}/(.+)", re.DOTALL)
_CODECS = {".gz": "gzip", ".zst": "zstd"}


class SourceFile(NamedTuple):
    """A resolved file; `name` is how the workspace says it, the same on every machine."""

    name: str
    path: Path


class PlacedRow(NamedTuple):
    """A source row and where it lies: `file#row`, rows counted from 0."""

    place: str
    values: dict[str, Any]


# --- which files ---------------------------------------------------------------------------------


def resolve_files(root: Path, patterns: Sequence[str], *, where: str) -> list[SourceFile]:
    """Resolve globs below the workspace `root`, or below a directory that `${VAR}/` names.

    Sorted by name, each file once. WorkspaceError for a path that leaves its directory (`..`,
    absolute, through a link), an unset variable, or a pattern that matches nothing.
    """
    found: dict[str, Path] = {}
    for pattern in patterns:
        anchor, prefix, rest = _anchor(root, pattern, where)
        matches = [path for path in anchor.glob(rest) if path.is_file()]
        if not matches:
            raise WorkspaceError(
                f"no file matches {pattern!r}",
                where=where,
                fix=f"check the pattern: it is looked up below {anchor}",
            )
        for path in matches:
            if not path.resolve().is_relative_to(anchor):
                raise WorkspaceError(
                    f"{pattern!r} leads outside its directory through {path.name!r}",
                    where=where,
                    fix="replace the link by the file, or name its directory by a ${VARIABLE}",
                )
            found[prefix + path.relative_to(anchor).as_posix()] = path
    return [SourceFile(name, found[name]) for name in sorted(found)]


def _anchor(root: Path, pattern: str, where: str) -> tuple[Path, str, str]:
    match = _VARIABLE.fullmatch(pattern)
    prefix, rest = (f"${{{match[1]}}}/", match[2]) if match else ("", pattern)
    parts = PurePosixPath(rest).parts
    if "\0" in rest or "$" in rest or rest.startswith(("/", "~")) or ".." in parts or not parts:
        raise WorkspaceError(
            f"{pattern!r} is not a path inside the workspace",
            where=where,
            fix="name files relative to the workspace, or start with ${VARIABLE}/ for a directory "
            "elsewhere",
        )
    return (_variable_directory(match[1], where) if match else root.resolve()), prefix, rest


def _variable_directory(name: str, where: str) -> Path:
    value = os.environ.get(name)
    directory = Path(value) if value else None
    if directory is None or not directory.is_absolute() or not directory.is_dir():
        problem = "is not set" if directory is None else "is not an absolute, existing directory"
        raise WorkspaceError(
            f"the environment variable {name} {problem}",
            where=where,
            fix=f"export {name}=/absolute/path/of/the/data",
        )
    return directory.resolve()


# --- their rows ----------------------------------------------------------------------------------


def read_files(
    files: Sequence[SourceFile],
    *,
    columns: Sequence[str],
    optional: Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
) -> Iterator[PlacedRow]:
    """Read parquet, jsonl, csv or tsv files (the last three also .gz and .zst), in order.

    `rename` maps a file's column to the name that `columns` uses. Values keep their nesting and
    nulls; csv cells are text, an empty unquoted cell is null. A column that a JSON line lacks is
    null, but one that none of a file's first 1,000 lines has is missing: DataError, as is any line
    or page that cannot be read; a file may lack an `optional` one, which is null then. A place
    leaves out `${VAR}/` unless two files then look the same.
    """
    stored = stored_columns(columns, rename or {})
    extra = {name: name for name in optional if name not in stored}
    labels = Counter(_label(file) for file in files)
    for file in files:
        reader = _reader(file)
        label = _label(file) if labels[_label(file)] == 1 else file.name
        needed = list(dict.fromkeys(stored.values()))
        for number, row in enumerate(reader(file, needed, list(extra))):
            values = {name: row.get(column) for name, column in (stored | extra).items()}
            yield PlacedRow(f"{label}#{number}", values)


def _label(file: SourceFile) -> str:
    match = _VARIABLE.fullmatch(file.name)
    return match[2] if match else file.name


def stored_columns(columns: Sequence[str], rename: Mapping[str, str]) -> dict[str, str]:
    """Map each wanted column to the name that it is stored under, undoing `rename`."""
    inverse = {new: old for old, new in rename.items()}
    return {column: inverse.get(column, column) for column in columns}


def missing_columns(where: str, missing: Sequence[str], have: Iterable[str]) -> DataError:
    """The error of rows that lack wanted columns: which ones, and which there are."""
    return DataError(
        f"no column {', '.join(map(repr, missing))}; the columns are {', '.join(sorted(have))}",
        where=where,
        fix="map the file's column with 'rename:' in the profile, or correct the manifest's "
        "'columns:'",
    )


def check_json_types(where: str, fields: Iterable[pa.Field]) -> None:
    """Refuse columns whose values have no JSON form (bytes, decimals, durations)."""
    for field in fields:
        if not _is_json(field.type):
            raise DataError(
                f"column {field.name!r} holds {field.type}, which has no JSON form",
                where=where,
                fix=f"drop {field.name!r} from the manifest's 'columns:', or convert the file",
            )


def _is_json(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        children = [kind.field(index) for index in range(kind.num_fields)]
        return not pa.types.is_union(kind) and all(_is_json(child.type) for child in children)
    if pa.types.is_dictionary(kind):
        return _is_json(kind.value_type)
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view()
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    moment = pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_time(kind)
    return bool(text or number or moment or pa.types.is_null(kind))


_Reader = Callable[[SourceFile, list[str], list[str]], Iterator[dict[str, Any]]]
"""Reads a file's rows: columns that it must have, and columns that it may lack."""


def _reader(file: SourceFile) -> _Reader:
    suffixes = [suffix.lower() for suffix in file.path.suffixes]
    packed = bool(suffixes) and suffixes[-1] in _CODECS
    kind = suffixes[-2] if packed and len(suffixes) > 1 else suffixes[-1] if suffixes else ""
    readers: dict[str, _Reader] = {
        ".jsonl": _read_jsonl,
        ".ndjson": _read_jsonl,
        ".csv": _read_csv,
        ".tsv": _read_csv,
    }
    if not packed:
        readers[".parquet"] = _read_parquet
    if kind not in readers:
        raise DataError(
            f"no reader for files that end in {''.join(suffixes[-2:]) or 'nothing'!r}",
            where=file.name,
            fix="use .parquet, or .jsonl, .csv, .tsv (plain, .gz or .zst)",
        )
    return readers[kind]


def _unreadable(where: str, error: Exception) -> DataError:
    return DataError(
        f"cannot be read: {error}", where=where, fix="fetch the file again, then check its pin"
    )


def _open(path: Path) -> io.BufferedReader:
    raw = pa.OSFile(str(path), "rb")
    codec = _CODECS.get(path.suffix.lower())
    stream = pa.CompressedInputStream(raw, codec) if codec else raw
    return io.BufferedReader(stream, buffer_size=1 << 20)


def _read_parquet(
    file: SourceFile, columns: list[str], optional: list[str]
) -> Iterator[dict[str, Any]]:
    try:
        with pq.ParquetFile(file.path, page_checksum_verification=True) as parquet:
            schema = parquet.schema_arrow
            if missing := [column for column in columns if column not in schema.names]:
                raise missing_columns(file.name, missing, schema.names)
            columns = [*columns, *(name for name in optional if name in schema.names)]
            check_json_types(file.name, (schema.field(column) for column in columns))
            for batch in parquet.iter_batches(batch_size=_PARQUET_BATCH_ROWS, columns=columns):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise _unreadable(file.name, error) from error


def _read_jsonl(
    file: SourceFile, columns: list[str], optional: list[str]
) -> Iterator[dict[str, Any]]:
    rows = _json_lines(file)
    probe = list(islice(rows, _COLUMN_PROBE_ROWS))
    have = set().union(*probe)
    if probe and (missing := [column for column in columns if column not in have]):
        raise missing_columns(file.name, missing, have)
    yield from chain(probe, rows)


def _json_lines(file: SourceFile) -> Iterator[dict[str, Any]]:
    try:
        with _open(file.path) as stream:
            number = 0
            while line := stream.readline(_LINE_BYTES):
                number += 1
                text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if text.strip():
                    yield _json_row(text, f"{file.name}:{number}")
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(file.name, error) from error


def _json_row(line: bytes, where: str) -> dict[str, Any]:
    if len(line) >= _LINE_BYTES:
        problem = f"a line longer than {_LINE_BYTES >> 20} MiB"
    else:
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            problem = f"not JSON: {error}"
        else:
            if isinstance(row, dict):
                return row
            problem = f"a JSON {type(row).__name__}, not an object"
    raise DataError(problem, where=where, fix="correct the line, or fetch the file again")


def _read_csv(
    file: SourceFile, columns: list[str], optional: list[str]
) -> Iterator[dict[str, Any]]:
    from pyarrow import csv

    tabs = ".tsv" in [suffix.lower() for suffix in file.path.suffixes[-2:]]
    parsing = csv.ParseOptions(delimiter="\t" if tabs else ",", newlines_in_values=True)
    reading = csv.ReadOptions(block_size=_CSV_BLOCK_BYTES, use_threads=False)
    try:
        with _open(file.path) as stream:
            # The header is read on its own first: every column is text, whatever it looks like.
            head = csv.open_csv(stream, read_options=reading, parse_options=parsing).schema.names
        if missing := [column for column in columns if column not in head]:
            raise missing_columns(file.name, missing, head)
        columns = [*columns, *(name for name in optional if name in head)]
        converting = csv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.string()),
            include_columns=columns,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        with (
            _open(file.path) as stream,
            csv.open_csv(stream, reading, parsing, converting) as batches,
        ):
            for batch in batches:
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(file.name, error) from error


# --- the seeds drawn from them -------------------------------------------------------------------


def draw_seeds(
    rows: Iterable[PlacedRow],
    *,
    source: str,
    content: str,
    licence: str,
    key: str | None = None,
    licence_column: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    counts: Counter[str] | None = None,
) -> Iterator[Seed]:
    """Draw up to `limit` seeds in an order that `seed` fixes; a larger limit only appends.

    Rows are shuffled inside blocks of DRAW_BLOCK_ROWS as they are read, so that a draw from a
    small file is uniform, and one from a stream reads no more than the blocks it needs. `content`
    names the column that must say something: rows where it is empty are skipped. `key` names the
    column of stable row keys (else the row's place). `counts` gains `read`, `empty` and `drawn`.
    DataError for a key that is null or stands twice.
    """
    counts = Counter() if counts is None else counts
    seen: set[bytes] = set()
    drawn = 0
    iterator = iter(rows)
    while (limit is None or drawn < limit) and (block := list(islice(iterator, DRAW_BLOCK_ROWS))):
        seeds = []
        for place, values in block:
            counts["read"] += 1
            if _is_empty(values[content]):
                counts["empty"] += 1
                continue
            row_key = _row_key(place, values, key, source, seen)
            terms = _licence(values.get(licence_column) if licence_column else None) or licence
            seeds.append(Seed(source=source, row_key=row_key, row=values, licence=terms))
        seeds.sort(key=lambda item: xxhash.xxh3_64_intdigest(item.row_key.encode(), seed))
        for item in seeds[: None if limit is None else limit - drawn]:
            yield replace(item, number=drawn)
            drawn += 1
            counts["drawn"] += 1


def _is_empty(content: object) -> bool:
    return not (content.strip() if isinstance(content, str) else content)


def _licence(value: object) -> str:
    names = value if isinstance(value, list) else [value]
    return ", ".join(str(name) for name in names if name)


def _row_key(
    place: str, values: Mapping[str, Any], key: str | None, source: str, seen: set[bytes]
) -> str:
    value = place if key is None else values[key]
    if value is None:
        raise DataError(
            f"the key column {key!r} of source {source!r} is null",
            where=place,
            fix="name a column without nulls as 'key:', or leave 'key:' out",
        )
    digest = xxhash.xxh3_128_digest(str(value).encode())
    if digest in seen:
        raise DataError(
            f"the key {value!r} of source {source!r} stands twice",
            where=place,
            fix="read each file once, or name a column as 'key:'"
            if key is None
            else f"{key!r} is not unique: name another column as 'key:', or leave 'key:' out",
        )
    seen.add(digest)
    return str(value)

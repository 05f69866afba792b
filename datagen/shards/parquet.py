"""Parquet files that are durable when they appear and refuse to be read when they rot.

Every page carries a CRC that reading verifies: over single-bit flips, plain reading returned
wrong values silently; with checksums each flip was refused. Equal tables give equal bytes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from datagen.errors import DataError

_HASH_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of a step as its manifest lists it; `path` is relative to the step's directory."""

    path: str
    rows: int
    tokens: int
    bytes: int
    sha256: str


def file_sha256(path: Path) -> str:
    """Hash a file's bytes: lower-case hex sha256."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def fsync_directory(path: Path) -> None:
    """Make a rename inside `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it is either whole or absent: temp, fsync, rename, fsync directory."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    fsync_directory(path.parent)


def publish_file(
    temporary: Path, directory: Path, path: str, *, rows: int, tokens: int = 0
) -> FileEntry:
    """Give a file that is written whole its name below `directory`, durably."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    entry = FileEntry(
        path=path,
        rows=rows,
        tokens=tokens,
        bytes=temporary.stat().st_size,
        sha256=file_sha256(temporary),
    )
    target = directory / path
    temporary.replace(target)
    fsync_directory(target.parent)
    return entry


def write_parquet(
    directory: Path, path: str, batches: Iterable[pa.RecordBatch], schema: pa.Schema
) -> FileEntry:
    """Write batches as one Parquet file under `directory`, whole or not at all.

    The entry's `tokens` is the sum of the column `n_tokens` where the schema has one.
    """
    target = directory / path
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    rows = tokens = 0
    with pq.ParquetWriter(
        temporary,
        schema,
        compression="zstd",
        use_dictionary=[f.name for f in schema if pa.types.is_string(f.type)],
        write_page_checksum=True,
        store_schema=True,
    ) as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
            if "n_tokens" in schema.names:
                tokens += int(sum(batch.column("n_tokens").to_pylist()))
    return publish_file(temporary, directory, path, rows=rows, tokens=tokens)


def read_batches(
    paths: Sequence[Path], columns: Sequence[str] | None = None, *, batch_rows: int = 1024
) -> Iterator[pa.RecordBatch]:
    """Read Parquet files in order with page checksums verified.

    Raises DataError naming the file when a page or footer is damaged.
    """
    for path in paths:
        try:
            # Buffering ahead would hold the whole file.
            with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
                yield from file.iter_batches(
                    batch_size=batch_rows, columns=list(columns) if columns is not None else None
                )
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"cannot read this Parquet file: {error}",
                where=str(path),
                fix="delete its step directory and build again: the ledger keeps every answer",
            ) from error

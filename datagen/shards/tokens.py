"""Packed token rows: the one thing that packer and trainer share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from datagen.shards.parquet import read_batches


def read_rows(
    paths: Sequence[Path], columns: Sequence[str] | None = None, *, batch_rows: int = 64
) -> Iterator[pa.RecordBatch]:
    """Read token shards (TOKEN_ROW_SCHEMA) in order; DataError names a damaged file."""
    yield from read_batches(paths, columns, batch_rows=batch_rows)

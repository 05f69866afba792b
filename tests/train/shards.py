"""Token shards as the packer writes them, small and by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from datagen.shards.parquet import write_parquet
from datagen.shards.schema import TOKEN_ROW_SCHEMA


def token_row(
    documents: Sequence[Sequence[int]],
    *,
    mask: Sequence[int] | None = None,
    phase: str = "phase1",
    categories: Sequence[str] | None = None,
    record_ids: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Lay documents side by side in one row; a record's id is its content unless given."""
    ids = [token for document in documents for token in document]
    lengths = [len(document) for document in documents]
    return {
        "input_ids": ids,
        "loss_mask": list(mask) if mask is not None else [1] * len(ids),
        "document_starts": np.cumsum([0, *lengths[:-1]]).tolist(),
        "record_ids": list(record_ids) if record_ids else [str(list(d)) for d in documents],
        "record_offsets": [0] * len(documents),
        "trained_tokens": lengths,
        "categories": list(categories) if categories is not None else ["wiki"] * len(documents),
        "n_tokens": len(ids),
        "phase": phase,
    }


def write_shard(directory: Path, rows: Sequence[dict[str, Any]], name: str = "00000") -> Path:
    """Write rows as one shard and return its path."""
    batch = pa.RecordBatch.from_pylist(list(rows), schema=TOKEN_ROW_SCHEMA)
    entry = write_parquet(directory, f"shards/{name}.parquet", [batch], TOKEN_ROW_SCHEMA)
    return directory / entry.path


def counting_rows(rows: int, *, row_tokens: int, vocabulary: int) -> list[dict[str, Any]]:
    """Make documents that count upwards by 1 or 3: easy to learn, two categories."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(rows):
        documents, categories, left = [], [], row_tokens
        while left > 3:
            length = min(int(rng.integers(4, 40)), left)
            step, first = int(rng.choice([1, 3])), int(rng.integers(vocabulary))
            documents.append([(first + step * i) % vocabulary for i in range(length)])
            categories.append(f"by{step}")
            left -= length
        made.append(token_row(documents, categories=categories))
    return made

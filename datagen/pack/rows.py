"""Token rows as Arrow batches: the tokens of each piece copied in one stretch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from datagen.pack.arrange import Rows
from datagen.pack.best_fit import Ints
from datagen.shards.schema import DOCUMENT_SCHEMA, TOKEN_ROW_SCHEMA


class Documents:
    """Tokenised documents in memory, numbered in the order of their batches.

    5 bytes a token. Arrays of shape (documents,): `n_tokens`, `splittable`, `prompts`.
    """

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        kept = list(batches)
        table = pa.Table.from_batches(kept, schema=DOCUMENT_SCHEMA)
        self.n_tokens: Ints = _numbers(table, "n_tokens")
        self.prompts: Ints = _numbers(table, "prompt_hash")
        self.splittable = _numbers(table, "splittable").astype(np.bool_)
        self._record_ids = table.column("record_id").combine_chunks()
        self._chunk_of = np.repeat(np.arange(len(kept)), [b.num_rows for b in kept])
        self._begin = np.concatenate([np.zeros(0, np.int64), *map(_begins, kept)])
        self._ids = [_values(batch, "input_ids") for batch in kept]
        self._masks = [_values(batch, "loss_mask") for batch in kept]

    def __len__(self) -> int:
        return len(self.n_tokens)

    def record_ids(self, documents: Ints) -> pa.Array:
        """The record ids of documents, in the order asked for."""
        return self._record_ids.take(pa.array(documents))

    def gather(
        self, documents: Ints, starts: Ints, lengths: Ints
    ) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
        """Token ids and loss mask of stretches of documents, one after another."""
        begins = self._begin[documents] + starts
        places = list(
            zip(
                self._chunk_of[documents].tolist(),
                begins.tolist(),
                (begins + lengths).tolist(),
                strict=True,
            )
        )
        return (
            np.concatenate([self._ids[c][a:b] for c, a, b in places]),
            np.concatenate([self._masks[c][a:b] for c, a, b in places]),
        )


def _numbers(table: pa.Table, name: str) -> Ints:
    column: NDArray[np.int64] = table.column(name).to_numpy()
    return column.astype(np.int64)


def _begins(batch: pa.RecordBatch) -> Ints:
    """Where each document begins in its batch's values, shape (documents,)."""
    offsets: NDArray[np.int64] = batch.column("input_ids").offsets.to_numpy()
    return offsets[:-1].astype(np.int64) - int(offsets[0])


def _values(batch: pa.RecordBatch, name: str) -> NDArray[np.generic]:
    values: NDArray[np.generic] = batch.column(name).flatten().to_numpy()
    return values


def _lists(values: pa.Array, bounds: Ints) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), values)


def token_rows(
    rows: Rows,
    documents: Documents,
    *,
    drawn: Ints,
    category: Ints,
    categories: Sequence[str],
    phases: Sequence[str],
    batch_rows: int = 64,
) -> Iterator[pa.RecordBatch]:
    """Build rows as batches of TOKEN_ROW_SCHEMA, `batch_rows` at a time.

    `drawn`: the document of each draw; `category`: the category of each draw as an index into
    `categories`; both of shape (draws,), in the mixture order that `rows` was arranged from.
    """
    names, phase_names = pa.array(categories, pa.string()), pa.array(phases, pa.string())
    for begin in range(0, len(rows), batch_rows):
        end = min(begin + batch_rows, len(rows))
        low, high = int(rows.bounds[begin]), int(rows.bounds[end])
        length, draw = rows.length[low:high], rows.draw[low:high]
        piece_bounds = rows.bounds[begin : end + 1] - low
        ids, mask = documents.gather(drawn[draw], rows.start[low:high], length)
        edges = np.concatenate([[0], np.cumsum(length)])
        token_bounds = edges[piece_bounds]
        per_row = np.diff(piece_bounds)
        starts = edges[:-1] - np.repeat(token_bounds[:-1], per_row)
        trained = np.add.reduceat(mask, edges[:-1], dtype=np.int32)
        columns = {
            "input_ids": _lists(pa.array(ids), token_bounds),
            "loss_mask": _lists(pa.array(mask), token_bounds),
            "document_starts": _lists(pa.array(starts, pa.int32()), piece_bounds),
            "record_ids": _lists(documents.record_ids(drawn[draw]), piece_bounds),
            "record_offsets": _lists(pa.array(rows.start[low:high], pa.int32()), piece_bounds),
            "trained_tokens": _lists(pa.array(trained), piece_bounds),
            "categories": _lists(names.take(pa.array(category[draw])), piece_bounds),
            "n_tokens": pa.array(np.diff(token_bounds), pa.int32()),
            "phase": phase_names.take(pa.array(rows.phase[begin:end])),
        }
        yield pa.RecordBatch.from_arrays(
            [columns[name] for name in TOKEN_ROW_SCHEMA.names], schema=TOKEN_ROW_SCHEMA
        )

"""Corpus-wide dedup in partitioned steps: signatures a shard, buckets a band, clusters, sieve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from datagen.curate.exact import exact_keys, first_rows
from datagen.curate.minhash import band_buckets, candidate_pairs, clusters, signatures
from datagen.curate.words import record_text
from datagen.plan.execute import InputStep, StepContext
from datagen.plan.kinds.sieve import Verdict, input_shards, shard, sieve
from datagen.record import Record
from datagen.shards.parquet import read_batches, write_parquet
from datagen.shards.records import read_records
from datagen.workspace.specs import MinhashSpec

CLUSTER_SCHEMA = pa.schema(
    [
        ("record_id", pa.string()),
        ("cluster", pa.string()),
        ("kept", pa.bool_()),
        ("similarity", pa.float32()),
        ("reason", pa.string()),
    ]
)
"""One row a record: `cluster` is the id of the record kept in its place (its own where kept)."""

_PAIR_SCHEMA = pa.schema([("left", pa.int64()), ("right", pa.int64())])


def _minhash(context: StepContext) -> MinhashSpec | None:
    spec = context.arguments["minhash"]
    return None if spec is None else MinhashSpec.model_validate(spec)


def _signature_schema(spec: MinhashSpec | None) -> pa.Schema:
    width = 4 * spec.bands * spec.rows if spec else 0
    return pa.schema(
        [
            ("record_id", pa.string()),
            ("key", pa.binary(16)),
            ("signature", pa.binary(width) if width else pa.null()),
        ]
    )


def signature_partitions(context: StepContext) -> int:
    """One partition a shard of the curated records."""
    return input_shards(context, context.step.inputs[0])


def run_signatures(context: StepContext, partitions: Sequence[int]) -> None:
    """Write each record's exact key and MinHash signature."""
    spec = _minhash(context)
    paths = context.inputs[context.step.inputs[0]].paths()
    schema = _signature_schema(spec)
    for partition in partitions:
        context.check_stop()
        records = list(read_records([paths[partition]]))
        texts = [record_text(record) for record in records]
        keys = np.ascontiguousarray(exact_keys(texts)).astype("<u8")
        columns: list[pa.Array] = [
            pa.array([record.id for record in records], pa.string()),
            _fixed_binary(keys.tobytes(), 16, len(texts)),
        ]
        if spec is None:
            columns.append(pa.nulls(len(texts)))
        else:
            found = signatures(texts, spec).astype("<u4")
            columns.append(_fixed_binary(found.tobytes(), 4 * found.shape[1], len(texts)))
        batch = pa.RecordBatch.from_arrays(columns, schema=schema)
        files = [write_parquet(context.directory, shard("shards", partition), [batch], schema)]
        context.commit(partition, files)
        context.progress.advance(rows=len(texts))


def _fixed_binary(content: bytes, width: int, count: int) -> pa.Array:
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), count, [None, pa.py_buffer(content)]
    )


def _column_matrix(batch: pa.RecordBatch, name: str, kind: str) -> npt.NDArray[Any]:
    column = batch.column(name)
    width = column.type.byte_width
    start = column.offset * width
    content = column.buffers()[1].slice(start, len(column) * width)
    return np.frombuffer(content, kind).reshape(len(column), -1)


def _signature_inputs(context: StepContext) -> Iterator[InputStep]:
    for name in context.arguments["order"]:
        yield context.inputs[name]


def _load(context: StepContext, column: str, kind: str) -> npt.NDArray[Any]:
    """One fixed-width column over all inputs, in the plan's order, shape (n, width)."""
    parts = [
        _column_matrix(batch, column, kind)
        for step in _signature_inputs(context)
        for batch in read_batches(step.paths(), [column])
        if batch.num_rows
    ]
    return np.concatenate(parts) if parts else np.zeros((0, 1), kind)


def bucket_partitions(context: StepContext) -> int:
    """One partition a band."""
    spec = _minhash(context)
    return 0 if spec is None else spec.bands


def run_buckets(context: StepContext, partitions: Sequence[int]) -> None:
    """Write the candidate pairs of each band, as rows numbered over the plan's order."""
    spec = _minhash(context)
    assert spec is not None
    matrix = _load(context, "signature", "<u4")
    for band in partitions:
        context.check_stop()
        if len(matrix):
            pairs = candidate_pairs(band_buckets(matrix, band, spec))
        else:
            pairs = np.zeros((0, 2), np.int64)
        batch = pa.RecordBatch.from_arrays(
            [pa.array(pairs[:, 0]), pa.array(pairs[:, 1])], schema=_PAIR_SCHEMA
        )
        path = shard("shards", band)
        files = [write_parquet(context.directory, path, [batch], _PAIR_SCHEMA)]
        context.commit(band, files, {"pairs": len(pairs)})
        context.progress.advance(rows=len(pairs))


def one_partition(context: StepContext) -> int:
    """A step that sees everything at once."""
    return 1


def run_clusters(context: StepContext, partitions: Sequence[int]) -> None:
    """Join exact and near duplicates; write one file a draw with what is kept in whose place.

    Kept is the record that comes first: in the order of the mixture's draws, then of the source.
    """
    ids, sizes = _ids(context)
    rows = np.arange(len(ids))
    exact = np.zeros(len(ids), bool)
    home = rows.copy()
    similarity = np.ones(len(ids), np.float32)
    if context.arguments["exact"] and ids:
        home = first_rows(_load(context, "key", "<u8"))
        exact = home != rows
    spec = _minhash(context)
    if spec is not None and ids:
        pairs = _pairs(context)
        pairs = pairs[~exact[pairs[:, 0]] & ~exact[pairs[:, 1]]]
        found = clusters(_load(context, "signature", "<u4"), pairs, spec)
        similarity = np.where(exact, 1.0, found.similarity).astype(np.float32)
        home = found.cluster[home]
    files = []
    start = 0
    for index, size in enumerate(sizes):
        part = range(start, start + size)
        table = [
            {
                "record_id": ids[row],
                "cluster": ids[home[row]],
                "kept": bool(home[row] == row),
                "similarity": float(similarity[row]),
                "reason": _reason(bool(exact[row]), bool(home[row] == row)),
            }
            for row in part
        ]
        batch = pa.RecordBatch.from_pylist(table, schema=CLUSTER_SCHEMA)
        path = shard("shards", index)
        files.append(write_parquet(context.directory, path, [batch], CLUSTER_SCHEMA))
        start += size
    kept = int((home == rows).sum())
    context.commit(
        0,
        files,
        {"kept": kept, "exact": int(exact.sum()), "near": len(ids) - kept - int(exact.sum())},
    )
    context.progress.advance(rows=len(ids), kept=kept, rejected=len(ids) - kept)


def _reason(exact: bool, kept: bool) -> str | None:
    if kept:
        return None
    return "exact_duplicate" if exact else "near_duplicate"


def _ids(context: StepContext) -> tuple[list[str], list[int]]:
    ids: list[str] = []
    sizes = []
    for step in _signature_inputs(context):
        before = len(ids)
        for batch in read_batches(step.paths(), ["record_id"]):
            ids += batch.column(0).to_pylist()
        sizes.append(len(ids) - before)
    return ids, sizes


def _pairs(context: StepContext) -> npt.NDArray[np.int64]:
    parts = [
        np.stack([batch.column(0).to_numpy(), batch.column(1).to_numpy()], axis=1)
        for batch in read_batches(context.inputs["buckets"].paths())
        if batch.num_rows
    ]
    return np.concatenate(parts) if parts else np.zeros((0, 2), np.int64)


def dedup_partitions(context: StepContext) -> int:
    """One partition a shard of the curated records."""
    return input_shards(context, context.step.inputs[0])


def run_dedup(context: StepContext, partitions: Sequence[int]) -> None:
    """Drop what the clusters step decided to drop, with the id of the record kept instead."""
    decided = context.inputs["clusters"]
    path = decided.paths()[context.arguments["index"]]
    verdicts: dict[str, Verdict] = {}
    for batch in read_batches([path]):
        for row in batch.to_pylist():
            if not row["kept"]:
                detail = f"like {row['cluster']}, similarity {row['similarity']:.2f}"
                verdicts[row["record_id"]] = (row["reason"], detail)

    def judge(records: Sequence[Record]) -> list[Verdict]:
        return [verdicts.get(record.id) for record in records]

    sieve(context, partitions, context.inputs[context.step.inputs[0]], judge)

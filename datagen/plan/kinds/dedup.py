"""Corpus-wide dedup in partitioned steps: signatures a shard, buckets a band, clusters, sieve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from datagen.curate.exact import exact_keys_arrow, first_rows, preference
from datagen.curate.minhash import Clusters, Parts, candidate_pairs, clusters, sketch
from datagen.curate.words import arrow_bytes, record_text
from datagen.plan.execute import StepContext
from datagen.plan.kinds.sieve import Verdict, input_shards, shard, sieve
from datagen.record import Record
from datagen.shards.parquet import FileEntry, read_batches, write_parquet
from datagen.shards.records import read_records
from datagen.shards.schema import CLUSTER_SCHEMA
from datagen.workspace.specs import MinhashSpec

MIDDLE_TIER = 2
"""The quality tier, of 0 to 4, that a record without one is held to have."""

_SIGNATURE_SCHEMA = pa.schema(
    [
        ("record_id", pa.string()),
        ("tier", pa.int8()),
        ("key", pa.binary(16)),
        ("bands", pa.binary()),
        ("shingles", pa.large_binary()),
    ]
)
"""What dedup knows of a record: `bands` are uint64 and `shingles` uint32, both little-endian."""

_PAIR_SCHEMA = pa.schema([("left", pa.int64()), ("right", pa.int64())])


def _minhash(context: StepContext) -> MinhashSpec | None:
    spec = context.arguments["minhash"]
    return None if spec is None else MinhashSpec.model_validate(spec)


def signature_partitions(context: StepContext) -> int:
    """One partition a shard of the curated records."""
    return input_shards(context, context.step.inputs[0])


def run_signatures(context: StepContext, partitions: Sequence[int]) -> None:
    """Write each record's exact key, band keys and shingles."""
    spec = _minhash(context)
    paths = context.inputs[context.step.inputs[0]].paths()
    for partition in partitions:
        context.check_stop()
        records = list(read_records([paths[partition]]))
        batch = _signatures(records, spec)
        path = shard("shards", partition)
        files = [write_parquet(context.directory, path, [batch], _SIGNATURE_SCHEMA)]
        context.commit(partition, files)
        context.progress.advance(rows=len(records))


def _signatures(records: Sequence[Record], spec: MinhashSpec | None) -> pa.RecordBatch:
    texts = pa.array(
        [record_text(record).encode(errors="replace") for record in records], pa.large_binary()
    )
    keys = np.ascontiguousarray(exact_keys_arrow(texts)).astype("<u8")
    tiers = [record.metadata.get("quality_tier", MIDDLE_TIER) for record in records]
    bands = shingles = pa.nulls(len(records))
    if spec is not None:
        found = sketch(texts, spec)
        width = 8 * found.keys.shape[1]
        ends = np.arange(len(records) + 1, dtype=np.int32) * width
        bands = _binary(pa.binary(), ends, found.keys.astype("<u8"))
        shingles = _binary(pa.large_binary(), 4 * found.begins, found.shingles.astype("<u4"))
    columns = [
        pa.array([record.id for record in records], pa.string()),
        pa.array(tiers, pa.int8()),
        pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(16), len(records), [None, pa.py_buffer(keys.tobytes())]
        ),
        bands.cast(pa.binary()),
        shingles.cast(pa.large_binary()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=_SIGNATURE_SCHEMA)


def _binary(kind: pa.DataType, offsets: npt.NDArray[Any], content: npt.NDArray[Any]) -> pa.Array:
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(content))]
    return pa.Array.from_buffers(kind, len(offsets) - 1, buffers)


def _batches(context: StepContext, *columns: str) -> Iterator[pa.RecordBatch]:
    """Some columns of the signatures of all inputs, in the plan's order."""
    for name in context.arguments["order"]:
        yield from read_batches(context.inputs[name].paths(), columns)


def _fixed(context: StepContext, column: str, kind: str) -> npt.NDArray[Any]:
    """A column of values of one width over all inputs, shape (n, width)."""
    parts = [_matrix(batch.column(0), kind) for batch in _batches(context, column)]
    parts = [part for part in parts if len(part)]
    return np.concatenate(parts) if parts else np.zeros((0, 1), kind)


def _matrix(column: pa.Array, kind: str) -> npt.NDArray[Any]:
    content = b"".join(column.to_pylist())
    return np.frombuffer(content, kind).reshape(len(column), -1) if len(column) else np.zeros(0)


def _ranks(context: StepContext) -> npt.NDArray[np.int64]:
    """0 for the record most worth keeping: by quality tier, then in the plan's order."""
    tiers = [batch.column(0).to_numpy() for batch in _batches(context, "tier")]
    tier = np.concatenate([np.zeros(0, np.int8), *tiers])
    return preference(len(tier), tier)


def bucket_partitions(context: StepContext) -> int:
    """One partition a band."""
    spec = _minhash(context)
    return 0 if spec is None else spec.banding[0]


def run_buckets(context: StepContext, partitions: Sequence[int]) -> None:
    """Write the candidate pairs of each band, as rows numbered over the plan's order."""
    keys = _fixed(context, "bands", "<u8")
    ranks = _ranks(context)
    for band in partitions:
        context.check_stop()
        pairs = candidate_pairs(keys[:, band], ranks) if len(keys) else np.zeros((0, 2), np.int64)
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

    Kept is the record of the highest quality tier, then the one that comes first: in the order of
    the mixture's draws, then of the source.
    """
    ids, sizes = _ids(context)
    rows = np.arange(len(ids))
    ranks = _ranks(context)
    home = rows.copy()
    if context.arguments["exact"] and ids:
        home = first_rows(_fixed(context, "key", "<u8"), priority=-ranks)
    exact = home != rows
    spec = _minhash(context)
    if spec is not None and ids:
        found = clusters(_pairs(context, ~exact), _parts(context), spec, ranks)
        similarity = found.similarity[home]
        home = found.cluster[home]
    else:
        similarity = np.ones(len(ids), np.float32)
    size = np.bincount(home, minlength=len(ids))[home]
    joined = Clusters(cluster=home, size=size, similarity=similarity)
    files = _write_clusters(context, ids, sizes, joined, exact)
    kept = int(joined.kept.sum())
    context.commit(
        0,
        files,
        {"kept": kept, "exact": int(exact.sum()), "near": len(ids) - kept - int(exact.sum())},
    )
    context.progress.advance(rows=len(ids), kept=kept, rejected=len(ids) - kept)


def _write_clusters(
    context: StepContext,
    ids: Sequence[str],
    sizes: Sequence[int],
    joined: Clusters,
    exact: npt.NDArray[np.bool_],
) -> list[FileEntry]:
    names = np.array(ids, object)
    reasons = np.where(exact, "exact_duplicate", "near_duplicate").astype(object)
    reasons[joined.kept] = None
    table = [
        pa.array(names, pa.string()),
        pa.array(names[joined.cluster] if ids else names, pa.string()),
        pa.array(joined.size, pa.int64()),
        pa.array(joined.kept, pa.bool_()),
        pa.array(joined.similarity, pa.float32()),
        pa.array(reasons, pa.string()),
    ]
    whole = pa.RecordBatch.from_arrays(table, schema=CLUSTER_SCHEMA)
    files, start = [], 0
    for index, size in enumerate(sizes):
        batch = whole.slice(start, size)
        path = shard("shards", index)
        files.append(write_parquet(context.directory, path, [batch], CLUSTER_SCHEMA))
        start += size
    return files


def _ids(context: StepContext) -> tuple[list[str], list[int]]:
    ids: list[str] = []
    sizes = []
    for name in context.arguments["order"]:
        before = len(ids)
        for batch in read_batches(context.inputs[name].paths(), ["record_id"]):
            ids += batch.column(0).to_pylist()
        sizes.append(len(ids) - before)
    return ids, sizes


def _parts(context: StepContext) -> Parts:
    """The shingles of all records, as they lie in the signature files."""
    shingles, begins = [], []
    for batch in _batches(context, "shingles"):
        column = batch.column(0)
        content, offsets = arrow_bytes(column)
        shingles.append(content.view("<u4"))
        begins.append(offsets // 4)
    return Parts(shingles=shingles, begins=begins)


def _pairs(context: StepContext, among: npt.NDArray[np.bool_]) -> Iterator[npt.NDArray[np.int64]]:
    """The candidates of each band of which both are `among` (n,)."""
    for path in context.inputs["buckets"].paths():
        batches = [
            np.stack([column.to_numpy() for column in batch.columns], axis=1)
            for batch in read_batches([path])
        ]
        pairs = np.concatenate([np.zeros((0, 2), np.int64), *batches])
        yield pairs[among[pairs].all(axis=1)]


def dedup_partitions(context: StepContext) -> int:
    """One partition a shard of the curated records."""
    return input_shards(context, context.step.inputs[0])


def run_dedup(context: StepContext, partitions: Sequence[int]) -> None:
    """Drop what the clusters step decided to drop, with the id of the record kept instead."""
    decided = context.inputs["clusters"]
    path = decided.paths()[context.arguments["index"]]
    verdicts: dict[str, Verdict] = {}
    sizes: dict[str, int] = {}
    for batch in read_batches([path]):
        for row in batch.to_pylist():
            if not row["kept"]:
                detail = f"like {row['cluster']}, similarity {row['similarity']:.2f}"
                verdicts[row["record_id"]] = (row["reason"], detail)
            elif row["size"] > 1:
                sizes[row["record_id"]] = row["size"]

    def judge(records: Sequence[Record]) -> list[Verdict]:
        return [verdicts.get(record.id) for record in records]

    def annotate(record: Record) -> Record:
        size = sizes.get(record.id)
        if size is None:
            return record
        return replace(record, metadata={**record.metadata, "cluster_size": size})

    source = context.inputs[context.step.inputs[0]]
    sieve(context, partitions, source, judge, annotate)

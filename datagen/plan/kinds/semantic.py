"""Semantic dedup in partitioned steps: vectors a shard, centroids, likes a group, sieve a shard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from datagen.curate.diversity import draw_sample
from datagen.curate.exact import preference
from datagen.curate.semantic import Vectors, alike, centroids, document_weights, nearest, unit
from datagen.curate.words import record_text
from datagen.errors import DataError
from datagen.plan.execute import StepContext
from datagen.plan.kinds.dedup import MIDDLE_TIER
from datagen.plan.kinds.sieve import Verdict, input_shards, shard, sieve
from datagen.record import Record
from datagen.shards.parquet import read_batches, write_parquet
from datagen.shards.records import read_records
from datagen.workspace.specs import SemanticSpec

GROUPS = 16
"""Clusters are compared in groups of them, so that a sixteenth of the vectors is held at a time."""
SAMPLE = 1 << 16
"""Vectors that k-means looks at, at most."""
_A_CLUSTER = 1000
"""Records a cluster has on average, where the corpus file names no number of clusters."""

_VECTOR_SCHEMA = pa.schema(
    [("record_id", pa.string()), ("tier", pa.int8()), ("vector", pa.binary())]
)
_CENTROID_SCHEMA = pa.schema([("weights", pa.binary()), ("centroid", pa.binary())])
_ALIKE_SCHEMA = pa.schema(
    [("record_id", pa.string()), ("kept_id", pa.string()), ("similarity", pa.float32())]
)
"""One row a record that is dropped, and the record kept in its place."""


def _spec(context: StepContext) -> SemanticSpec:
    return SemanticSpec.model_validate(context.arguments["spec"])


def vector_partitions(context: StepContext) -> int:
    """One partition a shard of the deduplicated records."""
    return input_shards(context, context.step.inputs[0])


def run_vectors(context: StepContext, partitions: Sequence[int]) -> None:
    """Write each record's vector as half floats."""
    spec = _spec(context)
    paths = context.inputs[context.step.inputs[0]].paths()
    for partition in partitions:
        context.check_stop()
        records = list(read_records([paths[partition]]))
        texts = [record_text(record)[: spec.max_characters] for record in records]
        vectors = _encode(context, spec, texts).astype("<f2")
        columns = [
            pa.array([record.id for record in records], pa.string()),
            pa.array(
                [record.metadata.get("quality_tier", MIDDLE_TIER) for record in records], pa.int8()
            ),
            pa.array([vector.tobytes() for vector in vectors], pa.binary()),
        ]
        batch = pa.RecordBatch.from_arrays(columns, schema=_VECTOR_SCHEMA)
        path = shard("shards", partition)
        files = [write_parquet(context.directory, path, [batch], _VECTOR_SCHEMA)]
        context.commit(partition, files)
        context.progress.advance(rows=len(records))


def _encode(context: StepContext, spec: SemanticSpec, texts: Sequence[str]) -> Vectors:
    """Vectors by the named model or the named function, of finite numbers, one a text."""
    if not texts:
        return np.zeros((0, 1), np.float32)
    if spec.model is not None:
        from datagen.llm.embeddings import embed

        services = context.services
        served = services.profile.spec.models[spec.model]
        model = services.workspace.model(served.model).spec
        return embed(
            texts,
            endpoints=services.vector_endpoints(model, spec.model),
            served_as=model.served_as,
            timeout_s=served.timeout_s,
        )
    from datagen.plan.resolve import resolve_function

    found = np.asarray(resolve_function(spec.encoder, where="semantic: encoder")(texts), np.float32)
    if found.ndim != 2 or len(found) != len(texts) or not np.isfinite(found).all():
        raise DataError(
            f"{len(texts)} texts gave vectors of shape {found.shape}, or numbers without a value",
            where=f"encoder {spec.encoder!r}",
            fix="return one row of finite numbers a text",
        )
    return found


def _batches(context: StepContext, *columns: str) -> Iterator[pa.RecordBatch]:
    for name in context.arguments["order"]:
        yield from read_batches(context.inputs[name].paths(), list(columns))


def _matrix(column: pa.Array) -> npt.NDArray[np.float16]:
    content = b"".join(column.to_pylist())
    return np.frombuffer(content, "<f2").reshape(len(column), -1)


def one_partition(context: StepContext) -> int:
    """A sample over all shards."""
    return 1


def run_centroids(context: StepContext, partitions: Sequence[int]) -> None:
    """Write the clusters' centroids, from a sample that ids draw, and the dimensions' weights."""
    spec = _spec(context)
    ids = [one for batch in _batches(context, "record_id") for one in batch.column(0).to_pylist()]
    clusters = spec.clusters or len(ids) // _A_CLUSTER + 1
    places = draw_sample(ids, SAMPLE, spec.seed)
    # By id, so that k-means meets the vectors in one order whatever the shards.
    chosen = {place: rank for rank, place in enumerate(sorted(places, key=ids.__getitem__))}
    parts: dict[int, npt.NDArray[np.float16]] = {}
    present: Any = 0
    row = 0
    for batch in _batches(context, "vector"):
        if not batch.num_rows:
            continue
        vectors = _matrix(batch.column(0))
        present = present + (vectors != 0).sum(axis=0)
        for number in range(len(vectors)):
            if row + number in chosen:
                parts[chosen[row + number]] = vectors[number]
        row += len(vectors)
    weights = document_weights(present, len(ids)) if spec.weighted and ids else None
    sample = np.stack([parts[rank] for rank in range(len(parts))]) if parts else np.zeros((0, 1))
    found = centroids(unit(sample, weights), clusters)
    table = [
        pa.array([b"" if weights is None else weights.tobytes()] * len(found), pa.binary()),
        pa.array([row.tobytes() for row in found], pa.binary()),
    ]
    batch = pa.RecordBatch.from_arrays(table, schema=_CENTROID_SCHEMA)
    files = [write_parquet(context.directory, shard("shards", 0), [batch], _CENTROID_SCHEMA)]
    context.commit(0, files, {"clusters": len(found)})
    context.progress.advance(rows=len(ids))


def alike_partitions(context: StepContext) -> int:
    """One partition a group of clusters."""
    return GROUPS


def run_alike(context: StepContext, partitions: Sequence[int]) -> None:
    """Write which records are like a better one of their cluster, a group of clusters at a time."""
    spec = _spec(context)
    weights, found = _read_centroids(context)
    ids: list[str] = []
    tiers = [np.zeros(0, np.int8)]
    homes = [np.zeros(0, np.int64)]
    for batch in _batches(context, "record_id", "tier", "vector"):
        ids += batch.column(0).to_pylist()
        tiers.append(batch.column(1).to_numpy())
        if batch.num_rows:
            homes.append(nearest(unit(_matrix(batch.column(2)), weights), found))
    cluster = np.concatenate(homes)
    ranks = preference(len(ids), np.concatenate(tiers))
    for partition in partitions:
        context.check_stop()
        rows, vectors = _of_group(context, cluster % GROUPS == partition, weights)
        table: list[dict[str, Any]] = []
        for one in np.unique(cluster[rows]).tolist():
            members = np.flatnonzero(cluster[rows] == one)
            members = members[np.argsort(ranks[rows[members]])]
            joined = alike(vectors[members], spec.threshold)
            for place in np.flatnonzero(joined.home != np.arange(len(members))).tolist():
                kept = members[joined.home[place]]
                table.append(
                    {
                        "record_id": ids[rows[members[place]]],
                        "kept_id": ids[rows[kept]],
                        "similarity": float(joined.similarity[place]),
                    }
                )
        batch = pa.RecordBatch.from_pylist(table, schema=_ALIKE_SCHEMA)
        path = shard("shards", partition)
        files = [write_parquet(context.directory, path, [batch], _ALIKE_SCHEMA)]
        context.commit(partition, files, {"alike": len(table)})
        context.progress.advance(rows=len(rows))


def _read_centroids(context: StepContext) -> tuple[Vectors | None, Vectors]:
    weights: Vectors | None = None
    found: list[Vectors] = []
    for batch in read_batches(context.inputs["centroids"].paths()):
        for row in batch.to_pylist():
            found.append(np.frombuffer(row["centroid"], "<f4"))
            weights = np.frombuffer(row["weights"], "<f4") if row["weights"] else None
    return weights, np.stack(found) if found else np.zeros((0, 1), np.float32)


def _of_group(
    context: StepContext, chosen: npt.NDArray[np.bool_], weights: Vectors | None
) -> tuple[npt.NDArray[np.int64], Vectors]:
    """The chosen rows, in the plan's order, and their unit vectors."""
    parts, row = [], 0
    for batch in _batches(context, "vector"):
        inside = chosen[row : row + batch.num_rows]
        row += batch.num_rows
        if inside.any():
            parts.append(unit(_matrix(batch.column(0).filter(pa.array(inside))), weights))
    vectors = np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)
    return np.flatnonzero(chosen), vectors


def semantic_partitions(context: StepContext) -> int:
    """One partition a shard of the deduplicated records."""
    return input_shards(context, context.step.inputs[0])


def run_semantic(context: StepContext, partitions: Sequence[int]) -> None:
    """Refuse records that are like a better one."""
    verdicts: dict[str, Verdict] = {}
    for batch in read_batches(context.inputs["alike"].paths()):
        for row in batch.to_pylist():
            detail = f"like {row['kept_id']}, cosine {row['similarity']:.3f}"
            verdicts[row["record_id"]] = ("same_meaning", detail)

    def judge(records: Sequence[Record]) -> list[Verdict]:
        return [verdicts.get(record.id) for record in records]

    sieve(context, partitions, context.inputs[context.step.inputs[0]], judge)

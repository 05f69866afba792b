"""The steps that judge one record at a time: a recipe's chain, then decontamination."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from datagen.curate.decontaminate import Hit, cut, find_hits, formulas, without
from datagen.curate.questions import BenchmarkIndex, load_benchmarks
from datagen.curate.words import record_text
from datagen.generate.stamp import reject_record
from datagen.plan.execute import StepContext
from datagen.plan.fingerprint import fingerprint
from datagen.plan.kinds.sieve import Verdict, input_shards, shard, sieve, write_records
from datagen.record import Record, Reject
from datagen.shards.parquet import write_parquet
from datagen.shards.records import read_records
from datagen.shards.schema import CONTAMINATION_SCHEMA
from datagen.shards.sources import resolve_files
from datagen.workspace.specs import ChainSpec, DecontaminateSpec

_HIT_COLUMNS = ("benchmark", "item", "tier", "coverage", "start", "end")


def record_partitions(context: StepContext) -> int:
    """One partition a shard of the records to judge."""
    return input_shards(context, context.step.inputs[0])


def run_filter(context: StepContext, partitions: Sequence[int]) -> None:
    """Judge records by the chain that the recipe or its source names."""
    from datagen.curate.chain import build_chain
    from datagen.plan.resolve import resolve_function

    chosen = context.arguments["chain"]
    spec = ChainSpec.model_validate({"name": "none", "filters": (), **(chosen or {}), "title": ""})
    chain = build_chain(spec, resolve_function, root=context.services.workspace.root)

    def judge(records: Sequence[Record]) -> list[Verdict | Record]:
        return [chain.sift(record) for record in records]

    sieve(context, partitions, context.inputs[context.step.inputs[0]], judge)


def _benchmark_index(context: StepContext) -> BenchmarkIndex:
    """The index of all benchmarks, built once for all the steps that share its settings."""
    services, arguments = context.services, context.arguments
    key = f"benchmarks {fingerprint({**arguments})}"
    if key not in services.memo:
        root = services.workspace.root
        benchmarks = [
            (
                services.workspace.benchmark(name).spec,
                resolve_files(root, entry["patterns"], where=f"benchmark {name}"),
            )
            for name, entry in arguments["benchmarks"].items()
        ]
        spec = DecontaminateSpec.model_validate(arguments["spec"])
        services.memo[key] = load_benchmarks(benchmarks, spec)
    index: BenchmarkIndex = services.memo[key]
    return index


def run_decontaminate(context: StepContext, partitions: Sequence[int]) -> None:
    """Refuse records that hold items of a benchmark, or cut the items out; list what was found."""
    index = _benchmark_index(context)
    paths = context.input(context.step.inputs[0]).paths()
    for partition in partitions:
        context.check_stop()
        records = list(read_records([paths[partition]]))
        found = find_hits([record_text(record) for record in records], index)
        forms = formulas(found, len(records), index.spec)
        hits = [without(mine, forms) for mine in found]
        kept: list[Record] = []
        rejects: list[Reject] = []
        for record, mine in zip(records, hits, strict=True):
            left = _rest(record, mine, index, forms) if mine else record
            if left is not None:
                kept.append(left)
                continue
            detail = "; ".join(map(str, mine))
            rejects.append(reject_record(record, context.step.name, "contaminated", detail))
        files = write_records(context, partition, kept, rejects)
        if any(hits):
            path, batch = shard("contamination", partition), _hit_batch(records, hits)
            files.append(write_parquet(context.directory, path, [batch], CONTAMINATION_SCHEMA))
        refused = len(rejects)
        figures = {
            "kept": len(kept),
            "rejected": refused,
            "reasons": {"contaminated": refused} if refused else {},
            "contamination": _tiers(hits),
        }
        context.commit(partition, files, figures)
        context.progress.advance(rows=len(records), kept=len(kept), rejected=refused)


def _rest(
    record: Record, hits: Sequence[Hit], index: BenchmarkIndex, forms: set[tuple[str, str]]
) -> Record | None:
    """What is kept of a record with hits: its text without them where that is the policy."""
    if index.spec.on_hit == "drop" or record.text is None:
        return None
    text = cut(record.text, hits, index, forms)
    return None if text is None else replace(record, text=text)


def _tiers(hits: Sequence[Sequence[Hit]]) -> dict[str, dict[str, int]]:
    """Hits by benchmark and tier."""
    counts = Counter((hit.benchmark, hit.tier) for mine in hits for hit in mine)
    tiers: dict[str, dict[str, int]] = {}
    for (benchmark, tier), count in sorted(counts.items()):
        tiers.setdefault(benchmark, {})[tier] = count
    return tiers


def _hit_batch(records: Sequence[Record], hits: Sequence[Sequence[Hit]]) -> pa.RecordBatch:
    rows = [
        {
            "record_id": record.id,
            "generator": record.lineage.generator,
            "source": record.lineage.source,
            **{name: getattr(hit, name) for name in _HIT_COLUMNS},
        }
        for record, mine in zip(records, hits, strict=True)
        for hit in mine
    ]
    return pa.RecordBatch.from_pylist(rows, schema=CONTAMINATION_SCHEMA)

"""The steps that judge one record at a time: a recipe's chain, then decontamination."""

from __future__ import annotations

from collections.abc import Sequence

from datagen.curate.decontaminate import BenchmarkIndex, find_hits, load_benchmarks
from datagen.curate.words import record_text
from datagen.plan.execute import StepContext
from datagen.plan.fingerprint import fingerprint
from datagen.plan.kinds.sieve import Verdict, input_shards, sieve
from datagen.record import Record
from datagen.shards.sources import resolve_files
from datagen.workspace.specs import ChainSpec, DecontaminateSpec


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
    """Refuse records that hold items of a benchmark."""
    index = _benchmark_index(context)

    def judge(records: Sequence[Record]) -> list[Verdict]:
        found = find_hits([record_text(record) for record in records], index)
        return [("contaminated", "; ".join(map(str, hits))) if hits else None for hits in found]

    sieve(context, partitions, context.inputs[context.step.inputs[0]], judge)

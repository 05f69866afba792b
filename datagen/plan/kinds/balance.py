"""The step that evens out the classes of a recipe's records, over all shards of a draw."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from datagen.curate.balance import class_of, class_sizes, surplus
from datagen.plan.execute import StepContext
from datagen.plan.kinds.sieve import Verdict, input_shards, sieve
from datagen.record import Record
from datagen.shards.parquet import read_batches
from datagen.workspace.specs import BalanceSpec


def balance_partitions(context: StepContext) -> int:
    """One partition a shard of the deduplicated records."""
    return input_shards(context, context.step.inputs[0])


def run_balance(context: StepContext, partitions: Sequence[int]) -> None:
    """Refuse the surplus of each class, and records that are of none."""
    spec = BalanceSpec.model_validate(context.arguments["spec"])
    source = context.inputs[context.step.inputs[0]]
    ids: list[str] = []
    classes: list[str] = []
    for batch in read_batches(source.paths(), ["id", "metadata"]):
        for one, metadata in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            name = class_of(orjson.loads(metadata), spec.by)
            if name is not None:
                ids.append(one)
                classes.append(name)
    sizes = class_sizes(classes, spec.tolerance, spec.rare_below)
    too_many = surplus(ids, classes, sizes, context.arguments["seed"])

    def judge(records: Sequence[Record]) -> list[Verdict]:
        verdicts: list[Verdict] = []
        for record in records:
            name = class_of(record.metadata, spec.by)
            if name is None:
                verdicts.append(("no_class", f"no single value for {', '.join(spec.by)}"))
            elif record.id in too_many:
                size = sizes[name]
                verdicts.append(("surplus_class", f"{name}: {size.kept} of {size.found} are kept"))
            else:
                verdicts.append(None)
        return verdicts

    sieve(context, partitions, source, judge)

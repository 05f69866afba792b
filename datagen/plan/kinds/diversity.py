"""The step that measures how much the records of a draw differ from one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from datagen.curate.diversity import SAMPLE, draw_sample, measure
from datagen.plan.execute import InputStep, StepContext
from datagen.plan.kinds.sieve import shard
from datagen.record import Record
from datagen.shards.parquet import read_batches, write_parquet
from datagen.shards.records import records_of
from datagen.shards.schema import DIVERSITY_SCHEMA, HISTOGRAM_SCHEMA


def one_partition(context: StepContext) -> int:
    """A sample over all shards of the draw."""
    return 1


def run_diversity(context: StepContext, partitions: Sequence[int]) -> None:
    """Measure a seeded sample of the draw's records; one row of figures, and its histograms."""
    source = context.inputs[context.step.inputs[0]]
    ids = [one for batch in read_batches(source.paths(), ["id"]) for one in batch[0].to_pylist()]
    chosen = draw_sample(ids, SAMPLE, context.arguments["seed"])
    figures, bars = measure(
        list(_read(source, chosen)), len(ids), labels=context.arguments["labels"]
    )
    whose = {"generator": context.arguments["recipe"], "source": context.arguments["source"]}
    row = {**whose, **asdict(figures)}
    files = [
        write_parquet(context.directory, shard(folder, 0), [_batch(rows, schema)], schema)
        for folder, rows, schema in (
            ("shards", [row], DIVERSITY_SCHEMA),
            ("histograms", [{**whose, **asdict(bar)} for bar in bars], HISTOGRAM_SCHEMA),
        )
    ]
    context.commit(0, files, {"figures": row})
    context.progress.advance(rows=len(chosen))


def _batch(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=schema)


def _read(source: InputStep, places: Sequence[int]) -> Iterator[Record]:
    """The records at some places, counted over all shards, in order."""
    begin, waiting = 0, list(places)
    for batch in read_batches(source.paths()):
        end = begin + batch.num_rows
        inside = [place - begin for place in waiting if place < end]
        waiting = waiting[len(inside) :]
        if inside:
            yield from records_of(batch.take(pa.array(inside)))
        begin = end

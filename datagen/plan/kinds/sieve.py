"""What filters, decontamination and dedup share: each record kept, or refused with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from datagen.generate.stamp import reject_record
from datagen.plan.execute import InputStep, StepContext
from datagen.record import Record, Reject
from datagen.shards.parquet import FileEntry, write_parquet
from datagen.shards.records import read_records, record_batch, reject_batch
from datagen.shards.schema import RECORD_SCHEMA, REJECT_SCHEMA

Verdict = tuple[str, str] | None
"""Why to drop a record, as (reason, detail); None to keep it."""


def shard(folder: str, partition: int) -> str:
    """The path of a partition's file in one folder of a step."""
    return f"{folder}/{partition:05}.parquet"


def input_shards(context: StepContext, prefix: str) -> int:
    """One partition a shard of the input."""
    return len(context.input(prefix).paths())


def write_records(
    context: StepContext, partition: int, records: Sequence[Record], rejects: Sequence[Reject]
) -> list[FileEntry]:
    """Write a partition's records, and its rejects where there are any."""
    files = [
        write_parquet(
            context.directory, shard("shards", partition), [record_batch(records)], RECORD_SCHEMA
        )
    ]
    if rejects:
        batches = [reject_batch(rejects)]
        path = shard("rejects", partition)
        files.append(write_parquet(context.directory, path, batches, REJECT_SCHEMA))
    return files


def sieve(
    context: StepContext,
    partitions: Sequence[int],
    source: InputStep,
    judge: Callable[[Sequence[Record]], Sequence[Verdict | Record]],
    annotate: Callable[[Record], Record] = lambda record: record,
) -> None:
    """Judge the records of each input shard; write the kept and the refused, count both.

    A record for a verdict is kept in the place of the one judged. `annotate` gives a kept record
    as it is written, with more metadata perhaps.
    """
    paths = source.paths()
    for partition in partitions:
        context.check_stop()
        kept: list[Record] = []
        rejects: list[Reject] = []
        records = list(read_records([paths[partition]]))
        for record, verdict in zip(records, judge(records), strict=True):
            if verdict is None:
                kept.append(annotate(record))
            elif isinstance(verdict, Record):
                kept.append(annotate(verdict))
            else:
                rejects.append(reject_record(record, context.step.name, *verdict))
        files = write_records(context, partition, kept, rejects)
        reasons = Counter(reject.reason for reject in rejects)
        context.commit(
            partition,
            files,
            {"kept": len(kept), "rejected": len(rejects), "reasons": dict(sorted(reasons.items()))},
        )
        context.progress.advance(
            rows=len(kept) + len(rejects), kept=len(kept), rejected=len(rejects)
        )

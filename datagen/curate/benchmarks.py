"""The rows of an evaluation benchmark, as its manifest describes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datagen.shards.sources import PlacedRow, SourceFile, read_files
from datagen.workspace.specs import BenchmarkFields, BenchmarkSpec


def benchmark_rows(spec: BenchmarkSpec, files: Sequence[SourceFile]) -> Iterator[PlacedRow]:
    """The rows of a benchmark's files, but for those that their `split` says are for training."""
    fields = spec.fields
    columns = [fields.question]
    if fields.answer is not None:
        columns.append(fields.answer)
    if fields.choices is not None:
        columns += [fields.choices] if isinstance(fields.choices, str) else fields.choices
    for row in read_files(files, columns=columns, optional=["split"]):
        if not str(row.values["split"]).lower().startswith("train"):
            yield row


def options_of(row: Mapping[str, Any], fields: BenchmarkFields) -> list[str]:
    """An item's options as texts, in order; none where the benchmark has none."""
    if fields.choices is None:
        return []
    if isinstance(fields.choices, str):
        return [str(choice) for choice in row[fields.choices] or ()]
    return [str(row[column]) for column in fields.choices]

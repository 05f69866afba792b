"""The steps from records to rows: their tokens, and the packed build."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from datagen.generate.stamp import reject_record
from datagen.pack.arrange import Rows, arrange
from datagen.pack.render import Renderer
from datagen.pack.rows import Documents, token_rows
from datagen.plan.execute import StepContext
from datagen.plan.kinds.mixing import ORDER_SCHEMA, Ints
from datagen.plan.kinds.sieve import input_shards, shard
from datagen.record import Reject
from datagen.shards.parquet import read_batches, write_parquet
from datagen.shards.records import read_records, reject_batch
from datagen.shards.schema import DOCUMENT_SCHEMA, REJECT_SCHEMA, TOKEN_ROW_SCHEMA
from datagen.shards.sql import FINAL_KINDS
from datagen.workspace.specs import TokenizerSpec

_RENDER_RECORDS = 512


def token_partitions(context: StepContext) -> int:
    """One partition a shard of the final records."""
    return input_shards(context, context.step.inputs[0])


def _renderer(context: StepContext) -> Renderer:
    """The plan's tokenizer, loaded once for all of a run's steps."""
    spec = TokenizerSpec.model_validate(context.arguments["tokenizer"])
    memo = context.services.memo
    key = f"tokenizer {spec.name}"
    if key not in memo:
        memo[key] = Renderer(spec, context.services.workspace.root)
    renderer: Renderer = memo[key]
    return renderer


def run_tokens(context: StepContext, partitions: Sequence[int]) -> None:
    """Render records to token ids and loss mask."""
    renderer = _renderer(context)
    paths = context.inputs[context.step.inputs[0]].paths()
    for partition in partitions:
        context.check_stop()
        records = list(read_records([paths[partition]]))
        batches = [
            renderer.documents(records[start : start + _RENDER_RECORDS])
            for start in range(0, len(records), _RENDER_RECORDS)
        ]
        path = shard("shards", partition)
        entry = write_parquet(context.directory, path, batches, DOCUMENT_SCHEMA)
        context.commit(partition, [entry], {"tokens": entry.tokens, "documents": entry.rows})
        context.progress.advance(rows=entry.rows, tokens=entry.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Where every token of the build goes, before one is copied."""

    documents: Documents
    rows: Rows
    drawn: Ints
    category: Ints
    phase: Ints


def _layout(context: StepContext) -> _Layout:
    """Arrange all drawn documents into rows: pure arithmetic over their lengths."""
    if "layout" in context.memo:
        found: _Layout = context.memo["layout"]
        return found
    inputs = _rendered(context)
    documents = Documents(_document_batches(context, inputs))
    begins = np.cumsum([0, *(context.inputs[name].manifest.rows for name in inputs)])
    order = pa.Table.from_batches(
        list(read_batches(context.inputs["mix"].paths())), schema=ORDER_SCHEMA
    )
    columns = {name: order.column(name).to_numpy().astype(np.int64) for name in order.column_names}
    drawn = begins[columns["input"]] + columns["document"]
    rows = arrange(
        documents.n_tokens[drawn],
        splittable=documents.splittable[drawn],
        prompts=documents.prompts[drawn],
        phase=columns["phase"],
        capacity=context.arguments["row_tokens"],
        seed=context.arguments["seed"],
        ordered=_ordered(context.inputs["mix"].manifest.extra["report"]),
    )
    layout = _Layout(
        documents=documents,
        rows=rows,
        drawn=drawn,
        category=columns["category"],
        phase=columns["phase"],
    )
    context.memo["layout"] = layout
    return layout


def _ordered(report: Sequence[Mapping[str, Any]]) -> set[int]:
    """The phases in which some category follows a curriculum."""
    phases = list(dict.fromkeys(entry["phase"] for entry in report))
    return {phases.index(entry["phase"]) for entry in report if entry["order"] is not None}


def _document_batches(context: StepContext, inputs: Sequence[str]) -> Iterator[pa.RecordBatch]:
    for name in inputs:
        yield from read_batches(context.inputs[name].paths())


def _rendered(context: StepContext) -> list[str]:
    """The inputs that hold tokens, in the order that the mixture numbers them."""
    return [name for name in context.step.inputs if name.startswith("tokens/")]


def pack_partitions(context: StepContext) -> int:
    """One partition `rows_per_shard` rows; at least one, so that an empty build has a shard."""
    per_shard: int = context.arguments["rows_per_shard"]
    return max(1, -(-len(_layout(context).rows) // per_shard))


def run_pack(context: StepContext, partitions: Sequence[int]) -> None:
    """Copy tokens into rows and write the shards of the build."""
    layout = _layout(context)
    report = context.inputs["mix"].manifest.extra["report"]
    phases = list(dict.fromkeys(entry["phase"] for entry in report))
    names, category = _categories(report, phases, layout)
    per_shard = context.arguments["rows_per_shard"]
    for partition in partitions:
        context.check_stop()
        part = _slice(layout.rows, partition * per_shard, (partition + 1) * per_shard)
        batches = token_rows(
            part,
            layout.documents,
            drawn=layout.drawn,
            category=category,
            categories=names,
            phases=phases,
        )
        path = shard("shards", partition)
        files = [write_parquet(context.directory, path, batches, TOKEN_ROW_SCHEMA)]
        context.progress.advance(rows=files[0].rows, tokens=files[0].tokens)
        figures: dict[str, Any] = {}
        if partition == 0:
            figures = _figures(context, layout, report, phases)
            if rejects := _too_long(context):
                path = shard("rejects", 0)
                batch = [reject_batch(rejects)]
                files.append(write_parquet(context.directory, path, batch, REJECT_SCHEMA))
        context.commit(partition, files, figures)


def _categories(
    report: Sequence[Mapping[str, Any]], phases: Sequence[str], layout: _Layout
) -> tuple[list[str], Ints]:
    """All category names, and each drawn document's index into them."""
    names = list(dict.fromkeys(entry["category"] for entry in report))
    tables = [
        [names.index(entry["category"]) for entry in report if entry["phase"] == phase]
        for phase in phases
    ]
    width = max(map(len, tables), default=0)
    lookup = np.array([[*table, *[0] * (width - len(table))] for table in tables], np.int64)
    return names, lookup[layout.phase, layout.category]


def _slice(rows: Rows, begin: int, end: int) -> Rows:
    """Some rows of a layout as a layout of their own."""
    end = min(end, len(rows))
    low, high = int(rows.bounds[begin]), int(rows.bounds[end])
    return Rows(
        capacity=rows.capacity,
        bounds=rows.bounds[begin : end + 1] - low,
        draw=rows.draw[low:high],
        start=rows.start[low:high],
        length=rows.length[low:high],
        phase=rows.phase[begin:end],
        too_long=rows.too_long,
    )


def _figures(
    context: StepContext,
    layout: _Layout,
    report: Sequence[Mapping[str, Any]],
    phases: Sequence[str],
) -> dict[str, Any]:
    """Shares as they came out, by the tokens that lie in rows."""
    rows = layout.rows
    total = max(rows.tokens, 1)
    mixture = []
    for number, phase in enumerate(phases):
        entries = [entry for entry in report if entry["phase"] == phase]
        inside = layout.phase[rows.draw] == number
        tokens = np.bincount(
            layout.category[rows.draw][inside],
            weights=rows.length[inside].astype(np.float64),
            minlength=len(entries),
        ).astype(np.int64)
        for entry, count in zip(entries, tokens.tolist(), strict=True):
            size = entry["available_tokens"]
            mixture.append(
                {
                    "phase": phase,
                    "category": entry["category"],
                    "requested": entry["requested"],
                    "realised": round(100 * count / total, 4),
                    "tokens": count,
                    "epochs": round(count / size, 3) if size else 0.0,
                    "capped": entry["capped"],
                }
            )
    return {
        "mixture": mixture,
        "row_tokens": context.arguments["row_tokens"],
        "tokenizer": context.arguments["tokenizer"]["name"],
        "vocabulary": _renderer(context).vocabulary,
        "waste": round(rows.waste, 6),
        "diversity": [
            context.inputs[name].manifest.extra["figures"]
            for name in context.step.inputs
            if name.startswith("diversity/")
        ],
    }


def _too_long(context: StepContext) -> list[Reject]:
    """Conversations that fit no row: never cut, so refused here, each with its length."""
    capacity = context.arguments["row_tokens"]
    rejects = []
    for name in _rendered(context):
        draw_name = name.removeprefix("tokens/")
        lengths = {
            row["record_id"]: row["n_tokens"]
            for batch in read_batches(
                context.inputs[name].paths(), ["record_id", "n_tokens", "splittable"]
            )
            for row in batch.to_pylist()
            if not row["splittable"] and row["n_tokens"] > capacity
        }
        if not lengths:
            continue
        finals = [f"{kind}/{draw_name}" for kind in FINAL_KINDS]
        final = next(context.inputs[name] for name in finals if name in context.inputs)
        for record in read_records(final.paths()):
            if record.id in lengths:
                detail = f"{lengths[record.id]} tokens, a row holds {capacity}"
                rejects.append(reject_record(record, context.step.name, "longer_than_row", detail))
    return rejects

"""The steps from records to rows: tokens, the mixture's order, and the packed build."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from datagen.generate.stamp import reject_record
from datagen.mix.allocate import allocate_mixture
from datagen.mix.order import draw, interleave
from datagen.mix.schedule import Phase, phases_of
from datagen.pack.arrange import Rows, arrange, fits_row
from datagen.pack.render import Renderer
from datagen.pack.rows import Documents, token_rows
from datagen.plan.execute import StepContext
from datagen.plan.kinds.sieve import input_shards, shard
from datagen.record import Reject
from datagen.shards.parquet import read_batches, write_parquet
from datagen.shards.records import read_records, reject_batch
from datagen.shards.schema import DOCUMENT_SCHEMA, REJECT_SCHEMA, TOKEN_ROW_SCHEMA
from datagen.workspace.specs import MixtureSpec, TokenizerSpec

_RENDER_RECORDS = 512

ORDER_SCHEMA = pa.schema(
    [
        ("phase", pa.int32()),
        ("category", pa.int32()),
        ("input", pa.int32()),
        ("document", pa.int64()),
        ("n_tokens", pa.int32()),
    ]
)
"""One row a drawn document, in the mixture's order: which input step, which of its documents."""

Ints = npt.NDArray[np.int64]


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


def one_partition(context: StepContext) -> int:
    """The order is drawn over everything at once."""
    return 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pool:
    """The documents of every input, end to end: lengths, and where each input begins."""

    lengths: Ints
    splittable: npt.NDArray[np.bool_]
    begins: Mapping[str, int]
    ends: Mapping[str, int]

    def of(self, names: Sequence[str]) -> Ints:
        """The numbers of all documents of some inputs."""
        ranges = [np.arange(self.begins[name], self.ends[name]) for name in names]
        return np.concatenate([np.zeros(0, np.int64), *ranges])


def _pool(context: StepContext, names: Sequence[str]) -> _Pool:
    lengths: list[Ints] = [np.zeros(0, np.int64)]
    splittable: list[npt.NDArray[np.bool_]] = [np.zeros(0, np.bool_)]
    begins, ends, count = {}, {}, 0
    for name in names:
        begins[name] = count
        columns = ["n_tokens", "splittable"]
        for batch in read_batches(context.inputs[name].paths(), columns):
            lengths.append(batch.column(0).to_numpy().astype(np.int64))
            splittable.append(batch.column(1).to_numpy(zero_copy_only=False))
            count += batch.num_rows
        ends[name] = count
    return _Pool(
        lengths=np.concatenate(lengths),
        splittable=np.concatenate(splittable),
        begins=begins,
        ends=ends,
    )


def _phases(arguments: Mapping[str, Any]) -> list[Phase]:
    budget = arguments["budget_tokens"]
    mixtures = {
        name: MixtureSpec.model_validate({**spec, "title": "", "horizon_tokens": budget})
        for name, spec in arguments["mixtures"].items()
    }
    return phases_of(mixtures[arguments["mixture"]], budget, mixtures.__getitem__)


def run_mix(context: StepContext, partitions: Sequence[int]) -> None:
    """Share the budget out, draw each recipe's documents epoch by epoch, interleave them."""
    arguments = context.arguments
    inputs = list(context.step.inputs)
    pool = _pool(context, inputs)
    fits = fits_row(pool.lengths, pool.splittable, arguments["row_tokens"])
    steps_of = {text: [f"tokens/{d}" for d in names] for text, names in arguments["draws"].items()}
    documents = {text: pool.of(steps)[fits[pool.of(steps)]] for text, steps in steps_of.items()}
    available = {text: int(pool.lengths[found].sum()) for text, found in documents.items()}
    drawn = np.zeros(len(pool.lengths), np.int64)
    used = dict.fromkeys(documents, 0)
    batches, report = [], []
    for number, phase in enumerate(_phases(arguments)):
        context.check_stop()
        shares = allocate_mixture(
            phase.mixture,
            phase.tokens,
            available,
            used=used,
            where=f"mixtures/{phase.name}.yaml",
        )
        parts: list[Ints] = []
        part_category: list[int] = []
        for category, allocation in enumerate(shares.categories):
            for recipe in shares.draws.get(allocation.category, ()):
                found = documents[recipe.category]
                seed = arguments["seed"] + number
                chosen = found[
                    draw(pool.lengths[found], recipe.tokens, seed=seed, drawn=drawn[found])
                ]
                np.add.at(drawn, chosen, 1)
                used[recipe.category] += int(pool.lengths[chosen].sum())
                parts.append(chosen)
                part_category.append(category)
            report.append(
                {
                    "phase": phase.name,
                    "category": allocation.category,
                    "requested": round(
                        100
                        * allocation.requested_share
                        * phase.tokens
                        / arguments["budget_tokens"],
                        4,
                    ),
                    "capped": allocation.capped,
                    "available_tokens": sum(
                        available[text]
                        for text in phase.mixture.categories[allocation.category].draw
                    ),
                }
            )
        batches.append(_order_batch(number, parts, part_category, pool, inputs))
    entry = write_parquet(context.directory, shard("shards", 0), batches, ORDER_SCHEMA)
    context.commit(0, [entry], {"report": report, "too_long": int((~fits).sum())})
    context.progress.advance(rows=entry.rows)


def _order_batch(
    phase: int, parts: Sequence[Ints], categories: Sequence[int], pool: _Pool, inputs: Sequence[str]
) -> pa.RecordBatch:
    merged = interleave([pool.lengths[part] for part in parts])
    offsets = np.cumsum([0, *(len(part) for part in parts)])
    flat = np.concatenate([np.zeros(0, np.int64), *parts])
    chosen = flat[offsets[merged.part] + merged.nth]
    begins = np.array([pool.begins[name] for name in inputs], np.int64)
    home = np.searchsorted(begins, chosen, side="right") - 1
    # Inputs without documents share their begin with the next one: take the last that begins here.
    return pa.RecordBatch.from_arrays(
        [
            pa.array(np.full(len(chosen), phase), pa.int32()),
            pa.array(np.asarray(categories, np.int64)[merged.part], pa.int32()),
            pa.array(home, pa.int32()),
            pa.array(chosen - begins[home], pa.int64()),
            pa.array(pool.lengths[chosen], pa.int32()),
        ],
        schema=ORDER_SCHEMA,
    )


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
        finals = (f"balance/{draw_name}", f"dedup/{draw_name}")
        final = next(context.inputs[name] for name in finals if name in context.inputs)
        for record in read_records(final.paths()):
            if record.id in lengths:
                detail = f"{lengths[record.id]} tokens, a row holds {capacity}"
                rejects.append(reject_record(record, context.step.name, "longer_than_row", detail))
    return rejects

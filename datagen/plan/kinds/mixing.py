"""The step that orders a build: which documents are drawn, and how they follow one another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from datagen.errors import WorkspaceError
from datagen.mix.allocate import Allocation, allocate_mixture
from datagen.mix.order import draw, gaussian_order, interleave
from datagen.mix.schedule import Phase, phases_of
from datagen.pack.arrange import fits_row
from datagen.plan.execute import StepContext
from datagen.plan.kinds.sieve import shard
from datagen.shards.parquet import read_batches, write_parquet
from datagen.shards.sql import FINAL_KINDS
from datagen.workspace.specs import MixtureSpec, OrderSpec

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

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


def one_partition(context: StepContext) -> int:
    """The order is drawn over everything at once."""
    return 1


TIER = "quality_tier"
"""The metadata key of a record's quality, 0 to 4 (see `curate.quality`)."""


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
    """Share the budget out, draw each recipe's documents epoch by epoch, order and interleave them.

    Where a category has an order, all that is drawn for it in a phase, epochs included, follows one
    curriculum; otherwise each of its recipes is spread evenly.
    """
    arguments = context.arguments
    inputs = [name for name in context.step.inputs if name.startswith("tokens/")]
    pool = _pool(context, inputs)
    fits = fits_row(pool.lengths, pool.splittable, arguments["row_tokens"])
    steps_of = {text: [f"tokens/{d}" for d in names] for text, names in arguments["draws"].items()}
    whole = {text: pool.of(steps)[fits[pool.of(steps)]] for text, steps in steps_of.items()}
    drawn = np.zeros(len(pool.lengths), np.int64)
    batches, report = [], []
    for number, phase in enumerate(_phases(arguments)):
        context.check_stop()
        documents = whole | _of_quality(context, pool, phase, whole, steps_of)
        available = {text: int(pool.lengths[found].sum()) for text, found in documents.items()}
        used = {text: int(pool.lengths[d] @ drawn[d]) for text, d in documents.items()}
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
            seed = arguments["seed"] + number
            own: list[Ints] = []
            for recipe in shares.draws.get(allocation.category, ()):
                found = documents[recipe.category]
                chosen = found[
                    draw(pool.lengths[found], recipe.tokens, seed=seed, drawn=drawn[found])
                ]
                np.add.at(drawn, chosen, 1)
                own.append(chosen)
            line = _report_line(phase, allocation, available, arguments["budget_tokens"])
            spec = phase.mixture.categories[allocation.category]
            if spec.order is not None and own:
                steps = [step for text in spec.draw for step in steps_of[text]]
                values = _values(context, pool, steps, spec.order.by)
                own = [_curriculum(np.concatenate(own), values, spec.order, line, seed)]
            parts += own
            part_category += [category] * len(own)
            report.append(line)
        batches.append(_order_batch(number, parts, part_category, pool, inputs))
    entry = write_parquet(context.directory, shard("shards", 0), batches, ORDER_SCHEMA)
    context.commit(0, [entry], {"report": report, "too_long": int((~fits).sum())})
    context.progress.advance(rows=entry.rows)


def _of_quality(
    context: StepContext,
    pool: _Pool,
    phase: Phase,
    documents: Mapping[str, Ints],
    steps_of: Mapping[str, Sequence[str]],
) -> dict[str, Ints]:
    """The documents that a phase may draw where a category asks for quality, by the YAML's text."""
    found: dict[str, Ints] = {}
    for name, category in phase.mixture.categories.items():
        if category.min_quality is None:
            continue
        texts = {text: documents[text] for text in category.draw}
        tiers = _values(context, pool, [s for text in texts for s in steps_of[text]], TIER)
        if all(np.isnan(tiers[chosen]).all() for chosen in texts.values()):
            raise WorkspaceError(
                f"no record of category {name!r} has a {TIER}",
                where=f"mixtures/{phase.name}.yaml: min_quality",
                fix="put 'quality.tier' into the chains of what it draws",
            )
        # nan, no tier, is not at least anything.
        found |= {text: d[tiers[d] >= category.min_quality] for text, d in texts.items()}
    return found


def _report_line(
    phase: Phase, allocation: Allocation, available: Mapping[str, int], budget_tokens: int
) -> dict[str, Any]:
    """What the build's table says of a category before anything is packed."""
    share = allocation.requested_share * phase.tokens / budget_tokens
    draws = phase.mixture.categories[allocation.category].draw
    return {
        "phase": phase.name,
        "category": allocation.category,
        "requested": round(100 * share, 4),
        "capped": allocation.capped,
        "available_tokens": sum(available[text] for text in draws),
        "order": None,
    }


def _curriculum(
    chosen: Ints, values: Floats, order: OrderSpec, line: dict[str, Any], seed: int
) -> Ints:
    """A category's drawn documents in the order of its curriculum, which `line` then names."""
    found = values[chosen]
    missing = int(np.isnan(found).sum())
    if len(chosen) and missing == len(chosen):
        raise WorkspaceError(
            f"no record of category {line['category']!r} has a number as {order.by!r}",
            where=f"mixtures/{line['phase']}.yaml: order",
            fix="name a metadata key of its records: datagen sql 'SELECT metadata FROM records'",
        )
    line["order"] = {"by": order.by, "without": missing}
    return chosen[
        gaussian_order(found, start=order.start, end=order.end, sigma=order.sigma, seed=seed)
    ]


def _values(context: StepContext, pool: _Pool, steps: Sequence[str], key: str) -> Floats:
    """A number of each document's metadata, nan where it has none; shape of the pool."""
    values = np.full(len(pool.lengths), np.nan)
    for step in steps:
        name = step.removeprefix("tokens/")
        finals = [f"{kind}/{name}" for kind in FINAL_KINDS]
        records = next(context.inputs[final] for final in finals if final in context.inputs)
        found = [
            _number(orjson.loads(cell).get(key))
            for batch in read_batches(records.paths(), ["metadata"])
            for cell in batch.column(0).to_pylist()
        ]
        # Documents are tokenised in the order of their records.
        values[pool.begins[step] : pool.ends[step]] = found
    return values


def _number(value: Any) -> float:
    usable = type(value) in (int, float) and math.isfinite(value)
    return float(value) if usable else math.nan


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

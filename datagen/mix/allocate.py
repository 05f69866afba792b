"""Weights to token budgets under epoch caps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from datagen.errors import WorkspaceError
from datagen.workspace.specs import MixtureSpec

WhenCapped = Literal["error", "redistribute", "shrink"]
WithoutSource = Literal["error", "redistribute"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """What a category (or a recipe within one) gets.

    `requested_share`: of the whole, 0..1, normalised. `tokens`: its budget. `epochs`: budget per
    available token, None where the size is unknown. `capped`: held at its epoch cap.
    """

    category: str
    requested_share: float
    tokens: int
    epochs: float | None
    capped: bool


def implied_epochs(horizon_tokens: int, share: float, tokens: int | None) -> float | None:
    """How often a source of `tokens` is repeated at `share` (0..1) of a horizon; None: unknown."""
    return None if not tokens else horizon_tokens * share / tokens


def _integers(amounts: Mapping[str, float], total: int) -> dict[str, int]:
    """Round down, then give the tokens left over to the largest remainders: the sum is `total`."""
    whole = {name: int(amount) for name, amount in amounts.items()}
    by_remainder = sorted(amounts, key=lambda name: (whole[name] - amounts[name], name))
    for name in by_remainder[: max(0, total - sum(whole.values()))]:
        whole[name] += 1
    return whole


def _pour(
    budget: float, weights: Mapping[str, float], caps: Mapping[str, float]
) -> tuple[dict[str, float], set[str]]:
    """Fill in proportion to weights; what a full one cannot take goes to the others.

    Returns the amounts and who is full. The sum falls short of `budget` only if all are full.
    """
    amounts = dict.fromkeys(weights, 0.0)
    full: set[str] = set()
    left = budget
    while True:
        open_ones = {name: w for name, w in weights.items() if name not in full}
        total = sum(open_ones.values())
        if not open_ones:
            return amounts, full
        over = {name for name, w in open_ones.items() if left * w / total > caps[name]}
        if not over:
            amounts.update({name: left * w / total for name, w in open_ones.items()})
            return amounts, full
        for name in sorted(over):
            amounts[name] = caps[name]
            left -= caps[name]
        full |= over


def allocate(
    budget_tokens: int,
    shares: Mapping[str, float],
    available: Mapping[str, int | None],
    max_epochs: Mapping[str, float],
    when_capped: WhenCapped = "redistribute",
    without_source: WithoutSource = "error",
    *,
    used: Mapping[str, int] | None = None,
    where: str | None = None,
) -> list[Allocation]:
    """Share out a token budget; one Allocation for each share, in the order given.

    `shares`: relative weights. `available`: tokens of one epoch, 0 for none, None for unknown
    (never capped). `max_epochs`: how often each may be repeated. `used`: tokens that earlier
    phases drew, which count against the cap. Those without tokens are an error or their share
    goes to the others. When a cap binds: `redistribute` keeps the budget and gives the rest to
    the others (it falls short only when all are capped); `shrink` keeps the shares and lowers
    the budget until the tightest one fits; `error` raises. Otherwise tokens sum to the budget.
    """
    absent = [name for name in shares if available.get(name, 0) == 0]
    if absent and (without_source == "error" or len(absent) == len(shares)):
        raise WorkspaceError(
            f"nothing to draw from for: {', '.join(absent)}",
            where=where,
            fix="give it a source with rows, or 'without_source: redistribute'",
        )
    whole = sum(shares.values())
    weights = {name: share for name, share in shares.items() if name not in absent}
    caps = {
        name: float("inf")
        if (size := available[name]) is None
        else max(0.0, size * max_epochs[name] - (used or {}).get(name, 0))
        for name in weights
    }
    total = sum(weights.values())
    tight = {n for n, w in weights.items() if budget_tokens * w / total > caps[n]}
    if tight and when_capped == "error":
        lines = ", ".join(
            f"{n} needs {budget_tokens * weights[n] / total:.0f} tokens, has {caps[n]:.0f}"
            for n in sorted(tight)
        )
        raise WorkspaceError(
            f"epoch caps bind: {lines}",
            where=where,
            fix="fewer tokens, more rows, a higher max_epochs, or another 'when_capped'",
        )
    if tight and when_capped == "shrink":
        budget_tokens = int(min(caps[n] * total / weights[n] for n in tight))
        tight = {n for n in tight if budget_tokens * weights[n] / total > caps[n] - 1}
        caps = dict.fromkeys(weights, float("inf"))
    amounts, full = _pour(budget_tokens, weights, caps)
    short = len(full) == len(weights)
    tokens = _integers(amounts, int(sum(amounts.values())) if short else budget_tokens)
    capped = full | (tight if when_capped == "shrink" else set())
    return [
        Allocation(
            category=name,
            requested_share=share / whole,
            tokens=tokens.get(name, 0),
            epochs=tokens[name] / size if name in tokens and (size := available[name]) else None,
            capped=name in capped,
        )
        for name, share in shares.items()
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureAllocation:
    """A mixture's budgets: one for each category, and within it one for each recipe drawn."""

    categories: tuple[Allocation, ...]
    draws: dict[str, tuple[Allocation, ...]]


def allocate_mixture(
    mixture: MixtureSpec,
    budget_tokens: int,
    available: Mapping[str, int | None],
    *,
    used: Mapping[str, int] | None = None,
    where: str | None = None,
) -> MixtureAllocation:
    """Share out a budget over a mixture's categories, then over the recipes of each.

    `available`, `used`: tokens by draw (`fact_seeking`, `page@finewiki`). A recipe without
    records leaves its part to the others of its category; a category without any follows the
    mixture's `without_source`.
    """
    used = used or {}
    sizes: dict[str, int | None] = {}
    spent: dict[str, int] = {}
    epochs: dict[str, float] = {}
    for name, category in mixture.categories.items():
        known = [available.get(draw, 0) for draw in category.draw]
        sizes[name] = None if None in known else sum(k for k in known if k is not None)
        spent[name] = sum(used.get(draw, 0) for draw in category.draw)
        epochs[name] = category.max_epochs or mixture.max_epochs
    categories = allocate(
        budget_tokens,
        {name: category.share for name, category in mixture.categories.items()},
        sizes,
        epochs,
        mixture.when_capped,
        mixture.without_source,
        used=spent,
        where=where,
    )
    draws = {
        part.category: tuple(
            allocate(
                part.tokens,
                mixture.categories[part.category].draw,
                available,
                dict.fromkeys(mixture.categories[part.category].draw, epochs[part.category]),
                "redistribute",
                "redistribute",
                used=used,
                where=where,
            )
        )
        for part in categories
        if part.tokens
    }
    return MixtureAllocation(categories=tuple(categories), draws=draws)

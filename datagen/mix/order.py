"""Which documents are drawn, and in which order they come."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datagen.shards.draws import shuffled

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def draw(lengths: Ints, tokens: int, *, seed: int, drawn: Ints | None = None) -> Ints:
    """Choose documents whose lengths sum to `tokens` as nearly as one last document allows.

    Whole epochs first: every document once in each, in an order of its own. The last epoch stops
    at the budget, with the one further document that comes nearest to it. `drawn`: how often
    each document was drawn before (an earlier phase); those drawn least come first. Returns
    document indices in the order drawn.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    times = np.zeros(len(lengths), dtype=np.int64) if drawn is None else drawn.copy()
    chosen: list[Ints] = []
    left = tokens
    while left > 0 and lengths.sum() > 0:
        epoch = int(times.min())
        waiting = np.flatnonzero(times == epoch)
        waiting = waiting[shuffled(len(waiting), seed, epoch)]
        ends = np.cumsum(lengths[waiting])
        taken = int(np.searchsorted(ends, left, side="right"))
        chosen.append(waiting[:taken])
        times[waiting[:taken]] += 1
        left -= int(ends[taken - 1]) if taken else 0
        if taken < len(waiting):
            rest = waiting[taken:]
            miss = np.abs(lengths[rest] - left)
            nearest = int(np.argmin(miss))
            if miss[nearest] < left:
                chosen.append(rest[nearest : nearest + 1])
            break
    return np.concatenate([np.zeros(0, dtype=np.int64), *chosen])


class Interleaved(NamedTuple):
    """Documents of several parts in one order, shape (documents,) each.

    `part`: which part; `nth`: which document of that part's own order.
    """

    part: Ints
    nth: Ints


def interleave(parts: Sequence[Ints]) -> Interleaved:
    """Merge parts so that every stretch of the result has the shares of the whole, by tokens.

    `parts`: document lengths of each part, in its own order. A document's due time is where its
    middle lies in its part, as a fraction of the part's tokens; documents come in order of due
    time. So after any prefix each part has given its share to within one document, and the
    result depends on the lengths alone.
    """
    due: list[NDArray[np.float64]] = []
    for lengths in parts:
        ends = np.cumsum(lengths, dtype=np.int64)
        total = int(ends[-1]) if len(ends) else 1
        due.append((ends - np.asarray(lengths) / 2) / total)
    sizes = [len(lengths) for lengths in parts]
    order = np.argsort(np.concatenate([np.zeros(0), *due]), kind="stable")
    part = np.repeat(np.arange(len(sizes)), sizes)
    nth = np.concatenate([np.zeros(0, dtype=np.int64), *(np.arange(size) for size in sizes)])
    return Interleaved(part[order], nth[order])


def gaussian_order(values: Floats, *, start: float, end: float, sigma: float, seed: int) -> Ints:
    """Order items so that their values follow a bell curve whose mean moves from start to end.

    Place t of n aims at a value drawn from a normal distribution of width `sigma` round the mean
    that has moved that far; the items go to the places so that the largest aim gets the largest
    value, and so on down: each item once, and near its aim as far as the values allow. `sigma` 0
    is a sort, falling where `start > end`; a large `sigma` is a shuffle. Items of equal value come
    in an order that the seed fixes, and items without a value (not finite) lie evenly among the
    others. Returns a permutation of the items, shape (n,); O(n log n). Curriculum: Nano report.
    """
    values = np.asarray(values, dtype=np.float64)
    chance = shuffled(len(values), seed, 0)
    has_value = np.isfinite(values[chance])
    known, unknown = chance[has_value], chance[~has_value]
    aims = np.linspace(start, end, len(known)) + sigma * _normal(len(known), seed)
    ordered = np.empty_like(known)
    ordered[np.argsort(aims, kind="stable")] = known[np.argsort(values[known], kind="stable")]
    due = [(np.arange(len(part)) + 0.5) / max(len(part), 1) for part in (ordered, unknown)]
    places = np.argsort(np.concatenate(due), kind="stable")
    merged: Ints = np.concatenate([ordered, unknown])[places]
    return merged


def _normal(count: int, seed: int) -> Floats:
    """Standard normal numbers that the seed alone fixes, whatever numpy's version."""
    uniform = ((np.random.PCG64([seed, 1]).random_raw(count) >> np.uint64(11)) + 0.5) / 2**53
    return np.fromiter(map(NormalDist().inv_cdf, uniform.tolist()), np.float64, count)

"""Which documents are drawn, and in which order they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datagen.shards.draws import shuffled

Ints = NDArray[np.int64]


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

"""Draws meet their budgets; every window of the order has the mixture's shares."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.mix.order import Ints, draw, interleave
from datagen.shards.draws import shuffled

lengths_of = st.lists(st.integers(1, 500), min_size=1, max_size=40).map(np.array)


@settings(max_examples=150, deadline=None)
@given(lengths=lengths_of, tokens=st.integers(0, 20_000), seed=st.integers(0, 2**32))
def test_draw_meets_the_budget_in_even_epochs(lengths: Ints, tokens: int, seed: int) -> None:
    """Off by at most half the longest document; no document is two epochs ahead of another."""
    chosen = draw(lengths, tokens, seed=seed)
    assert abs(int(lengths[chosen].sum()) - tokens) <= lengths.max() / 2
    times = np.bincount(chosen, minlength=len(lengths))
    assert times.max() - times.min() <= 1
    assert (draw(lengths, tokens, seed=seed) == chosen).all()


@settings(max_examples=50, deadline=None)
@given(lengths=lengths_of, first=st.integers(0, 5000), second=st.integers(0, 5000))
def test_a_later_phase_goes_on_where_the_first_stopped(
    lengths: Ints, first: int, second: int
) -> None:
    """Over both phases, documents stay within one epoch of each other."""
    times = np.bincount(draw(lengths, first, seed=1), minlength=len(lengths))
    again = np.bincount(draw(lengths, second, seed=1, drawn=times), minlength=len(lengths))
    assert np.ptp(times + again) <= 1


def test_epochs_differ_in_order() -> None:
    """Each epoch shuffles anew, and the seed matters."""
    chosen = draw(np.full(64, 10), 64 * 10 * 3, seed=5)
    epochs = chosen.reshape(3, 64)
    assert all(sorted(epoch) == list(range(64)) for epoch in epochs.tolist())
    assert (epochs[0] != epochs[1]).any()
    assert (draw(np.full(64, 10), 640, seed=6) != epochs[0]).any()


def test_shuffle_is_pinned() -> None:
    """The permutation belongs to the format: it must not change with numpy."""
    assert shuffled(8, 7, 0).tolist() == [6, 3, 4, 0, 2, 7, 5, 1]


def test_every_window_has_the_shares() -> None:
    """In any 100k-token window each part is within two of its longest documents of its share."""
    rng = np.random.default_rng(0)
    parts = [np.clip(rng.lognormal(5, 1, n), 10, 2000).astype(np.int64) for n in (4000, 900, 50)]
    order = interleave(parts)
    lengths = np.array([parts[p][n] for p, n in zip(*order, strict=True)])
    for part, own in enumerate(parts):
        assert order.nth[order.part == part].tolist() == list(range(len(own)))
        share = own.sum() / lengths.sum()
        ends = np.cumsum(lengths)
        given_ = np.cumsum(np.where(order.part == part, lengths, 0))
        starts = np.searchsorted(ends, np.arange(0, ends[-1] - 100_000, 9973))
        stops = np.searchsorted(ends, ends[starts] + 100_000)
        window = ends[stops] - ends[starts]
        off = np.abs(given_[stops] - given_[starts] - share * window)
        slack = 2 * own.max() + share * 2 * sum(p.max() for p in parts)
        assert off.max() <= slack


def test_nothing_to_merge() -> None:
    """No parts, or empty parts, give an empty order."""
    assert len(interleave([]).part) == 0
    assert interleave([np.zeros(0, np.int64), np.array([3])]).part.tolist() == [1]


def test_a_single_document_comes_in_the_middle() -> None:
    """One document of 100 tokens among ten of 10: five before it, five after it."""
    order = interleave([np.full(10, 10), np.array([100])])
    assert order.part.tolist() == [0] * 5 + [1] + [0] * 5

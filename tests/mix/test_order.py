"""Draws meet their budgets; every window of the order has the mixture's shares."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.mix.order import Floats, Ints, draw, gaussian_order, interleave
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


rates = st.lists(
    st.sampled_from([0.0, 0.125, 0.5, 0.875, 1.0, float("nan"), float("inf")]) | st.floats(0, 1),
    max_size=80,
).map(np.array)
means = st.floats(0, 1)


@settings(max_examples=200, deadline=None)
@given(values=rates, start=means, end=means, sigma=st.floats(0, 2), seed=st.integers(0, 2**31))
def test_a_curriculum_is_a_permutation(
    values: Floats, start: float, end: float, sigma: float, seed: int
) -> None:
    """Each item once, the same every time, whatever the values; the seed alone decides."""
    given_ = {"start": start, "end": end, "sigma": sigma, "seed": seed}
    order = gaussian_order(values, **given_)
    assert sorted(order.tolist()) == list(range(len(values)))
    assert (gaussian_order(values.copy(), **given_) == order).all()


@settings(max_examples=200, deadline=None)
@given(values=rates, means=st.tuples(means, means), seed=st.integers(0, 2**31))
def test_a_curve_of_no_width_is_a_sort(
    values: Floats, means: tuple[float, float], seed: int
) -> None:
    """Falling from easy to hard, rising the other way round."""
    start, end = means
    order = gaussian_order(values, start=start, end=end, sigma=0.0, seed=seed)
    known = values[order][np.isfinite(values[order])]
    steps = np.diff(known)
    assert np.all(steps <= 0) if start > end else np.all(steps >= 0)


@settings(max_examples=25, deadline=None)
@given(
    shares=st.lists(st.integers(1, 10), min_size=2, max_size=9),
    sigma=st.floats(0, 0.2),
    seed=st.integers(0, 2**31),
)
def test_the_moving_mean_falls(shares: list[int], sigma: float, seed: int) -> None:
    """Over deciles of 800, to within their chance, however often each pass rate comes."""
    rates = np.linspace(0, 1, len(shares))
    values = np.repeat(rates, np.array(shares) * (8000 // sum(shares)))
    order = gaussian_order(values, start=0.9, end=0.1, sigma=sigma, seed=seed)
    deciles = [part.mean() for part in np.array_split(values[order], 10)]
    assert all(np.diff(deciles) <= 1e-9 + 0.25 * sigma / len(shares))
    assert deciles[0] - deciles[-1] > 0.5 * np.std(values)


def test_the_curve_has_the_width_asked_for() -> None:
    """Values that are there in plenty are drawn by N(mean, sigma), the mean in a straight line."""
    n, sigma = 20_000, 0.15
    mean = np.linspace(0.9, 0.1, n)
    values = np.random.default_rng(0).permutation(
        mean + sigma * np.random.default_rng(1).standard_normal(n)
    )
    drawn = values[gaussian_order(values, start=0.9, end=0.1, sigma=sigma, seed=3)]
    off = drawn - mean
    assert abs(off.mean()) < 0.005 and abs(off.std() - sigma) < 0.005
    assert abs(np.mean(np.abs(off) < sigma) - 0.6827) < 0.02
    assert all(abs(part.mean()) < 0.02 for part in np.array_split(off, 10))


def test_a_wide_curve_is_a_shuffle() -> None:
    """With a width far beyond the way of the mean, neither values nor places say much."""
    values = np.linspace(0, 1, 5000)
    order = gaussian_order(values, start=0.9, end=0.1, sigma=50.0, seed=1)
    assert abs(np.corrcoef(order, np.arange(5000))[0, 1]) < 0.05


def test_ties_come_by_chance_and_unknown_values_evenly() -> None:
    """Neither the order of the input nor a missing value says where an item comes."""
    values = np.full(1000, 0.5)
    order = gaussian_order(values, start=0.9, end=0.1, sigma=0.0, seed=1)
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.1
    values = np.concatenate([np.linspace(0, 1, 900), np.full(100, np.nan)])
    unknown = np.isnan(values[gaussian_order(values, start=0.9, end=0.1, sigma=0.1, seed=1)])
    assert all(9 <= part.sum() <= 11 for part in np.array_split(unknown, 10))


def test_a_curriculum_is_pinned() -> None:
    """The order belongs to the format: it must not change with numpy."""
    values = np.array([0.0, 0.25, 0.5, 0.75, 1.0, np.nan, 1.0, 0.5])
    order = gaussian_order(values, start=0.9, end=0.1, sigma=0.15, seed=7)
    assert order.tolist() == [4, 6, 3, 2, 5, 1, 0, 7]

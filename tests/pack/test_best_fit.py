"""Best fit equals the textbook algorithm, and equal prompts never meet."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.errors import DataError
from datagen.pack.best_fit import Ints, best_fit, by_length_descending, keep_apart


def naive(lengths: list[int], capacity: int) -> list[int]:
    """Best-fit-decreasing as the textbook has it: the rows' fills."""
    fills: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [n for n, fill in enumerate(fills) if fill + length <= capacity]
        if fitting:
            fills[max(fitting, key=lambda n: fills[n])] += length
        else:
            fills.append(length)
    return fills


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[int], int]:
    capacity = draw(st.one_of(st.integers(1, 40), st.integers(500, 1200), st.just(70_000)))
    longest = draw(st.integers(1, capacity))
    return draw(st.lists(st.integers(1, longest), max_size=120)), capacity


@settings(max_examples=400, deadline=None)
@given(problems())
def test_rows_are_those_of_the_textbook(problem: tuple[list[int], int]) -> None:
    """The same fills as the quadratic algorithm; rows are numbered without gaps."""
    lengths, capacity = problem
    placed = best_fit(np.array(lengths, dtype=np.int64), capacity)
    fills = np.bincount(placed.row_of, weights=lengths, minlength=placed.rows)
    assert sorted(fills.astype(int).tolist()) == sorted(naive(lengths, capacity))
    assert sorted(set(placed.row_of.tolist())) == list(range(placed.rows))


@given(st.lists(st.integers(1, 300_000), max_size=60))
def test_order_is_a_stable_falling_sort(lengths: list[int]) -> None:
    """The two-digit radix sort agrees with Python's sort."""
    order = by_length_descending(np.array(lengths, dtype=np.int64), 300_000)
    assert order.tolist() == sorted(range(len(lengths)), key=lambda n: -lengths[n])


def test_large_input_has_the_textbook_fills() -> None:
    """Real-looking lengths, three capacities: the same number of rows and the same fills."""
    rng = np.random.default_rng(3)
    for capacity in (4096, 16_384, 294_912):
        lengths = np.clip(rng.lognormal(6.5, 1.3, 1500), 8, capacity).astype(np.int64)
        placed = best_fit(lengths, capacity)
        fills = np.bincount(placed.row_of, weights=lengths).astype(int)
        assert sorted(fills.tolist()) == sorted(naive(lengths.tolist(), capacity))


def test_lengths_that_fit_no_row_are_refused() -> None:
    """Longer than a row, or empty: an error, never a wrong row."""
    for bad in ([5, 11], [0, 3]):
        with pytest.raises(DataError):
            best_fit(np.array(bad), 10)


@settings(max_examples=300, deadline=None)
@given(problems(), st.integers(1, 6), st.randoms(use_true_random=False))
def test_equal_prompts_are_kept_apart(
    problem: tuple[list[int], int], prompts: int, random: object
) -> None:
    """No row holds a prompt twice or overflows; nothing moves where nothing clashed."""
    lengths, capacity = np.array(problem[0], dtype=np.int64), problem[1]
    hashes: Ints = np.array([random.randrange(prompts) for _ in lengths], dtype=np.int64)  # type: ignore[attr-defined]
    before = best_fit(lengths, capacity)
    after = keep_apart(before, lengths, hashes, capacity)
    pairs = list(zip(after.row_of.tolist(), hashes.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    fills = np.bincount(after.row_of, weights=lengths, minlength=after.rows)
    assert len(fills) == after.rows
    assert not len(fills) or fills.max() <= capacity
    clashing = len(set(zip(before.row_of.tolist(), hashes.tolist(), strict=True))) < len(pairs)
    if not clashing:
        assert after is before


def test_copies_cost_hardly_a_row() -> None:
    """Four epochs in one window: every copy moves into the hole of another document."""
    rng = np.random.default_rng(1)
    lengths = np.repeat(np.clip(rng.lognormal(6, 1, 2000), 8, 4096).astype(np.int64), 4)
    hashes = np.repeat(np.arange(2000), 4)
    before = best_fit(lengths, 4096)
    after = keep_apart(before, lengths, hashes, 4096)
    assert after.rows <= before.rows * 1.01

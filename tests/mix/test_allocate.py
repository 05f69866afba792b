"""Budgets: sums, caps and where the rest goes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.errors import WorkspaceError
from datagen.mix.allocate import allocate, allocate_mixture, implied_epochs
from datagen.workspace.specs import CategorySpec, MixtureSpec

NAMES = ["a", "b", "c", "d", "e"]
shares_of = st.dictionaries(
    st.sampled_from(NAMES), st.floats(0.05, 50, allow_nan=False), min_size=1
)


def sizes_for(names: list[str], size: int | None) -> dict[str, int | None]:
    return dict.fromkeys(names, size)


@settings(max_examples=200, deadline=None)
@given(
    shares=shares_of,
    budget=st.integers(1, 10**13),
    sizes=st.lists(st.integers(1, 10**9), min_size=5, max_size=5),
    epochs=st.floats(0.5, 8),
)
def test_redistribution_pours_to_the_brim(
    shares: dict[str, float], budget: int, sizes: list[int], epochs: float
) -> None:
    """No one exceeds its cap, the sum is the budget or all are full, and the open ones keep their
    shares relative to each other and gain by the others' caps."""
    available: dict[str, int | None] = dict(zip(NAMES, sizes, strict=True))
    parts = allocate(budget, shares, available, dict.fromkeys(NAMES, epochs))
    got = {p.category: p for p in parts}
    assert list(got) == list(shares)
    for p in parts:
        size = available[p.category]
        assert size is not None
        assert p.tokens <= size * epochs + 1
        assert p.epochs == pytest.approx(p.tokens / size)
        if p.capped:
            assert p.tokens == pytest.approx(size * epochs, abs=1)
    total = sum(p.tokens for p in parts)
    free = [p for p in parts if not p.capped]
    assert total == budget if free else total <= budget
    for p in free:
        assert p.tokens >= int(p.requested_share * budget) - 1
        assert p.tokens * shares[free[0].category] == pytest.approx(
            free[0].tokens * shares[p.category], abs=shares[p.category] + shares[free[0].category]
        )


@given(shares=shares_of, budget=st.integers(0, 2 * 10**13))
def test_unknown_sizes_never_cap_and_sum_exactly(shares: dict[str, float], budget: int) -> None:
    """Without known sizes the budget is met to the token and epochs are unknown."""
    parts = allocate(budget, shares, sizes_for(NAMES, None), dict.fromkeys(NAMES, 4.0))
    assert sum(p.tokens for p in parts) == budget
    assert all(p.epochs is None and not p.capped for p in parts)


def test_shrink_keeps_the_shares() -> None:
    """The budget falls to what the tightest category allows; the shares hold."""
    parts = allocate(
        1_000_000,
        {"a": 75, "b": 25},
        {"a": 10**9, "b": 10_000},
        {"a": 4.0, "b": 4.0},
        "shrink",
    )
    assert [p.tokens for p in parts] == [120_000, 40_000]
    assert [p.capped for p in parts] == [False, True]


def test_error_names_what_binds() -> None:
    """With `when_capped: error` the message says who needs how much."""
    with pytest.raises(WorkspaceError, match="b needs 250000 tokens, has 40000") as caught:
        allocate(
            1_000_000,
            {"a": 75, "b": 25},
            {"a": 10**9, "b": 10_000},
            {"a": 4.0, "b": 4.0},
            "error",
            where="mixtures/x.yaml:3",
        )
    assert caught.value.where == "mixtures/x.yaml:3"


def test_without_source() -> None:
    """Nothing to draw from: an error, or the others get its share."""
    arguments = (1000, {"a": 1, "b": 3}, {"a": 10**6, "b": 0}, {"a": 4.0, "b": 4.0})
    with pytest.raises(WorkspaceError, match="nothing to draw from for: b"):
        allocate(*arguments)
    parts = allocate(*arguments, without_source="redistribute")
    assert [(p.tokens, p.requested_share) for p in parts] == [(1000, 0.25), (0, 0.75)]
    with pytest.raises(WorkspaceError):
        allocate(10, {"a": 1}, {}, {"a": 1.0}, without_source="redistribute")


def test_earlier_phases_count_against_the_cap() -> None:
    """Tokens that phase 1 drew are no longer there for phase 2."""
    parts = allocate(
        900, {"a": 1, "b": 1}, {"a": 100, "b": 10**6}, {"a": 4.0, "b": 4.0}, used={"a": 300}
    )
    assert [p.tokens for p in parts] == [100, 800]


def test_recipes_share_their_category() -> None:
    """Within a category the weights decide; an empty recipe leaves its part to the others."""
    mixture = MixtureSpec(
        name="m",
        title="m",
        horizon_tokens=1,
        categories={
            "x": CategorySpec(share=60, draw={"p": 1, "q": 2}),
            "y": CategorySpec(share=40, draw={"r": 1, "s": 1}),
        },
    )
    sizes: dict[str, int | None] = {"p": 10**6, "q": 10**6, "r": 10**6, "s": 0}
    got = allocate_mixture(mixture, 9000, sizes)
    assert [c.tokens for c in got.categories] == [5400, 3600]
    assert {d.category: d.tokens for d in got.draws["x"]} == {"p": 1800, "q": 3600}
    assert {d.category: d.tokens for d in got.draws["y"]} == {"r": 3600, "s": 0}


def test_implied_epochs() -> None:
    """35B tokens at 0.8 % of 15T are seen 3.4 times; an unknown size stays unknown."""
    assert implied_epochs(15 * 10**12, 0.008, 35 * 10**9) == pytest.approx(3.43, abs=0.01)
    assert implied_epochs(10**12, 0.5, None) is None

"""Warm-up, stable, decay: the values of the recipe."""

from __future__ import annotations

import pytest

from datagen.train.schedule import WarmupStableDecay


def test_values_of_each_part() -> None:
    rate = WarmupStableDecay(peak=1.0, floor=0.01, steps=100, warmup_steps=10, decay_steps=25)
    assert [rate(step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert {rate(step) for step in range(10, 75)} == {1.0}
    assert rate(75) == pytest.approx(1 - 0.99 * (1 / 25) ** 0.5)
    assert rate(99) == pytest.approx(0.01)
    falling = [rate(step) for step in range(74, 100)]
    assert falling == sorted(falling, reverse=True)


def test_parts_may_be_missing() -> None:
    rate = WarmupStableDecay(peak=2.0, floor=0.0, steps=3, warmup_steps=0, decay_steps=0)
    assert [rate(step) for step in range(3)] == [2.0, 2.0, 2.0]

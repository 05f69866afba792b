"""Warm-up, stable, decay; a cosine: the values of the recipe."""

from __future__ import annotations

from dataclasses import replace

import pytest

from datagen.errors import WorkspaceError
from datagen.train.config import TINY, preset
from datagen.train.schedule import WarmupCosine, WarmupStableDecay, schedule


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


def test_a_cosine_rises_to_its_peak_and_ends_at_its_floor() -> None:
    rate = WarmupCosine(peak=1.0, floor=0.2, steps=14, warmup_steps=4)
    assert [rate(step) for step in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rate(8) == pytest.approx(0.6)  # half-way
    assert rate(13) == pytest.approx(0.2)
    falling = [rate(step) for step in range(3, 14)]
    assert falling == sorted(falling, reverse=True)


def test_the_presets_lay_out_the_reports_schedules() -> None:
    ultra = schedule(preset("ultra"), 1000)
    assert isinstance(ultra, WarmupStableDecay)
    assert (ultra.warmup_steps, ultra.decay_steps) == (10, 250)  # 200B and 5T of 20T tokens
    first = preset("ultra-sft1")
    rate = schedule(first, 204_800 // 64)
    assert isinstance(rate, WarmupCosine) and rate.warmup_steps == 9_600 // 64
    assert (rate(149), rate(3199)) == pytest.approx((1.5e-5, 1e-6))
    flat = schedule(preset("ultra-long"), 1311)
    assert {flat(step) for step in (0, 700, 1310)} == {2.5e-6}


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(WorkspaceError, match="wsd or cosine"):
        replace(TINY, schedule="linear")

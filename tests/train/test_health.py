"""Two signatures of divergence raise an alarm each, once, and a healthy run none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from datagen.train.config import preset
from datagen.train.door import StepReport
from datagen.train.health import WINDOW_STEPS, Watch

ULTRA = preset("ultra").model
MIXTURES = ULTRA.pattern.count("E") + 1


def healthy(step: int) -> StepReport:
    return StepReport(
        step=step,
        epoch=0,
        phase="phase1",
        lr=1e-3,
        loss=2.0,
        mtp_losses=(3.0, 4.0),
        balance_loss=1.0,
        max_violation=(1.5,) * MIXTURES,
        dead_experts=(0,) * MIXTURES,
        residual_rms=tuple(0.1 * (i + 1) for i in range(len(ULTRA.pattern))),
        gradient_norm=1.0,
        gradient_norms={"head": 0.5, "embedding": 0.1},
        tokens=100,
        targets=100,
        tokens_per_s=1.0,
    )


def raised(watch: Watch, reports: list[StepReport]) -> list[tuple[int, str]]:
    return [(report.step, words) for report in reports for words in watch(report)]


def test_a_healthy_run_is_silent() -> None:
    watch = Watch(ULTRA)
    falling = [replace(healthy(i), gradient_norms={"head": 3.0 / i**0.5}) for i in range(1, 200)]
    assert raised(watch, falling) == []


def test_a_growing_output_gradient_is_told_once() -> None:
    reports = [
        replace(healthy(i), gradient_norms={"head": 0.5 * 1.02 ** max(0, i - 60)})
        for i in range(1, 200)
    ]
    [(step, words)] = raised(Watch(ULTRA), reports)
    assert "output layer" in words
    grown = 0.5 * 1.02 ** (step - WINDOW_STEPS // 2 - 60)
    assert grown == pytest.approx(2.0, rel=0.05)  # four times the lowest


def test_the_reports_load_and_spread_are_told() -> None:
    calm = [healthy(i) for i in range(1, 65)]
    wild = [
        replace(
            healthy(i),
            max_violation=(12.5, *(1.5,) * (MIXTURES - 1)),
            residual_rms=(1e-2, *(1.0,) * (len(ULTRA.pattern) - 2), 1e2),
        )
        for i in range(65, 130)
    ]
    words = sorted(words for _, words in raised(Watch(ULTRA), calm + wild))
    assert len(words) == 2
    assert words[0].startswith("layer 1: an expert takes 12.5 times the mean load")
    assert words[1].startswith("the residual stream's RMS differs")


def test_the_warm_up_is_left_alone() -> None:
    wild = (20.0,) * MIXTURES
    warming = [replace(healthy(i), lr=1e-5 * i, max_violation=wild) for i in range(1, 100)]
    calm = [replace(healthy(i), lr=1e-3) for i in range(100, 200)]
    assert raised(Watch(ULTRA), warming + calm) == []


def test_one_odd_batch_is_no_alarm() -> None:
    reports = [healthy(i) for i in range(1, 100)]
    reports[70] = replace(reports[70], gradient_norms={"head": 1e6}, max_violation=(23.0,) * 49)
    assert raised(Watch(ULTRA), reports) == []

"""What the benches of training rest on: facts by rule, a choice by likelihood, an interval."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from datagen.train.config import ModelConfig  # noqa: E402
from datagen.train.data import Window, collate  # noqa: E402
from datagen.train.model import HybridModel  # noqa: E402

BENCH = runpy.run_path(str(Path(__file__).resolve().parents[2] / "scripts/bench/fact_injection.py"))


def test_facts_are_taken_by_rule() -> None:
    texts = [
        ("Red Sky (1999 film)", "Red Sky is a 1999 Danish drama film directed by Ada Bo Lund."),
        ("Ada Lund", "Ada Lund (born 3 May 1950) is a Danish director."),
        ("Per Holm", "Per Holm( May 4, 1901 – 2 June 1980) was a painter."),
        ("A Hill", "A Hill is a hill. It was (in 1950) climbed."),
    ]
    assert [tuple(fact.values()) for fact in BENCH["facts_of"](texts)] == [
        ("director", "Red Sky", "Ada Bo Lund"),
        ("year", "Red Sky", "1999"),
        ("born", "Ada Lund", "1950"),
        ("born", "Per Holm", "1901"),
    ]


def test_a_choice_is_the_option_of_the_largest_mean_likelihood(
    small: ModelConfig, float64_model: Callable[[ModelConfig], HybridModel]
) -> None:
    model = float64_model(replace(small, mtp_heads=0))
    rng = np.random.default_rng(0)
    tests: list[dict[str, Any]] = [
        {
            "prompt": rng.integers(0, 64, rng.integers(1, 9)).tolist(),
            "options": [rng.integers(0, 64, rng.integers(1, 5)).tolist() for _ in range(4)],
        }
        for _ in range(30)
    ]

    def mean_loss(prompt: list[int], option: list[int]) -> float:
        ids = np.array([*prompt, *option])
        mask = np.array([0] * len(prompt) + [1] * len(option))
        batch = collate([Window(ids, mask, np.array([0]), ("t",))], len(ids))
        return float(model.token_losses(batch, 64).sum()) / len(option)

    expected = []
    for test in tests:
        first, *others = (mean_loss(test["prompt"], option) for option in test["options"])
        expected.append(first < min(others))
    assert 0 < sum(expected) < len(expected)
    assert BENCH["accuracy"](model, tests, "cpu") == expected


def test_an_interval_by_hand() -> None:
    mean, half = BENCH["interval"]([1.0, 2.0, 3.0])
    assert (mean, half) == pytest.approx((2.0, 4.303 / 3**0.5))

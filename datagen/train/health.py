"""Watching a run for the two ways in which Nemotron 3 Ultra's pretraining diverged.

First: the output layer's gradient grew, because it was summed in bfloat16. Second: one layer's
experts took a large part of all tokens (MaxVio about 12 of a ceiling of 23), and the residual
stream's size differed by four orders of magnitude between layers. Source: arXiv 2606.15007.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable

from datagen.train.config import ModelConfig
from datagen.train.door import StepReport

WINDOW_STEPS = 32
"""Figures are medians over so many steps, so that one odd batch is no alarm."""
GRADIENT_GROWTH = 4.0
RESIDUAL_SPREAD = 1e3
"""An order of magnitude before the report's four."""


class Watch:
    """Tells, step by step, which signatures of divergence begin to hold.

    `layers` name the mixture layers by their place in the stack, the multi-token block last.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.layers = [f"layer {i}" for i, letter in enumerate(config.pattern) if letter == "E"]
        self.layers += ["multi-token block"] if config.mtp_heads else []
        # Half-way from even load to the ceiling: 12 for Ultra's 512 experts, 22 a token.
        self.most_load = (1 + config.experts / config.top_k) / 2
        self.recent: deque[StepReport] = deque(maxlen=WINDOW_STEPS)
        self.lowest_head = float("inf")
        self.last_lr = 0.0
        self.is_warm = False
        self.holding: set[str] = set()

    def __call__(self, report: StepReport) -> tuple[str, ...]:
        """Take a step in; return what began to hold with it, in words.

        Nothing is told of the warm-up, where experts find their work and gradients their size.
        """
        self.is_warm = self.is_warm or report.lr <= self.last_lr
        self.last_lr = report.lr
        if not self.is_warm:
            return ()
        self.recent.append(report)
        if len(self.recent) < WINDOW_STEPS:
            return ()
        found = dict([*self._output_gradient(), *self._load(), *self._residual()])
        begun = tuple(words for key, words in found.items() if key not in self.holding)
        self.holding = set(found)
        return begun

    def _output_gradient(self) -> Iterable[tuple[str, str]]:
        """Compare the head's gradient with the lowest that it was."""
        head = statistics.median(r.gradient_norms.get("head", 0.0) for r in self.recent)
        self.lowest_head = min(self.lowest_head, head)
        if head > GRADIENT_GROWTH * self.lowest_head > 0:
            times = head / self.lowest_head
            yield "head", f"the output layer's gradient norm grew {times:.1f}-fold to {head:.3g}"

    def _load(self) -> Iterable[tuple[str, str]]:
        """Compare each mixture layer's largest load with half-way to its ceiling."""
        for name, loads in zip(
            self.layers, zip(*(r.max_violation for r in self.recent), strict=True), strict=True
        ):
            load = statistics.median(loads)
            if load > self.most_load:
                yield name, f"{name}: an expert takes {load:.1f} times the mean load (MaxVio)"

    def _residual(self) -> Iterable[tuple[str, str]]:
        """Compare the residual stream's largest RMS with its smallest across depth."""
        spread = statistics.median(
            max(r.residual_rms) / max(min(r.residual_rms), 1e-30) for r in self.recent
        )
        if spread > RESIDUAL_SPREAD:
            yield "residual", f"the residual stream's RMS differs {spread:,.0f}-fold between layers"

"""The learning rate over a run: warm-up, then stable and decay, or a cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass

from datagen.train.config import TrainConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmupStableDecay:
    """Linear rise over `warmup_steps`, constant, then minus-sqrt fall over the last `decay_steps`.

    The first step has peak / warmup_steps; a decay's step i of n (from 1) has
    peak - (peak - floor) sqrt(i / n), so the run's last step has the floor exactly.
    """

    peak: float
    floor: float
    steps: int
    warmup_steps: int
    decay_steps: int

    def __call__(self, step: int) -> float:
        """Return the rate of a step, counted from 0."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        decayed = step + 1 - (self.steps - self.decay_steps)
        if decayed <= 0:
            return self.peak
        return self.peak - (self.peak - self.floor) * math.sqrt(decayed / self.decay_steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmupCosine:
    """Linear rise over `warmup_steps`, then half a cosine from the peak down to the floor.

    Step i of the n after the warm-up (from 1) has floor + (peak - floor) (1 + cos(pi i / n)) / 2.
    """

    peak: float
    floor: float
    steps: int
    warmup_steps: int

    def __call__(self, step: int) -> float:
        """Return the rate of a step, counted from 0."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        turned = math.pi * (step + 1 - self.warmup_steps) / (self.steps - self.warmup_steps)
        return self.floor + (self.peak - self.floor) * (1 + math.cos(turned)) / 2


def schedule(config: TrainConfig, steps: int) -> WarmupStableDecay | WarmupCosine:
    """Lay the recipe's schedule over a run of `steps` steps."""
    warmup_steps = round(config.warmup_fraction * steps)
    if config.schedule == "cosine":
        return WarmupCosine(
            peak=config.peak_lr, floor=config.min_lr, steps=steps, warmup_steps=warmup_steps
        )
    return WarmupStableDecay(
        peak=config.peak_lr,
        floor=config.min_lr,
        steps=steps,
        warmup_steps=warmup_steps,
        decay_steps=round(config.decay_fraction * steps),
    )

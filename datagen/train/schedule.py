"""The learning rate over a run: warm-up, stable, decay."""

from __future__ import annotations

import math
from dataclasses import dataclass


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

"""What every mixer is made of: matrices without bias, norms with wide statistics."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from datagen.train.config import ModelConfig
from datagen.train.kernels import operations

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@runtime_checkable
class Initialises(Protocol):
    """A module with parameters of its own that knows how they start.

    `std` is for matrices that read the residual stream, `residual_std` for those that write to it.
    """

    def initialise(self, generator: torch.Generator, std: float, residual_std: float) -> None:
        """Draw the module's own parameters, not its children's."""


def matrix(config: ModelConfig, width_in: int, width_out: int) -> nn.Linear:
    """Make an uninitialised matrix in the model's dtype, without bias."""
    return nn.Linear(width_in, width_out, bias=False, dtype=DTYPES[config.dtype])


def wide_parameter(*shape: int) -> nn.Parameter:
    """Make an uninitialised float32 parameter, whatever the model's dtype is."""
    return nn.Parameter(torch.empty(shape, dtype=torch.float32))


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis with a float32 scale."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = wide_parameter(width)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise: same shape and dtype out as in."""
        return self.add(x, None)[1]

    def add(self, x_BTD: Tensor, delta_BTD: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return x + delta, its norm, and the sum of its squares by token (B, T)."""
        return operations.add_norm(x_BTD, delta_BTD, self.weight, self.eps)

    def initialise(self, generator: torch.Generator, std: float, residual_std: float) -> None:
        """Start as the plain norm."""
        nn.init.ones_(self.weight)

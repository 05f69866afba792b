"""What the checks on a GPU share: errors, inputs, and a memory full of NaN."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

DEVICE, NARROW = torch.device("cuda"), torch.bfloat16
FAILURES: list[str] = []


def report(name: str, limit: float, **errors: float) -> None:
    """Print a line of errors and remember those above the limit; NaN never passes."""
    worst = max(errors.values(), key=lambda e: float("inf") if e != e else e)
    passed = worst <= limit
    if not passed:
        FAILURES.append(name)
    values = "  ".join(f"{key} {value:.2e}" for key, value in errors.items())
    print(f"{'ok  ' if passed else 'FAIL'} {name:44s} limit {limit:.1e}  {values}", flush=True)


def error(ours: Tensor, truth: Tensor) -> float:
    """Return the relative error in the Frobenius norm."""
    ours, truth = ours.detach().double(), truth.detach().double()
    return float((ours - truth).norm() / truth.norm().clamp(min=1e-300))


def poison(gigabytes: int = 4) -> None:
    """Leave NaN in the memory that the allocator hands out next."""
    blocks = [torch.full((1 << 28,), torch.nan, device=DEVICE) for _ in range(gigabytes)]
    small = [torch.full((1 << 16,), torch.nan, device=DEVICE) for _ in range(512)]
    del blocks, small


def index_of(rows: Sequence[Sequence[int]]) -> Tensor:
    """Number the documents of each row of lengths."""
    return torch.tensor(
        [[i for i, length in enumerate(row) for _ in range(length)] for row in rows], device=DEVICE
    )


def normal(*shape: int, scale: float = 1.0) -> Tensor:
    """Draw bfloat16 numbers on the device."""
    return (torch.randn(shape, device=DEVICE) * scale).to(NARROW)

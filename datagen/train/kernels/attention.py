"""Attention inside documents on a GPU: torch's flash attention, its gradient repeatable."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class DocumentAttention(torch.autograd.Function):
    """Compute `reference.attention` on tokens laid end to end: (N, heads, P) and where each begins.

    Torch's own wrapper would do, but its gradient of the queries is summed in any order, and a
    resumed run would leave the path of one that never stopped.
    """

    @staticmethod
    def forward(
        ctx: Any, q_NQP: Tensor, k_NKP: Tensor, v_NKP: Tensor, begins_S: Tensor, longest: int
    ) -> Tensor:
        out_NQP, weights, state, unused, _ = torch.ops.aten._flash_attention_forward(
            q_NQP, k_NKP, v_NKP, begins_S, begins_S, longest, longest, 0.0, True, False
        )
        ctx.save_for_backward(q_NQP, k_NKP, v_NKP, out_NQP, weights, begins_S, state, unused)
        ctx.longest = longest
        result: Tensor = out_NQP
        return result

    @staticmethod
    def backward(ctx: Any, dout_NQP: Tensor) -> tuple[Tensor | None, ...]:
        q_NQP, k_NKP, v_NKP, out_NQP, weights, begins_S, state, unused = ctx.saved_tensors
        with _repeatable():
            dq_NQP, dk_NKP, dv_NKP = torch.ops.aten._flash_attention_backward(
                dout_NQP.contiguous(), q_NQP, k_NKP, v_NKP, out_NQP, weights, begins_S, begins_S,
                ctx.longest, ctx.longest, 0.0, True, state, unused,
            )  # fmt: skip
        return dq_NQP, dk_NKP, dv_NKP, None, None


@contextmanager
def _repeatable() -> Iterator[None]:
    """Ask torch for repeatable sums in this block alone: others would pay for it too."""
    enabled = torch.are_deterministic_algorithms_enabled()
    settings: Any = torch.utils.deterministic
    filling = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled)
        settings.fill_uninitialized_memory = filling

"""Chunked cross entropy on a GPU: the logits of a chunk become their own gradient, in place."""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,no-untyped-call"

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK, WARPS = 16_384, 16


@triton.jit
def _softmax_gradient(logits_ptr, labels_ptr, losses_ptr, vocabulary, BLOCK: tl.constexpr):
    """Turn a row of logits into probabilities minus the target, and give its loss; 0 if masked."""
    row = tl.program_id(0).to(tl.int64)
    label = tl.load(labels_ptr + row)
    logits_ptr += row * vocabulary
    columns = tl.arange(0, BLOCK)
    if label < 0:
        tl.store(losses_ptr + row, 0.0)
        zeros = tl.zeros((BLOCK,), logits_ptr.dtype.element_ty)
        for start in range(0, vocabulary, BLOCK):
            tl.store(logits_ptr + start + columns, zeros, mask=start + columns < vocabulary)
    else:
        # Finite numbers: the difference of two infinities would be none.
        peak, mass = -3e38, 0.0
        for start in range(0, vocabulary, BLOCK):
            x = tl.load(
                logits_ptr + start + columns, mask=start + columns < vocabulary, other=-3e38
            ).to(tl.float32)
            higher = tl.maximum(peak, tl.max(x, axis=0))
            mass = mass * tl.exp(peak - higher) + tl.sum(tl.exp(x - higher), axis=0)
            peak = higher
        target = tl.load(logits_ptr + label).to(tl.float32)
        tl.store(losses_ptr + row, tl.log(mass) + peak - target)
        tl.debug_barrier()  # the target is read before the loop below overwrites it
        share = 1.0 / mass
        for back in range(0, vocabulary, BLOCK):
            start = (vocabulary - 1) // BLOCK * BLOCK - back  # what was read last is in the cache
            ok = start + columns < vocabulary
            x = tl.load(logits_ptr + start + columns, mask=ok, other=-3e38).to(tl.float32)
            error = tl.exp(x - peak) * share - tl.where(start + columns == label, 1.0, 0.0)
            tl.store(logits_ptr + start + columns, error.to(logits_ptr.dtype.element_ty), mask=ok)


class ChunkedCrossEntropy(torch.autograd.Function):
    """Compute `reference.cross_entropy_sum`; the head's gradient is summed in float32."""

    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, head_VD: Tensor, labels_N: Tensor, chunk_tokens: int
    ) -> Tensor:
        hidden_ND = hidden_ND.contiguous()
        narrow_VD = head_VD.to(hidden_ND.dtype)
        losses_N = head_VD.new_empty(len(labels_N))
        grad_hidden_ND, grad_head_VD = torch.empty_like(hidden_ND), torch.empty_like(head_VD)
        for start in range(0, len(labels_N), chunk_tokens):
            rows = slice(start, start + chunk_tokens)
            error_NV = hidden_ND[rows] @ narrow_VD.T
            _softmax_gradient[(len(error_NV),)](
                error_NV, labels_N[rows], losses_N[rows], len(narrow_VD),
                BLOCK=BLOCK, num_warps=WARPS,
            )  # fmt: skip
            torch.mm(error_NV, narrow_VD, out=grad_hidden_ND[rows])
            if start == 0:
                torch.mm(error_NV.T, hidden_ND[rows], out_dtype=torch.float32, out=grad_head_VD)
            else:
                torch.addmm(
                    grad_head_VD, error_NV.T, hidden_ND[rows], out_dtype=torch.float32,
                    out=grad_head_VD,
                )  # fmt: skip
        ctx.save_for_backward(grad_hidden_ND, grad_head_VD)
        return losses_N.sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_hidden_ND, grad_head_VD = ctx.saved_tensors
        return grad_hidden_ND.mul_(grad), grad_head_VD.mul_(grad), None, None

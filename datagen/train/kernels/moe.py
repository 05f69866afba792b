"""Sparse experts on a GPU without a word from the host: sort, gather, grouped products, add up.

The gates multiply the hidden activation, not the output: the output need not be kept, and the
gates' gradient is formed where the activation's is. Rows past the last expert's, those of padding,
hold whatever the memory held; nothing reads them.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,no-untyped-call"

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _gather(x_ptr, order_ptr, out_ptr, width, K: tl.constexpr, BW: tl.constexpr):
    """Copy to sorted row m the token of its slot."""
    m = tl.program_id(0).to(tl.int64)
    token = tl.load(order_ptr + m) // K
    c = tl.arange(0, BW)
    for start in range(0, width, BW):
        ok = start + c < width
        x = tl.load(x_ptr + token * width + start + c, mask=ok, other=0.0)
        tl.store(out_ptr + m * width + start + c, x, mask=ok)


@triton.jit
def _add_up(
    rows_ptr, inverse_ptr, last_ptr, out_ptr, width, K: tl.constexpr, BW: tl.constexpr
):  # fmt: skip
    """Sum a token's slots in their order, those of no expert left out."""
    token = tl.program_id(0).to(tl.int64)
    used = tl.load(last_ptr)
    c = tl.arange(0, BW)
    for start in range(0, width, BW):
        total = tl.zeros((BW,), tl.float32)
        for k in tl.static_range(K):
            m = tl.load(inverse_ptr + token * K + k)
            ok = (start + c < width) & (m < used)
            total += tl.load(rows_ptr + m * width + start + c, mask=ok, other=0.0).to(tl.float32)
        where = out_ptr + token * width + start + c
        tl.store(where, total.to(out_ptr.dtype.element_ty), mask=start + c < width)


@triton.jit
def _activate(hidden_ptr, gate_ptr, order_ptr, out_ptr, width, BW: tl.constexpr):
    """Form gate * relu(hidden)^2 of a sorted row."""
    m = tl.program_id(0).to(tl.int64)
    gate = tl.load(gate_ptr + tl.load(order_ptr + m))
    c = tl.arange(0, BW)
    for start in range(0, width, BW):
        ok = start + c < width
        h = tl.load(hidden_ptr + m * width + start + c, mask=ok, other=0.0).to(tl.float32)
        h = tl.maximum(h, 0.0)
        tl.store(
            out_ptr + m * width + start + c, (gate * h * h).to(out_ptr.dtype.element_ty), mask=ok
        )


@triton.jit
def _activate_backward(
    dout_ptr, hidden_ptr, gate_ptr, order_ptr, last_ptr, dhidden_ptr, dgate_ptr, width,
    BW: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0).to(tl.int64)
    slot = tl.load(order_ptr + m)
    gate = tl.load(gate_ptr + slot)
    used = m < tl.load(last_ptr)
    c = tl.arange(0, BW)
    met = tl.zeros((BW,), tl.float32)
    for start in range(0, width, BW):
        ok = (start + c < width) & used
        h = tl.load(hidden_ptr + m * width + start + c, mask=ok, other=0.0).to(tl.float32)
        dout = tl.load(dout_ptr + m * width + start + c, mask=ok, other=0.0).to(tl.float32)
        h = tl.maximum(h, 0.0)
        met += dout * h * h
        dhidden = (2.0 * gate * dout * h).to(dhidden_ptr.dtype.element_ty)
        tl.store(dhidden_ptr + m * width + start + c, dhidden, mask=ok)
    tl.store(dgate_ptr + slot, tl.sum(met, axis=0))


class Experts(torch.autograd.Function):
    """Compute `reference.experts` with grouped matrix products; returns tokens by expert too."""

    @staticmethod
    def forward(
        ctx: Any, x_NI: Tensor, choice_NK: Tensor, gate_NK: Tensor, up_EIF: Tensor, down_EFI: Tensor
    ) -> tuple[Tensor, Tensor]:
        x_NI, gate_NK = x_NI.contiguous(), gate_NK.contiguous()
        experts, slots = up_EIF.shape[0], choice_NK.numel()
        keys = torch.uint8 if experts < 255 else torch.int16
        sorted_M, order_M = torch.sort(choice_NK.flatten().to(keys), stable=True)
        numbers_E = torch.arange(experts, device=x_NI.device, dtype=keys)
        ends_E = torch.searchsorted(sorted_M, numbers_E, right=True, out_int32=True)
        inverse_M = torch.empty_like(order_M)
        inverse_M[order_M] = torch.arange(slots, device=x_NI.device)

        rows_MI = gather(x_NI, order_M, choice_NK.shape[1])
        hidden_MF = F.grouped_mm(rows_MI, up_EIF, offs=ends_E)
        active_MF = torch.empty_like(hidden_MF)
        _activate[(slots,)](
            hidden_MF, gate_NK, order_M, active_MF, hidden_MF.shape[1], BW=1024, num_warps=2
        )
        out_MI = F.grouped_mm(active_MF, down_EFI, offs=ends_E)
        out_NI = add_up(out_MI, inverse_M.view_as(choice_NK), ends_E[-1:])
        ctx.save_for_backward(
            gate_NK, up_EIF, down_EFI, order_M, inverse_M, ends_E, rows_MI, hidden_MF, active_MF
        )
        tokens_E = torch.diff(ends_E, prepend=ends_E.new_zeros(1)).long()
        ctx.mark_non_differentiable(tokens_E)
        return out_NI, tokens_E

    @staticmethod
    def backward(ctx: Any, dout_NI: Tensor, _tokens: None) -> tuple[Tensor | None, ...]:
        gate_NK, up_EIF, down_EFI, order_M, inverse_M, ends_E, rows_MI, hidden_MF, active_MF = (
            ctx.saved_tensors
        )
        top_k, last = gate_NK.shape[1], ends_E[-1:]
        dout_MI = gather(dout_NI.contiguous(), order_M, top_k)
        ddown_EFI = F.grouped_mm(active_MF.T, dout_MI, offs=ends_E)
        dactive_MF = F.grouped_mm(dout_MI, down_EFI.transpose(1, 2), offs=ends_E)
        dhidden_MF, dgate_NK = torch.empty_like(hidden_MF), torch.empty_like(gate_NK)
        _activate_backward[(len(order_M),)](
            dactive_MF, hidden_MF, gate_NK, order_M, last, dhidden_MF, dgate_NK,
            hidden_MF.shape[1], BW=512, num_warps=1,
        )  # fmt: skip
        dup_EIF = F.grouped_mm(rows_MI.T, dhidden_MF, offs=ends_E)
        drows_MI = F.grouped_mm(dhidden_MF, up_EIF.transpose(1, 2), offs=ends_E)
        dx_NI = add_up(drows_MI, inverse_M.view_as(gate_NK), last)
        return dx_NI, None, dgate_NK, dup_EIF, ddown_EFI


def gather(x_NI: Tensor, order_M: Tensor, top_k: int) -> Tensor:
    """Copy each slot's token to the slot's place in the order: (N, I) -> (M, I)."""
    out_MI = x_NI.new_empty(len(order_M), x_NI.shape[1])
    _gather[(len(order_M),)](x_NI, order_M, out_MI, x_NI.shape[1], K=top_k, BW=256, num_warps=1)
    return out_MI


def add_up(rows_MI: Tensor, inverse_NK: Tensor, last: Tensor) -> Tensor:
    """Sum each token's rows, found at `inverse_NK`; rows from `last` on count as zero."""
    tokens, top_k = inverse_NK.shape
    out_NI = rows_MI.new_empty(tokens, rows_MI.shape[1])
    _add_up[(tokens,)](
        rows_MI, inverse_NK, last, out_NI, rows_MI.shape[1], K=top_k, BW=256, num_warps=1
    )
    return out_NI


@triton.jit
def _relu2(x_ptr, out_ptr, size, BLOCK: tl.constexpr):
    where = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.maximum(tl.load(x_ptr + where, mask=where < size, other=0.0).to(tl.float32), 0.0)
    tl.store(out_ptr + where, (x * x).to(out_ptr.dtype.element_ty), mask=where < size)


@triton.jit
def _relu2_backward(x_ptr, dout_ptr, dx_ptr, size, BLOCK: tl.constexpr):
    where = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + where, mask=where < size, other=0.0).to(tl.float32)
    dout = tl.load(dout_ptr + where, mask=where < size, other=0.0).to(tl.float32)
    dx = 2.0 * tl.maximum(x, 0.0) * dout
    tl.store(dx_ptr + where, dx.to(dx_ptr.dtype.element_ty), mask=where < size)


class Relu2(torch.autograd.Function):
    """Compute `reference.relu2` in one pass each way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x)
        out = torch.empty_like(x)
        _relu2[(triton.cdiv(x.numel(), 2048),)](x, out, x.numel(), BLOCK=2048)
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        dx = torch.empty_like(x)
        _relu2_backward[(triton.cdiv(x.numel(), 2048),)](
            x, dout.contiguous(), dx, x.numel(), BLOCK=2048
        )
        return dx

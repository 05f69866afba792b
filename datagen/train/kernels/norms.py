"""Norms on a GPU: the gated group norm, and the residual addition that a norm follows.

A program takes a few rows at a time; weight gradients are summed per program, then over programs,
in a fixed order.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,no-untyped-call"

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_PROGRAMS = 1056
"""Programs of a backward pass: eight for each multiprocessor of the chip measured."""


@triton.jit
def _gated_forward(
    y_ptr, z_ptr, weight_ptr, out_ptr, z_row, z_time, tokens, rows, inner, eps,
    BM: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    group = tl.program_id(1)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    ok = (m < rows)[:, None]
    m = m.to(tl.int64)
    c = group * W + tl.arange(0, W)
    where = m[:, None] * inner + c[None, :]
    z_where = ((m // tokens) * z_row + (m % tokens) * z_time)[:, None] + c[None, :]
    y = tl.load(y_ptr + where, mask=ok, other=0.0).to(tl.float32)
    z = tl.load(z_ptr + z_where, mask=ok, other=0.0).to(tl.float32)
    gated = y * z * tl.sigmoid(z)
    scale = tl.rsqrt(tl.sum(gated * gated, axis=1) / W + eps)
    out = gated * scale[:, None] * tl.load(weight_ptr + c)[None, :]
    tl.store(out_ptr + where, out.to(out_ptr.dtype.element_ty), mask=ok)


@triton.jit
def _gated_backward(
    dout_ptr, y_ptr, z_ptr, weight_ptr, dy_ptr, dz_ptr, partial_ptr,
    z_row, z_time, dz_row, dz_time, tokens, rows, inner, eps,
    BM: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    group = tl.program_id(1)
    c = group * W + tl.arange(0, W)
    weight = tl.load(weight_ptr + c)[None, :]
    dweight = tl.zeros((W,), tl.float32)
    blocks = tl.cdiv(rows, BM)
    for block in tl.range(tl.program_id(0), blocks, tl.num_programs(0), num_stages=3):
        m = block * BM + tl.arange(0, BM)
        ok = (m < rows)[:, None]
        m = m.to(tl.int64)
        where = m[:, None] * inner + c[None, :]
        row, time = m // tokens, m % tokens
        z_where = (row * z_row + time * z_time)[:, None] + c[None, :]
        dz_where = (row * dz_row + time * dz_time)[:, None] + c[None, :]
        dout = tl.load(dout_ptr + where, mask=ok, other=0.0).to(tl.float32)
        y = tl.load(y_ptr + where, mask=ok, other=0.0).to(tl.float32)
        z = tl.load(z_ptr + z_where, mask=ok, other=0.0).to(tl.float32)
        sigmoid = tl.sigmoid(z)
        gate = z * sigmoid
        gated = y * gate
        scale = tl.rsqrt(tl.sum(gated * gated, axis=1) / W + eps)[:, None]
        normed = gated * scale
        dweight += tl.sum(dout * normed, axis=0)
        dnormed = dout * weight
        mean = tl.sum(dnormed * normed, axis=1)[:, None] / W
        dgated = (dnormed - normed * mean) * scale
        dz = dgated * y * sigmoid * (1.0 + z * (1.0 - sigmoid))
        tl.store(dy_ptr + where, (dgated * gate).to(dy_ptr.dtype.element_ty), mask=ok)
        tl.store(dz_ptr + dz_where, dz.to(dz_ptr.dtype.element_ty), mask=ok)
    tl.store(partial_ptr + tl.program_id(0) * inner + c, dweight)


def gated_forward(
    y_BTC: Tensor, z_BTC: Tensor, weight_C: Tensor, groups: int, eps: float
) -> Tensor:
    """Compute `reference.gated_group_norm`; `y` is contiguous, `z` a view of any strides."""
    tokens, inner = y_BTC.shape[1:]
    rows = y_BTC.numel() // inner
    out_BTC = torch.empty_like(y_BTC)
    _gated_forward[(triton.cdiv(rows, 2), groups)](
        y_BTC, z_BTC, weight_C, out_BTC, *z_BTC.stride()[:2], tokens, rows, inner, eps,
        BM=2, W=inner // groups, num_warps=2,
    )  # fmt: skip
    return out_BTC


def gated_backward(
    dout_BTC: Tensor,
    y_BTC: Tensor,
    z_BTC: Tensor,
    weight_C: Tensor,
    groups: int,
    eps: float,
    dz_BTC: Tensor,
) -> tuple[Tensor, Tensor]:
    """Write the gradient of z to `dz_BTC`; return those of y and of the weight."""
    tokens, inner = y_BTC.shape[1:]
    rows = y_BTC.numel() // inner
    programs = min(triton.cdiv(rows, 2), _PROGRAMS)
    dy_BTC = torch.empty_like(y_BTC)
    partial_MC = weight_C.new_empty(programs, inner)
    _gated_backward[(programs, groups)](
        dout_BTC, y_BTC, z_BTC, weight_C, dy_BTC, dz_BTC, partial_MC,
        *z_BTC.stride()[:2], *dz_BTC.stride()[:2], tokens, rows, inner, eps,
        BM=2, W=inner // groups, num_warps=2,
    )  # fmt: skip
    return dy_BTC, partial_MC.sum(0)


@triton.jit
def _add_forward(
    x_ptr, delta_ptr, weight_ptr, sum_ptr, out_ptr, energy_ptr, width, eps,
    ADD: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, W)
    ok = c < width
    x = tl.load(x_ptr + row * width + c, mask=ok, other=0.0)
    if ADD:
        delta = tl.load(delta_ptr + row * width + c, mask=ok, other=0.0)
        x = (x.to(tl.float32) + delta.to(tl.float32)).to(x.dtype)
        tl.store(sum_ptr + row * width + c, x, mask=ok)
    x = x.to(tl.float32)
    energy = tl.sum(x * x, axis=0)
    out = x * tl.rsqrt(energy / width + eps) * tl.load(weight_ptr + c, mask=ok, other=0.0)
    tl.store(out_ptr + row * width + c, out.to(out_ptr.dtype.element_ty), mask=ok)
    tl.store(energy_ptr + row, energy)


@triton.jit
def _add_backward(
    dsum_ptr, dout_ptr, sum_ptr, energy_ptr, weight_ptr, dx_ptr, partial_ptr, rows, width, eps,
    HAS_SUM: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    c = tl.arange(0, W)
    ok = c < width
    weight = tl.load(weight_ptr + c, mask=ok, other=0.0)
    dweight = tl.zeros((W,), tl.float32)
    for row in range(tl.program_id(0).to(tl.int64), rows, tl.num_programs(0)):
        where = row * width + c
        x = tl.load(sum_ptr + where, mask=ok, other=0.0).to(tl.float32)
        dout = tl.load(dout_ptr + where, mask=ok, other=0.0).to(tl.float32)
        scale = tl.rsqrt(tl.load(energy_ptr + row) / width + eps)
        normed = x * scale
        dweight += dout * normed
        dnormed = dout * weight
        dx = (dnormed - normed * (tl.sum(dnormed * normed, axis=0) / width)) * scale
        if HAS_SUM:
            dx += tl.load(dsum_ptr + where, mask=ok, other=0.0).to(tl.float32)
        tl.store(dx_ptr + where, dx.to(dx_ptr.dtype.element_ty), mask=ok)
    tl.store(partial_ptr + tl.program_id(0) * width + c, dweight, mask=ok)


class AddNorm(torch.autograd.Function):
    """Compute `reference.add_norm` in one pass over the residual stream."""

    @staticmethod
    def forward(
        ctx: Any, x_BTD: Tensor, delta_BTD: Tensor | None, weight_D: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        width = x_BTD.shape[-1]
        x_BTD = x_BTD.contiguous()
        sum_BTD = x_BTD if delta_BTD is None else torch.empty_like(x_BTD)
        out_BTD = torch.empty_like(x_BTD)
        energy_BT = weight_D.new_empty(x_BTD.shape[:-1])
        _add_forward[(energy_BT.numel(),)](
            x_BTD, x_BTD if delta_BTD is None else delta_BTD.contiguous(), weight_D, sum_BTD,
            out_BTD, energy_BT, width, eps,
            ADD=delta_BTD is not None, W=triton.next_power_of_2(width), num_warps=4,
        )  # fmt: skip
        ctx.save_for_backward(sum_BTD, energy_BT, weight_D)
        ctx.eps, ctx.added = eps, delta_BTD is not None
        ctx.mark_non_differentiable(energy_BT)
        ctx.set_materialize_grads(False)
        return sum_BTD if ctx.added else x_BTD.view_as(x_BTD), out_BTD, energy_BT

    @staticmethod
    def backward(
        ctx: Any, dsum_BTD: Tensor | None, dout_BTD: Tensor, _denergy: None
    ) -> tuple[Tensor, Tensor | None, Tensor, None]:
        sum_BTD, energy_BT, weight_D = ctx.saved_tensors
        rows, width = energy_BT.numel(), sum_BTD.shape[-1]
        programs = min(rows, _PROGRAMS)
        dx_BTD = torch.empty_like(sum_BTD)
        partial_MD = weight_D.new_empty(programs, width)
        _add_backward[(programs,)](
            dout_BTD if dsum_BTD is None else dsum_BTD.contiguous(), dout_BTD.contiguous(),
            sum_BTD, energy_BT, weight_D, dx_BTD, partial_MD, rows, width, ctx.eps,
            HAS_SUM=dsum_BTD is not None, W=triton.next_power_of_2(width), num_warps=4,
        )  # fmt: skip
        return dx_BTD, dx_BTD if ctx.added else None, partial_MD.sum(0), None

"""Causal convolution of width 4 inside documents, then SiLU, on a GPU.

A program walks a run of tokens with the last values of its channels in registers, so that each is
read once; the next token's are under way meanwhile. Neighbouring programs take neighbouring
channels, which lie together in memory.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,no-untyped-call"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

WIDTH = 4
_RUN = 64
_CHANNELS = 128


@triton.jit
def _forward(
    x_ptr, weight_ptr, bias_ptr, index_ptr, y_ptr, x_row, x_time, tokens, channels,
    RUN: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(2).to(tl.int64)
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    c_ok = c < channels
    x_ptr += row * x_row + c
    index_ptr += row * tokens
    y_ptr += row * tokens * channels + c
    w0 = tl.load(weight_ptr + c * 4, mask=c_ok, other=0.0)
    w1 = tl.load(weight_ptr + c * 4 + 1, mask=c_ok, other=0.0)
    w2 = tl.load(weight_ptr + c * 4 + 2, mask=c_ok, other=0.0)
    w3 = tl.load(weight_ptr + c * 4 + 3, mask=c_ok, other=0.0)
    bias = tl.load(bias_ptr + c, mask=c_ok, other=0.0)
    start = (tl.program_id(1) * RUN).to(tl.int64)
    x1 = tl.load(x_ptr + (start - 1) * x_time, mask=c_ok & (start > 0), other=0.0).to(tl.float32)
    x2 = tl.load(x_ptr + (start - 2) * x_time, mask=c_ok & (start > 1), other=0.0).to(tl.float32)
    x3 = tl.load(x_ptr + (start - 3) * x_time, mask=c_ok & (start > 2), other=0.0).to(tl.float32)
    d1 = tl.load(index_ptr + start - 1, mask=start > 0, other=-9)
    d2 = tl.load(index_ptr + start - 2, mask=start > 1, other=-9)
    d3 = tl.load(index_ptr + start - 3, mask=start > 2, other=-9)
    ahead = tl.load(x_ptr + start * x_time, mask=c_ok & (start < tokens), other=0.0)
    for i in range(RUN):
        t = start + i
        x0 = ahead.to(tl.float32)
        ahead = tl.load(x_ptr + (t + 1) * x_time, mask=c_ok & (t + 1 < tokens), other=0.0)
        d0 = tl.load(index_ptr + t, mask=t < tokens, other=-8)
        total = bias + w3 * x0
        total += tl.where(d1 == d0, w2 * x1, 0.0)
        total += tl.where(d2 == d0, w1 * x2, 0.0)
        total += tl.where(d3 == d0, w0 * x3, 0.0)
        y = total * tl.sigmoid(total)
        tl.store(y_ptr + t * channels, y.to(y_ptr.dtype.element_ty), mask=c_ok & (t < tokens))
        x3, x2, x1 = x2, x1, x0
        d3, d2, d1 = d2, d1, d0


@triton.jit
def _backward(
    x_ptr, weight_ptr, bias_ptr, index_ptr, dy_ptr, dx_ptr, partial_ptr,
    x_row, x_time, dx_row, dx_time, tokens, channels,
    RUN: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Token t's gradient is whole once t + 3 is done; the walk ends three tokens past the run."""
    row = tl.program_id(2).to(tl.int64)
    run = row * tl.num_programs(1) + tl.program_id(1)
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    c_ok = c < channels
    x_ptr += row * x_row + c
    dx_ptr += row * dx_row + c
    index_ptr += row * tokens
    dy_ptr += row * tokens * channels + c
    w0 = tl.load(weight_ptr + c * 4, mask=c_ok, other=0.0)
    w1 = tl.load(weight_ptr + c * 4 + 1, mask=c_ok, other=0.0)
    w2 = tl.load(weight_ptr + c * 4 + 2, mask=c_ok, other=0.0)
    w3 = tl.load(weight_ptr + c * 4 + 3, mask=c_ok, other=0.0)
    bias = tl.load(bias_ptr + c, mask=c_ok, other=0.0)
    start = (tl.program_id(1) * RUN).to(tl.int64)
    x1 = tl.load(x_ptr + (start - 1) * x_time, mask=c_ok & (start > 0), other=0.0).to(tl.float32)
    x2 = tl.load(x_ptr + (start - 2) * x_time, mask=c_ok & (start > 1), other=0.0).to(tl.float32)
    x3 = tl.load(x_ptr + (start - 3) * x_time, mask=c_ok & (start > 2), other=0.0).to(tl.float32)
    d1 = tl.load(index_ptr + start - 1, mask=start > 0, other=-9)
    d2 = tl.load(index_ptr + start - 2, mask=start > 1, other=-9)
    d3 = tl.load(index_ptr + start - 3, mask=start > 2, other=-9)
    x_ahead = tl.load(x_ptr + start * x_time, mask=c_ok & (start < tokens), other=0.0)
    dy_ahead = tl.load(dy_ptr + start * channels, mask=c_ok & (start < tokens), other=0.0)
    g1, g2, g3 = tl.zeros_like(w0), tl.zeros_like(w0), tl.zeros_like(w0)
    dw0, dw1, dw2, dw3 = tl.zeros_like(w0), tl.zeros_like(w0), tl.zeros_like(w0), tl.zeros_like(w0)
    dbias = tl.zeros_like(w0)
    for i in range(RUN + 3):
        t = start + i
        x0, dy = x_ahead.to(tl.float32), dy_ahead.to(tl.float32)
        later = c_ok & (t + 1 < tokens)
        x_ahead = tl.load(x_ptr + (t + 1) * x_time, mask=later, other=0.0)
        dy_ahead = tl.load(dy_ptr + (t + 1) * channels, mask=later, other=0.0)
        d0 = tl.load(index_ptr + t, mask=t < tokens, other=-8)
        x1_in = tl.where(d1 == d0, x1, 0.0)
        x2_in = tl.where(d2 == d0, x2, 0.0)
        x3_in = tl.where(d3 == d0, x3, 0.0)
        total = bias + w3 * x0 + w2 * x1_in + w1 * x2_in + w0 * x3_in
        gate = tl.sigmoid(total)
        g0 = dy * gate * (1.0 + total * (1.0 - gate))
        own = tl.where(i < RUN, g0, 0.0)
        dw3 += own * x0
        dw2 += own * x1_in
        dw1 += own * x2_in
        dw0 += own * x3_in
        dbias += own
        dx = w3 * g3 + tl.where(d2 == d3, w2 * g2, 0.0)
        dx += tl.where(d1 == d3, w1 * g1, 0.0) + tl.where(d0 == d3, w0 * g0, 0.0)
        done = c_ok & (i >= 3) & (t - 3 < tokens)
        tl.store(dx_ptr + (t - 3) * dx_time, dx.to(dx_ptr.dtype.element_ty), mask=done)
        x3, x2, x1 = x2, x1, x0
        g3, g2, g1 = g2, g1, g0
        d3, d2, d1 = d2, d1, d0
    partial_ptr += run * 5 * channels + c
    tl.store(partial_ptr, dw0, mask=c_ok)
    tl.store(partial_ptr + channels, dw1, mask=c_ok)
    tl.store(partial_ptr + 2 * channels, dw2, mask=c_ok)
    tl.store(partial_ptr + 3 * channels, dw3, mask=c_ok)
    tl.store(partial_ptr + 4 * channels, dbias, mask=c_ok)


def forward(x_BTC: Tensor, weight_CW: Tensor, bias_C: Tensor, index_BT: Tensor) -> Tensor:
    """Compute `reference.conv_silu`; `x_BTC` may be a view whose channels are contiguous."""
    rows, tokens, channels = x_BTC.shape
    y_BTC = torch.empty_like(x_BTC, memory_format=torch.contiguous_format)
    _forward[(triton.cdiv(channels, _CHANNELS), triton.cdiv(tokens, _RUN), rows)](
        x_BTC, weight_CW, bias_C, index_BT, y_BTC, *x_BTC.stride()[:2], tokens, channels,
        RUN=_RUN, BC=_CHANNELS, num_warps=1,
    )  # fmt: skip
    return y_BTC


def backward(
    dy_BTC: Tensor,
    x_BTC: Tensor,
    weight_CW: Tensor,
    bias_C: Tensor,
    index_BT: Tensor,
    dx_BTC: Tensor,
) -> tuple[Tensor, Tensor]:
    """Write the gradient of x to `dx_BTC` (a view of any strides); return weight's and bias's."""
    rows, tokens, channels = x_BTC.shape
    runs = triton.cdiv(tokens, _RUN)
    partial_MWC = weight_CW.new_empty(rows * runs, WIDTH + 1, channels)
    _backward[(triton.cdiv(channels, _CHANNELS), runs, rows)](
        x_BTC, weight_CW, bias_C, index_BT, dy_BTC, dx_BTC, partial_MWC,
        *x_BTC.stride()[:2], *dx_BTC.stride()[:2], tokens, channels,
        RUN=_RUN, BC=_CHANNELS, num_warps=1,
    )  # fmt: skip
    sums_WC = partial_MWC.sum(0)
    return sums_WC[:WIDTH].T.contiguous(), sums_WC[WIDTH]

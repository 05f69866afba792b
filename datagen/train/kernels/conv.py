"""Causal convolution of width 4 inside documents, then SiLU, on a GPU.

A program walks a run of tokens, four at a time, with the last values of its channels in registers,
so that each is read once; the next four are under way meanwhile. Neighbouring programs take
neighbouring channels, which lie together in memory.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,no-untyped-call"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

WIDTH = 4
# Chosen on the chip measured: tokens of a run, channels and warps of a program.
FORWARD = {"RUN": 64, "BC": 512, "num_warps": 4}
BACKWARD = {"RUN": 128, "BC": 128, "num_warps": 2}


@triton.jit
def _load4(ptr, t, stride, ok, tokens):
    """Load four tokens from t on; those past the row are zero."""
    return (
        tl.load(ptr + t * stride, mask=ok & (t < tokens), other=0.0),
        tl.load(ptr + (t + 1) * stride, mask=ok & (t + 1 < tokens), other=0.0),
        tl.load(ptr + (t + 2) * stride, mask=ok & (t + 2 < tokens), other=0.0),
        tl.load(ptr + (t + 3) * stride, mask=ok & (t + 3 < tokens), other=0.0),
    )


@triton.jit
def _documents4(index_ptr, t, tokens):
    return (
        tl.load(index_ptr + t, mask=t < tokens, other=-8),
        tl.load(index_ptr + t + 1, mask=t + 1 < tokens, other=-8),
        tl.load(index_ptr + t + 2, mask=t + 2 < tokens, other=-8),
        tl.load(index_ptr + t + 3, mask=t + 3 < tokens, other=-8),
    )


@triton.jit
def _before(x_ptr, index_ptr, start, x_time, c_ok):
    """Load the three tokens before a run, and their documents."""
    x1 = tl.load(x_ptr + (start - 1) * x_time, mask=c_ok & (start > 0), other=0.0).to(tl.float32)
    x2 = tl.load(x_ptr + (start - 2) * x_time, mask=c_ok & (start > 1), other=0.0).to(tl.float32)
    x3 = tl.load(x_ptr + (start - 3) * x_time, mask=c_ok & (start > 2), other=0.0).to(tl.float32)
    d1 = tl.load(index_ptr + start - 1, mask=start > 0, other=-9)
    d2 = tl.load(index_ptr + start - 2, mask=start > 1, other=-9)
    d3 = tl.load(index_ptr + start - 3, mask=start > 2, other=-9)
    return x1, x2, x3, d1, d2, d3


@triton.jit
def _weights(weight_ptr, bias_ptr, c, c_ok):
    w0 = tl.load(weight_ptr + c * 4, mask=c_ok, other=0.0)
    w1 = tl.load(weight_ptr + c * 4 + 1, mask=c_ok, other=0.0)
    w2 = tl.load(weight_ptr + c * 4 + 2, mask=c_ok, other=0.0)
    w3 = tl.load(weight_ptr + c * 4 + 3, mask=c_ok, other=0.0)
    return w0, w1, w2, w3, tl.load(bias_ptr + c, mask=c_ok, other=0.0)


@triton.jit
def _inside(x1, x2, x3, d0, d1, d2, d3):
    """Set to zero what stands before the token's document."""
    return (
        tl.where(d1 == d0, x1, 0.0), tl.where(d2 == d0, x2, 0.0), tl.where(d3 == d0, x3, 0.0)
    )  # fmt: skip


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
    w0, w1, w2, w3, bias = _weights(weight_ptr, bias_ptr, c, c_ok)
    start = (tl.program_id(1) * RUN).to(tl.int64)
    x1, x2, x3, d1, d2, d3 = _before(x_ptr, index_ptr, start, x_time, c_ok)
    ahead = _load4(x_ptr, start, x_time, c_ok, tokens)
    documents = _documents4(index_ptr, start, tokens)
    for i in range(0, RUN, 4):
        t = start + i
        now, here = ahead, documents
        ahead = _load4(x_ptr, t + 4, x_time, c_ok, tokens)
        documents = _documents4(index_ptr, t + 4, tokens)
        for j in tl.static_range(4):
            x0, d0 = now[j].to(tl.float32), here[j]
            x1_in, x2_in, x3_in = _inside(x1, x2, x3, d0, d1, d2, d3)
            total = bias + w3 * x0 + w2 * x1_in + w1 * x2_in + w0 * x3_in
            y = (total * tl.sigmoid(total)).to(y_ptr.dtype.element_ty)
            tl.store(y_ptr + (t + j) * channels, y, mask=c_ok & (t + j < tokens))
            x3, x2, x1 = x2, x1, x0
            d3, d2, d1 = d2, d1, d0


@triton.jit
def _backward(
    x_ptr, weight_ptr, bias_ptr, index_ptr, dy_ptr, dx_ptr, partial_ptr,
    x_row, x_time, dx_row, dx_time, tokens, channels,
    RUN: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Token t's gradient is whole once t + 3 is done; the walk ends four tokens past the run."""
    row = tl.program_id(2).to(tl.int64)
    run = row * tl.num_programs(1) + tl.program_id(1)
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    c_ok = c < channels
    x_ptr += row * x_row + c
    dx_ptr += row * dx_row + c
    index_ptr += row * tokens
    dy_ptr += row * tokens * channels + c
    w0, w1, w2, w3, bias = _weights(weight_ptr, bias_ptr, c, c_ok)
    start = (tl.program_id(1) * RUN).to(tl.int64)
    x1, x2, x3, d1, d2, d3 = _before(x_ptr, index_ptr, start, x_time, c_ok)
    x_ahead = _load4(x_ptr, start, x_time, c_ok, tokens)
    dy_ahead = _load4(dy_ptr, start, channels, c_ok, tokens)
    documents = _documents4(index_ptr, start, tokens)
    g1, g2, g3 = tl.zeros_like(w0), tl.zeros_like(w0), tl.zeros_like(w0)
    dw0, dw1, dw2, dw3 = tl.zeros_like(w0), tl.zeros_like(w0), tl.zeros_like(w0), tl.zeros_like(w0)
    dbias = tl.zeros_like(w0)
    for i in range(0, RUN + 4, 4):
        t = start + i
        x_now, dy_now, here = x_ahead, dy_ahead, documents
        x_ahead = _load4(x_ptr, t + 4, x_time, c_ok, tokens)
        dy_ahead = _load4(dy_ptr, t + 4, channels, c_ok, tokens)
        documents = _documents4(index_ptr, t + 4, tokens)
        is_own = i < RUN
        for j in tl.static_range(4):
            x0, dy, d0 = x_now[j].to(tl.float32), dy_now[j].to(tl.float32), here[j]
            x1_in, x2_in, x3_in = _inside(x1, x2, x3, d0, d1, d2, d3)
            total = bias + w3 * x0 + w2 * x1_in + w1 * x2_in + w0 * x3_in
            gate = tl.sigmoid(total)
            g0 = dy * gate * (1.0 + total * (1.0 - gate))
            own = tl.where(is_own, g0, 0.0)
            dw3 += own * x0
            dw2 += own * x1_in
            dw1 += own * x2_in
            dw0 += own * x3_in
            dbias += own
            dx = w3 * g3 + tl.where(d2 == d3, w2 * g2, 0.0)
            dx += tl.where(d1 == d3, w1 * g1, 0.0) + tl.where(d0 == d3, w0 * g0, 0.0)
            done = (i + j >= 3) & (i + j < RUN + 3) & (t + j - 3 < tokens)
            dx = dx.to(dx_ptr.dtype.element_ty)
            tl.store(dx_ptr + (t + j - 3) * dx_time, dx, mask=c_ok & done)
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
    grid = (triton.cdiv(channels, FORWARD["BC"]), triton.cdiv(tokens, FORWARD["RUN"]), rows)
    _forward[grid](
        x_BTC, weight_CW, bias_C, index_BT, y_BTC, *x_BTC.stride()[:2], tokens, channels, **FORWARD
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
    runs = triton.cdiv(tokens, BACKWARD["RUN"])
    partial_MWC = weight_CW.new_empty(rows * runs, WIDTH + 1, channels)
    _backward[(triton.cdiv(channels, BACKWARD["BC"]), runs, rows)](
        x_BTC, weight_CW, bias_C, index_BT, dy_BTC, dx_BTC, partial_MWC,
        *x_BTC.stride()[:2], *dx_BTC.stride()[:2], tokens, channels,
        **BACKWARD,
    )  # fmt: skip
    sums_WC = partial_MWC.sum(0)
    return sums_WC[:WIDTH].T.contiguous(), sums_WC[WIDTH]

"""The NVFP4 quantiser on a GPU: the largest value in one pass, everything else in a second.

`nvfp4.quantise` is what it computes, and equals it bit by bit where nothing is turned.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,no-untyped-call"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from datagen.train.kernels.nvfp4 import BLOCK, E2M1_MAX, E4M3_MAX, Quantised, hadamard

_COLUMNS = 128


@triton.jit
def _tile(x_ptr, turn_ptr, m, k, rows, columns, TURN: tl.constexpr):
    """Load 16 rows in float32, turned if asked."""
    ok = (m < rows)[:, None] & (k < columns)[None, :]
    x = tl.load(x_ptr + m.to(tl.int64)[:, None] * columns + k[None, :], mask=ok, other=0.0)
    if TURN:
        i = tl.arange(0, 16)
        turn = tl.load(turn_ptr + i[:, None] * 16 + i[None, :])
        return tl.dot(turn.to(x.dtype), x, input_precision="ieee")
    return x.to(tl.float32)


@triton.jit
def _largest(
    x_ptr, turn_ptr, largest_ptr, rows, columns, TURN: tl.constexpr, BK: tl.constexpr
):  # fmt: skip
    m = tl.program_id(0) * 16 + tl.arange(0, 16)
    largest = tl.zeros((16, BK), tl.float32)
    for start in range(0, columns, BK):
        k = start + tl.arange(0, BK)
        largest = tl.maximum(largest, tl.abs(_tile(x_ptr, turn_ptr, m, k, rows, columns, TURN)))
    tl.store(largest_ptr + tl.program_id(0), tl.max(tl.max(largest, axis=1), axis=0))


@triton.jit
def _nearest(x):
    """Round to a whole number, ties to even; for sizes below 2^22."""
    return (x + 12582912.0) - 12582912.0


@triton.jit
def _quantise(
    x_ptr, turn_ptr, amax_ptr, out_ptr, rows, columns, rows_out,
    TURN: tl.constexpr, CHANCE: tl.constexpr, AXIS: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Round 16 rows x BK columns; AXIS 2 stands for blocks of 16 x 16."""
    m = tl.program_id(0) * 16 + tl.arange(0, 16)
    k = tl.program_id(1) * BK + tl.arange(0, BK)
    amax = tl.load(amax_ptr)
    scale = tl.div_rn(amax, 2688.0)
    x = tl.reshape(_tile(x_ptr, turn_ptr, m, k, rows, columns, TURN), (16, BK // 16, 16))
    peak = tl.abs(x)
    if AXIS != 0:
        peak = tl.max(peak, axis=2, keep_dims=True)
    if AXIS != 1:
        peak = tl.max(peak, axis=0, keep_dims=True)
    # E4M3: three bits below the leading one, none smaller than 2^-9.
    ratio = tl.where(peak > 0.0, tl.div_rn(peak, tl.where(amax > 0.0, 6.0 * scale, 1.0)), 0.0)
    exponent = tl.maximum((ratio.to(tl.int32, bitcast=True) >> 23) - 127, -6)
    step = ((exponent - 3 + 127) << 23).to(tl.float32, bitcast=True)
    code = tl.minimum(_nearest(tl.div_rn(ratio, step)) * step, 448.0)
    inverse = tl.where(code > 0.0, tl.div_rn(1.0, tl.where(code > 0.0, code * scale, 1.0)), 0.0)
    scaled = x * inverse
    # E2M1: steps of 0.5 to 2, of 1 to 4, of 2 to 6.
    size = tl.minimum(tl.abs(scaled), 6.0)
    per_step = tl.where(size < 2.0, 2.0, tl.where(size < 4.0, 1.0, 0.5))
    steps = size * per_step
    if CHANCE:
        place = m[:, None] * columns + k[None, :]
        h = place.to(tl.uint32) * 0x9E3779B1 + amax.to(tl.uint32, bitcast=True)
        h = (h ^ (h >> 16)) * 0x7FEB352D
        h = (h ^ (h >> 15)) * 0x846CA68B
        h = (h ^ (h >> 16)) >> 8
        noise = h.to(tl.int32).to(tl.float32) * 5.9604644775390625e-08
        steps = tl.floor(steps + tl.reshape(noise, (16, BK // 16, 16)))
    else:
        steps = _nearest(steps)
    value = tl.div_rn(steps, per_step) * code
    value = tl.reshape(tl.where(x < 0.0, -value, value), (16, BK))
    ok = (m < rows_out)[:, None] & (k < columns)[None, :]
    where = m.to(tl.int64)[:, None] * columns + k[None, :]
    tl.store(out_ptr + where, value.to(out_ptr.dtype.element_ty), mask=ok)


def quantise_fast(
    x_MK: Tensor, axis: int | None, *, turned: bool = False, stochastic: bool = False
) -> Quantised:
    """Compute `nvfp4.quantise`."""
    x_MK = x_MK.contiguous()
    rows, columns = x_MK.shape
    strips = triton.cdiv(rows, BLOCK)
    rows_out = strips * BLOCK if turned else rows
    turn = hadamard(x_MK.device)
    largest = torch.empty(strips, dtype=torch.float32, device=x_MK.device)
    options = {"TURN": turned, "BK": _COLUMNS, "enable_fp_fusion": False}
    _largest[(strips,)](x_MK, turn, largest, rows, columns, **options)
    amax = largest.amax()
    out_MK = x_MK.new_empty(rows_out, columns)
    _quantise[(strips, triton.cdiv(columns, _COLUMNS))](
        x_MK, turn, amax, out_MK, rows, columns, rows_out,
        CHANCE=stochastic, AXIS=2 if axis is None else axis, **options,
    )  # fmt: skip
    return Quantised(out_MK, amax / (E2M1_MAX * E4M3_MAX))

"""The Mamba-2 recurrence on a GPU: scans with the state on chip, products parallel over chunks.

Forward: `_decays` prepares the factors of a chunk, `_scan` walks each (row, head) from chunk to
chunk and leaves the state entering each, `_outputs` forms every chunk on its own, the scores once
a group of heads. Backward: `_scan` walks back with the state's gradient, `_input_gradients` and
`_c_gradients` form the chunks, `_decay_gradients` sums along them. A document's start is a zero
factor, so resets cost nothing. Arithmetic is float32 between products whose operands have the
input's dtype. Nothing is added atomically: equal inputs give equal bits.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,no-untyped-call"

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

CHUNK = 128
SPLIT = 2
"""Parts of a chunk, each the rows of one program."""


class Saved(NamedTuple):
    """What the backward pass reads: factors by (row, head, time), and states entering chunks."""

    dt_BHT: Tensor
    decay_BHT: Tensor
    to_end_BHT: Tensor
    from_start_BHT: Tensor
    carry_BHC: Tensor
    states_BCHPN: Tensor


@triton.jit
def _decays(
    dt_ptr, a_ptr, index_ptr, dt_out, decay_out, to_end_out, from_start_out, carry_out,
    tokens, heads, chunks,
    L: tl.constexpr, BH: tl.constexpr,
):  # fmt: skip
    """Cumulate dt * a inside each chunk, and lay all factors out by head."""
    chunk, row = tl.program_id(0), tl.program_id(2).to(tl.int64)
    h = tl.program_id(1) * BH + tl.arange(0, BH)
    steps = tl.arange(0, L)
    t = chunk * L + steps
    inside, head_ok = t < tokens, h < heads
    document = tl.load(index_ptr + row * tokens + t, mask=inside, other=-1)
    last = tl.minimum(chunk * L + L, tokens) - 1
    document_last = tl.load(index_ptr + row * tokens + last)
    document_before = tl.load(index_ptr + row * tokens + chunk * L - 1, mask=chunk > 0, other=-2)
    dt = tl.load(
        dt_ptr + (row * tokens + t[:, None]) * heads + h[None, :],
        mask=inside[:, None] & head_ok[None, :], other=0.0,
    )  # fmt: skip
    a = tl.load(a_ptr + h, mask=head_ok, other=0.0)
    step_decay = dt * a[None, :]
    decay = tl.cumsum(step_decay, axis=0)
    total = tl.sum(step_decay, axis=0)
    kept = (document == document_last).to(tl.float32)
    continues = (document == document_before).to(tl.float32)
    carried = (document_last == document_before).to(tl.float32)
    to_end = tl.exp(tl.minimum(total[None, :] - decay, 0.0)) * kept[:, None]
    from_start = tl.exp(decay) * continues[:, None]
    where = (row * heads + h[None, :]) * (chunks * L) + t[:, None]
    tl.store(dt_out + where, dt, mask=head_ok[None, :])
    tl.store(decay_out + where, decay, mask=head_ok[None, :])
    tl.store(to_end_out + where, to_end, mask=head_ok[None, :])
    tl.store(from_start_out + where, from_start, mask=head_ok[None, :])
    tl.store(carry_out + (row * heads + h) * chunks + chunk, tl.exp(total) * carried, mask=head_ok)


@triton.jit
def _scan(
    u_ptr, k_ptr, scale_ptr, dt_ptr, carry_ptr, out_ptr,
    u_row, u_time, k_row, k_time,
    tokens, heads, chunks,
    R: tl.constexpr, P: tl.constexpr, N: tl.constexpr, BN: tl.constexpr, L: tl.constexpr,
    REVERSE: tl.constexpr,
):  # fmt: skip
    """Carry sum_l scale_l u_l k_l (P x N) over a row's chunks; store it before each chunk."""
    row, h = (tl.program_id(0) // heads).to(tl.int64), tl.program_id(0) % heads
    p, n = tl.arange(0, P), tl.program_id(1) * BN + tl.arange(0, BN)
    steps = tl.arange(0, L)
    u_ptr += row * u_row + h * P
    k_ptr += row * k_row + (h // R) * N
    factors = (row * heads + h) * (chunks * L)
    state = tl.zeros((P, BN), tl.float32)
    for i in range(chunks):
        chunk = chunks - 1 - i if REVERSE else i
        where = ((row * chunks + chunk) * heads + h) * (P * N) + p[:, None] * N + n[None, :]
        tl.store(out_ptr + where, state.to(out_ptr.dtype.element_ty))
        t = chunk * L + steps
        inside = t < tokens
        u_PL = tl.load(
            u_ptr + t[None, :].to(tl.int64) * u_time + p[:, None], mask=inside[None, :], other=0.0
        )
        k_LN = tl.load(
            k_ptr + t[:, None].to(tl.int64) * k_time + n[None, :], mask=inside[:, None], other=0.0
        )
        scale = tl.load(scale_ptr + factors + t)
        if not REVERSE:
            scale *= tl.load(dt_ptr + factors + t)
        carry = tl.load(carry_ptr + (row * heads + h) * chunks + chunk)
        u_PL = (u_PL.to(tl.float32) * scale[None, :]).to(k_LN.dtype)
        state = tl.dot(u_PL, k_LN, state * carry)


@triton.jit
def _outputs(
    x_ptr, b_ptr, c_ptr, skip_ptr, index_ptr, dt_ptr, decay_ptr, from_start_ptr, states_ptr, y_ptr,
    x_row, x_time, b_row, b_time, c_row, c_time,
    tokens, heads, chunks,
    R: tl.constexpr, P: tl.constexpr, N: tl.constexpr, L: tl.constexpr, BL: tl.constexpr,
):  # fmt: skip
    """Form y for BL tokens of a chunk and the R heads of a group."""
    split: tl.constexpr = L // BL
    chunk, part = tl.program_id(0) // split, tl.program_id(0) % split
    group, row = tl.program_id(1), tl.program_id(2).to(tl.int64)
    p, n = tl.arange(0, P), tl.arange(0, N)
    l = chunk * L + part * BL + tl.arange(0, BL)  # noqa: E741
    s = chunk * L + tl.arange(0, L)
    l_ok, s_ok = l < tokens, s < tokens
    l64, s64 = l.to(tl.int64), s.to(tl.int64)
    c_LN = tl.load(
        c_ptr + row * c_row + l64[:, None] * c_time + group * N + n[None, :],
        mask=l_ok[:, None], other=0.0,
    )  # fmt: skip
    b_NS = tl.load(
        b_ptr + row * b_row + s64[None, :] * b_time + group * N + n[:, None],
        mask=s_ok[None, :], other=0.0,
    )  # fmt: skip
    document_l = tl.load(index_ptr + row * tokens + l, mask=l_ok, other=-3)
    document_s = tl.load(index_ptr + row * tokens + s, mask=s_ok, other=-4)
    same = (document_l[:, None] == document_s[None, :]) & (l[:, None] >= s[None, :])
    scores = tl.where(same, tl.dot(c_LN, b_NS), 0.0)
    for r in range(R):
        h = group * R + r
        factors = (row * heads + h) * (chunks * L)
        decay_l, decay_s = tl.load(decay_ptr + factors + l), tl.load(decay_ptr + factors + s)
        dt_s = tl.load(dt_ptr + factors + s)
        from_start = tl.load(from_start_ptr + factors + l)
        x_SP = tl.load(
            x_ptr + row * x_row + s64[:, None] * x_time + h * P + p[None, :],
            mask=s_ok[:, None], other=0.0,
        )  # fmt: skip
        x_LP = tl.load(
            x_ptr + row * x_row + l64[:, None] * x_time + h * P + p[None, :],
            mask=l_ok[:, None], other=0.0,
        )  # fmt: skip
        state = ((row * chunks + chunk) * heads + h) * (P * N)
        state_NP = tl.load(states_ptr + state + p[None, :] * N + n[:, None])
        # Above the diagonal the exponent is positive and could overflow: it is cut, its score is 0.
        weights = scores * tl.exp(tl.minimum(decay_l[:, None] - decay_s[None, :], 0.0))
        weights = (weights * dt_s[None, :]).to(x_SP.dtype)
        y = tl.dot(c_LN, state_NP) * from_start[:, None]
        y = tl.dot(weights, x_SP, y) + x_LP.to(tl.float32) * tl.load(skip_ptr + h)
        where = ((row * tokens + l64[:, None]) * heads + h) * P + p[None, :]
        tl.store(y_ptr + where, y.to(y_ptr.dtype.element_ty), mask=l_ok[:, None])


def forward(
    x_BTHP: Tensor,
    dt_BTH: Tensor,
    a_H: Tensor,
    b_BTGN: Tensor,
    c_BTGN: Tensor,
    d_H: Tensor,
    index_BT: Tensor,
) -> tuple[Tensor, Saved]:
    """Run the recurrence of `reference.ssd`; dt, a and d are float32, x, b, c may be strided views.

    P and N are powers of two of at least 16.
    """
    rows, tokens, heads, width = x_BTHP.shape
    groups, size = b_BTGN.shape[2:]
    chunks, share = triton.cdiv(tokens, CHUNK), heads // groups
    padded = (rows, heads, chunks * CHUNK)
    dt_BHT, decay_BHT, to_end_BHT, from_start_BHT = (
        torch.empty(padded, dtype=torch.float32, device=x_BTHP.device) for _ in range(4)
    )
    carry_BHC = dt_BHT.new_empty(rows, heads, chunks)
    states_BCHPN = x_BTHP.new_empty(rows, chunks, heads, width, size)
    saved = Saved(dt_BHT, decay_BHT, to_end_BHT, from_start_BHT, carry_BHC, states_BCHPN)
    _decays[(chunks, triton.cdiv(heads, 16), rows)](
        dt_BTH, a_H, index_BT, *saved[:5], tokens, heads, chunks, L=CHUNK, BH=16
    )
    scan(x_BTHP, b_BTGN, saved.to_end_BHT, saved, states_BCHPN, reverse=False)
    y_BTHP = torch.empty_like(x_BTHP, memory_format=torch.contiguous_format)
    _outputs[(chunks * SPLIT, groups, rows)](
        x_BTHP, b_BTGN, c_BTGN, d_H, index_BT, saved.dt_BHT, saved.decay_BHT,
        saved.from_start_BHT, states_BCHPN, y_BTHP,
        *x_BTHP.stride()[:2], *b_BTGN.stride()[:2], *c_BTGN.stride()[:2],
        tokens, heads, chunks,
        R=share, P=width, N=size, L=CHUNK, BL=CHUNK // SPLIT, num_warps=8, num_stages=2,
    )  # fmt: skip
    return y_BTHP, saved


def scan(
    u_BTHP: Tensor, k_BTGN: Tensor, scale_BHT: Tensor, saved: Saved, out: Tensor, *, reverse: bool
) -> None:
    """Write to `out` (B, C, H, P, N) what enters each chunk, forwards or backwards in time."""
    rows, tokens, heads, width = u_BTHP.shape
    groups, size = k_BTGN.shape[2:]
    block = min(size, 64)
    _scan[(rows * heads, size // block)](
        u_BTHP, k_BTGN, scale_BHT, saved.dt_BHT, saved.carry_BHC, out,
        *u_BTHP.stride()[:2], *k_BTGN.stride()[:2], tokens, heads, saved.carry_BHC.shape[2],
        R=heads // groups, P=width, N=size, BN=block, L=CHUNK, REVERSE=reverse,
        num_warps=4, num_stages=3,
    )  # fmt: skip

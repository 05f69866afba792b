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

CHUNK = 64
"""Tokens of a chunk: a longer one saves states, but its products no longer fit the registers."""
STATE_BLOCK = 128
"""Columns of the state that one scanning program carries."""


class Saved(NamedTuple):
    """What the backward pass reads: factors by (row, head, time), and states entering chunks."""

    dt_BHT: Tensor
    decay_BHT: Tensor
    to_end_BHT: Tensor
    from_start_BHT: Tensor
    carry_BHC: Tensor
    states_BCHPN: Tensor


@triton.jit
def within(sum_left, restarts_left, sum_right, restarts_right):
    """Add up, but begin anew where the right part restarts."""
    return (
        tl.where(restarts_right > 0, sum_right, sum_left + sum_right),
        tl.maximum(restarts_left, restarts_right),
    )


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
    # Sums begin anew with a document: one's rounding must not hang on what stands before it.
    previous = tl.load(index_ptr + row * tokens + t - 1, mask=inside & (t > 0), other=-2)
    begins = (document != previous)[:, None] & (h >= 0)[None, :]
    decay, _ = tl.associative_scan((step_decay, begins.to(tl.int32)), 0, within)
    total = tl.sum(tl.where((t == last)[:, None], decay, 0.0), axis=0)
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
    u_ptr, k_ptr, scale_ptr, dt_ptr, carry_ptr, out_ptr, states_ptr, carried_ptr,
    u_row, u_time, k_row, k_time,
    tokens, heads, chunks,
    R: tl.constexpr, P: tl.constexpr, N: tl.constexpr, BN: tl.constexpr, L: tl.constexpr,
    REVERSE: tl.constexpr,
):  # fmt: skip
    """Carry sum_l scale_l u_l k_l (P x N) over a row's chunks; store it before each chunk.

    Backwards it is the gradient of the state that leaves a chunk; `carried` then receives its
    product with the part of the state that passed through, a row a block of N.
    """
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
        if REVERSE:
            passed = state * tl.load(states_ptr + where).to(tl.float32)
            place = (row * heads + h) * tl.num_programs(1) + tl.program_id(1)
            met = tl.sum(tl.sum(passed, axis=1), axis=0) * carry
            tl.store(carried_ptr + place * chunks + chunk, met)
        state = tl.dot(u_PL, k_LN, state * carry)


@triton.jit
def _outputs(
    x_ptr, b_ptr, c_ptr, skip_ptr, index_ptr, dt_ptr, decay_ptr, from_start_ptr, states_ptr, y_ptr,
    x_row, x_time, b_row, b_time, c_row, c_time,
    tokens, heads, chunks,
    R: tl.constexpr, P: tl.constexpr, N: tl.constexpr, L: tl.constexpr,
):  # fmt: skip
    """Form y for a chunk and the R heads of a group."""
    group, chunk, row = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    p, n, steps = tl.arange(0, P), tl.arange(0, N), tl.arange(0, L)
    t = chunk * L + steps
    inside, t64 = t < tokens, t.to(tl.int64)
    c_LN = tl.load(
        c_ptr + row * c_row + t64[:, None] * c_time + group * N + n[None, :],
        mask=inside[:, None], other=0.0,
    )  # fmt: skip
    b_NL = tl.load(
        b_ptr + row * b_row + t64[None, :] * b_time + group * N + n[:, None],
        mask=inside[None, :], other=0.0,
    )  # fmt: skip
    document = tl.load(index_ptr + row * tokens + t, mask=inside, other=-3)
    same = (document[:, None] == document[None, :]) & (steps[:, None] >= steps[None, :])
    scores = tl.where(same, tl.dot(c_LN, b_NL), 0.0)
    for r in range(R):
        h = group * R + r
        factors = (row * heads + h) * (chunks * L)
        decay, dt = tl.load(decay_ptr + factors + t), tl.load(dt_ptr + factors + t)
        from_start = tl.load(from_start_ptr + factors + t)
        x_LP = tl.load(
            x_ptr + row * x_row + t64[:, None] * x_time + h * P + p[None, :],
            mask=inside[:, None], other=0.0,
        )  # fmt: skip
        state = ((row * chunks + chunk) * heads + h) * (P * N)
        state_NP = tl.load(states_ptr + state + p[None, :] * N + n[:, None])
        # Above the diagonal the exponent is positive and could overflow: it is cut, its score is 0.
        weights = scores * tl.exp(tl.minimum(decay[:, None] - decay[None, :], 0.0))
        weights = (weights * dt[None, :]).to(x_LP.dtype)
        y = tl.dot(c_LN, state_NP) * from_start[:, None]
        y = tl.dot(weights, x_LP, y) + x_LP.to(tl.float32) * tl.load(skip_ptr + h)
        where = ((row * tokens + t64[:, None]) * heads + h) * P + p[None, :]
        tl.store(y_ptr + where, y.to(y_ptr.dtype.element_ty), mask=inside[:, None])


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
    scan(x_BTHP, b_BTGN, saved.to_end_BHT, saved, states_BCHPN, carry_BHC, reverse=False)
    y_BTHP = torch.empty_like(x_BTHP, memory_format=torch.contiguous_format)
    _outputs[(groups, chunks, rows)](
        x_BTHP, b_BTGN, c_BTGN, d_H, index_BT, saved.dt_BHT, saved.decay_BHT,
        saved.from_start_BHT, states_BCHPN, y_BTHP,
        *x_BTHP.stride()[:2], *b_BTGN.stride()[:2], *c_BTGN.stride()[:2],
        tokens, heads, chunks,
        R=share, P=width, N=size, L=CHUNK, num_warps=4, num_stages=3,
    )  # fmt: skip
    return y_BTHP, saved


def scan(
    u_BTHP: Tensor,
    k_BTGN: Tensor,
    scale_BHT: Tensor,
    saved: Saved,
    out_BCHPN: Tensor,
    carried: Tensor,
    *,
    reverse: bool,
) -> None:
    """Write what enters each chunk, forwards or backwards in time; backwards `carried` too.

    `carried` is (B, H, N / STATE_BLOCK, C) then.
    """
    rows, tokens, heads, width = u_BTHP.shape
    groups, size = k_BTGN.shape[2:]
    block = min(size, STATE_BLOCK)
    _scan[(rows * heads, size // block)](
        u_BTHP, k_BTGN, scale_BHT, saved.dt_BHT, saved.carry_BHC, out_BCHPN, saved.states_BCHPN,
        carried, *u_BTHP.stride()[:2], *k_BTGN.stride()[:2],
        tokens, heads, saved.carry_BHC.shape[2],
        R=heads // groups, P=width, N=size, BN=block, L=CHUNK, REVERSE=reverse,
        num_warps=4, num_stages=4,
    )  # fmt: skip

"""The gradients of the Mamba-2 recurrence on a GPU; `ssd` tells how the work is cut."""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,no-untyped-call"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from datagen.train.kernels.ssd import CHUNK, SPLIT, Saved, scan


@triton.jit
def _input_gradients(
    x_ptr, b_ptr, c_ptr, skip_ptr, index_ptr, dy_ptr, dt_ptr, decay_ptr, to_end_ptr, dstates_ptr,
    dx_ptr, db_ptr, dscores_ptr, pull_ptr, tail_ptr, push_ptr, dskip_ptr,
    x_row, x_time, b_row, b_time, c_row, c_time, dx_row, dx_time, db_row, db_time,
    tokens, heads, chunks,
    R: tl.constexpr, P: tl.constexpr, N: tl.constexpr, L: tl.constexpr, BS: tl.constexpr,
):  # fmt: skip
    """Form dx and dB of BS tokens, the scores' gradient (transposed), and what dt and decay need.

    `pull`: gradient of dt_s as a factor; `tail`: its part through the chunk's last state; `push`:
    gradient of decay_l through the scores, a row a part of the chunk.
    """
    split: tl.constexpr = L // BS
    chunk, part = tl.program_id(0) // split, tl.program_id(0) % split
    group, row = tl.program_id(1), tl.program_id(2).to(tl.int64)
    groups = heads // R
    p, n = tl.arange(0, P), tl.arange(0, N)
    s = chunk * L + part * BS + tl.arange(0, BS)
    l = chunk * L + tl.arange(0, L)  # noqa: E741
    s_ok, l_ok = s < tokens, l < tokens
    s64, l64 = s.to(tl.int64), l.to(tl.int64)
    b_SN = tl.load(
        b_ptr + row * b_row + s64[:, None] * b_time + group * N + n[None, :],
        mask=s_ok[:, None], other=0.0,
    )  # fmt: skip
    c_LN = tl.load(
        c_ptr + row * c_row + l64[:, None] * c_time + group * N + n[None, :],
        mask=l_ok[:, None], other=0.0,
    )  # fmt: skip
    document_l = tl.load(index_ptr + row * tokens + l, mask=l_ok, other=-3)
    document_s = tl.load(index_ptr + row * tokens + s, mask=s_ok, other=-4)
    same = (document_s[:, None] == document_l[None, :]) & (s[:, None] <= l[None, :])
    scores_SL = tl.where(same, tl.dot(b_SN, tl.trans(c_LN)), 0.0)
    dscores_SL = tl.zeros((BS, L), tl.float32)
    db_SN = tl.zeros((BS, N), tl.float32)
    for r in range(R):
        h = group * R + r
        factors = (row * heads + h) * (chunks * L)
        decay_l, decay_s = tl.load(decay_ptr + factors + l), tl.load(decay_ptr + factors + s)
        dt_s, to_end = tl.load(dt_ptr + factors + s), tl.load(to_end_ptr + factors + s)
        x_SP = tl.load(
            x_ptr + row * x_row + s64[:, None] * x_time + h * P + p[None, :],
            mask=s_ok[:, None], other=0.0,
        )  # fmt: skip
        dy_base = dy_ptr + (row * tokens * heads + h) * P + p[None, :]
        dy_LP = tl.load(dy_base + l64[:, None] * (heads * P), mask=l_ok[:, None], other=0.0)
        dy_SP = tl.load(dy_base + s64[:, None] * (heads * P), mask=s_ok[:, None], other=0.0)
        state = ((row * chunks + chunk) * heads + h) * (P * N)
        dstate_PN = tl.load(dstates_ptr + state + p[:, None] * N + n[None, :])

        decayed = tl.exp(tl.minimum(decay_l[None, :] - decay_s[:, None], 0.0))
        dweights = tl.dot(x_SP, tl.trans(dy_LP)) * decayed
        dscores_SL += dweights * dt_s[:, None]
        moved = dweights * scores_SL
        pull = tl.sum(moved, axis=1)
        push = tl.sum(moved * dt_s[:, None], axis=0)
        dx = tl.dot(b_SN, tl.trans(dstate_PN)) * to_end[:, None]
        x_wide = x_SP.to(tl.float32)
        tail = tl.sum(dx * x_wide, axis=1)
        dx = tl.dot((scores_SL * decayed).to(x_SP.dtype), dy_LP, dx) * dt_s[:, None]
        dy_wide = dy_SP.to(tl.float32)
        dx += dy_wide * tl.load(skip_ptr + h)
        db_SN += tl.dot(x_SP, dstate_PN) * (to_end * dt_s)[:, None]
        tl.store(
            dx_ptr + row * dx_row + s64[:, None] * dx_time + h * P + p[None, :],
            dx.to(dx_ptr.dtype.element_ty), mask=s_ok[:, None],
        )  # fmt: skip
        tl.store(pull_ptr + factors + s, pull + tail)
        tl.store(tail_ptr + factors + s, tail * dt_s)
        pushed = ((row * heads + h) * split + part) * (chunks * L)
        tl.store(push_ptr + pushed + l, push)
        dskip = ((row * chunks + chunk) * split + part) * heads + h
        tl.store(dskip_ptr + dskip, tl.sum(tl.sum(dy_wide * x_wide, axis=1), axis=0))
    dscores = tl.where(same, dscores_SL, 0.0).to(b_SN.dtype)
    base = ((row * chunks + chunk) * groups + group) * (L * L)
    rows = part * BS + tl.arange(0, BS)
    tl.store(dscores_ptr + base + rows[:, None] * L + tl.arange(0, L)[None, :], dscores)
    db_SN = tl.dot(dscores, c_LN, db_SN)
    tl.store(
        db_ptr + row * db_row + s64[:, None] * db_time + group * N + n[None, :],
        db_SN.to(db_ptr.dtype.element_ty), mask=s_ok[:, None],
    )  # fmt: skip


@triton.jit
def _c_gradients(
    b_ptr, c_ptr, dy_ptr, from_start_ptr, carry_ptr, states_ptr, dstates_ptr, dscores_ptr,
    dc_ptr, entry_ptr, carried_ptr,
    b_row, b_time, c_row, c_time, dc_row, dc_time,
    tokens, heads, chunks,
    R: tl.constexpr, P: tl.constexpr, N: tl.constexpr, L: tl.constexpr, BL: tl.constexpr,
):  # fmt: skip
    """Form dC of BL tokens, and the gradient of decay through the states that enter and pass."""
    split: tl.constexpr = L // BL
    chunk, part = tl.program_id(0) // split, tl.program_id(0) % split
    group, row = tl.program_id(1), tl.program_id(2).to(tl.int64)
    groups = heads // R
    p, n = tl.arange(0, P), tl.arange(0, N)
    l_in = part * BL + tl.arange(0, BL)
    s_in = tl.arange(0, L)
    l, s = chunk * L + l_in, chunk * L + s_in  # noqa: E741
    l_ok, s_ok = l < tokens, s < tokens
    l64, s64 = l.to(tl.int64), s.to(tl.int64)
    c_LN = tl.load(
        c_ptr + row * c_row + l64[:, None] * c_time + group * N + n[None, :],
        mask=l_ok[:, None], other=0.0,
    )  # fmt: skip
    b_SN = tl.load(
        b_ptr + row * b_row + s64[:, None] * b_time + group * N + n[None, :],
        mask=s_ok[:, None], other=0.0,
    )  # fmt: skip
    base = ((row * chunks + chunk) * groups + group) * (L * L)
    dscores_LS = tl.load(dscores_ptr + base + s_in[None, :] * L + l_in[:, None])
    dc_LN = tl.dot(dscores_LS, b_SN)
    c_wide = c_LN.to(tl.float32)
    for r in range(R):
        h = group * R + r
        factors = (row * heads + h) * (chunks * L)
        from_start = tl.load(from_start_ptr + factors + l)
        dy_LP = tl.load(
            dy_ptr + ((row * tokens + l64[:, None]) * heads + h) * P + p[None, :],
            mask=l_ok[:, None], other=0.0,
        )  # fmt: skip
        where = ((row * chunks + chunk) * heads + h) * (P * N) + p[:, None] * N + n[None, :]
        state_PN = tl.load(states_ptr + where)
        part_LN = tl.dot(dy_LP, state_PN) * from_start[:, None]
        dc_LN += part_LN
        tl.store(entry_ptr + factors + l, tl.sum(part_LN * c_wide, axis=1))
        if part == 0:
            carry = (row * heads + h) * chunks + chunk
            dstate_PN = tl.load(dstates_ptr + where).to(tl.float32)
            met = tl.sum(tl.sum(dstate_PN * state_PN.to(tl.float32), axis=1), axis=0)
            tl.store(carried_ptr + carry, met * tl.load(carry_ptr + carry))
    tl.store(
        dc_ptr + row * dc_row + l64[:, None] * dc_time + group * N + n[None, :],
        dc_LN.to(dc_ptr.dtype.element_ty), mask=l_ok[:, None],
    )  # fmt: skip


@triton.jit
def _decay_gradients(
    dt_ptr, a_ptr, pull_ptr, tail_ptr, push_ptr, entry_ptr, carried_ptr, ddt_ptr, da_ptr,
    tokens, heads, chunks,
    L: tl.constexpr, SPLIT: tl.constexpr, BH: tl.constexpr,
):  # fmt: skip
    """Sum the decay's gradient from each token to its chunk's end: dt's, and a's by chunk."""
    chunk, row = tl.program_id(0), tl.program_id(2).to(tl.int64)
    h = tl.program_id(1) * BH + tl.arange(0, BH)
    head_ok = h < heads
    steps = tl.arange(0, L)
    t = chunk * L + steps
    where = (row * heads + h[None, :]) * (chunks * L) + t[:, None]
    ok = head_ok[None, :] & (t < tokens)[:, None]
    dt = tl.load(dt_ptr + where, mask=ok, other=0.0)
    pull = tl.load(pull_ptr + where, mask=ok, other=0.0)
    tail = tl.load(tail_ptr + where, mask=ok, other=0.0)
    ddecay = tl.load(entry_ptr + where, mask=ok, other=0.0) - pull * dt
    for part in tl.static_range(SPLIT):
        pushed = ((row * heads + h[None, :]) * SPLIT + part) * (chunks * L) + t[:, None]
        ddecay += tl.load(push_ptr + pushed, mask=ok, other=0.0)
    carried = tl.load(carried_ptr + (row * heads + h) * chunks + chunk, mask=head_ok, other=0.0)
    a = tl.load(a_ptr + h, mask=head_ok, other=0.0)
    at_end = (tl.sum(tail, axis=0) + carried)[None, :]
    dstep = tl.cumsum(ddecay, axis=0, reverse=True) + at_end
    ddt = pull + dstep * a[None, :]
    tl.store(ddt_ptr + (row * tokens + t[:, None]) * heads + h[None, :], ddt, mask=ok)
    da = tl.sum(dstep * dt, axis=0)
    tl.store(da_ptr + (row * chunks + chunk) * heads + h, da, mask=head_ok)


def backward(
    dy_BTHP: Tensor,
    x_BTHP: Tensor,
    a_H: Tensor,
    b_BTGN: Tensor,
    c_BTGN: Tensor,
    d_H: Tensor,
    index_BT: Tensor,
    saved: Saved,
    out: tuple[Tensor, Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Write the gradients of x, b, c to `out` (views of any strides); return those of dt, a, d."""
    rows, tokens, heads, width = x_BTHP.shape
    groups, size = b_BTGN.shape[2:]
    chunks, share = saved.carry_BHC.shape[2], heads // groups
    dx_BTHP, db_BTGN, dc_BTGN = out
    dstates_BCHPN = torch.empty_like(saved.states_BCHPN)
    scan(dy_BTHP, c_BTGN, saved.from_start_BHT, saved, dstates_BCHPN, reverse=True)

    dscores_BCGSL = x_BTHP.new_empty(rows, chunks, groups, CHUNK, CHUNK)
    pull_BHT, tail_BHT, entry_BHT = (torch.empty_like(saved.dt_BHT) for _ in range(3))
    push_BHST = saved.dt_BHT.new_empty(rows, heads, SPLIT, chunks * CHUNK)
    dskip_MH = saved.dt_BHT.new_empty(rows * chunks * SPLIT, heads)
    inputs = [stride for tensor in (x_BTHP, b_BTGN, c_BTGN) for stride in tensor.stride()[:2]]
    shape = {"R": share, "P": width, "N": size, "L": CHUNK}
    grid = (chunks * SPLIT, groups, rows)
    _input_gradients[grid](
        x_BTHP, b_BTGN, c_BTGN, d_H, index_BT, dy_BTHP, saved.dt_BHT, saved.decay_BHT,
        saved.to_end_BHT, dstates_BCHPN,
        dx_BTHP, db_BTGN, dscores_BCGSL, pull_BHT, tail_BHT, push_BHST, dskip_MH,
        *inputs, *dx_BTHP.stride()[:2], *db_BTGN.stride()[:2], tokens, heads, chunks,
        **shape, BS=CHUNK // SPLIT, num_warps=8, num_stages=2,
    )  # fmt: skip
    carried_BHC = torch.empty_like(saved.carry_BHC)
    _c_gradients[grid](
        b_BTGN, c_BTGN, dy_BTHP, saved.from_start_BHT, saved.carry_BHC, saved.states_BCHPN,
        dstates_BCHPN, dscores_BCGSL, dc_BTGN, entry_BHT, carried_BHC,
        *inputs[2:], *dc_BTGN.stride()[:2], tokens, heads, chunks,
        **shape, BL=CHUNK // SPLIT, num_warps=8, num_stages=2,
    )  # fmt: skip
    ddt_BTH = saved.dt_BHT.new_empty(rows, tokens, heads)
    da_MH = saved.dt_BHT.new_empty(rows * chunks, heads)
    _decay_gradients[(chunks, triton.cdiv(heads, 16), rows)](
        saved.dt_BHT, a_H, pull_BHT, tail_BHT, push_BHST, entry_BHT, carried_BHC, ddt_BTH, da_MH,
        tokens, heads, chunks, L=CHUNK, SPLIT=SPLIT, BH=16,
    )  # fmt: skip
    return ddt_BTH, da_MH.sum(0), dskip_MH.sum(0)

"""The gradients of the Mamba-2 recurrence on a GPU; `ssd` tells how the work is cut."""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,no-untyped-call"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from datagen.train.kernels.ssd import CHUNK, STATE_BLOCK, Saved, scan, within


@triton.jit
def _input_gradients(
    x_ptr, b_ptr, c_ptr, skip_ptr, index_ptr, dy_ptr, dt_ptr, decay_ptr, to_end_ptr, dstates_ptr,
    dx_ptr, dscores_ptr, pull_ptr, push_ptr, dskip_ptr,
    x_row, x_time, b_row, b_time, c_row, c_time, dx_row, dx_time,
    tokens, heads, chunks,
    R: tl.constexpr, P: tl.constexpr, N: tl.constexpr, L: tl.constexpr,
):  # fmt: skip
    """Form dx of a chunk, the scores' gradient (transposed), and what dt and decay need of it.

    `pull`: gradient of dt_s as a factor; `push`: gradient of decay_l, both through the scores;
    `dskip`: what a token adds to the skip's gradient.
    """
    group, chunk, row = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    p, n, steps = tl.arange(0, P), tl.arange(0, N), tl.arange(0, L)
    t = chunk * L + steps
    inside, t64 = t < tokens, t.to(tl.int64)
    b_SN = tl.load(
        b_ptr + row * b_row + t64[:, None] * b_time + group * N + n[None, :],
        mask=inside[:, None], other=0.0,
    )  # fmt: skip
    c_NL = tl.load(
        c_ptr + row * c_row + t64[None, :] * c_time + group * N + n[:, None],
        mask=inside[None, :], other=0.0,
    )  # fmt: skip
    document = tl.load(index_ptr + row * tokens + t, mask=inside, other=-3)
    same = (document[:, None] == document[None, :]) & (steps[:, None] <= steps[None, :])
    scores_SL = tl.where(same, tl.dot(b_SN, c_NL), 0.0)
    dscores_SL = tl.zeros((L, L), tl.float32)
    for r in range(R):
        h = group * R + r
        factors = (row * heads + h) * (chunks * L)
        decay, dt = tl.load(decay_ptr + factors + t), tl.load(dt_ptr + factors + t)
        to_end = tl.load(to_end_ptr + factors + t)
        x_SP = tl.load(
            x_ptr + row * x_row + t64[:, None] * x_time + h * P + p[None, :],
            mask=inside[:, None], other=0.0,
        )  # fmt: skip
        dy_LP = tl.load(
            dy_ptr + ((row * tokens + t64[:, None]) * heads + h) * P + p[None, :],
            mask=inside[:, None], other=0.0,
        )  # fmt: skip
        state = ((row * chunks + chunk) * heads + h) * (P * N)
        dstate_PN = tl.load(dstates_ptr + state + p[:, None] * N + n[None, :])
        decayed = tl.exp(tl.minimum(decay[None, :] - decay[:, None], 0.0))
        dweights = tl.dot(x_SP, tl.trans(dy_LP))
        own = tl.where(steps[:, None] == steps[None, :], dweights, 0.0)
        tl.store(dskip_ptr + factors + t, tl.sum(own, axis=1))
        dweights *= decayed
        dscores_SL += dweights * dt[:, None]
        weights = (scores_SL * decayed).to(x_SP.dtype)
        dweights *= scores_SL
        tl.store(pull_ptr + factors + t, tl.sum(dweights, axis=1))
        tl.store(push_ptr + factors + t, tl.sum(dweights * dt[:, None], axis=0))
        dx = tl.dot(b_SN, tl.trans(dstate_PN)) * to_end[:, None]
        dx = tl.dot(weights, dy_LP, dx) * dt[:, None]
        dx += dy_LP.to(tl.float32) * tl.load(skip_ptr + h)
        tl.store(
            dx_ptr + row * dx_row + t64[:, None] * dx_time + h * P + p[None, :],
            dx.to(dx_ptr.dtype.element_ty), mask=inside[:, None],
        )  # fmt: skip
    base = ((row * chunks + chunk) * tl.num_programs(0) + group) * (L * L)
    dscores_SL = tl.where(same, dscores_SL, 0.0).to(b_SN.dtype)
    tl.store(dscores_ptr + base + steps[:, None] * L + steps[None, :], dscores_SL)


@triton.jit
def _key_gradients(
    keys_ptr, others_ptr, u_ptr, scale_ptr, dt_ptr, states_ptr, dscores_ptr, dkeys_ptr, met_ptr,
    keys_row, keys_time, others_row, others_time, u_row, u_time, dkeys_row, dkeys_time,
    tokens, heads, chunks,
    R: tl.constexpr, P: tl.constexpr, N: tl.constexpr, L: tl.constexpr, OF_C: tl.constexpr,
):  # fmt: skip
    """Form dB or dC of a chunk, and `met`: the gradient of decay through the states.

    dC: u is dy, the states those that enter, scaled from the chunk's start. dB: u is x, the states
    the gradients of those that leave, scaled to the chunk's end, `met` before dt comes in.
    """
    group, chunk, row = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    p, n, steps = tl.arange(0, P), tl.arange(0, N), tl.arange(0, L)
    t = chunk * L + steps
    inside, t64 = t < tokens, t.to(tl.int64)
    keys_LN = tl.load(
        keys_ptr + row * keys_row + t64[:, None] * keys_time + group * N + n[None, :],
        mask=inside[:, None], other=0.0,
    )  # fmt: skip
    others_LN = tl.load(
        others_ptr + row * others_row + t64[:, None] * others_time + group * N + n[None, :],
        mask=inside[:, None], other=0.0,
    )  # fmt: skip
    base = dscores_ptr + ((row * chunks + chunk) * tl.num_programs(0) + group) * (L * L)
    if OF_C:
        dscores = tl.load(base + steps[None, :] * L + steps[:, None])
    else:
        dscores = tl.load(base + steps[:, None] * L + steps[None, :])
    dkeys_LN = tl.dot(dscores, others_LN)
    for r in range(R):
        h = group * R + r
        factors = (row * heads + h) * (chunks * L)
        u_LP = tl.load(
            u_ptr + row * u_row + t64[:, None] * u_time + h * P + p[None, :],
            mask=inside[:, None], other=0.0,
        )  # fmt: skip
        state = ((row * chunks + chunk) * heads + h) * (P * N)
        state_PN = tl.load(states_ptr + state + p[:, None] * N + n[None, :])
        through_LN = tl.dot(u_LP, state_PN) * tl.load(scale_ptr + factors + t)[:, None]
        tl.store(met_ptr + factors + t, tl.sum(through_LN * keys_LN.to(tl.float32), axis=1))
        if OF_C:
            dkeys_LN += through_LN
        else:
            dkeys_LN += through_LN * tl.load(dt_ptr + factors + t)[:, None]
    tl.store(
        dkeys_ptr + row * dkeys_row + t64[:, None] * dkeys_time + group * N + n[None, :],
        dkeys_LN.to(dkeys_ptr.dtype.element_ty), mask=inside[:, None],
    )  # fmt: skip


@triton.jit
def _decay_gradients(
    dt_ptr, a_ptr, index_ptr, pull_ptr, tail_ptr, push_ptr, entry_ptr, carried_ptr,
    ddt_ptr, da_ptr, tokens, heads, chunks,
    L: tl.constexpr, BLOCKS: tl.constexpr, BH: tl.constexpr,
):  # fmt: skip
    """Sum the decay's gradient from each token to its document's end in the chunk."""
    chunk, row = tl.program_id(0), tl.program_id(2).to(tl.int64)
    h = tl.program_id(1) * BH + tl.arange(0, BH)
    head_ok = h < heads
    steps = tl.arange(0, L)
    t = chunk * L + steps
    inside = t < tokens
    where = (row * heads + h[None, :]) * (chunks * L) + t[:, None]
    ok = head_ok[None, :] & inside[:, None]
    dt = tl.load(dt_ptr + where, mask=ok, other=0.0)
    pull = tl.load(pull_ptr + where, mask=ok, other=0.0)
    tail = tl.load(tail_ptr + where, mask=ok, other=0.0)
    pull += tail
    ddecay = tl.load(entry_ptr + where, mask=ok, other=0.0) - pull * dt
    ddecay += tl.load(push_ptr + where, mask=ok, other=0.0)
    document = tl.load(index_ptr + row * tokens + t, mask=inside, other=-3)
    following = tl.load(index_ptr + row * tokens + t + 1, mask=t + 1 < tokens, other=-4)
    ends = (document != following)[:, None] & (h >= 0)[None, :]
    dstep, _ = tl.associative_scan((ddecay, ends.to(tl.int32)), 0, within, reverse=True)
    last = tl.minimum(chunk * L + L, tokens) - 1
    kept = document == tl.load(index_ptr + row * tokens + last)
    carried = tl.zeros((BH,), tl.float32)
    for block in tl.static_range(BLOCKS):
        place = ((row * heads + h) * BLOCKS + block) * chunks + chunk
        carried += tl.load(carried_ptr + place, mask=head_ok, other=0.0)
    dstep += tl.where(kept[:, None], (tl.sum(tail * dt, axis=0) + carried)[None, :], 0.0)

    a = tl.load(a_ptr + h, mask=head_ok, other=0.0)
    ddt = pull + dstep * a[None, :]
    tl.store(ddt_ptr + (row * tokens + t[:, None]) * heads + h[None, :], ddt, mask=ok)
    da = tl.sum(tl.where(ok, dstep * dt, 0.0), axis=0)
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
    chunks, blocks = saved.carry_BHC.shape[2], max(size // STATE_BLOCK, 1)
    dx_BTHP, db_BTGN, dc_BTGN = out
    dstates_BCHPN = torch.empty_like(saved.states_BCHPN)
    carried_BHMC = saved.carry_BHC.new_empty(rows, heads, blocks, chunks)
    scan(dy_BTHP, c_BTGN, saved.from_start_BHT, saved, dstates_BCHPN, carried_BHMC, reverse=True)

    shape = {"R": heads // groups, "P": width, "N": size, "L": CHUNK, "num_warps": 4}
    grid = (groups, chunks, rows)
    dscores_BCGSL = x_BTHP.new_empty(rows, chunks, groups, CHUNK, CHUNK)
    pull_BHT, push_BHT, tail_BHT, entry_BHT, dskip_BHT = (
        torch.empty_like(saved.dt_BHT) for _ in range(5)
    )
    _input_gradients[grid](
        x_BTHP, b_BTGN, c_BTGN, d_H, index_BT, dy_BTHP, saved.dt_BHT, saved.decay_BHT,
        saved.to_end_BHT, dstates_BCHPN, dx_BTHP, dscores_BCGSL, pull_BHT, push_BHT, dskip_BHT,
        *x_BTHP.stride()[:2], *b_BTGN.stride()[:2], *c_BTGN.stride()[:2], *dx_BTHP.stride()[:2],
        tokens, heads, chunks, **shape, num_stages=3,
    )  # fmt: skip
    of_b = (b_BTGN, c_BTGN, x_BTHP, saved.to_end_BHT, dstates_BCHPN, db_BTGN, tail_BHT)
    of_c = (c_BTGN, b_BTGN, dy_BTHP, saved.from_start_BHT, saved.states_BCHPN, dc_BTGN, entry_BHT)
    for keys, others, u, scale, states, dkeys, met in (of_b, of_c):
        _key_gradients[grid](
            keys, others, u, scale, saved.dt_BHT, states, dscores_BCGSL, dkeys, met,
            *keys.stride()[:2], *others.stride()[:2], *u.stride()[:2], *dkeys.stride()[:2],
            tokens, heads, chunks, **shape, OF_C=keys is c_BTGN, num_stages=3,
        )  # fmt: skip
    ddt_BTH = saved.dt_BHT.new_empty(rows, tokens, heads)
    da_MH = saved.dt_BHT.new_empty(rows * chunks, heads)
    _decay_gradients[(chunks, triton.cdiv(heads, 16), rows)](
        saved.dt_BHT, a_H, index_BT, pull_BHT, tail_BHT, push_BHT, entry_BHT, carried_BHMC,
        ddt_BTH, da_MH, tokens, heads, chunks, L=CHUNK, BLOCKS=blocks, BH=16,
    )  # fmt: skip
    return ddt_BTH, da_MH.sum(0), dskip_BHT.sum((0, 2))

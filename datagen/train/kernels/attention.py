"""Attention inside documents on a GPU: tokens laid end to end, each seeing its document's past.

A program takes a block of tokens whatever documents they are of, and walks the keys from the first
one's document start, or the queries to the last one's document end: short documents share blocks.
Nothing is added atomically: equal inputs give equal bits, which torch's own gradient of the queries
does not. Scores are in base 2: `scale` holds log2(e).
"""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,no-untyped-call"

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

# Chosen on the chip measured: tokens of a block of rows and of a step, warps, stages.
FORWARD = {"BM": 64, "BN": 32, "num_warps": 4, "num_stages": 3}
KEYS = {"BM": 64, "BN": 64, "num_warps": 4, "num_stages": 2}
QUERIES = {"BM": 64, "BN": 32, "num_warps": 4, "num_stages": 3}
SHARES = 4
"""Programs that share a key head's query heads, so that a long document does not wait for one."""


@triton.jit
def _forward(
    q_ptr, k_ptr, v_ptr, start_ptr, out_ptr, mass_ptr, tokens, scale,
    HEADS: tl.constexpr, KEYS: tl.constexpr, P: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1)
    share = head // (HEADS // KEYS)
    p, steps = tl.arange(0, P), tl.arange(0, BN)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    inside = m < tokens
    q_where = (m.to(tl.int64) * HEADS + head)[:, None] * P + p[None, :]
    q = tl.load(q_ptr + q_where, mask=inside[:, None], other=0.0)
    start = tl.load(start_ptr + m, mask=inside, other=tokens)
    peak = tl.full((BM,), -1e30, tl.float32)
    mass = tl.zeros((BM,), tl.float32)
    total = tl.zeros((BM, P), tl.float32)
    first = tl.min(start, axis=0) // BN * BN
    last = tl.minimum(tl.program_id(0) * BM + BM, tokens)
    for low in range(first, last, BN):
        n = low + steps
        kv_where = (n.to(tl.int64) * KEYS + share)[:, None] * P + p[None, :]
        k = tl.load(k_ptr + kv_where, mask=(n < tokens)[:, None], other=0.0)
        scores = tl.dot(q, tl.trans(k)) * scale
        seen = (n[None, :] <= m[:, None]) & (n[None, :] >= start[:, None])
        scores = tl.where(seen, scores, -1e30)
        higher = tl.maximum(peak, tl.max(scores, axis=1))
        # Before its document begins a row has seen nothing: its weights are cut, not 1.
        weights = tl.where(seen, tl.exp2(scores - higher[:, None]), 0.0)
        shrink = tl.exp2(peak - higher)
        mass = mass * shrink + tl.sum(weights, axis=1)
        v = tl.load(v_ptr + kv_where, mask=(n < tokens)[:, None], other=0.0)
        total = tl.dot(weights.to(v.dtype), v, total * shrink[:, None])
        peak = higher
    out = total / tl.maximum(mass, 1e-30)[:, None]
    tl.store(out_ptr + q_where, out.to(out_ptr.dtype.element_ty), mask=inside[:, None])
    tl.store(mass_ptr + head * tokens + m, peak + tl.log2(mass), mask=inside)


@triton.jit
def _overlap(out_ptr, dout_ptr, overlap_ptr, tokens, HEADS: tl.constexpr, P: tl.constexpr,
             BM: tl.constexpr):  # fmt: skip
    """Sum out * dout over a head's width: what the softmax's gradient takes off."""
    m, head, p = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1), tl.arange(0, P)
    where = (m.to(tl.int64) * HEADS + head)[:, None] * P + p[None, :]
    out = tl.load(out_ptr + where, mask=(m < tokens)[:, None], other=0.0).to(tl.float32)
    dout = tl.load(dout_ptr + where, mask=(m < tokens)[:, None], other=0.0).to(tl.float32)
    tl.store(overlap_ptr + head * tokens + m, tl.sum(out * dout, axis=1), mask=m < tokens)


@triton.jit
def _key_gradients(
    q_ptr, k_ptr, v_ptr, dout_ptr, start_ptr, end_ptr, mass_ptr, overlap_ptr, dk_ptr, dv_ptr,
    tokens, scale, unit,
    HEADS: tl.constexpr, KEYS: tl.constexpr, SHARES: tl.constexpr, P: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Form dk and dv of a block of keys over some of the query heads that share them."""
    share, part = tl.program_id(1) // SHARES, tl.program_id(1) % SHARES
    each: tl.constexpr = HEADS // KEYS // SHARES
    p, steps = tl.arange(0, P), tl.arange(0, BM)
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    inside = n < tokens
    kv_where = (n.to(tl.int64) * KEYS + share)[:, None] * P + p[None, :]
    k = tl.load(k_ptr + kv_where, mask=inside[:, None], other=0.0)
    v = tl.load(v_ptr + kv_where, mask=inside[:, None], other=0.0)
    dk, dv = tl.zeros((BN, P), tl.float32), tl.zeros((BN, P), tl.float32)
    first = tl.program_id(0) * BN // BM * BM
    last = tl.max(tl.load(end_ptr + n, mask=inside, other=0), axis=0)
    blocks = tl.cdiv(last - first, BM)
    for i in range(blocks * each):
        head = share * (HEADS // KEYS) + part * each + i // blocks
        m = first + (i % blocks) * BM + steps
        m_ok = m < tokens
        q_where = (m.to(tl.int64) * HEADS + head)[:, None] * P + p[None, :]
        q = tl.load(q_ptr + q_where, mask=m_ok[:, None], other=0.0)
        dout = tl.load(dout_ptr + q_where, mask=m_ok[:, None], other=0.0)
        start = tl.load(start_ptr + m, mask=m_ok, other=tokens)
        mass = tl.load(mass_ptr + head * tokens + m, mask=m_ok, other=0.0)
        overlap = tl.load(overlap_ptr + head * tokens + m, mask=m_ok, other=0.0)
        seen = (n[:, None] <= m[None, :]) & (n[:, None] >= start[None, :])
        scores_NM = tl.dot(k, tl.trans(q)) * scale
        weights_NM = tl.where(seen, tl.exp2(scores_NM - mass[None, :]), 0.0)
        dv = tl.dot(weights_NM.to(dout.dtype), dout, dv)
        dweights_NM = tl.dot(v, tl.trans(dout))
        dscores_NM = weights_NM * (dweights_NM - overlap[None, :])
        dk = tl.dot(dscores_NM.to(q.dtype), q, dk)
    where = ((part * tokens + n.to(tl.int64)) * KEYS + share)[:, None] * P + p[None, :]
    tl.store(dk_ptr + where, (dk * unit).to(dk_ptr.dtype.element_ty), mask=inside[:, None])
    tl.store(dv_ptr + where, dv.to(dv_ptr.dtype.element_ty), mask=inside[:, None])


@triton.jit
def _query_gradients(
    q_ptr, k_ptr, v_ptr, dout_ptr, start_ptr, mass_ptr, overlap_ptr, dq_ptr, tokens, scale, unit,
    HEADS: tl.constexpr, KEYS: tl.constexpr, P: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1)
    share = head // (HEADS // KEYS)
    p, steps = tl.arange(0, P), tl.arange(0, BN)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    inside = m < tokens
    q_where = (m.to(tl.int64) * HEADS + head)[:, None] * P + p[None, :]
    q = tl.load(q_ptr + q_where, mask=inside[:, None], other=0.0)
    dout = tl.load(dout_ptr + q_where, mask=inside[:, None], other=0.0)
    start = tl.load(start_ptr + m, mask=inside, other=tokens)
    mass = tl.load(mass_ptr + head * tokens + m, mask=inside, other=0.0)
    overlap = tl.load(overlap_ptr + head * tokens + m, mask=inside, other=0.0)
    dq = tl.zeros((BM, P), tl.float32)
    first = tl.min(start, axis=0) // BN * BN
    last = tl.minimum(tl.program_id(0) * BM + BM, tokens)
    for low in range(first, last, BN):
        n = low + steps
        kv_where = (n.to(tl.int64) * KEYS + share)[:, None] * P + p[None, :]
        k = tl.load(k_ptr + kv_where, mask=(n < tokens)[:, None], other=0.0)
        v = tl.load(v_ptr + kv_where, mask=(n < tokens)[:, None], other=0.0)
        seen = (n[None, :] <= m[:, None]) & (n[None, :] >= start[:, None])
        scores = tl.dot(q, tl.trans(k)) * scale
        weights = tl.where(seen, tl.exp2(scores - mass[:, None]), 0.0)
        dscores = weights * (tl.dot(dout, tl.trans(v)) - overlap[:, None])
        dq = tl.dot(dscores.to(k.dtype), k, dq)
    tl.store(dq_ptr + q_where, (dq * unit).to(dq_ptr.dtype.element_ty), mask=inside[:, None])


class DocumentAttention(torch.autograd.Function):
    """Compute `reference.attention` on tokens laid end to end: (N, heads, P).

    `start_N` and `end_N` are where each token's document begins and ends, int32.
    """

    @staticmethod
    def forward(
        ctx: Any, q_NQP: Tensor, k_NKP: Tensor, v_NKP: Tensor, start_N: Tensor, end_N: Tensor
    ) -> Tensor:
        q_NQP, k_NKP, v_NKP = (part.contiguous() for part in (q_NQP, k_NKP, v_NKP))
        tokens, heads, width = q_NQP.shape
        out_NQP, mass_QN = torch.empty_like(q_NQP), start_N.new_empty(heads, tokens).float()
        ctx.unit = width**-0.5
        _forward[(triton.cdiv(tokens, FORWARD["BM"]), heads)](
            q_NQP, k_NKP, v_NKP, start_N, out_NQP, mass_QN, tokens, ctx.unit * math.log2(math.e),
            HEADS=heads, KEYS=k_NKP.shape[1], P=width, **FORWARD,
        )  # fmt: skip
        ctx.save_for_backward(q_NQP, k_NKP, v_NKP, out_NQP, mass_QN, start_N, end_N)
        return out_NQP

    @staticmethod
    def backward(ctx: Any, dout_NQP: Tensor) -> tuple[Tensor | None, ...]:
        q_NQP, k_NKP, v_NKP, out_NQP, mass_QN, start_N, end_N = ctx.saved_tensors
        dout_NQP = dout_NQP.contiguous()
        tokens, heads, width = q_NQP.shape
        keys, scale = k_NKP.shape[1], ctx.unit * math.log2(math.e)
        shares = math.gcd(heads // keys, SHARES)
        overlap_QN = torch.empty_like(mass_QN)
        _overlap[(triton.cdiv(tokens, 64), heads)](
            out_NQP, dout_NQP, overlap_QN, tokens, HEADS=heads, P=width, BM=64
        )
        dk_SNKP, dv_SNKP = (mass_QN.new_empty(shares, *k_NKP.shape) for _ in range(2))
        _key_gradients[(triton.cdiv(tokens, KEYS["BN"]), keys * shares)](
            q_NQP, k_NKP, v_NKP, dout_NQP, start_N, end_N, mass_QN, overlap_QN, dk_SNKP, dv_SNKP,
            tokens, scale, ctx.unit, HEADS=heads, KEYS=keys, SHARES=shares, P=width, **KEYS,
        )  # fmt: skip
        dq_NQP = torch.empty_like(q_NQP)
        _query_gradients[(triton.cdiv(tokens, QUERIES["BM"]), heads)](
            q_NQP, k_NKP, v_NKP, dout_NQP, start_N, mass_QN, overlap_QN, dq_NQP, tokens, scale,
            ctx.unit, HEADS=heads, KEYS=keys, P=width, **QUERIES,
        )  # fmt: skip
        dk_NKP, dv_NKP = (part.sum(0).to(k_NKP.dtype) for part in (dk_SNKP, dv_SNKP))
        return dq_NQP, dk_NKP, dv_NKP, None, None

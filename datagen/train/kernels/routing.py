"""The router on a GPU: scores, choice, gates and the balance of a batch in one pass each way."""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,no-untyped-call"

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_TOKENS = 16
"""Tokens of a program; its sums for the balance go to memory, and are added up in order."""


@triton.jit
def _choose(
    logits_ptr, bias_ptr, is_token_ptr, choice_ptr, gate_ptr, total_ptr, shares_ptr, counts_ptr,
    tokens, experts, scaling,
    K: tl.constexpr, KP: tl.constexpr, EP: tl.constexpr, BM: tl.constexpr,
):  # fmt: skip
    """Take the top K of sigmoid(logits) + bias for BM tokens of a row; sum shares and counts."""
    row, block = tl.program_id(1).to(tl.int64), tl.program_id(0)
    t = block * BM + tl.arange(0, BM)
    m = row * tokens + t
    e, k = tl.arange(0, EP), tl.arange(0, KP)
    e_ok = (e < experts)[None, :]
    inside = t < tokens
    is_token = tl.load(is_token_ptr + m, mask=inside, other=0) != 0
    where = m[:, None] * (2 * experts) + e[None, :]
    logits = tl.load(logits_ptr + where, mask=inside[:, None] & e_ok, other=0.0)
    logits += tl.load(logits_ptr + where + experts, mask=inside[:, None] & e_ok, other=0.0)
    scores = tl.where(e_ok, tl.sigmoid(logits), 0.0)
    bias = tl.load(bias_ptr + e, mask=e < experts, other=0.0)
    left = tl.where(e_ok, scores + bias[None, :], -float("inf"))
    chosen = tl.zeros((BM, KP), tl.float32)
    choice = tl.zeros((BM, KP), tl.int32)
    for i in tl.static_range(K):
        best = tl.argmax(left, axis=1)
        taken = e[None, :] == best[:, None]
        score = tl.sum(tl.where(taken, scores, 0.0), axis=1)
        left = tl.where(taken, -float("inf"), left)
        chosen = tl.where(k[None, :] == i, score[:, None], chosen)
        choice = tl.where(k[None, :] == i, best[:, None], choice)
    total = tl.sum(chosen, axis=1) + 1e-20
    slots = m[:, None] * K + k[None, :]
    slot_ok = inside[:, None] & (k < K)[None, :]
    tl.store(gate_ptr + slots, chosen * (scaling / total)[:, None], mask=slot_ok)
    tl.store(choice_ptr + slots, tl.where(is_token[:, None], choice, experts), mask=slot_ok)
    tl.store(total_ptr + m, total, mask=inside)
    share = scores / (tl.sum(scores, axis=1) + 1e-20)[:, None]
    sums = (row * tl.num_programs(0) + block) * experts + e
    counted = tl.where(is_token[:, None] & e_ok & (left == -float("inf")), 1.0, 0.0)
    tl.store(
        shares_ptr + sums, tl.sum(tl.where(is_token[:, None], share, 0.0), 0), mask=e < experts
    )
    tl.store(counts_ptr + sums, tl.sum(counted, axis=0), mask=e < experts)


@triton.jit
def _choose_backward(
    logits_ptr, is_token_ptr, choice_ptr, gate_ptr, total_ptr, dgate_ptr, dshare_ptr, dlogits_ptr,
    tokens, experts, scaling,
    K: tl.constexpr, EP: tl.constexpr, BM: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(1).to(tl.int64)
    t = tl.program_id(0) * BM + tl.arange(0, BM)
    m = row * tokens + t
    e = tl.arange(0, EP)
    ok = (t < tokens)[:, None] & (e < experts)[None, :]
    is_token = tl.load(is_token_ptr + m, mask=t < tokens, other=0) != 0
    where = m[:, None] * (2 * experts) + e[None, :]
    logits = tl.load(logits_ptr + where, mask=ok, other=0.0)
    logits += tl.load(logits_ptr + where + experts, mask=ok, other=0.0)
    scores = tl.where(ok, tl.sigmoid(logits), 0.0)
    # share = score / sum of scores: its gradient is the same for all tokens of a row.
    dshare = tl.load(dshare_ptr + row * experts + e, mask=e < experts, other=0.0)[None, :]
    mass = tl.sum(scores, axis=1)[:, None] + 1e-20
    met = tl.sum(dshare * scores, axis=1)[:, None] / mass
    dscores = tl.where(is_token[:, None], (dshare - met) / mass, 0.0)
    inner = tl.zeros((BM,), tl.float32)
    for i in tl.static_range(K):
        dgate = tl.load(dgate_ptr + m * K + i, mask=t < tokens, other=0.0)
        inner += dgate * tl.load(gate_ptr + m * K + i, mask=t < tokens, other=0.0)
    total = tl.load(total_ptr + m, mask=t < tokens, other=1.0)
    for i in tl.static_range(K):
        dgate = tl.load(dgate_ptr + m * K + i, mask=t < tokens, other=0.0)
        choice = tl.load(choice_ptr + m * K + i, mask=t < tokens, other=0)
        through = (scaling * dgate - inner) / total
        dscores += tl.where(e[None, :] == choice[:, None], through[:, None], 0.0)
    dlogits = dscores * scores * (1.0 - scores)
    out = dlogits_ptr + m[:, None] * experts + e[None, :]
    tl.store(out, dlogits.to(dlogits_ptr.dtype.element_ty), mask=ok)


class Route(torch.autograd.Function):
    """Compute `reference.route` for bfloat16 tokens and a float32 router.

    The router goes in as the sum of two bfloat16 matrices, 16 bits of its 24; a product in float32
    would cost twenty times as much. The gradient's operands are bfloat16, its sums float32.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_BTD: Tensor,
        router_ED: Tensor,
        bias_E: Tensor,
        is_token_BT: Tensor,
        top_k: int,
        scaling: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows, tokens = is_token_BT.shape
        experts = len(router_ED)
        x_ND = x_BTD.flatten(0, 1)
        high_ED = router_ED.to(x_ND.dtype)
        low_ED = (router_ED - high_ED.float()).to(x_ND.dtype)
        logits_NF = torch.mm(x_ND, torch.cat([high_ED, low_ED]).T, out_dtype=torch.float32)
        choice_BTK = logits_NF.new_empty(rows, tokens, top_k, dtype=torch.int32)
        gate_BTK = logits_NF.new_empty(rows, tokens, top_k)
        total_BT = logits_NF.new_empty(rows, tokens)
        blocks = triton.cdiv(tokens, _TOKENS)
        shares_BME, counts_BME = logits_NF.new_empty(2, rows, blocks, experts)
        _choose[(blocks, rows)](
            logits_NF, bias_E, is_token_BT, choice_BTK, gate_BTK, total_BT, shares_BME, counts_BME,
            tokens, experts, scaling, K=top_k, KP=triton.next_power_of_2(top_k),
            EP=triton.next_power_of_2(experts), BM=_TOKENS, num_warps=4,
        )  # fmt: skip
        tokens_B1 = is_token_BT.sum(-1, keepdim=True).clamp(min=1)
        frequency_BE = counts_BME.sum(1) * experts / (tokens_B1 * top_k)
        balance_B = (frequency_BE * shares_BME.sum(1) / tokens_B1).sum(-1)
        ctx.save_for_backward(
            x_BTD, high_ED, logits_NF, is_token_BT, choice_BTK, gate_BTK, total_BT,
            frequency_BE / tokens_B1,
        )  # fmt: skip
        ctx.scaling = scaling
        ctx.mark_non_differentiable(choice_BTK)
        return choice_BTK, gate_BTK, balance_B

    @staticmethod
    def backward(
        ctx: Any, _choice: None, dgate_BTK: Tensor, dbalance_B: Tensor
    ) -> tuple[Tensor | None, ...]:
        x_BTD, high_ED, logits_NF, is_token_BT, choice_BTK, gate_BTK, total_BT, weight_BE = (
            ctx.saved_tensors
        )
        (rows, tokens), experts = is_token_BT.shape, len(high_ED)
        dlogits_NE = x_BTD.new_empty(rows * tokens, experts)
        _choose_backward[(triton.cdiv(tokens, _TOKENS), rows)](
            logits_NF, is_token_BT, choice_BTK, gate_BTK, total_BT, dgate_BTK.contiguous(),
            dbalance_B[:, None] * weight_BE, dlogits_NE, tokens, experts, ctx.scaling,
            K=choice_BTK.shape[-1], EP=triton.next_power_of_2(experts), BM=_TOKENS, num_warps=4,
        )  # fmt: skip
        dx_BTD = (dlogits_NE @ high_ED).view_as(x_BTD)
        drouter_ED = torch.mm(dlogits_NE.T, x_BTD.flatten(0, 1), out_dtype=torch.float32)
        return dx_BTD, drouter_ED, None, None, None, None

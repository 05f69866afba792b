"""The model's operations in plain torch: the CPU path, and in float64 the truth for faster kernels.

Axes: B row, T token, C channel or chunk, H head, P head width, G group, R heads a group, N state,
L and S positions inside a chunk, E expert, I and O widths in and out, D model width, V vocabulary.
`document_index_BT` numbers the documents of a row; equal neighbours belong together, padding is -1.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """Return `x` in the precision of statistics: float32, or float64 where it is that already."""
    return x if x.dtype == torch.float64 else x.float()


def relu2(x: Tensor) -> Tensor:
    """Square the positive part, the ungated activation of every expert."""
    return F.relu(x).square()


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Divide the last axis by its root mean square and scale it, with wide statistics."""
    x_wide = wide(x)
    normed = x_wide * torch.rsqrt(x_wide.square().mean(-1, keepdim=True) + eps)
    return (normed * weight).to(x.dtype)


def joint_linear(x_BTD: Tensor, *weights_OD: Tensor) -> tuple[Tensor, ...]:
    """Multiply the same tokens by several matrices."""
    return tuple(F.linear(x_BTD, weight_OD) for weight_OD in weights_OD)


def add_norm(
    x_BTD: Tensor, delta_BTD: Tensor | None, weight_D: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Add `delta` to the residual stream: the sum, its norm, and its squares' sum by token.

    The last has no gradient.
    """
    sum_BTD = x_BTD if delta_BTD is None else x_BTD + delta_BTD
    energy_BT = wide(sum_BTD.detach()).square().sum(-1)
    return sum_BTD, rms_norm(sum_BTD, weight_D, eps), energy_BT


def gated_group_norm(
    y_BTC: Tensor, z_BTC: Tensor, weight_C: Tensor, groups: int, eps: float
) -> Tensor:
    """Gate `y` by SiLU(z), then normalise each of `groups` channel groups on its own."""
    gated_BTC = wide(y_BTC) * F.silu(wide(z_BTC))
    grouped = torch.unflatten(gated_BTC, -1, (groups, -1))
    normed = grouped * torch.rsqrt(grouped.square().mean(-1, keepdim=True) + eps)
    return (normed.flatten(-2) * weight_C).to(y_BTC.dtype)


def conv_silu(
    x_BTC: Tensor, weight_CW: Tensor, bias_C: Tensor, document_index_BT: Tensor
) -> Tensor:
    """Convolve each channel causally inside its document, then SiLU.

    `weight_CW[:, -1]` meets the current token. Taps that would reach into another document are 0.
    """
    tokens, width = x_BTC.shape[1], weight_CW.shape[1]
    total_BTC = wide(x_BTC) * weight_CW[:, -1] + bias_C
    for lag in range(1, min(width, tokens)):
        same_BT1 = (document_index_BT[:, lag:] == document_index_BT[:, :-lag]).unsqueeze(-1)
        tap_BTC = wide(x_BTC[:, :-lag]) * weight_CW[:, -1 - lag] * same_BT1
        total_BTC = total_BTC + F.pad(tap_BTC, (0, 0, lag, 0))
    return F.silu(total_BTC).to(x_BTC.dtype)


def ssd(
    x_BTHP: Tensor,
    dt_BTH: Tensor,
    a_H: Tensor,
    b_BTGN: Tensor,
    c_BTGN: Tensor,
    d_H: Tensor,
    document_index_BT: Tensor,
    chunk: int,
) -> Tensor:
    """Run the Mamba-2 state-space recurrence with the state set to zero at each document's start.

    y_t = c_t h_t + d x_t with h_t = exp(dt_t a) h_{t-1} + dt_t x_t b_t (outer product); `a_H` is
    negative, `dt_BTH` positive. Chunks of `chunk` tokens are solved as masked products, and one
    state a chunk passes between them (the SSD form of arXiv 2405.21060), in O(T chunk) work.
    """
    tokens = x_BTHP.shape[1]
    short = -tokens % chunk
    groups = b_BTGN.shape[2]

    def chunked(x: Tensor, fill: int = 0) -> Tensor:
        """Pad time with `fill` and split it: (B, T, ...) -> (B, C, L, ...)."""
        padded = F.pad(x, (0, 0) * (x.ndim - 2) + (0, short), value=fill) if short else x
        return torch.unflatten(padded, 1, (-1, chunk))

    document_BCL = chunked(document_index_BT, fill=-1)
    last_BC = document_BCL[:, :, -1]
    before_BC = F.pad(last_BC[:, :-1], (1, 0), value=-2)

    dt_BCLGR = torch.unflatten(chunked(wide(dt_BTH)), -1, (groups, -1))
    decay_BCLGR = torch.cumsum(dt_BCLGR * torch.unflatten(a_H, 0, (groups, -1)), dim=2)
    x_BCLGRP = torch.unflatten(chunked(wide(x_BTHP)), 3, (groups, -1))
    input_BCLGRP = x_BCLGRP * dt_BCLGR.unsqueeze(-1)
    b_BCLGN, c_BCLGN = chunked(wide(b_BTGN)), chunked(wide(c_BTGN))

    same_BCLS = (document_BCL.unsqueeze(-1) == document_BCL.unsqueeze(-2)).tril()
    exponent_BCLSGR = decay_BCLGR.unsqueeze(3) - decay_BCLGR.unsqueeze(2)
    # The mask goes under the exponential: above the diagonal the exponent is positive and may
    # overflow, and inf * 0 would poison the gradient.
    weight_BCLSGR = exponent_BCLSGR.masked_fill(~same_BCLS[..., None, None], -torch.inf).exp()
    scores_BCLSG = torch.einsum("bclgn,bcsgn->bclsg", c_BCLGN, b_BCLGN)
    y_BCLGRP = torch.einsum(
        "bclsgr,bcsgrp->bclgrp", weight_BCLSGR * scores_BCLSG.unsqueeze(-1), input_BCLGRP
    )

    kept_BCL = (document_BCL == last_BC.unsqueeze(-1))[..., None, None]
    to_end_BCLGR = (decay_BCLGR[:, :, -1:] - decay_BCLGR).exp() * kept_BCL
    local_BCGRPN = torch.einsum(
        "bclgrp,bclgn->bcgrpn", input_BCLGRP * to_end_BCLGR.unsqueeze(-1), b_BCLGN
    )
    carried_BCGR = decay_BCLGR[:, :, -1].exp() * (last_BC == before_BC)[..., None, None]
    state_BGRPN = torch.zeros_like(local_BCGRPN[:, 0])
    entering = []
    for step in range(local_BCGRPN.shape[1]):
        entering.append(state_BGRPN)
        state_BGRPN = state_BGRPN * carried_BCGR[:, step, ..., None, None] + local_BCGRPN[:, step]
    entering_BCGRPN = torch.stack(entering, dim=1)
    continues_BCL = (document_BCL == before_BC.unsqueeze(-1))[..., None, None]
    from_start_BCLGR = decay_BCLGR.exp() * continues_BCL
    y_BCLGRP = y_BCLGRP + from_start_BCLGR.unsqueeze(-1) * torch.einsum(
        "bclgn,bcgrpn->bclgrp", c_BCLGN, entering_BCGRPN
    )
    y_BTHP = y_BCLGRP.flatten(1, 2)[:, :tokens].flatten(2, 3)
    return (y_BTHP + wide(x_BTHP) * d_H.unsqueeze(-1)).to(x_BTHP.dtype)


def mamba_mix(
    projected_BTF: Tensor,
    conv_weight_CW: Tensor,
    conv_bias_C: Tensor,
    dt_bias_H: Tensor,
    a_log_H: Tensor,
    skip_H: Tensor,
    norm_weight_I: Tensor,
    document_index_BT: Tensor,
    groups: int,
    state: int,
    eps: float,
    chunk: int,
    dt_floor: float = 0.0,
) -> Tensor:
    """Take z, x, B, C, dt side by side; convolve x, B, C; run the SSD; gate by z and normalise.

    A time step is at least `dt_floor`.
    """
    heads, inner, channels = len(skip_H), len(norm_weight_I), len(conv_bias_C)
    z_BTI, xbc_BTC, dt_BTH = torch.split(projected_BTF, [inner, channels, heads], dim=-1)
    xbc_BTC = conv_silu(xbc_BTC, conv_weight_CW, conv_bias_C, document_index_BT)
    inner_BTI, b_BTF, c_BTF = torch.split(xbc_BTC, [inner, groups * state, groups * state], dim=-1)
    y_BTHP = ssd(
        torch.unflatten(inner_BTI, -1, (heads, -1)),
        F.softplus(wide(dt_BTH) + dt_bias_H).clamp(min=dt_floor),
        -a_log_H.exp(),
        torch.unflatten(b_BTF, -1, (groups, state)),
        torch.unflatten(c_BTF, -1, (groups, state)),
        skip_H,
        document_index_BT,
        chunk,
    )
    return gated_group_norm(y_BTHP.flatten(-2), z_BTI, norm_weight_I, groups, eps)


def attention(q_BTQP: Tensor, k_BTKP: Tensor, v_BTKP: Tensor, attends_B1TT: Tensor) -> Tensor:
    """Attend where the mask allows; query heads share the key and value heads in order."""
    q_BQTP, k_BKTP, v_BKTP = (part.transpose(1, 2) for part in (q_BTQP, k_BTKP, v_BTKP))
    mixed_BQTP = F.scaled_dot_product_attention(
        q_BQTP, k_BKTP, v_BKTP, attn_mask=attends_B1TT, enable_gqa=True
    )
    return mixed_BQTP.transpose(1, 2)


def route(
    x_BTD: Tensor,
    router_ED: Tensor,
    bias_E: Tensor,
    is_token_BT: Tensor,
    top_k: int,
    scaling: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose experts by sigmoid score plus bias, and weigh them by the scores alone.

    Returns the choice (B, T, K), E at padding; the gates (B, T, K), which sum to `scaling`; and
    the balance loss (B,). The bias has no gradient.
    """
    scores_BTE = torch.sigmoid(F.linear(wide(x_BTD), router_ED))
    choice_BTK = (scores_BTE + bias_E).detach().topk(top_k).indices
    chosen_BTK = scores_BTE.gather(-1, choice_BTK)
    gate_BTK = chosen_BTK / (chosen_BTK.sum(-1, keepdim=True) + 1e-20) * scaling
    balance_B = balance_loss(scores_BTE, choice_BTK, is_token_BT)
    return choice_BTK.masked_fill(~is_token_BT[..., None], len(router_ED)), gate_BTK, balance_B


def balance_loss(scores_BTE: Tensor, choice_BTK: Tensor, is_token_BT: Tensor) -> Tensor:
    """Measure how uneven the routing of each row is: 1 when even, shape (B,).

    Per row sum_e f_e P_e, with f_e the share of slots that expert e got times E and P_e the mean
    of its normalised score. The row is the sequence here, as in the published recipe; padding
    does not count.
    """
    experts, top_k = scores_BTE.shape[-1], choice_BTK.shape[-1]
    is_token_BT1 = is_token_BT.unsqueeze(-1)
    tokens_B1 = is_token_BT.sum(-1, keepdim=True).clamp(min=1)
    slots_BE = torch.zeros_like(scores_BTE[:, 0]).scatter_add_(
        1, choice_BTK.flatten(1), is_token_BT1.expand_as(choice_BTK).flatten(1).to(scores_BTE.dtype)
    )
    frequency_BE = slots_BE * experts / (tokens_B1 * top_k)
    share_BTE = scores_BTE / (scores_BTE.sum(-1, keepdim=True) + 1e-20)
    mean_share_BE = (share_BTE * is_token_BT1).sum(1) / tokens_B1
    return (frequency_BE * mean_share_BE).sum(-1)


def experts(
    x_NI: Tensor, choice_NK: Tensor, gate_NK: Tensor, up_EIF: Tensor, down_EFI: Tensor
) -> tuple[Tensor, Tensor]:
    """Run each token through its chosen experts, weigh and add up; return tokens by expert too.

    A choice of E is none. Token slots are sorted by expert, so that each expert has one run.
    """
    slot_expert_M = choice_NK.flatten()
    order_M = slot_expert_M.argsort(stable=True)
    tokens_E = torch.bincount(slot_expert_M, minlength=len(up_EIF) + 1)[: len(up_EIF)]
    hidden_MF = grouped_linear(x_NI[order_M // choice_NK.shape[1]], up_EIF, tokens_E)
    out_MI = grouped_linear(relu2(hidden_MF), down_EFI, tokens_E)
    # Gathering by the inverse order adds each token's slots in a fixed order; a scatter-add
    # would not be repeatable on a GPU.
    inverse_M = torch.empty_like(order_M)
    inverse_M[order_M] = torch.arange(len(order_M), device=order_M.device)
    out_NKI = out_MI[inverse_M].view(*choice_NK.shape, -1)
    return (wide(out_NKI) * gate_NK.unsqueeze(-1)).sum(1).to(x_NI.dtype), tokens_E


def grouped_linear(x_MI: Tensor, weight_EIO: Tensor, counts_E: Tensor) -> Tensor:
    """Multiply consecutive runs of rows by one matrix each: the first `counts_E[0]` by expert 0.

    Rows past the sum of the counts give zeros. Reads the counts on the host.
    """
    counts = [int(count) for count in counts_E.tolist()]
    runs = torch.split(x_MI, [*counts, x_MI.shape[0] - sum(counts)])
    parts = [run @ weight for run, weight in zip(runs, weight_EIO, strict=False) if len(run)]
    rest_MO = x_MI.new_zeros(len(runs[-1]), weight_EIO.shape[2])
    return torch.cat([*parts, rest_MO])


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Summed cross entropy whose logits exist for one chunk of tokens at a time.

    The gradients are formed in the forward pass, while the chunk's probabilities are at hand; the
    head's is accumulated wide, because a bfloat16 sum over a batch diverges in long runs.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, head_VD: Tensor, labels_N: Tensor, chunk_tokens: int
    ) -> Tensor:
        compute_VD = head_VD.to(hidden_ND.dtype)
        total = hidden_ND.new_zeros((), dtype=wide(hidden_ND[:0]).dtype)
        grad_hidden_ND = torch.empty_like(hidden_ND)
        grad_head_VD = torch.zeros_like(wide(head_VD))
        for start in range(0, hidden_ND.shape[0], chunk_tokens):
            rows = slice(start, start + chunk_tokens)
            labels = labels_N[rows]
            kept_N1 = (labels >= 0).unsqueeze(1)
            targets_N1 = labels.clamp(min=0).unsqueeze(1)
            logits_NV = wide(hidden_ND[rows] @ compute_VD.T)
            target_logit_N1 = logits_NV.gather(1, targets_N1)
            peak_N1 = logits_NV.amax(dim=1, keepdim=True)
            error_NV = logits_NV.sub_(peak_N1).exp_()  # in place: the logits are the memory
            mass_N1 = error_NV.sum(dim=1, keepdim=True)
            total += ((mass_N1.log() + peak_N1 - target_logit_N1) * kept_N1).sum()
            error_NV *= kept_N1 / mass_N1
            error_NV.scatter_add_(1, targets_N1, -kept_N1.to(error_NV.dtype))
            grad_hidden_ND[rows] = error_NV.to(hidden_ND.dtype) @ compute_VD
            grad_head_VD.addmm_(error_NV.T, wide(hidden_ND[rows]))
        ctx.save_for_backward(grad_hidden_ND, grad_head_VD.to(head_VD.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_hidden_ND, grad_head_VD = ctx.saved_tensors
        return (
            grad_hidden_ND * grad.to(grad_hidden_ND.dtype),
            grad_head_VD * grad.to(grad_head_VD.dtype),
            None,
            None,
        )


def cross_entropy_sum(
    hidden_ND: Tensor, head_VD: Tensor, labels_N: Tensor, chunk_tokens: int
) -> Tensor:
    """Sum -log softmax(hidden head^T)[label] over the tokens whose label is not negative.

    Logits take the dtype of `hidden_ND` in the product and are wide after it; `head_VD` is the
    float32 master itself, whose gradient is float32.
    """
    total: Tensor = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_ND, head_VD, labels_N, chunk_tokens
    )
    return total


@torch.no_grad()
def token_losses(hidden_ND: Tensor, head_VD: Tensor, labels_N: Tensor, chunk_tokens: int) -> Tensor:
    """Return each token's cross entropy, 0 where its label is negative; for evaluation only."""
    compute_VD = head_VD.to(hidden_ND.dtype)
    return torch.cat(
        [
            F.cross_entropy(
                wide(hidden @ compute_VD.T), labels, ignore_index=-100, reduction="none"
            )
            for hidden, labels in zip(
                torch.split(hidden_ND, chunk_tokens),
                torch.split(labels_N, chunk_tokens),
                strict=True,
            )
        ]
    )

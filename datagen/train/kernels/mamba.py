"""The Mamba-2 mixer between its two projections on a GPU, as one differentiable operation.

Joined, because the gradients of gate, convolution and time step then go straight to their places in
the projection's gradient: no copy gathers them.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from datagen.train.kernels import conv, norms, ssd, ssd_backward


class MambaMix(torch.autograd.Function):
    """Compute `reference.mamba_mix`; activations are bfloat16, parameters float32."""

    @staticmethod
    def forward(
        ctx: Any,
        projected_BTF: Tensor,
        conv_weight_CW: Tensor,
        conv_bias_C: Tensor,
        dt_bias_H: Tensor,
        a_log_H: Tensor,
        skip_H: Tensor,
        norm_weight_I: Tensor,
        index_BT: Tensor,
        groups: int,
        state: int,
        eps: float,
        dt_floor: float = 0.0,
    ) -> Tensor:
        ctx.groups, ctx.eps, ctx.dt_floor = groups, eps, dt_floor
        heads, inner, channels = len(skip_H), len(norm_weight_I), len(conv_bias_C)
        ctx.widths = (inner, channels, heads)
        z_BTI, xbc_BTC, dt_BTH = torch.split(projected_BTF, ctx.widths, dim=-1)
        mixed_BTC = conv.forward(xbc_BTC, conv_weight_CW, conv_bias_C, index_BT)
        x_BTHP, b_BTGN, c_BTGN = _parts(mixed_BTC, heads, inner, groups, state)
        step_BTH = F.softplus(dt_BTH.float() + dt_bias_H).clamp(min=dt_floor)
        y_BTHP, saved = ssd.forward(
            x_BTHP, step_BTH, -a_log_H.exp(), b_BTGN, c_BTGN, skip_H, index_BT
        )
        ctx.save_for_backward(
            projected_BTF, mixed_BTC, y_BTHP, *saved, conv_weight_CW, conv_bias_C, dt_bias_H,
            a_log_H, skip_H, norm_weight_I, index_BT,
        )  # fmt: skip
        ctx.state = state
        return norms.gated_forward(y_BTHP.flatten(-2), z_BTI, norm_weight_I, groups, eps)

    @staticmethod
    def backward(ctx: Any, dout_BTI: Tensor) -> tuple[Tensor | None, ...]:
        projected_BTF, mixed_BTC, y_BTHP, *rest = ctx.saved_tensors
        saved, parameters = ssd.Saved(*rest[:6]), rest[6:]
        conv_weight_CW, conv_bias_C, dt_bias_H, a_log_H, skip_H, norm_weight_I, index_BT = (
            parameters
        )
        inner, _, heads = ctx.widths
        z_BTI, xbc_BTC, dt_BTH = torch.split(projected_BTF, ctx.widths, dim=-1)
        dprojected_BTF = torch.empty_like(projected_BTF)
        dz_BTI, dxbc_BTC, ddt_BTH = torch.split(dprojected_BTF, ctx.widths, dim=-1)
        dy_BTI, dnorm_weight_I = norms.gated_backward(
            dout_BTI.contiguous(), y_BTHP.flatten(-2), z_BTI, norm_weight_I, ctx.groups, ctx.eps,
            dz_BTI,
        )  # fmt: skip
        dmixed_BTC = torch.empty_like(mixed_BTC)
        x_BTHP, b_BTGN, c_BTGN = _parts(mixed_BTC, heads, inner, ctx.groups, ctx.state)
        a_H = -a_log_H.exp()
        dstep_BTH, da_H, dskip_H = ssd_backward.backward(
            dy_BTI.view_as(y_BTHP), x_BTHP, a_H, b_BTGN, c_BTGN, skip_H, index_BT, saved,
            _parts(dmixed_BTC, heads, inner, ctx.groups, ctx.state),
        )  # fmt: skip
        raw_BTH = dt_BTH.float() + dt_bias_H
        draw_BTH = dstep_BTH * torch.sigmoid(raw_BTH)
        if ctx.dt_floor:
            draw_BTH *= F.softplus(raw_BTH) >= ctx.dt_floor
        ddt_BTH.copy_(draw_BTH)
        dconv_weight_CW, dconv_bias_C = conv.backward(
            dmixed_BTC, xbc_BTC, conv_weight_CW, conv_bias_C, index_BT, dxbc_BTC
        )
        return (
            dprojected_BTF, dconv_weight_CW, dconv_bias_C, draw_BTH.sum((0, 1)), da_H * a_H,
            dskip_H, dnorm_weight_I, None, None, None, None, None,
        )  # fmt: skip


def _parts(
    mixed_BTC: Tensor, heads: int, inner: int, groups: int, state: int
) -> tuple[Tensor, Tensor, Tensor]:
    """View the convolution's channels as x (B, T, H, P), b and c (B, T, G, N)."""
    x_BTI, b_BTF, c_BTF = torch.split(mixed_BTC, [inner, groups * state, groups * state], dim=-1)
    return (
        torch.unflatten(x_BTI, -1, (heads, -1)),
        torch.unflatten(b_BTF, -1, (groups, -1)),
        torch.unflatten(c_BTF, -1, (groups, -1)),
    )

"""The Mamba-2 mixer: a gated state-space recurrence that starts anew at each document."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datagen.train.config import ModelConfig
from datagen.train.documents import Documents
from datagen.train.kernels import reference
from datagen.train.layers import matrix, wide_parameter

DT_MIN, DT_MAX = 1e-3, 0.1


class Mamba2(nn.Module):
    """Project to z, x, B, C, dt; convolve x, B, C; run the SSD; gate, normalise by group, project.

    Cost a token and head: 4 P N multiply-adds for the state plus (P + N) a token of the chunk.
    Source: arXiv 2405.21060.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        heads, inner, channels = config.mamba_heads, config.mamba_inner, config.conv_channels
        self.in_proj = matrix(config, config.d_model, inner + channels + heads)
        self.out_proj = matrix(config, inner, config.d_model)
        self.conv_weight = wide_parameter(channels, config.conv_width)
        self.conv_bias = wide_parameter(channels)
        self.dt_bias = wide_parameter(heads)
        self.a_log = wide_parameter(heads)
        self.skip = wide_parameter(heads)
        self.norm_weight = wide_parameter(inner)

    def forward(self, x_BTD: Tensor, documents: Documents) -> Tensor:
        """Mix each document's tokens causally: (B, T, D) -> (B, T, D)."""
        config = self.config
        bc_width = config.mamba_groups * config.mamba_state
        z_BTI, xbc_BTC, dt_BTH = torch.split(
            self.in_proj(x_BTD),
            [config.mamba_inner, config.conv_channels, config.mamba_heads],
            dim=-1,
        )
        xbc_BTC = reference.conv_silu(xbc_BTC, self.conv_weight, self.conv_bias, documents.index_BT)
        inner_BTI, b_BTF, c_BTF = torch.split(
            xbc_BTC, [config.mamba_inner, bc_width, bc_width], dim=-1
        )
        y_BTHP = reference.ssd(
            torch.unflatten(inner_BTI, -1, (config.mamba_heads, config.mamba_head_dim)),
            F.softplus(reference.wide(dt_BTH) + self.dt_bias),
            -self.a_log.exp(),
            torch.unflatten(b_BTF, -1, (config.mamba_groups, config.mamba_state)),
            torch.unflatten(c_BTF, -1, (config.mamba_groups, config.mamba_state)),
            self.skip,
            documents.index_BT,
            config.ssd_chunk,
        )
        normed_BTI = reference.gated_group_norm(
            y_BTHP.flatten(-2), z_BTI, self.norm_weight, config.mamba_groups, config.norm_eps
        )
        out_BTD: Tensor = self.out_proj(normed_BTI)
        return out_BTD

    def initialise(self, generator: torch.Generator, std: float, residual_std: float) -> None:
        """Draw time steps log-uniformly from [1e-3, 0.1] and decay rates uniformly from [1, 16]."""
        nn.init.normal_(self.in_proj.weight, std=std, generator=generator)
        nn.init.normal_(self.out_proj.weight, std=residual_std, generator=generator)
        bound = self.config.conv_width**-0.5
        nn.init.uniform_(self.conv_weight, -bound, bound, generator=generator)
        nn.init.zeros_(self.conv_bias)
        nn.init.uniform_(self.dt_bias, math.log(DT_MIN), math.log(DT_MAX), generator=generator)
        nn.init.uniform_(self.a_log, 1.0, 16.0, generator=generator)
        with torch.no_grad():
            dt_H = self.dt_bias.exp()
            self.dt_bias.copy_(dt_H + torch.log(-torch.expm1(-dt_H)))  # the inverse of softplus
            self.a_log.log_()
        nn.init.ones_(self.skip)
        nn.init.ones_(self.norm_weight)

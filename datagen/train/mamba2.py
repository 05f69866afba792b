"""The Mamba-2 mixer: a gated state-space recurrence that starts anew at each document."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from datagen.train.config import ModelConfig
from datagen.train.documents import Documents
from datagen.train.kernels import operations
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
        normed_BTI = operations.mamba_mix(
            operations.linear(x_BTD, self.in_proj.weight, config.precision),
            self.conv_weight,
            self.conv_bias,
            self.dt_bias,
            self.a_log,
            self.skip,
            self.norm_weight,
            documents.index_BT,
            config.mamba_groups,
            config.mamba_state,
            config.norm_eps,
            config.ssd_chunk,
            config.dt_floor,
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

"""Grouped-query attention inside documents, without positional embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from datagen.train.config import ModelConfig
from datagen.train.documents import Documents
from datagen.train.kernels import operations
from datagen.train.layers import matrix


class Attention(nn.Module):
    """Attend causally inside each document; the Mamba layers tell the order of tokens.

    Cost a token: 4 Q P multiply-adds for each earlier token of its document.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.attention_head_dim
        query_width = config.query_heads * self.head_dim
        kv_width = config.kv_heads * self.head_dim
        self.q_proj = matrix(config, config.d_model, query_width)
        self.k_proj = matrix(config, config.d_model, kv_width)
        self.v_proj = matrix(config, config.d_model, kv_width)
        self.o_proj = matrix(config, query_width, config.d_model)

    def forward(self, x_BTD: Tensor, documents: Documents) -> Tensor:
        """Mix each document's tokens causally: (B, T, D) -> (B, T, D)."""
        q_BTQP, k_BTKP, v_BTKP = (
            torch.unflatten(part_BTO, -1, (-1, self.head_dim))
            for part_BTO in operations.joint_linear(
                x_BTD, self.q_proj.weight, self.k_proj.weight, self.v_proj.weight
            )
        )
        mixed_BTQP = operations.attention(q_BTQP, k_BTKP, v_BTKP, documents)
        out_BTD: Tensor = self.o_proj(mixed_BTQP.flatten(-2))
        return out_BTD

    def initialise(self, generator: torch.Generator, std: float, residual_std: float) -> None:
        """Draw the projections; the one that writes to the residual stream more narrowly."""
        for projection in (self.q_proj, self.k_proj, self.v_proj):
            nn.init.normal_(projection.weight, std=std, generator=generator)
        nn.init.normal_(self.o_proj.weight, std=residual_std, generator=generator)

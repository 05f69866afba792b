"""Multi-token prediction: one block, shared by all heads, each looking one token further."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from datagen.train.config import ModelConfig
from datagen.train.documents import Documents
from datagen.train.latent_moe import Routing
from datagen.train.layers import RMSNorm, matrix
from datagen.train.stack import Layer


class MultiTokenPrediction(nn.Module):
    """Join a hidden state with the embedding of a later token, then attention, experts, norm.

    Head k applies it to head k-1's output (head 0 is the backbone) and the token k ahead; its
    result predicts the token k+1 ahead through the model's own output head.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        config = config.at(len(config.pattern))
        self.embedding_norm = RMSNorm(config.d_model, config.norm_eps)
        self.hidden_norm = RMSNorm(config.d_model, config.norm_eps)
        self.join = matrix(config, 2 * config.d_model, config.d_model)
        self.attention = Layer(config, "*")
        self.experts = Layer(config, "E")
        self.final_norm = RMSNorm(config.d_model, config.norm_eps)

    def forward(
        self, hidden_BTD: Tensor, embedding_BTD: Tensor, documents: Documents
    ) -> tuple[Tensor, Routing]:
        """Advance the hidden states by one token: (B, T, D) twice -> (B, T, D)."""
        joined_BTD = torch.cat(
            [self.embedding_norm(embedding_BTD), self.hidden_norm(hidden_BTD)], dim=-1
        )
        x_BTD, delta_BTD, _, _ = self.attention(self.join(joined_BTD), None, documents)
        x_BTD, delta_BTD, _, routing = self.experts(x_BTD, delta_BTD, documents)
        return self.final_norm.add(x_BTD, delta_BTD)[1], routing

    def initialise(self, generator: torch.Generator, std: float, residual_std: float) -> None:
        """Draw the joining matrix; the layers draw their own."""
        nn.init.normal_(self.join.weight, std=std, generator=generator)

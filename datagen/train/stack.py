"""One residual layer of the stack, by its letter."""

from __future__ import annotations

from torch import Tensor, nn

from datagen.train.attention import Attention
from datagen.train.config import ModelConfig
from datagen.train.documents import Documents
from datagen.train.latent_moe import LatentMoE, Routing
from datagen.train.layers import RMSNorm
from datagen.train.mamba2 import Mamba2

MIXERS = {"M": Mamba2, "*": Attention, "E": LatentMoE}


class Layer(nn.Module):
    """x + mixer(norm(x)), the mixer chosen by the pattern's letter: M, E or *."""

    def __init__(self, config: ModelConfig, letter: str) -> None:
        super().__init__()
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.mixer = MIXERS[letter](config)

    def forward(self, x_BTD: Tensor, documents: Documents) -> tuple[Tensor, Routing | None]:
        """Add the mixer's output to the residual stream; the routing is None without experts."""
        if isinstance(self.mixer, LatentMoE):
            mixed_BTD, routing = self.mixer(self.norm(x_BTD), documents)
            return x_BTD + mixed_BTD, routing
        return x_BTD + self.mixer(self.norm(x_BTD), documents), None

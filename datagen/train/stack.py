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
    """x + mixer(norm(x)), the mixer chosen by the pattern's letter: M, E or *.

    The addition is left to the next layer, whose norm reads the sum anyway.
    """

    def __init__(self, config: ModelConfig, letter: str) -> None:
        super().__init__()
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.mixer = MIXERS[letter](config)

    def forward(
        self, x_BTD: Tensor, delta_BTD: Tensor | None, documents: Documents
    ) -> tuple[Tensor, Tensor, Tensor, Routing | None]:
        """Add what the layer before left to the stream, and form this layer's part.

        Returns the stream, the part still to be added, the stream's squares by token, and the
        routing, None without experts.
        """
        x_BTD, normed_BTD, energy_BT = self.norm.add(x_BTD, delta_BTD)
        if isinstance(self.mixer, LatentMoE):
            mixed_BTD, routing = self.mixer(normed_BTD, documents)
            return x_BTD, mixed_BTD, energy_BT, routing
        return x_BTD, self.mixer(normed_BTD, documents), energy_BT, None

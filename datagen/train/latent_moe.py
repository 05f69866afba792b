"""The mixture of experts in a latent space, and the balance of its load."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from datagen.train.config import ModelConfig
from datagen.train.documents import Documents
from datagen.train.kernels import operations
from datagen.train.layers import DTYPES, matrix, wide_parameter


class Routing(NamedTuple):
    """What a mixture layer did with a batch: tokens by expert, and the balance loss by row."""

    tokens_E: Tensor
    balance_B: Tensor


class LatentMoE(nn.Module):
    """Sparse squared-ReLU experts behind a down-projection, beside one shared expert at full width.

    The router works at full width in float32: sigmoid scores, choice of the top k by score plus
    `expert_bias_E`, weights from the scores alone, normalised over the chosen and scaled. The bias
    has no gradient: `update_bias` moves it against the load. Cost a token: 2 k experts' worth of
    latent x width, and the shared expert.
    """

    expert_bias_E: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.latent_width or config.d_model
        self.router = wide_parameter(config.experts, config.d_model)
        self.register_buffer("expert_bias_E", torch.zeros(config.experts, dtype=torch.float32))
        self.latent_down = matrix(config, config.d_model, width) if config.latent_width else None
        self.latent_up = matrix(config, width, config.d_model) if config.latent_width else None
        dtype = DTYPES[config.dtype]
        experts, expert_width = config.experts, config.expert_width
        self.up_EIF = nn.Parameter(torch.empty(experts, width, expert_width, dtype=dtype))
        self.down_EFI = nn.Parameter(torch.empty(experts, expert_width, width, dtype=dtype))
        self.shared_up = matrix(config, config.d_model, config.shared_width)
        self.shared_down = matrix(config, config.shared_width, config.d_model)

    def forward(self, x_BTD: Tensor, documents: Documents) -> tuple[Tensor, Routing]:
        """Send each token to its experts: (B, T, D) -> (B, T, D); padding reaches none of them."""
        config = self.config
        choice_BTK, gate_BTK, balance_B = operations.route(
            x_BTD,
            self.router,
            self.expert_bias_E,
            documents.is_token_BT,
            config.top_k,
            config.routed_scaling,
        )
        if config.precision == "nvfp4" or self.latent_down is None:
            shared_BTF = operations.linear(x_BTD, self.shared_up.weight, config.precision)
            latent_BTI = x_BTD if self.latent_down is None else self.latent_down(x_BTD)
        else:
            shared_BTF, latent_BTI = operations.joint_linear(
                x_BTD, self.shared_up.weight, self.latent_down.weight
            )
        mixed_NI, tokens_E = operations.experts(
            latent_BTI.flatten(0, 1),
            choice_BTK.flatten(0, 1),
            gate_BTK.flatten(0, 1),
            self.up_EIF,
            self.down_EFI,
            config.precision,
        )
        active_NF = operations.relu2(shared_BTF).flatten(0, 1)
        out_ND = operations.linear(active_NF, self.shared_down.weight, config.precision)
        if self.latent_up is None:
            out_ND = out_ND + mixed_NI
        else:
            out_ND.addmm_(mixed_NI, self.latent_up.weight.T)
        return out_ND.view_as(x_BTD), Routing(tokens_E, balance_B)

    @torch.no_grad()
    def update_bias(self, tokens_E: Tensor) -> None:
        """Raise the bias of experts that had less than the mean load, lower that of the others.

        One step of `bias_rate` by the sign of the error, no gradient: arXiv 2408.15664.
        """
        load_E = tokens_E.to(self.expert_bias_E.dtype)
        self.expert_bias_E += self.config.bias_rate * torch.sign(load_E.mean() - load_E)

    def initialise(self, generator: torch.Generator, std: float, residual_std: float) -> None:
        """Draw the matrices; those that write to the residual stream more narrowly."""
        wide_stds = [self.router, self.up_EIF, self.shared_up.weight]
        narrow_stds = [self.shared_down.weight]
        if self.latent_down is not None and self.latent_up is not None:
            wide_stds += [self.latent_down.weight, self.down_EFI]
            narrow_stds += [self.latent_up.weight]
        else:
            narrow_stds += [self.down_EFI]
        for parameter in wide_stds:
            nn.init.normal_(parameter, std=std, generator=generator)
        for parameter in narrow_stds:
            nn.init.normal_(parameter, std=residual_std, generator=generator)
        self.expert_bias_E.zero_()


def max_violation(tokens_LE: Tensor) -> Tensor:
    """Return each layer's largest load over its mean load (MaxVio), from 1 to E / k, shape (L,)."""
    load_LE = tokens_LE.float()
    return load_LE.amax(-1) / load_LE.mean(-1).clamp(min=1e-9)


def dead_experts(tokens_LE: Tensor) -> Tensor:
    """Count each layer's experts that had no token, shape (L,)."""
    return (tokens_LE == 0).sum(-1)

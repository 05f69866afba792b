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
        scores_BTE = torch.sigmoid(operations.router_logits(x_BTD, self.router))
        choice_BTK = (scores_BTE + self.expert_bias_E).detach().topk(self.config.top_k).indices
        chosen_BTK = scores_BTE.gather(-1, choice_BTK)
        gate_BTK = chosen_BTK / (chosen_BTK.sum(-1, keepdim=True) + 1e-20)
        gate_BTK = gate_BTK * self.config.routed_scaling

        latent_BTI = self.latent_down(x_BTD) if self.latent_down is not None else x_BTD
        mixed_NI, tokens_E = operations.experts(
            latent_BTI.flatten(0, 1),
            choice_BTK.flatten(0, 1).masked_fill(
                ~documents.is_token_BT.flatten()[:, None], self.config.experts
            ),
            gate_BTK.flatten(0, 1),
            self.up_EIF,
            self.down_EFI,
        )
        routed_BTD = mixed_NI.view_as(latent_BTI)
        if self.latent_up is not None:
            routed_BTD = self.latent_up(routed_BTD)
        shared_BTD = self.shared_down(operations.relu2(self.shared_up(x_BTD)))
        balance_B = balance_loss(scores_BTE, choice_BTK, documents.is_token_BT)
        return routed_BTD + shared_BTD, Routing(tokens_E, balance_B)

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


def max_violation(tokens_LE: Tensor) -> Tensor:
    """Return each layer's largest load over its mean load (MaxVio), from 1 to E / k, shape (L,)."""
    load_LE = tokens_LE.float()
    return load_LE.amax(-1) / load_LE.mean(-1).clamp(min=1e-9)

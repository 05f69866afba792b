"""One optimizer step on a list of microbatches, and what it measured, still on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from datagen.train.config import TrainConfig
from datagen.train.data import Batch
from datagen.train.latent_moe import dead_experts, max_violation
from datagen.train.model import HybridModel, objective, target_counts
from datagen.train.optimizer import MasterAdamW
from datagen.train.parallel import ALONE, Ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """One update's figures: means by loss, load and RMS by layer, gradient norms by group."""

    mean_J: Tensor
    balance: Tensor
    max_violation_L: Tensor
    dead_experts_L: Tensor
    residual_rms_L: Tensor
    gradient_norms_G: Tensor
    gradient_norm: Tensor

    def parts(self) -> list[Tensor]:
        """List the figures in the order of the fields, each flat."""
        return [
            part.float().flatten()
            for part in (
                self.mean_J,
                self.balance,
                self.max_violation_L,
                self.dead_experts_L,
                self.residual_rms_L,
                self.gradient_norms_G,
                self.gradient_norm,
            )
        ]


def update(
    model: HybridModel,
    optimizer: MasterAdamW,
    config: TrainConfig,
    microbatches: Sequence[Batch],
    lr: float,
    ranks: Ranks = ALONE,
) -> Measures:
    """Take one optimizer step on the mean loss of all the microbatches, then balance the experts.

    Equal to one batch of all their rows: counts are known before the first backward pass. With
    several processes each brings as many microbatches, and all take the same step.
    """
    heads = config.model.mtp_heads
    targets_J = torch.stack([target_counts(batch, heads) for batch in microbatches]).sum(0)
    ranks.add(targets_J)
    rows = ranks.count * sum(batch.inputs_BT.shape[0] for batch in microbatches)
    parts = []
    for batch in microbatches[:-1]:
        sums = model(batch, config.loss_chunk_tokens)
        torch.autograd.backward(objective(config.model, sums, targets_J, rows))
        parts.append(sums)
    sums = model(microbatches[-1], config.loss_chunk_tokens)
    with ranks.adding_gradients(model):
        torch.autograd.backward(objective(config.model, sums, targets_J, rows))
    parts.append(sums)
    norms = optimizer.step(lr)
    loss_J = torch.stack([part.loss_J.detach() for part in parts]).sum(0)
    balance = torch.stack([part.balance.detach() for part in parts]).sum()
    tokens_LE = torch.stack([part.tokens_LE for part in parts]).sum(0)
    tokens = torch.stack([part.tokens for part in parts]).sum()
    residual_L = torch.stack([part.residual_L for part in parts]).sum(0)
    ranks.add(loss_J, balance, tokens_LE, tokens, residual_L)
    for mixture, tokens_E in zip(model.mixtures(), tokens_LE, strict=True):
        mixture.update_bias(tokens_E)
    passes = config.model.pattern.count("E") + heads
    return Measures(
        mean_J=loss_J / targets_J.clamp(min=1),
        balance=balance / (passes * rows or 1),
        max_violation_L=max_violation(tokens_LE),
        dead_experts_L=dead_experts(tokens_LE),
        residual_rms_L=(residual_L / (tokens * config.model.d_model)).sqrt(),
        gradient_norms_G=norms.by_group_G,
        gradient_norm=norms.total,
    )

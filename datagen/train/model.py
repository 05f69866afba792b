"""The hybrid model: embedding, a stack of layers by pattern, output head, multi-token heads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from datagen.train.config import ModelConfig
from datagen.train.data import Batch
from datagen.train.documents import IGNORED, Documents, ahead, documents_of
from datagen.train.kernels import operations, reference
from datagen.train.latent_moe import LatentMoE, Routing
from datagen.train.layers import DTYPES, Initialises, RMSNorm, wide_parameter
from datagen.train.mtp import MultiTokenPrediction
from datagen.train.stack import Layer


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What one forward pass adds up, in sums, so that microbatches join exactly.

    `loss_J`: summed cross entropy of the next token and then of each multi-token head; `balance`:
    the balance losses of all rows and mixture layers. `tokens_LE`: tokens by expert, a row a
    mixture layer (the multi-token block last); `residual_L`: squared residual stream summed over
    tokens and channels after each layer; `tokens`: tokens that are not padding.
    """

    loss_J: Tensor
    balance: Tensor
    tokens_LE: Tensor
    residual_L: Tensor
    tokens: Tensor


class HybridModel(nn.Module):
    """A hybrid language model by `config.pattern`; `initialise_all` draws its parameters.

    Embeddings are untied. The head's parameter is float32, so that its gradient is too.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.d_model, dtype=DTYPES[config.dtype])
        self.layers = nn.ModuleList(
            Layer(config.at(place), letter) for place, letter in enumerate(config.pattern)
        )
        self.final_norm = RMSNorm(config.d_model, config.norm_eps)
        self.head_VD = wide_parameter(config.vocabulary, config.d_model)
        self.mtp = MultiTokenPrediction(config) if config.mtp_heads else None

    def initialise_all(self, seed: int) -> None:
        """Draw every parameter from one generator, so that a seed gives one model."""
        std = self.config.init_std
        residual_std = std / len(self.config.pattern) ** 0.5
        generator = torch.Generator(device=self.head_VD.device).manual_seed(seed)
        nn.init.normal_(self.embedding.weight, std=std, generator=generator)
        nn.init.normal_(self.head_VD, std=std, generator=generator)
        for module in self.modules():
            if isinstance(module, Initialises):
                module.initialise(generator, std, residual_std)

    def backbone(
        self, inputs_BT: Tensor, documents: Documents
    ) -> tuple[Tensor, list[Routing], list[Tensor]]:
        """Run the stack: normed hidden states (B, T, D), each mixture's routing, residual sums."""
        x_BTD, delta_BTD = self.embedding(inputs_BT), None
        routings, energies = [], []
        for layer in self.layers:
            x_BTD, delta_BTD, energy_BT, routing = layer(x_BTD, delta_BTD, documents)
            energies.append(energy_BT)
            if routing is not None:
                routings.append(routing)
        _, hidden_BTD, energy_BT = self.final_norm.add(x_BTD, delta_BTD)
        after = [*energies[1:], energy_BT]  # the first is the embedding's
        return hidden_BTD, routings, [(e_BT * documents.is_token_BT).sum() for e_BT in after]

    def forward(self, batch: Batch, loss_chunk_tokens: int) -> Sums:
        """Sum the losses of a batch; `objective` turns sums into what is minimised."""
        documents = documents_of(batch.document_index_BT, batch.boundaries_S)
        hidden_BTD, routings, residuals = self.backbone(batch.inputs_BT, documents)
        labels_BT, balance_B = batch.labels_BT, [routing.balance_B for routing in routings]
        losses = [self._loss(hidden_BTD, labels_BT, loss_chunk_tokens)]
        tokens_LE = [routing.tokens_E for routing in routings]
        if self.mtp is not None:
            block_tokens_E = batch.inputs_BT.new_zeros(self.config.experts)
            for head in range(1, self.config.mtp_heads + 1):
                labels_BT = ahead(batch.labels_BT, documents.index_BT, head, IGNORED)
                embedding_BTD = self._embedding_ahead(batch.inputs_BT, documents, head)
                hidden_BTD, routing = self.mtp(hidden_BTD, embedding_BTD, documents)
                losses.append(self._loss(hidden_BTD, labels_BT, loss_chunk_tokens))
                balance_B.append(routing.balance_B)
                block_tokens_E = block_tokens_E + routing.tokens_E
            tokens_LE.append(block_tokens_E)
        return Sums(
            loss_J=torch.stack(losses),
            balance=torch.stack(balance_B).sum() if balance_B else hidden_BTD.new_zeros(()),
            tokens_LE=torch.stack(tokens_LE) if tokens_LE else batch.inputs_BT.new_zeros(0, 1),
            residual_L=torch.stack(residuals),
            tokens=documents.is_token_BT.sum(),
        )

    def _embedding_ahead(self, inputs_BT: Tensor, documents: Documents, steps: int) -> Tensor:
        """Embed the token `steps` ahead; zero where that one is in another document or none."""
        later_BT = ahead(inputs_BT, documents.index_BT, steps, IGNORED)
        embedded_BTD: Tensor = self.embedding(later_BT.clamp(min=0))
        return embedded_BTD * (later_BT != IGNORED).unsqueeze(-1)

    def _loss(self, hidden_BTD: Tensor, labels_BT: Tensor, chunk_tokens: int) -> Tensor:
        return operations.cross_entropy_sum(
            hidden_BTD.flatten(0, 1), self.head_VD, labels_BT.flatten(), chunk_tokens
        )

    @torch.no_grad()
    def token_losses(self, batch: Batch, loss_chunk_tokens: int) -> Tensor:
        """Return the next-token cross entropy of every token, shape (B, T), 0 where no target."""
        documents = documents_of(batch.document_index_BT, batch.boundaries_S)
        hidden_BTD, _, _ = self.backbone(batch.inputs_BT, documents)
        losses_N = reference.token_losses(
            hidden_BTD.flatten(0, 1), self.head_VD, batch.labels_BT.flatten(), loss_chunk_tokens
        )
        return losses_N.view_as(batch.labels_BT)

    def mixtures(self) -> list[LatentMoE]:
        """List the mixture layers in the order of `Sums.tokens_LE`."""
        return [module for module in self.modules() if isinstance(module, LatentMoE)]


def objective(config: ModelConfig, sums: Sums, targets_J: Tensor, rows: int) -> Tensor:
    """Turn sums into the minimised loss, given the whole step's counts.

    Mean cross entropy, plus the multi-token heads' means sharing `mtp_loss_scale`, plus the
    balance losses averaged over rows. Over microbatches the parts add up to one batch's value.
    """
    mean_J = sums.loss_J / targets_J.clamp(min=1)
    loss = mean_J[0] + config.balance_loss * sums.balance / rows
    if config.mtp_heads:
        loss = loss + config.mtp_loss_scale / config.mtp_heads * mean_J[1:].sum()
    return loss


def target_counts(batch: Batch, mtp_heads: int) -> Tensor:
    """Count what each loss of a batch predicts, shape (1 + heads,), without running the model."""
    shifted = [batch.labels_BT] + [
        ahead(batch.labels_BT, batch.document_index_BT, head, IGNORED)
        for head in range(1, mtp_heads + 1)
    ]
    return torch.stack([(labels_BT != IGNORED).sum() for labels_BT in shifted])

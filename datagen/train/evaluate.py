"""What a model can do between steps: losses on held-out records, and a text of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from datagen.train.config import TrainConfig
from datagen.train.data import Batch
from datagen.train.documents import IGNORED, documents_of
from datagen.train.door import Validation
from datagen.train.model import HybridModel

SAMPLE_TOKENS = 64
SAMPLE_TEMPERATURE = 0.8
PROMPT_TOKENS = 16


def validation(
    model: HybridModel, held_out: Sequence[Batch], config: TrainConfig, step: int
) -> Validation | None:
    """Measure the mean next-token loss on held-out windows, each of one category; None without."""
    device = model.head_VD.device
    sums: dict[str, tuple[float, int]] = {}
    for batch in held_out:
        losses_BT = model.token_losses(batch.on(device), config.loss_chunk_tokens).double().cpu()
        counts_B = (batch.labels_BT != IGNORED).sum(1)
        for categories, total, count in zip(
            batch.categories, losses_BT.sum(1).tolist(), counts_B.tolist(), strict=True
        ):
            before, so_far = sums.get(categories[0], (0.0, 0))
            sums[categories[0]] = before + total, so_far + count
    if not sums:
        return None
    return Validation(
        step=step,
        loss=sum(total for total, _ in sums.values()) / sum(count for _, count in sums.values()),
        losses={name: total / count for name, (total, count) in sorted(sums.items())},
        targets={name: count for name, (_, count) in sorted(sums.items())},
    )


@torch.no_grad()
def sample(
    model: HybridModel, held_out: Sequence[Batch], tokenizer: Path, window_tokens: int, seed: int
) -> str:
    """Let the model go on from the first tokens of a held-out document, token by token.

    Its own words begin after " […] ". Cost: a pass over the text so far for each token.
    """
    from tokenizers import Tokenizer

    prompt_T = held_out[0].inputs_BT[0, :PROMPT_TOKENS] if held_out else torch.zeros(1).long()
    device = model.head_VD.device
    # Drawn on the host, so that a seed gives one draw whatever the device.
    generator = torch.Generator().manual_seed(seed)
    length = min(window_tokens, len(prompt_T) + SAMPLE_TOKENS)
    ids_BT = torch.zeros(1, length, dtype=torch.long, device=device)
    ids_BT[0, : len(prompt_T)] = prompt_T
    documents = documents_of(torch.zeros_like(ids_BT))
    for place in range(len(prompt_T), length):
        hidden_BTD = model.backbone(ids_BT, documents)[0]
        logits_V = hidden_BTD[0, place - 1].float() @ model.head_VD.T.float()
        shares_V = torch.softmax(logits_V / SAMPLE_TEMPERATURE, dim=-1).cpu()
        ids_BT[0, place] = torch.multinomial(shares_V, 1, generator=generator)
    decoder = Tokenizer.from_file(str(tokenizer))
    ids = ids_BT[0].tolist()
    return f"{decoder.decode(ids[: len(prompt_T)])} […] {decoder.decode(ids[len(prompt_T) :])}"

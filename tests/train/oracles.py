"""Slow truths: one token, one expert, one document at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from datagen.train.data import Batch, Window, collate


def window(ids: Sequence[int], lengths: Sequence[int], mask: Sequence[int] | None = None) -> Window:
    """Make a window of documents of the given lengths, all tokens targets unless masked."""
    starts = np.cumsum([0, *lengths[:-1]])
    return Window(
        np.array(ids),
        np.array(mask if mask is not None else [1] * len(ids)),
        starts,
        tuple(f"c{i}" for i in range(len(lengths))),
    )


def random_batch(
    lengths: Sequence[int],
    vocabulary: int,
    *,
    padding: int = 0,
    seed: int = 0,
    trained: float = 0.8,
) -> Batch:
    """Make a batch of one row holding documents of the given lengths, then padding."""
    rng = np.random.default_rng(seed)
    total = sum(lengths)
    mask = (rng.random(total) < trained).astype(int)
    row = window(rng.integers(0, vocabulary, total).tolist(), lengths, mask.tolist())
    return collate([row], total + padding)


def documents_apart(batch: Batch) -> list[Batch]:
    """Split a one-row batch into a batch for each document, labels as they are."""
    index_T = batch.document_index_BT[0]
    apart = []
    for document in range(int(index_T.max()) + 1):
        kept_T = index_T == document
        ids, labels, positions = (
            part[:, kept_T] for part in (batch.inputs_BT, batch.labels_BT, batch.positions_BT)
        )
        index = torch.zeros_like(ids)
        apart.append(Batch(ids, labels, index, positions, (batch.categories[0][:1],)))
    return apart


def recurrent_ssd(
    x_BTHP: Tensor,
    dt_BTH: Tensor,
    a_H: Tensor,
    b_BTGN: Tensor,
    c_BTGN: Tensor,
    d_H: Tensor,
    document_index_BT: Tensor,
) -> Tensor:
    """Step through the state-space recurrence, throwing the state away where a document begins."""
    batch, tokens, heads, width = x_BTHP.shape
    share = heads // b_BTGN.shape[2]
    outputs = []
    for row in range(batch):
        state_HPN = x_BTHP.new_zeros(heads, width, b_BTGN.shape[3])
        for t in range(tokens):
            if t > 0 and document_index_BT[row, t] != document_index_BT[row, t - 1]:
                state_HPN = torch.zeros_like(state_HPN)
            b_HN = b_BTGN[row, t].repeat_interleave(share, dim=0)
            c_HN = c_BTGN[row, t].repeat_interleave(share, dim=0)
            decay_H = torch.exp(dt_BTH[row, t] * a_H)
            inflow_HP = dt_BTH[row, t, :, None] * x_BTHP[row, t]
            state_HPN = decay_H[:, None, None] * state_HPN + inflow_HP[..., None] * b_HN[:, None]
            y_HP = (state_HPN * c_HN[:, None]).sum(-1) + d_H[:, None] * x_BTHP[row, t]
            outputs.append(y_HP)
    return torch.stack(outputs).view(batch, tokens, heads, width)

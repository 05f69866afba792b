"""Which tokens of a batch belong together: made once a batch, used by every layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

PADDING = -1
IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class Documents:
    """The documents of a batch: their index (padding -1), what is a token, and what follows.

    `begins_S`, where known, is `boundaries` of the index: finding it would wait for the device.
    """

    index_BT: Tensor
    is_token_BT: Tensor
    begins_S: Tensor | None

    @cached_property
    def attends(self) -> Tensor:
        """Let a token attend to its document's past and itself: shape (B, 1, T, T)."""
        same_BTT = self.index_BT.unsqueeze(-1) == self.index_BT.unsqueeze(-2)
        return same_BTT.tril().unsqueeze(1)

    @cached_property
    def boundaries(self) -> Tensor:
        """Where documents begin in the batch laid end to end, and its length."""
        return boundaries(self.index_BT) if self.begins_S is None else self.begins_S

    @cached_property
    def spans(self) -> tuple[Tensor, Tensor]:
        """Where each token's document begins and ends in the batch laid end to end: int32."""
        begins_S = self.boundaries
        places_N = torch.arange(self.index_BT.numel(), device=begins_S.device, dtype=torch.int32)
        document_N = torch.searchsorted(begins_S, places_N, right=True)
        return begins_S[document_N - 1], begins_S[document_N]


def documents_of(index_BT: Tensor, begins_S: Tensor | None = None) -> Documents:
    """Describe a batch by its document index."""
    return Documents(index_BT=index_BT, is_token_BT=index_BT != PADDING, begins_S=begins_S)


def boundaries(index_BT: Tensor) -> Tensor:
    """Find where documents begin in the batch laid end to end, and its length: int32.

    Padding counts as a document, and no document runs from row to row.
    """
    begins_BT = torch.ones_like(index_BT, dtype=torch.bool)
    begins_BT[:, 1:] = index_BT[:, 1:] != index_BT[:, :-1]
    starts_S = begins_BT.flatten().nonzero().flatten()
    return torch.cat([starts_S, starts_S.new_tensor([index_BT.numel()])]).int()


def ahead(values_BT: Tensor, index_BT: Tensor, steps: int, fill: int) -> Tensor:
    """Bring to each token the value `steps` later in its own document, `fill` where there is none.

    `fill` also stands at padding.
    """
    result_BT = torch.full_like(values_BT, fill)
    if steps < values_BT.shape[1]:
        same_BT = (index_BT[:, steps:] == index_BT[:, :-steps]) & (index_BT[:, steps:] != PADDING)
        result_BT[:, :-steps] = values_BT[:, steps:].masked_fill(~same_BT, fill)
    return result_BT

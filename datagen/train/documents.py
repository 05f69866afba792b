"""Which tokens of a batch belong together: made once a batch, used by every layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PADDING = -1
IGNORED = -100


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """The documents of a batch: their index (padding -1), what is a token, who attends to whom."""

    index_BT: Tensor
    is_token_BT: Tensor
    attends_B1TT: Tensor


def documents_of(index_BT: Tensor) -> Documents:
    """Derive the masks that layers need; a token attends to its document's past and itself."""
    same_BTT = index_BT.unsqueeze(-1) == index_BT.unsqueeze(-2)
    return Documents(
        index_BT=index_BT,
        is_token_BT=index_BT != PADDING,
        attends_B1TT=same_BTT.tril().unsqueeze(1),
    )


def ahead(values_BT: Tensor, index_BT: Tensor, steps: int, fill: int) -> Tensor:
    """Bring to each token the value `steps` later in its own document, `fill` where there is none.

    `fill` also stands at padding.
    """
    result_BT = torch.full_like(values_BT, fill)
    if steps < values_BT.shape[1]:
        same_BT = (index_BT[:, steps:] == index_BT[:, :-steps]) & (index_BT[:, steps:] != PADDING)
        result_BT[:, :-steps] = values_BT[:, steps:].masked_fill(~same_BT, fill)
    return result_BT

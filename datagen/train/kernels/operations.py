"""The model's operations by device: kernels on a GPU in bfloat16, the reference elsewhere.

Every function computes what the one of its name in `reference` does. Kernels need triton, which
comes with torch where there is a GPU, so they are imported where they are called.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from datagen.train.documents import Documents
from datagen.train.kernels import nvfp4, reference


def _fast(x: Tensor) -> bool:
    """Tell whether kernels are made for this tensor."""
    return x.is_cuda and x.dtype == torch.bfloat16


def relu2(x: Tensor) -> Tensor:
    """Square the positive part."""
    if not _fast(x):
        return reference.relu2(x)
    from datagen.train.kernels.moe import Relu2

    out: Tensor = Relu2.apply(x)  # type: ignore[no-untyped-call]
    return out


def linear(x: Tensor, weight_OK: Tensor, precision: str) -> Tensor:
    """Multiply the last axis by a matrix; `precision` is "plain" or "nvfp4"."""
    if precision == "plain":
        return F.linear(x, weight_OK)
    return nvfp4.linear(x, weight_OK)


def joint_linear(x_BTD: Tensor, *weights_OD: Tensor) -> tuple[Tensor, ...]:
    """Multiply the same tokens by several matrices."""
    if not _fast(x_BTD):
        return reference.joint_linear(x_BTD, *weights_OD)
    from datagen.train.kernels.linear import JointLinear

    out: tuple[Tensor, ...] = JointLinear.apply(x_BTD, *weights_OD)  # type: ignore[no-untyped-call]
    return out


def add_norm(
    x_BTD: Tensor, delta_BTD: Tensor | None, weight_D: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Add to the residual stream: the sum, its norm, its squares by token."""
    if not _fast(x_BTD):
        return reference.add_norm(x_BTD, delta_BTD, weight_D, eps)
    from datagen.train.kernels.norms import AddNorm

    out: tuple[Tensor, Tensor, Tensor] = AddNorm.apply(  # type: ignore[no-untyped-call]
        x_BTD, delta_BTD, weight_D, eps
    )
    return out


def mamba_mix(
    projected_BTF: Tensor,
    conv_weight_CW: Tensor,
    conv_bias_C: Tensor,
    dt_bias_H: Tensor,
    a_log_H: Tensor,
    skip_H: Tensor,
    norm_weight_I: Tensor,
    document_index_BT: Tensor,
    groups: int,
    state: int,
    eps: float,
    chunk: int,
    dt_floor: float = 0.0,
) -> Tensor:
    """Mix z, x, B, C, dt between the two projections of a Mamba-2 layer.

    The kernels choose their own chunk; they take convolutions of width 4 and powers of two of at
    least 16 as head width, state and group width.
    """
    parameters = (conv_weight_CW, conv_bias_C, dt_bias_H, a_log_H, skip_H, norm_weight_I)
    inner, heads = len(norm_weight_I), len(skip_H)
    sizes = (inner // heads, inner // groups, state)
    fits = conv_weight_CW.shape[1] == 4 and all(
        size >= 16 and size.bit_count() == 1 for size in sizes
    )
    if not (_fast(projected_BTF) and fits):
        return reference.mamba_mix(
            projected_BTF, *parameters, document_index_BT, groups, state, eps, chunk, dt_floor
        )
    from datagen.train.kernels.mamba import MambaMix

    out: Tensor = MambaMix.apply(  # type: ignore[no-untyped-call]
        projected_BTF, *parameters, document_index_BT, groups, state, eps, dt_floor
    )
    return out


def attention(q_BTQP: Tensor, k_BTKP: Tensor, v_BTKP: Tensor, documents: Documents) -> Tensor:
    """Attend causally inside documents; the kernels take powers of two of at least 16 as width."""
    width = q_BTQP.shape[-1]
    if not (_fast(q_BTQP) and width >= 16 and width.bit_count() == 1):
        return reference.attention(q_BTQP, k_BTKP, v_BTKP, documents.attends)
    from datagen.train.kernels.attention import DocumentAttention

    rows, tokens = q_BTQP.shape[:2]
    mixed_NQP: Tensor = DocumentAttention.apply(  # type: ignore[no-untyped-call]
        *(part.flatten(0, 1) for part in (q_BTQP, k_BTKP, v_BTKP)), *documents.spans
    )
    return torch.unflatten(mixed_NQP, 0, (rows, tokens))


def route(
    x_BTD: Tensor,
    router_ED: Tensor,
    bias_E: Tensor,
    is_token_BT: Tensor,
    top_k: int,
    scaling: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose experts: the choice (E at padding), the gates, the balance loss by row."""
    if not _fast(x_BTD):
        return reference.route(x_BTD, router_ED, bias_E, is_token_BT, top_k, scaling)
    from datagen.train.kernels.routing import Route

    out: tuple[Tensor, Tensor, Tensor] = Route.apply(  # type: ignore[no-untyped-call]
        x_BTD, router_ED, bias_E, is_token_BT, top_k, scaling
    )
    return out


def experts(
    x_NI: Tensor,
    choice_NK: Tensor,
    gate_NK: Tensor,
    up_EIF: Tensor,
    down_EFI: Tensor,
    precision: str = "plain",
) -> tuple[Tensor, Tensor]:
    """Run tokens through their experts and add up, by gates; return tokens by expert too."""
    if precision == "nvfp4":
        return nvfp4.experts(x_NI, choice_NK, gate_NK, up_EIF, down_EFI)
    if not _fast(x_NI):
        return reference.experts(x_NI, choice_NK, gate_NK, up_EIF, down_EFI)
    from datagen.train.kernels.moe import Experts

    out: tuple[Tensor, Tensor] = Experts.apply(  # type: ignore[no-untyped-call]
        x_NI, choice_NK, gate_NK, up_EIF, down_EFI
    )
    return out


def cross_entropy_sum(
    hidden_ND: Tensor, head_VD: Tensor, labels_N: Tensor, chunk_tokens: int
) -> Tensor:
    """Sum the cross entropy over tokens whose label is not negative."""
    if not _fast(hidden_ND):
        return reference.cross_entropy_sum(hidden_ND, head_VD, labels_N, chunk_tokens)
    from datagen.train.kernels.cross_entropy import ChunkedCrossEntropy

    total: Tensor = ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_ND, head_VD, labels_N, chunk_tokens
    )
    return total

"""Training in NVFP4, emulated: operands are rounded to four bits, products stay ordinary ones.

A value is E2M1 (0, 0.5, 1, 1.5, 2, 3, 4, 6) times an E4M3 scale by block of 16 times one float32
scale by tensor. Value times block scale has at most 6 significant bits, so that bfloat16 holds it
exactly; the tensor's scale multiplies the product. Forward operands and weights round to nearest,
weights in blocks of 16 x 16, which read the same along either axis. Gradients round by chance.
Both operands of a weight's gradient are first turned by a Hadamard matrix of random signs, 16
tokens at a time, which spreads outliers and cancels in the product. Recipe: arXiv 2509.25149.

The chance is a hash of a value's place and of the tensor's largest value: equal inputs give equal
bits, and no state needs to be kept.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from datagen.train.kernels import reference

BLOCK = 16
E2M1_MAX, E4M3_MAX = 6.0, 448.0
SIGNS = (1, -1, -1, 1, -1, 1, 1, 1, -1, -1, 1, -1, 1, -1, 1, 1)


class Quantised(NamedTuple):
    """A tensor in NVFP4: `values` (E2M1 x E4M3, exact in bfloat16) times `scale` (float32, ())."""

    values: Tensor
    scale: Tensor


def hadamard(device: torch.device) -> Tensor:
    """Return the orthogonal 16 x 16 matrix that turns blocks of tokens; entries are +-1/4."""
    turn: Tensor = torch.tensor(SIGNS, device=device).diag() * BLOCK**-0.5
    for span in (1, 2, 4, 8):
        pairs = turn.view(-1, 2, span, BLOCK)
        turn = torch.stack([pairs.sum(1), pairs[:, 0] - pairs[:, 1]], 1).view(BLOCK, BLOCK)
    return turn


def to_e2m1(x: Tensor, noise: Tensor | None = None) -> Tensor:
    """Round float32 to E2M1: to nearest, ties to even, or up where `noise` in [0, 1) carries."""
    size = x.abs().clamp(max=E2M1_MAX)
    step = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0))
    steps = torch.round(size / step) if noise is None else torch.floor(size / step + noise)
    return torch.copysign(steps * step, x)


def to_e4m3(x: Tensor) -> Tensor:
    """Round float32 of at least 0 to E4M3, ties to even; what is too large becomes 448."""
    _, exponent = torch.frexp(x)  # x = m 2^e with m in [0.5, 1)
    step = torch.ldexp(torch.ones_like(x), (exponent - 1).clamp(min=-6) - 3)
    return (torch.round(x / step) * step).clamp(max=E4M3_MAX)


def dither(amax: Tensor, rows: int, columns: int) -> Tensor:
    """Return numbers in [0, 1), one a place, from a hash of the place and the bits of `amax`."""
    places = torch.arange(rows * columns, device=amax.device).view(rows, columns)
    h = (places * 0x9E3779B1 + amax.view(torch.int32)) & 0xFFFFFFFF
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        h = ((h ^ (h >> shift)) * factor) & 0xFFFFFFFF
    return ((h ^ (h >> 16)) >> 8).float() * 2.0**-24


def quantise(
    x_MK: Tensor, axis: int | None, *, turned: bool = False, stochastic: bool = False
) -> Quantised:
    """Round a matrix in blocks of 16 along `axis`, or of 16 x 16 where it is None.

    `turned` multiplies each 16 rows by `hadamard` first; the result then has a multiple of 16 rows.
    """
    x = reference.wide(x_MK).float()
    rows, columns = x.shape
    x = F.pad(x, (0, -columns % BLOCK, 0, -rows % BLOCK))
    blocks = x.view(x.shape[0] // BLOCK, BLOCK, x.shape[1] // BLOCK, BLOCK)
    if turned:
        blocks = torch.einsum("ij,rjck->rick", hadamard(x.device), blocks)
        rows = x.shape[0]
    amax = blocks.abs().amax()
    scale = amax / (E2M1_MAX * E4M3_MAX)
    peak = blocks.abs().amax([1, 3] if axis is None else [[1], [3]][axis], keepdim=True)
    code = torch.where(peak > 0, to_e4m3(peak / (E2M1_MAX * scale)), 0.0)
    inverse = torch.where(code > 0, 1.0 / (code * scale), 0.0)
    noise = None
    if stochastic:
        noise = F.pad(dither(amax, rows, columns), (0, -columns % BLOCK, 0, -rows % BLOCK))
        noise = noise.view_as(blocks)
    values = (to_e2m1(blocks * inverse, noise) * code).reshape(x.shape)
    return Quantised(values[:rows, :columns].to(x_MK.dtype), scale)


def _quantise(
    x_MK: Tensor, axis: int | None, *, turned: bool = False, stochastic: bool = False
) -> Quantised:
    """Do what `quantise` says, by its kernel where there is one."""
    if not (x_MK.is_cuda and x_MK.dtype == torch.bfloat16):
        return quantise(x_MK, axis, turned=turned, stochastic=stochastic)
    from datagen.train.kernels.nvfp4_quantiser import quantise_fast

    return quantise_fast(x_MK, axis, turned=turned, stochastic=stochastic)


def _times(x: Tensor, left: Quantised, right: Quantised) -> Tensor:
    """Scale a product by its operands' scales, in place."""
    return x.mul_(left.scale * right.scale)


class Linear(torch.autograd.Function):
    """x (M, K) times the transpose of weight (O, K), all three products in NVFP4."""

    @staticmethod
    def forward(ctx: Any, x_MK: Tensor, weight_OK: Tensor) -> Tensor:
        x, weight = _quantise(x_MK, 1), _quantise(weight_OK, None)
        ctx.save_for_backward(x_MK, *weight)
        return _times(x.values @ weight.values.T, x, weight)

    @staticmethod
    def backward(ctx: Any, dout_MO: Tensor) -> tuple[Tensor, Tensor]:
        x_MK, *kept = ctx.saved_tensors
        weight, dout_MO = Quantised(*kept), dout_MO.contiguous()
        dout = _quantise(dout_MO, 1, stochastic=True)
        dx_MK = _times(dout.values @ weight.values, dout, weight)
        x = _quantise(x_MK, 0, turned=True)
        dout = _quantise(dout_MO, 0, turned=True, stochastic=True)
        return dx_MK, _times(dout.values.T @ x.values, dout, x)


class GroupedLinear(torch.autograd.Function):
    """Runs of rows (P, I), which end at `ends_E`, each times its own matrix of (E, I, O).

    Runs begin at multiples of 16, and the last ends with the rows.
    """

    @staticmethod
    def forward(ctx: Any, x_PI: Tensor, weight_EIO: Tensor, ends_E: Tensor) -> Tensor:
        x, weight = _quantise(x_PI, 1), _quantise(weight_EIO.flatten(0, 1), None)
        weight = Quantised(weight.values.view_as(weight_EIO), weight.scale)
        ctx.save_for_backward(x_PI, *weight, ends_E)
        return _times(_grouped(x.values, weight.values, ends_E), x, weight)

    @staticmethod
    def backward(ctx: Any, dout_PO: Tensor) -> tuple[Tensor, Tensor, None]:
        x_PI, *kept, ends_E = ctx.saved_tensors
        weight, dout_PO = Quantised(*kept), dout_PO.contiguous()
        dout = _quantise(dout_PO, 1, stochastic=True)
        dx_PI = _grouped(dout.values, weight.values.transpose(1, 2), ends_E)
        x = _quantise(x_PI, 0, turned=True)
        turned = _quantise(dout_PO, 0, turned=True, stochastic=True)
        dweight_EIO = _grouped_outer(x.values, turned.values, ends_E)
        return _times(dx_PI, dout, weight), _times(dweight_EIO, x, turned), None


def _grouped(x_PI: Tensor, weight_EIO: Tensor, ends_E: Tensor) -> Tensor:
    if x_PI.is_cuda:
        return F.grouped_mm(x_PI, weight_EIO, offs=ends_E)
    return reference.grouped_linear(x_PI, weight_EIO, ends_E.diff(prepend=ends_E.new_zeros(1)))


def _grouped_outer(x_PI: Tensor, dout_PO: Tensor, ends_E: Tensor) -> Tensor:
    if x_PI.is_cuda:
        return F.grouped_mm(x_PI.T, dout_PO, offs=ends_E)
    bounds = [0, *ends_E.tolist()]
    runs = [slice(low, high) for low, high in pairwise(bounds)]
    return torch.stack([x_PI[run].T @ dout_PO[run] for run in runs])


class Spread(torch.autograd.Function):
    """Copy tokens (N, I) to rows: `token_P` names each row's, N for none; `row_NK` is the inverse.

    The gradient adds each token's rows in the order of its slots. A row of P is none.
    """

    @staticmethod
    def forward(ctx: Any, x_NI: Tensor, token_P: Tensor, row_NK: Tensor) -> Tensor:
        ctx.save_for_backward(token_P, row_NK)
        return _with_none(x_NI)[token_P]

    @staticmethod
    def backward(ctx: Any, drows_PI: Tensor) -> tuple[Tensor, None, None]:
        _, row_NK = ctx.saved_tensors
        return _slots_added(drows_PI, row_NK), None, None


class Join(torch.autograd.Function):
    """Add up each token's rows; what `Spread` is to this, this is to `Spread`."""

    @staticmethod
    def forward(ctx: Any, rows_PI: Tensor, token_P: Tensor, row_NK: Tensor) -> Tensor:
        ctx.save_for_backward(token_P, row_NK)
        return _slots_added(rows_PI, row_NK)

    @staticmethod
    def backward(ctx: Any, dout_NI: Tensor) -> tuple[Tensor, None, None]:
        token_P, _ = ctx.saved_tensors
        return _with_none(dout_NI)[token_P], None, None


def _with_none(x_NI: Tensor) -> Tensor:
    return torch.cat([x_NI, x_NI.new_zeros(1, x_NI.shape[1])])


def _slots_added(rows_PI: Tensor, row_NK: Tensor) -> Tensor:
    rows_NKI = _with_none(rows_PI)[row_NK]
    return reference.wide(rows_NKI).sum(1).to(rows_PI.dtype)


def linear(x: Tensor, weight_OK: Tensor) -> Tensor:
    """Multiply the last axis by a matrix, in NVFP4."""
    out_MO: Tensor = Linear.apply(x.flatten(0, -2), weight_OK)  # type: ignore[no-untyped-call]
    return torch.unflatten(out_MO, 0, x.shape[:-1])


def experts(
    x_NI: Tensor, choice_NK: Tensor, gate_NK: Tensor, up_EIF: Tensor, down_EFI: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute `reference.experts` with both products in NVFP4, without a word from the host.

    Each expert's run is filled up with zeros to a multiple of 16, so that no block has two experts.
    """
    (tokens, top_k), experts = choice_NK.shape, len(up_EIF)
    slot_expert_M = choice_NK.flatten().long()
    order_M = slot_expert_M.argsort(stable=True)
    numbers_E = torch.arange(experts, device=x_NI.device)
    ends_E = torch.searchsorted(slot_expert_M[order_M], numbers_E, right=True)
    tokens_E = ends_E.diff(prepend=ends_E.new_zeros(1))
    filled_E = (tokens_E + BLOCK - 1) // BLOCK * BLOCK
    shift_E = F.pad(filled_E.cumsum(0) - filled_E - ends_E + tokens_E, (0, 1))

    rows = -(-tokens * top_k // BLOCK) * BLOCK + experts * BLOCK
    sorted_M = slot_expert_M[order_M]
    row_M = torch.arange(len(order_M), device=x_NI.device) + shift_E[sorted_M]
    row_M = row_M.where(sorted_M < experts, rows)
    slot_P = torch.full((rows + 1,), tokens * top_k, device=x_NI.device)
    slot_P[row_M] = order_M
    slot_P = slot_P[:rows]
    row_NK = torch.empty_like(row_M).scatter_(0, order_M, row_M).view_as(choice_NK)
    token_P = slot_P // top_k  # of no slot: N
    runs_E = filled_E.cumsum(0).index_fill(0, numbers_E[-1:], rows).int()

    rows_PI: Tensor = Spread.apply(x_NI, token_P, row_NK)  # type: ignore[no-untyped-call]
    gate_P = F.pad(gate_NK.flatten(), (0, 1))[slot_P]
    hidden_PF = GroupedLinear.apply(rows_PI, up_EIF, runs_E)  # type: ignore[no-untyped-call]
    active_PF = (gate_P[:, None] * reference.relu2(reference.wide(hidden_PF))).to(x_NI.dtype)
    out_PI = GroupedLinear.apply(active_PF, down_EFI, runs_E)  # type: ignore[no-untyped-call]
    out_NI: Tensor = Join.apply(out_PI, token_P, row_NK)  # type: ignore[no-untyped-call]
    return out_NI, tokens_E

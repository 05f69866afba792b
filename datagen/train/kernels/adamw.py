"""AdamW on a GPU: gradient, master, moments and the model's copy in one pass over memory."""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,no-untyped-call"

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

BLOCK, WARPS = 512, 4


@triton.jit
def _adamw(
    master_ptr, weight_ptr, grad_ptr, mean_ptr, square_ptr, clip_ptr, size,
    decay, step_size, root_correction, beta1, beta2, eps,
    COPY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    where = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    ok = where < size
    grad = tl.load(grad_ptr + where, mask=ok, other=0.0).to(tl.float32) * tl.load(clip_ptr)
    mean = tl.load(mean_ptr + where, mask=ok, other=0.0).to(tl.float32)
    square = tl.load(square_ptr + where, mask=ok, other=0.0).to(tl.float32)
    master = tl.load(master_ptr + where, mask=ok, other=0.0)
    mean += (grad - mean) * (1.0 - beta1)
    square = square * beta2 + grad * grad * (1.0 - beta2)
    master = master * decay - step_size * mean / (tl.sqrt(square) * root_correction + eps)
    tl.store(mean_ptr + where, mean.to(mean_ptr.dtype.element_ty), mask=ok)
    tl.store(square_ptr + where, square.to(square_ptr.dtype.element_ty), mask=ok)
    tl.store(master_ptr + where, master, mask=ok)
    if COPY:
        tl.store(weight_ptr + where, master.to(weight_ptr.dtype.element_ty), mask=ok)


def adamw(
    master: Tensor,
    weight: Tensor,
    grad: Tensor,
    moments: tuple[Tensor, Tensor],
    clip: Tensor,
    *,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """Update `master` (float32) and its moments by update number `step`, from 1, in place.

    Moments are rounded to their own dtype when stored. `clip` scales the gradient, on the device;
    `weight`, where it is another tensor, becomes the master rounded to its dtype.
    """
    correction1, correction2 = 1 - betas[0] ** step, 1 - betas[1] ** step
    _adamw[(triton.cdiv(master.numel(), BLOCK),)](
        master, weight, grad.contiguous(), *moments, clip, master.numel(),
        1 - lr * weight_decay, lr / correction1, correction2**-0.5, *betas, eps,
        COPY=weight is not master, BLOCK=BLOCK, num_warps=WARPS,
    )  # fmt: skip

"""Matrices that read the same tokens: their gradients are summed inside the products."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class JointLinear(torch.autograd.Function):
    """Compute `reference.joint_linear`."""

    @staticmethod
    def forward(ctx: Any, x_BTD: Tensor, *weights_OD: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x_BTD, *weights_OD)
        return tuple(x_BTD @ weight_OD.T for weight_OD in weights_OD)

    @staticmethod
    def backward(ctx: Any, *grads_BTO: Tensor) -> tuple[Tensor, ...]:
        x_BTD, *weights_OD = ctx.saved_tensors
        x_ND = x_BTD.flatten(0, 1)
        grads_NO = [grad_BTO.flatten(0, 1) for grad_BTO in grads_BTO]
        dx_ND = grads_NO[0] @ weights_OD[0]
        for grad_NO, weight_OD in zip(grads_NO[1:], weights_OD[1:], strict=True):
            dx_ND.addmm_(grad_NO, weight_OD)
        return dx_ND.view_as(x_BTD), *(grad_NO.T @ x_ND for grad_NO in grads_NO)

"""AdamW on float32 master weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from datagen.train.config import TrainConfig
from datagen.train.layers import DTYPES

MOMENTS = ("exp_avg", "exp_avg_sq")


class GradientNorms(NamedTuple):
    """L2 norms of one step's gradients before clipping: of all, and of each group of parameters."""

    total: Tensor
    by_group_G: Tensor


def group_of(name: str) -> str:
    """Name the part of the model that a parameter belongs to.

    "embedding", "layers.3", "final_norm", "head" or "mtp".
    """
    first, _, rest = name.partition(".")
    if first == "layers":
        return f"layers.{rest.partition('.')[0]}"
    return "head" if first == "head_VD" else first


class MasterAdamW:
    """AdamW whose arithmetic is float32 whatever the model's dtype.

    Its moments are kept in `config.moments`, rounded after each step. A parameter that is float32
    already is its own master. Matrices decay; vectors (norms, biases, decay rates) do not.
    """

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        self.parameters = dict(model.named_parameters())
        self.masters = {
            name: parameter
            if parameter.dtype == torch.float32
            else nn.Parameter(parameter.detach().float())
            for name, parameter in self.parameters.items()
        }
        self.names = {master: name for name, master in self.masters.items()}
        self.groups = tuple(dict.fromkeys(map(group_of, self.parameters)))
        self._member_GP: dict[tuple[str, ...], Tensor] = {}
        self.clip_norm, self.moments = config.clip_norm, DTYPES[config.moments]
        self.fused = next(iter(self.masters.values())).is_cuda
        decayed = [master for master in self.masters.values() if master.ndim >= 2]
        spared = [master for master in self.masters.values() if master.ndim < 2]
        self.adamw = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": config.weight_decay},
                {"params": spared, "weight_decay": 0.0},
            ],
            lr=config.peak_lr,
            betas=(config.beta1, config.beta2),
            eps=1e-8,
        )

    @torch.no_grad()
    def step(self, lr: float) -> GradientNorms:
        """Clip, update and clear the gradients; return their norms before clipping."""
        if self.fused:
            return self._step_fused(lr)
        for name, master in self._copies():
            gradient = self.parameters[name].grad
            master.grad = None if gradient is None else gradient.float()
        gradients = {n: m.grad for n, m in self.masters.items() if m.grad is not None}
        norms = self._norms(gradients)
        torch._foreach_mul_(list(gradients.values()), self._clip(norms))
        for group in self.adamw.param_groups:
            group["lr"] = lr
        self.adamw.step()
        for state in self.adamw.state.values() if self.moments != torch.float32 else ():
            for moment in MOMENTS:
                state[moment].copy_(state[moment].to(self.moments))
        for name, master in self._copies():
            self.parameters[name].copy_(master)
            self.parameters[name].grad = None
        self.adamw.zero_grad(set_to_none=True)
        return norms

    def _norms(self, gradients: Mapping[str, Tensor]) -> GradientNorms:
        """Measure gradients by name, without a word to the host."""
        norms = torch._foreach_norm(list(gradients.values()), 2, dtype=torch.float32)
        norms_P = torch.stack(norms)
        names = tuple(gradients)
        if names not in self._member_GP:
            rows = [[float(group_of(name) == group) for name in names] for group in self.groups]
            self._member_GP[names] = torch.tensor(rows, device=norms_P.device)
        # A product adds in a fixed order; adding by index would not.
        squares_G = self._member_GP[names] @ norms_P.square()
        return GradientNorms(torch.linalg.vector_norm(norms_P), squares_G.sqrt())

    def _clip(self, norms: GradientNorms) -> Tensor:
        """Return the factor that brings the gradients' norm down to the limit, at most 1."""
        return (self.clip_norm / (norms.total + 1e-6)).clamp(max=1.0)

    def _step_fused(self, lr: float) -> GradientNorms:
        """Do what `step` says on a GPU, in one pass over each parameter, without waiting for it."""
        from datagen.train.kernels.adamw import adamw

        gradients = {
            name: parameter.grad
            for name, parameter in self.parameters.items()
            if parameter.grad is not None
        }
        norms = self._norms(gradients)
        clip = self._clip(norms)
        for group in self.adamw.param_groups:
            for master in group["params"]:
                name = self.names[master]
                if name not in gradients:
                    continue
                state = self.adamw.state[master] or self._fresh(master)
                state["step"] += 1
                adamw(
                    master,
                    self.parameters[name],
                    gradients[name],
                    (state[MOMENTS[0]], state[MOMENTS[1]]),
                    clip,
                    step=int(state["step"]),
                    lr=lr,
                    betas=group["betas"],
                    eps=group["eps"],
                    weight_decay=group["weight_decay"],
                )
                self.parameters[name].grad = None
        return norms

    def _fresh(self, master: Tensor) -> dict[str, Tensor]:
        """Begin a parameter's moments at zero, where torch's AdamW would keep them."""
        self.adamw.state[master] = {
            "step": torch.tensor(0.0),
            **{moment: torch.zeros_like(master, dtype=self.moments) for moment in MOMENTS},
        }
        state: dict[str, Tensor] = self.adamw.state[master]
        return state

    def _copies(self) -> list[tuple[str, Tensor]]:
        """List the masters that are not the model's own parameters."""
        return [
            (name, master)
            for name, master in self.masters.items()
            if master is not self.parameters[name]
        ]

    def state(self) -> dict[str, Tensor]:
        """Return every tensor a resumed run needs beside the model's own, by flat name."""
        tensors = {f"master.{name}": master.detach() for name, master in self._copies()}
        for name, master in self.masters.items():
            for moment in MOMENTS:
                if master in self.adamw.state:
                    tensors[f"{moment}.{name}"] = self.adamw.state[master][moment].to(self.moments)
        return tensors

    @torch.no_grad()
    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Set the masters from float32 weights that the model took already, rounded."""
        for name, master in self._copies():
            master.copy_(weights[name])

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Take back what `state` gave, after `step` updates."""
        kept = self.moments if self.fused else torch.float32
        for name, master in self._copies():
            master.copy_(tensors[f"master.{name}"])
        for name, master in self.masters.items():
            if f"{MOMENTS[0]}.{name}" in tensors:
                self.adamw.state[master] = {
                    "step": torch.tensor(float(step)),
                    **{m: tensors[f"{m}.{name}"].to(master.device, kept) for m in MOMENTS},
                }

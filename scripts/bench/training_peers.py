"""Peers for `training.py --peers`: transformers' NemotronH with the kernels its users install.

It takes our weights through `datagen.train.hf`, trains on the same packed batches, and its first
loss must be ours. Its parts come from a folder of unpacked packages: `mamba_ssm` (its Triton
operations alone), `causal_conv1d` with its CUDA extension built on the spot where it is not there
yet, `einops`, `liger_kernel`. transformers itself is the machine's.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import time
import types
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datagen.train.config import TrainConfig
from datagen.train.data import Batch
from datagen.train.hf import hf_config, to_hf
from datagen.train.model import HybridModel

PEERS = {
    "transformers + mamba_ssm + causal_conv1d + Liger": {"compiled": False},
    "the same, experts and norms compiled": {"compiled": True},
}


def prepare(packages: Path, kept: Path | None) -> dict[str, str]:
    """Make the peers' packages importable; return what each is. `kept` receives the extension."""
    packages = packages.resolve()
    sys.path.insert(0, str(packages))
    # The package's own __init__ wants CUDA extensions of Mamba-1, which no hybrid model uses.
    stub = types.ModuleType("mamba_ssm")
    stub.__path__ = [str(packages / "mamba_ssm")]  # type: ignore[attr-defined]
    sys.modules["mamba_ssm"] = stub
    _convolution(packages, kept)
    import transformers

    return {
        "transformers": transformers.__version__,
        "mamba_ssm": (packages / "mamba_ssm" / "__init__.py").read_text().split('"')[1],
        "causal_conv1d": importlib.import_module("causal_conv1d").__version__,
        "liger_kernel": "as carried",
    }


def _convolution(packages: Path, kept: Path | None) -> None:
    """Build causal_conv1d's extension for this chip alone, unless it was carried along."""
    if not list(packages.glob("causal_conv1d_cuda*.so")):
        from torch.utils.cpp_extension import load

        started = time.perf_counter()
        sources = packages / "csrc"
        os.environ["TORCH_CUDA_ARCH_LIST"] = "9.0"
        build = packages / "build"
        build.mkdir(exist_ok=True)
        names = ("causal_conv1d.cpp", *(f"causal_conv1d_{n}.cu" for n in ("fwd", "bwd", "update")))
        load(
            "causal_conv1d_cuda",
            [str(sources / name) for name in names],
            extra_include_paths=[str(sources)],
            extra_cflags=["-O3"],
            extra_cuda_cflags=["-O3", "--use_fast_math", "-U__CUDA_NO_BFLOAT16_CONVERSIONS__"],
            build_directory=str(build),
        )
        print(f"causal_conv1d built in {time.perf_counter() - started:.0f} s", flush=True)
        shutil.copy(build / "causal_conv1d_cuda.so", packages)
        if kept is not None:
            shutil.copy(build / "causal_conv1d_cuda.so", kept)
    importlib.import_module("causal_conv1d_cuda")


def our_gradients(
    model: HybridModel, config: TrainConfig, batch: Batch
) -> tuple[float, dict[str, Tensor]]:
    """Return our mean loss of a batch, and its gradients by the peers' names, experts left out."""
    sums = model(batch, config.loss_chunk_tokens)
    loss = sums.loss_J[0] / (batch.labels_BT >= 0).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    found = {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and not name.endswith(("_EIF", "_EFI"))
    }
    return float(loss.detach()), {name: part.cpu() for name, part in stacked(to_hf(found)).items()}


def compare(peer: Peer, loss: float, ours: dict[str, Tensor]) -> None:
    """Print how far a peer's loss and gradients are from ours on its first batch.

    Gradients tell what a loss at the start cannot: whether documents are kept apart.
    """
    theirs = float(peer.loss())
    grads = {name: part.grad for name, part in peer.model.named_parameters()}
    errors: dict[str, list[float]] = {}
    for name, mine in ours.items():
        other = grads[name].cpu().float().view_as(mine)
        kind = name.partition("mixer.")[2] or name.rpartition("layers.")[2].lstrip("0123456789.")
        errors.setdefault(kind, []).append(float((other - mine.float()).norm() / mine.norm()))
    peer.optimizer.zero_grad(set_to_none=True)
    peer.taken = 0
    print(
        f"first loss {theirs:.5f}, ours {loss:.5f}: {abs(theirs / loss - 1):.1e} apart; gradients"
    )
    print("  ".join(f"{kind} {sum(e) / len(e):.1%}" for kind, e in errors.items()), flush=True)


class Peer:
    """transformers' NemotronH in training on a ring of batches, in its own bfloat16."""

    def __init__(
        self,
        config: TrainConfig,
        weights: dict[str, Tensor],
        batches: list[Batch],
        *,
        compiled: bool,
    ) -> None:
        from transformers import AttentionInterface, NemotronHConfig, NemotronHForCausalLM

        AttentionInterface.register("documents", attend)
        settings = NemotronHConfig(**hf_config(config.model))
        settings._attn_implementation = "documents"
        settings._experts_implementation = "grouped_mm"
        with torch.device("meta"):
            model = NemotronHForCausalLM(settings)
        model = model.to(torch.bfloat16).to_empty(device="cuda")
        self.model: Any = model.train()
        for module in model.modules():
            kind = type(module).__name__
            if kind == "NemotronHTopkRouter":
                module.e_score_correction_bias = module.e_score_correction_bias.float()
            if kind == "NemotronHMamba2Mixer":
                for part in ("A_log", "D", "dt_bias"):
                    setattr(module, part, torch.nn.Parameter(getattr(module, part).float()))
            if compiled and kind in ("NemotronHRMSNorm", "NemotronHMoE"):
                module.compile()
        names = dict(model.state_dict())
        for name, tensor in stacked(to_hf(weights)).items():
            names[name].copy_(tensor.view_as(names[name]))
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=1e-4, betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay, fused=True,
        )  # fmt: skip
        self.config, self.taken = config, 0
        self.batches = [batch.on(torch.device("cuda")) for batch in batches]

    def step(self) -> Tensor:
        """Forward, backward, clipping, AdamW; return the loss."""
        loss = self.loss()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def loss(self) -> Tensor:
        """Run forward, fused head and loss, and backward; the chunks are as large as ours."""
        from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

        batch = self.batches[self.taken % len(self.batches)]
        self.taken += 1
        assert batch.boundaries_S is not None
        hidden_BTD = self.model.model(
            input_ids=batch.inputs_BT,
            use_cache=False,
            seq_idx=batch.document_index_BT.int(),
            begins_S=batch.boundaries_S,
            attention_mask={},
        ).last_hidden_state
        loss: Any = liger_fused_linear_cross_entropy(
            hidden_BTD.flatten(0, 1), self.model.lm_head.weight, batch.labels_BT.flatten(),
            chunk_mem_const=32,
        )  # fmt: skip
        loss.backward()
        detached: Tensor = loss.detach()
        return detached


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, *, begins_S: Tensor,
    scaling: float, **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attend inside documents by torch's own variable-length attention."""
    from torch.nn.attention.varlen import varlen_attn

    rows, _, tokens, _ = query.shape
    parts = [part.transpose(1, 2).flatten(0, 1).contiguous() for part in (query, key, value)]
    # Newer versions of torch ask for a word where heads are shared; older ones do not know it.
    shared = {"enable_gqa": True} if "enable_gqa" in signature(varlen_attn).parameters else {}
    out: Any = varlen_attn(
        *parts, begins_S, begins_S, tokens, tokens, window_size=(-1, 0), **shared
    )
    return torch.unflatten(out, 0, (rows, tokens)), None


def stacked(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name tensors as transformers' module does, the experts of a layer in one."""
    joined: dict[str, Any] = {}
    for name, tensor in tensors.items():
        name = name.replace("backbone.", "model.")
        if ".mixer.experts." in name:
            stem, _, leaf = name.removesuffix(".weight").rpartition(".")
            joined.setdefault(f"{stem.rpartition('.')[0]}.{leaf}", []).append(tensor)
        else:
            joined[name] = tensor
    return {n: torch.stack(t) if isinstance(t, list) else t for n, t in joined.items()}

"""Time the operations of the benchmark model one by one; `training.py --operations` calls it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from datagen.train.config import ModelConfig
from datagen.train.data import Batch
from datagen.train.documents import documents_of
from datagen.train.kernels import operations as ops
from datagen.train.kernels import reference

DEVICE = torch.device("cuda")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An operation as the model calls it, the same in plain torch, and the least it could cost."""

    name: str
    ours: Callable[..., Any]
    plain: Callable[..., Any]
    inputs: list[torch.Tensor]
    flops: float = 0.0
    plain_rows: int = 4


def operations_of(config: ModelConfig, batch: Batch) -> Iterator[Operation]:
    """Yield the model's operations on random inputs of the benchmark's shapes."""
    rows, tokens = batch.inputs_BT.shape
    index_BT, slots = batch.document_index_BT, rows * tokens * config.top_k
    documents = documents_of(index_BT, batch.boundaries_S)

    def draw(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.randn(shape, device=DEVICE).to(dtype).requires_grad_()

    def wide(*shape: int) -> torch.Tensor:
        return draw(*shape, dtype=torch.float32)

    heads, inner, channels = config.mamba_heads, config.mamba_inner, config.conv_channels
    projected = draw(rows, tokens, inner + channels + heads)
    mamba = [wide(channels, 4), wide(channels), wide(heads), wide(heads), wide(heads), wide(inner)]
    mamba[2].data.sub_(4)
    shape = (config.mamba_groups, config.mamba_state, config.norm_eps, config.ssd_chunk)
    per_token = 2 * config.mamba_state * inner * 2 + 2 * 64 * inner  # two states, one half chunk
    yield Operation(
        name="mamba mixer between projections",
        ours=lambda *parts: ops.mamba_mix(*parts, index_BT, *shape),
        plain=lambda p, *parts: reference.mamba_mix(p, *parts, index_BT[: len(p)], *shape),
        inputs=[projected, *mamba], flops=3.0 * per_token * rows * tokens, plain_rows=1,
    )  # fmt: skip
    x, delta, gain = (draw(rows, tokens, config.d_model) for _ in range(3))
    gain = wide(config.d_model)
    yield Operation(
        name="residual add + norm",
        ours=lambda *parts: ops.add_norm(*parts, config.norm_eps)[:2],
        plain=lambda *parts: reference.add_norm(*parts, config.norm_eps)[:2],
        inputs=[x, delta, gain],
    )  # fmt: skip
    yield Operation(
        name="squared ReLU, shared expert", ours=ops.relu2, plain=reference.relu2,
        inputs=[draw(rows, tokens, config.shared_width)],
    )  # fmt: skip
    router = wide(config.experts, config.d_model)
    bias = torch.zeros(config.experts, device=DEVICE)
    routing = (bias, documents.is_token_BT, config.top_k, config.routed_scaling)
    yield Operation(
        name="routing", inputs=[x, router],
        ours=lambda *parts: ops.route(*parts, *routing)[1:],
        plain=lambda *parts: reference.route(*parts, *routing)[1:],
        flops=6.0 * rows * tokens * config.d_model * config.experts,
    )  # fmt: skip
    width = config.latent_width or config.d_model
    choice = torch.rand(rows * tokens, config.experts, device=DEVICE).topk(config.top_k).indices
    yield Operation(
        name="experts", flops=12.0 * slots * width * config.expert_width,
        ours=lambda a, g, up, down: ops.experts(a, choice, g, up, down)[0],
        plain=lambda a, g, up, down: reference.experts(a, choice, g, up, down)[0],
        inputs=[
            draw(rows * tokens, width), wide(rows * tokens, config.top_k),
            draw(config.experts, width, config.expert_width),
            draw(config.experts, config.expert_width, width),
        ],
    )  # fmt: skip
    parts = [draw(rows, tokens, n, 128) for n in (config.query_heads, *[config.kv_heads] * 2)]
    lengths = np.diff(batch.boundaries_S.cpu().numpy()).astype(float)
    yield Operation(
        name="attention in documents", inputs=parts, plain_rows=1,
        ours=lambda *qkv: ops.attention(*qkv, documents),
        plain=lambda *qkv: reference.attention(*qkv, documents_of(index_BT[:1]).attends),
        flops=3.5 * 2 * (lengths**2).sum() * config.query_heads * 128,
    )  # fmt: skip
    labels = torch.randint(0, config.vocabulary, (rows * tokens,), device=DEVICE)
    yield Operation(
        name="head and cross entropy",
        ours=lambda h, w: ops.cross_entropy_sum(h, w, labels, 16_384),
        plain=lambda h, w: reference.cross_entropy_sum(h, w, labels, 2048),
        inputs=[draw(rows * tokens, config.d_model), wide(config.vocabulary, config.d_model)],
        flops=6.0 * rows * tokens * config.d_model * config.vocabulary,
    )  # fmt: skip


def tensors(out: Any) -> tuple[torch.Tensor, ...]:
    """Return an operation's results as a tuple."""
    return out if isinstance(out, tuple) else (out,)


def both_ways(call: Callable[..., Any], inputs: list[torch.Tensor]) -> None:
    """Run forward and backward."""
    out = tensors(call(*inputs))
    torch.autograd.backward(out, [torch.ones_like(part) for part in out])
    for part in inputs:
        part.grad = None


def by_operation(config: ModelConfig, batch: Batch) -> None:
    """Time every operation forward and backward beside plain torch and its floor.

    The floor: matrix products at 670 TFLOP/s, or each input, output and gradient moved once at
    4.25 TB/s, whichever is longer. Plain torch that needs too much memory runs on fewer rows.
    """
    rows = len(batch.inputs_BT)
    print("operation                          ours ms   plain ms   floor ms   ours/floor")
    for operation in operations_of(config, batch):
        inputs = operation.inputs
        ours = milliseconds(partial(both_ways, operation.ours, inputs))
        sizes = [part.numel() * part.element_size() for part in inputs]
        out = sum(p.numel() * p.element_size() for p in tensors(operation.ours(*inputs)))
        floor = max((3 * sum(sizes) + 2 * out) / 4.25e12, operation.flops / 670e12) * 1e3
        few = [
            part.detach()[: operation.plain_rows].requires_grad_()
            if part.ndim >= 3 and len(part) == rows
            else part
            for part in inputs
        ]
        plain = milliseconds(partial(both_ways, operation.plain, few), repeats=3)
        plain *= rows / operation.plain_rows
        print(
            f"{operation.name:34s} {ours:8.3f} {plain:10.3f} {floor:10.3f} {ours / floor:10.2f}",
            flush=True,
        )
        torch.cuda.empty_cache()


def milliseconds(call: Callable[[], None], repeats: int = 10) -> float:
    """Return the device time of a call, outputs and gradients included: the mean of a queue."""
    call()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(repeats):
        call()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / repeats

"""Train the benchmark model on a GPU: tokens a second, model FLOP utilisation, time by kernel.

    python scripts/bench/training.py [--seconds 30] [--rows 4] [--profile] [--operations] [--mtp]

N3-2B, packed rows of 8,192 tokens of log-normal documents, the whole step: forward, backward,
clipping, AdamW on float32 masters, routing bias. FLOPs are Megatron's, attention as sum L^2 / sum L
and causal halved, over 989 TFLOP/s. Clocks and power are read while it runs.
"""

from __future__ import annotations

import argparse
import collections
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from datagen.train.config import PRESETS, ModelConfig, TrainConfig, parameter_count
from datagen.train.data import Batch, Window, collate
from datagen.train.documents import documents_of
from datagen.train.kernels import operations as ops
from datagen.train.kernels import reference
from datagen.train.loop import update
from datagen.train.model import HybridModel
from datagen.train.optimizer import MasterAdamW

ROW_TOKENS = 8192
PEAK_FLOPS = 989e12
DEVICE = torch.device("cuda")


def recipe(rows: int, *, mtp: bool) -> TrainConfig:
    """Take the benchmark model: the preset without multi-token heads unless asked for."""
    config = PRESETS["n3-2b"]
    model = config.model if mtp else replace(config.model, mtp_heads=0)
    return replace(config, model=model, batch_rows=rows, microbatch_rows=rows)


def packed_batches(count: int, rows: int, vocabulary: int, seed: int = 0) -> list[Batch]:
    """Fill rows with log-normal documents of random tokens."""
    rng = np.random.default_rng(seed)

    def window() -> Window:
        lengths: list[int] = []
        while sum(lengths) < ROW_TOKENS:
            length = int(np.clip(rng.lognormal(np.log(450), 1.0), 8, ROW_TOKENS))
            lengths.append(min(length, ROW_TOKENS - sum(lengths)))
        return Window(
            rng.integers(0, vocabulary, ROW_TOKENS),
            np.ones(ROW_TOKENS, dtype=np.int64),
            np.cumsum([0, *lengths[:-1]]),
            ("synthetic",) * len(lengths),
        )

    return [collate([window() for _ in range(rows)], ROW_TOKENS) for _ in range(count)]


def mean_context(batches: list[Batch]) -> float:
    """Return sum L^2 / sum L over the documents."""
    lengths = np.concatenate([np.diff(batch.boundaries_S.numpy()) for batch in batches])
    return float((lengths.astype(float) ** 2).sum() / lengths.sum())


def flops_per_token(config: ModelConfig, context: float) -> float:
    """Count forward and backward: 6 a weight used, the state's update, causal attention.

    A multi-token head uses its block and the output head once more.
    """
    count = parameter_count(config)
    expert = 2 * (config.latent_width or config.d_model) * config.expert_width
    ahead = (
        count.mtp - expert * (config.experts - config.top_k) + config.vocabulary * config.d_model
    )
    used = count.active + config.mtp_heads * ahead
    scan = 3 * 7 * config.mamba_inner * config.mamba_state * config.pattern.count("M")
    width = config.query_heads * config.attention_head_dim
    return (
        6 * used + scan + 3 * 2 * context * width * (config.pattern.count("*") + config.mtp_heads)
    )


@contextmanager
def clock_log() -> Iterator[list[tuple[float, float, float]]]:
    """Read SM clock (MHz), power (W) and temperature (C) twice a second."""
    query = ["nvidia-smi", "--query-gpu=clocks.sm,power.draw,temperature.gpu"]
    process = subprocess.Popen(
        [*query, "--format=csv,noheader,nounits", "-lms", "500"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    readings: list[tuple[float, float, float]] = []
    try:
        yield readings
    finally:
        process.terminate()
        out, _ = process.communicate()
        for line in out.splitlines():
            clock, power, heat = (float(part) for part in line.split(","))
            readings.append((clock, power, heat))


class Trainer:
    """A model in training on a ring of batches."""

    def __init__(self, config: TrainConfig, batches: list[Batch]) -> None:
        self.config = config
        with DEVICE:
            self.model = HybridModel(config.model)
        self.model.initialise_all(0)
        self.optimizer = MasterAdamW(self.model, config)
        self.batches = [batch.on(DEVICE) for batch in batches]
        self.taken = 0

    def step(self) -> torch.Tensor:
        """Take a step as the training loop does; return the loss, still on the device."""
        batch = self.batches[self.taken % len(self.batches)]
        self.taken += 1
        measures = update(self.model, self.optimizer, self.config, [batch], 1e-4)
        return measures.mean_J[0]


def sustained(trainer: Trainer, seconds: float) -> None:
    """Train for `seconds` after a warm-up and print the rate; each loss is read, as in a run."""
    config = trainer.config
    for _ in range(3):
        first = float(trainer.step())
    torch.cuda.reset_peak_memory_stats()
    times = []
    with clock_log() as readings:
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            before = time.perf_counter()
            loss = float(trainer.step())
            times.append(time.perf_counter() - before)
        elapsed = time.perf_counter() - started
    tokens = config.batch_rows * ROW_TOKENS
    rate = tokens * len(times) / elapsed
    context = mean_context([b.on(torch.device("cpu")) for b in packed_batches(4, 4, 100)])
    flops = flops_per_token(config.model, context)
    clocks = [clock for clock, power, _ in readings if power > 300] or [0.0]
    power = [power for _, power, _ in readings if power > 300] or [0.0]
    print(
        f"{len(times)} steps of {tokens} tokens in {elapsed:.1f} s: {rate:,.0f} tok/s, "
        f"MFU {rate * flops / PEAK_FLOPS:.1%} at {flops / 1e9:.3f} GFLOP a token "
        f"(context {context:.0f}); step median {statistics.median(times) * 1e3:.1f} ms, "
        f"fastest {min(times) * 1e3:.1f}; "
        f"peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB; SM clock median "
        f"{statistics.median(clocks):.0f} MHz ({min(clocks):.0f}-{max(clocks):.0f}), "
        f"power {statistics.median(power):.0f} W; loss {first:.3f} -> {loss:.3f}",
        flush=True,
    )


def by_kernel(trainer: Trainer, steps: int = 3, rows: int = 60) -> None:
    """Print the device time of a step by kernel, and what of the step no kernel fills."""
    from torch.profiler import ProfilerActivity, profile

    trainer.step()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as recorded:
        started = time.perf_counter()
        for _ in range(steps):
            float(trainer.step())
        torch.cuda.synchronize()
        elapsed = (time.perf_counter() - started) / steps * 1e3
    sums: dict[str, list[float]] = collections.defaultdict(list)
    for event in recorded.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            sums[event.name].append(event.device_time / 1e3)
    total = sum(map(sum, sums.values())) / steps
    print(f"step {elapsed:.1f} ms under the profiler, kernels {total:.1f} ms")
    for name, times in sorted(sums.items(), key=lambda item: -sum(item[1]))[:rows]:
        print(f"{sum(times) / steps:9.3f} ms {len(times) / steps:7.1f} x  {name[:110]}")


def lagging(trainer: Trainer, steps: int = 20) -> None:
    """Print the rate without reading losses: the host's share of a step is the difference."""
    float(trainer.step())
    started = time.perf_counter()
    for _ in range(steps):
        loss = trainer.step()
    float(loss)
    elapsed = (time.perf_counter() - started) / steps
    print(f"losses unread: {elapsed * 1e3:.1f} ms a step", flush=True)


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


def main() -> None:
    """Measure what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--operations", action="store_true")
    parser.add_argument("--mtp", action="store_true", help="with the preset's multi-token heads")
    options = parser.parse_args()
    config = recipe(options.rows, mtp=options.mtp)
    batches = packed_batches(64, options.rows, config.model.vocabulary)
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}")
    if options.operations:
        by_operation(config.model, batches[0].on(DEVICE))
    trainer = Trainer(config, batches)
    if options.profile:
        by_kernel(trainer)
    sustained(trainer, options.seconds)
    lagging(trainer)


if __name__ == "__main__":
    main()

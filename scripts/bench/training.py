"""Train the benchmark model on a GPU: tokens a second, model FLOP utilisation, time by kernel.

    python scripts/bench/training.py [--seconds 30] [--rows 4] [--profile] [--operations] [--mtp]
                                     [--peers FOLDER]

N3-2B, packed rows of 8,192 tokens of log-normal documents, the whole step: forward, backward,
clipping, AdamW on float32 masters, routing bias. FLOPs are Megatron's, attention as sum L^2 / sum L
and causal halved, over 989 TFLOP/s. Clocks and power are read while it runs. `--peers` first runs
others on the same weights and batches, and compares their loss and gradients with ours; the folder
is `training_peers.py`'s, the time by operation `training_operations.py`'s.
"""

from __future__ import annotations

import argparse
import collections
import os
import statistics
import subprocess
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import training_operations
import training_peers

from datagen.train.config import PRESETS, ModelConfig, TrainConfig, parameter_count
from datagen.train.data import Batch, Window, collate
from datagen.train.model import HybridModel
from datagen.train.optimizer import MasterAdamW
from datagen.train.step import update

ROW_TOKENS = 8192
PEAK_FLOPS = 989e12
DEVICE = torch.device("cuda")
KEPT = Path(os.environ["OUT"]) if "OUT" in os.environ else None
"""Where to leave what a peer had to build, if anywhere."""


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


class Steps(Protocol):
    """Whatever takes training steps and returns their losses, still on the device."""

    def step(self) -> torch.Tensor:
        """Take one."""


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


class Late:
    """Losses on their way to the host, read two steps late, as the training loop reads figures."""

    def __init__(self) -> None:
        self.pending: collections.deque[tuple[torch.Tensor, torch.cuda.Event]] = collections.deque()
        self.last = float("nan")

    def put(self, loss: torch.Tensor) -> None:
        """Copy a loss without waiting for it; wait for the one before the one before."""
        event = torch.cuda.Event()
        self.pending.append((loss.float().to("cpu", non_blocking=True), event))
        event.record()
        if len(self.pending) > 2:
            self.read()

    def read(self) -> None:
        """Wait for the oldest."""
        loss, event = self.pending.popleft()
        event.synchronize()
        self.last = float(loss)


def sustained(trainer: Steps, config: TrainConfig, seconds: float) -> float:
    """Train for `seconds` after a warm-up, print and return the rate; every loss is read."""
    for _ in range(3):
        first = float(trainer.step())
    torch.cuda.reset_peak_memory_stats()
    times, losses = [], Late()
    with clock_log() as readings:
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            before = time.perf_counter()
            losses.put(trainer.step())
            times.append(time.perf_counter() - before)
        while losses.pending:
            losses.read()
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
        f"power {statistics.median(power):.0f} W; loss {first:.3f} -> {losses.last:.3f}",
        flush=True,
    )
    return rate


def beside_peers(config: TrainConfig, batches: list[Batch], packages: Path, seconds: float) -> None:
    """Train every peer and then ourselves from the same weights on the same batches."""
    versions = training_peers.prepare(packages, KEPT)
    print("peers: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    rates = {}
    for name, options in training_peers.PEERS.items():
        print(f"--- {name}", flush=True)
        trainer = Trainer(config, batches[:1])
        weights = {key: tensor.cpu() for key, tensor in trainer.model.state_dict().items()}
        loss, ours = training_peers.our_gradients(trainer.model, config, trainer.batches[0])
        del trainer
        torch.cuda.empty_cache()
        peer: training_peers.Peer | None = None
        try:
            peer = training_peers.Peer(config, weights, batches, **options)
            training_peers.compare(peer, loss, ours)
            rates[name] = sustained(peer, config, seconds)
        except Exception:  # a peer that cannot run is no reason to measure nothing
            traceback.print_exc()
        finally:
            peer = None
            torch.cuda.empty_cache()
    print("--- ours", flush=True)
    rate = sustained(Trainer(config, batches), config, seconds)
    for name, theirs in rates.items():
        print(f"{rate / theirs:.3f} x {name}")
    torch.cuda.empty_cache()


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
    spans: list[tuple[float, float]] = []
    for event in recorded.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            sums[event.name].append(event.device_time / 1e3)
            spans.append((event.time_range.start, event.time_range.end))
    total = sum(map(sum, sums.values())) / steps
    idle, ended = 0.0, 0.0
    for begin, end in sorted(spans):
        idle += max(begin - ended, 0.0) if ended else 0.0
        ended = max(ended, end)
    launches = len(spans) / steps
    print(
        f"step {elapsed:.1f} ms under the profiler, kernels {total:.1f} ms in {launches:.0f} "
        f"launches, nothing running {idle / steps / 1e3:.1f} ms"
    )
    for name, times in sorted(sums.items(), key=lambda item: -sum(item[1]))[:rows]:
        print(f"{sum(times) / steps:9.3f} ms {len(times) / steps:7.1f} x  {name[:110]}")


def main() -> None:
    """Measure what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--operations", action="store_true")
    parser.add_argument("--mtp", action="store_true", help="with the preset's multi-token heads")
    parser.add_argument("--peers", type=Path, help="folder of the peers' unpacked packages")
    options = parser.parse_args()
    config = recipe(options.rows, mtp=options.mtp)
    batches = packed_batches(64, options.rows, config.model.vocabulary)
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}")
    if options.operations:
        training_operations.by_operation(config.model, batches[0].on(DEVICE))
    if options.peers:
        beside_peers(config, batches, options.peers, options.seconds)
    trainer = Trainer(config, batches)
    if options.profile:
        by_kernel(trainer)
    sustained(trainer, config, options.seconds)


if __name__ == "__main__":
    main()

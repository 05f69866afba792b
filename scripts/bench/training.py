"""Train the benchmark model on a GPU: tokens a second, model FLOP utilisation, time by kernel.

    python scripts/bench/training.py [--seconds 30] [--rows 4] [--profile] [--mtp]

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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from datagen.train.config import PRESETS, ModelConfig, TrainConfig, parameter_count
from datagen.train.data import Batch, Window, collate
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
    """Count forward and backward: 6 a weight used, the state's update, causal attention."""
    used = parameter_count(config).active
    scan = 3 * 7 * config.mamba_inner * config.mamba_state * config.pattern.count("M")
    width = config.query_heads * config.attention_head_dim
    return 6 * used + scan + 3 * 2 * context * width * config.pattern.count("*")


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


def main() -> None:
    """Measure what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--mtp", action="store_true", help="with the preset's multi-token heads")
    options = parser.parse_args()
    config = recipe(options.rows, mtp=options.mtp)
    batches = packed_batches(8, options.rows, config.model.vocabulary)
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}")
    trainer = Trainer(config, batches)
    if options.profile:
        by_kernel(trainer)
    sustained(trainer, options.seconds)


if __name__ == "__main__":
    main()

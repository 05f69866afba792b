"""Train on two GPUs of one machine: the same losses as on one, repeatable, and how much faster.

    python scripts/bench/two_gpus.py FOLDER/real RUNS [--device cuda] [--steps 40]

`real_build.py` makes FOLDER/real. First a small model takes the same steps on one process, on two,
and on two again. Then the benchmark model trains on packed rows of 8,192 tokens, 4 a GPU.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import torch
import training

from datagen.shards.manifest import read_manifest
from datagen.train.config import PRESETS
from datagen.train.door import train
from datagen.train.model import HybridModel
from datagen.train.optimizer import MasterAdamW
from datagen.train.parallel import Ranks, together
from datagen.train.step import update

WARM_STEPS, TIMED_STEPS = 4, 40


def losses_and_bits(build: Path, out: Path, *, processes: int, options: Any) -> tuple[Any, Any]:
    """Train a small model; return its losses by step and the hash of its weights."""
    manifest = read_manifest(build)
    config = PRESETS[options.config]
    rows = max(config.batch_rows, 2)
    report = train(
        [build / entry.path for entry in manifest.files_under("shards")],
        config=replace(
            config,
            batch_rows=rows,
            microbatch_rows=rows // 2,
            snapshot_every=0,
            validate_every=0,
            held_out_every=0,
        ),
        vocabulary=manifest.extra["vocabulary"],
        row_tokens=manifest.extra["row_tokens"],
        steps=options.steps,
        out=out,
        device=options.device,
        processes=processes,
    )
    telemetry = (out / "telemetry.jsonl").read_bytes().splitlines()
    losses = [orjson.loads(line)["loss"] for line in telemetry]
    weights = (report.checkpoint / "model.safetensors").read_bytes()
    shutil.rmtree(out)
    return losses, hashlib.sha256(weights).hexdigest()


def same_steps(options: Any) -> None:
    """Print how one process and two agree, and whether two repeat themselves."""
    found = {}
    for name, processes in (("one", 1), ("two", 2), ("two again", 2)):
        began = time.perf_counter()
        out = options.runs / name.replace(" ", "-")
        shutil.rmtree(out, ignore_errors=True)
        found[name] = losses_and_bits(options.build, out, processes=processes, options=options)
        print(f"{name}: last loss {found[name][0][-1]:.6f} ({time.perf_counter() - began:.0f} s)")
    apart = max(abs(a / b - 1) for a, b in zip(found["two"][0], found["one"][0], strict=True))
    print(
        f"{options.steps} steps on 2 processes against 1: losses differ by {apart:.2e} at most; "
        f"weights {'bitwise equal' if found['two'][1] == found['one'][1] else 'not bitwise equal'};"
        f" 2 processes again: {'bitwise equal' if found['two'] == found['two again'] else 'NOT'}",
        flush=True,
    )


def rate(ranks: Ranks, *, mtp: bool = False) -> float:
    """Train the benchmark model with 4 rows a GPU; return tokens a second of all."""
    device = torch.device("cuda", ranks.rank)
    config = training.recipe(4, mtp=mtp)
    with device:
        model = HybridModel(config.model)
    model.initialise_all(0)
    optimizer = MasterAdamW(model, config)
    drawn = training.packed_batches(8, 4, config.model.vocabulary, seed=ranks.rank)
    batches = [batch.on(device) for batch in drawn]

    def take(count: int) -> None:
        for step in range(count):
            measures = update(model, optimizer, config, [batches[step % 8]], 1e-4, ranks)
        assert torch.isfinite(measures.mean_J).all()  # waits for the last step

    take(WARM_STEPS)
    began = time.perf_counter()
    take(TIMED_STEPS)
    seconds = time.perf_counter() - began
    return TIMED_STEPS * 4 * training.ROW_TOKENS * ranks.count / seconds


def main() -> None:
    """Compare, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--config", default="nano-like")
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    same_steps(options)
    if options.device == "cuda":
        rates = {}
        for count in (1, 2):
            with together(count, torch.device("cuda"), partial(rate)) as ranks:
                rates[count] = rate(ranks)
            torch.cuda.empty_cache()
            print(f"{count} GPU: {rates[count]:,.0f} tokens/s", flush=True)
        print(f"2 GPUs: {rates[2] / rates[1]:.2f} x one")


if __name__ == "__main__":
    main()

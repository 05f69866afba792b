"""A real run on real text, from the loss curve to a kill: what docs/training.md reports.

    python scripts/bench/real_build.py FOLDER                      (makes FOLDER/real)
    python scripts/bench/train_real.py train FOLDER/real RUNS      the run, with its merges
    python scripts/bench/train_real.py train FOLDER/real RUNS --seed 1
    python scripts/bench/train_real.py train FOLDER/real RUNS --nvfp4
    python scripts/bench/train_real.py compare RUNS                the runs side by side
    python scripts/bench/train_real.py kill FOLDER/real RUNS       kill -9, resume, same bits
    python scripts/bench/train_real.py syncs FOLDER/real RUNS      no step waits for the GPU

Each run goes once through the build: warm-up, constant, minus-sqrt over the last quarter, which is
where phase 2 begins. `train` then merges the snapshots of the constant part and measures last,
merged and decayed weights on the same held-out records. RUNS keeps each run's page and pictures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from datagen.report.plot import Line, chart
from datagen.report.training import pictures, write_page
from datagen.shards.manifest import read_manifest
from datagen.train.config import PRESETS, TrainConfig
from datagen.train.door import StepReport, held_out_losses, merge, train

WINDOWS = (4, 8, 12)
LAST_STEPS = 100
"""Training losses are compared as means over so many of the last steps."""
KEPT = ("report.html", "telemetry.jsonl", "validation.jsonl", "run.json", "results.json")


def recipe(options: argparse.Namespace) -> TrainConfig:
    """Take the preset, in the precision asked for; `tiny` where this is a rehearsal on a CPU."""
    config = PRESETS[options.config]
    if options.config == "tiny":
        return replace(config, snapshot_every=5, snapshots_kept=64, validate_every=20)
    model = replace(config.model, precision="nvfp4") if options.nvfp4 else config.model
    return replace(
        config,
        model=model,
        held_out_every=12,
        snapshot_every=25 if run_name(options) == "bf16-0" else 0,
        snapshots_kept=64,
        checkpoint_every=100_000,
    )


def shards_of(build: Path) -> tuple[list[Path], int, int]:
    """Return a build's shards, vocabulary and row length."""
    manifest = read_manifest(build)
    shards = [build / entry.path for entry in manifest.files_under("shards")]
    return shards, manifest.extra["vocabulary"], manifest.extra["row_tokens"]


def start(
    build: Path,
    out: Path,
    config: TrainConfig,
    *,
    steps: int | None,
    seed: int,
    resume: bool = False,
    quiet: bool = False,
) -> Any:
    """Train on a build, saying every 50th step."""

    def show(report: StepReport) -> None:
        if report.step % 50 == 0 and not quiet:
            print(
                f"step {report.step:5d}  {report.phase}  loss {report.loss:.4f}  lr {report.lr:.2e}"
                f"  {report.tokens_per_s:,.0f} tokens/s",
                flush=True,
            )
        for alarm in report.alarms:
            print(f"step {report.step}: {alarm}", flush=True)

    shards, vocabulary, row_tokens = shards_of(build)
    return train(
        shards,
        config=config,
        vocabulary=vocabulary,
        row_tokens=row_tokens,
        steps=steps,
        out=out,
        seed=seed,
        resume=resume,
        tokenizer=build / "tokenizer.json",
        on_step=show,
    )


def run_name(options: argparse.Namespace) -> str:
    """Name a run by what makes it differ from the others."""
    return f"{'nvfp4' if options.nvfp4 else 'bf16'}-{options.seed}"


def run(options: argparse.Namespace) -> None:
    """Train once through the build, merge the constant part, and keep what is small."""
    name, config = run_name(options), recipe(options)
    out = options.scratch / name
    shutil.rmtree(out, ignore_errors=True)
    began = time.perf_counter()
    report = start(options.build, out, config, steps=options.steps, seed=options.seed)
    seconds = time.perf_counter() - began
    write_page(out, sample=report.sample)
    results: dict[str, Any] = {
        "steps": report.steps,
        "tokens": report.tokens,
        "parameters": report.parameters,
        "seconds": seconds,
        "sample": report.sample,
    }
    print(
        f"{name}: {report.parameters:,} parameters, {report.steps} steps, {report.tokens:,} tokens "
        f"in {seconds:.0f} s, loss {report.first_loss:.3f} -> {report.last_loss:.3f}"
    )
    if not options.nvfp4 and options.seed == 0:
        results["held_out"] = merges(out, shards_of(options.build)[0], config, report.steps)
    (out / "results.json").write_text(json.dumps(results, indent=1))
    print(f"it writes: {report.sample}")
    target = options.runs / name
    target.mkdir(parents=True, exist_ok=True)
    for file in KEPT:
        shutil.copy(out / file, target)
    for picture, svg in pictures(out).items():
        (target / f"{picture}.svg").write_text(svg, encoding="utf-8")
    shutil.rmtree(out)


def merges(
    out: Path, shards: Sequence[Path], config: TrainConfig, steps: int
) -> dict[str, dict[str, float]]:
    """Measure the last weights before the decay, merges that end there, and the decayed weights."""
    every = config.snapshot_every
    before = (steps - round(config.decay_fraction * steps)) // every * every
    last = steps // every * every
    weights = {
        f"before decay, step {before}": out / f"snapshots/step-{before:08d}.safetensors",
        **{
            f"merge of {window}, {decay}": merge(
                out, window=window, decay=decay, through=before
            ).path
            for window in WINDOWS
            for decay in ("minus-sqrt", "linear")
        },
        f"decayed, step {last}": out / f"snapshots/step-{last:08d}.safetensors",
    }
    table: dict[str, dict[str, float]] = {}
    for name, path in weights.items():
        found = held_out_losses(out, shards, path)
        assert found is not None
        table[name] = {"all": found.loss, **found.losses}
    print_table("held-out loss", table)
    return table


def print_table(title: str, table: dict[str, dict[str, float]]) -> None:
    """Print rows of figures under one head."""
    names = list(next(iter(table.values())))
    print(f"\n{title:28}" + "".join(f"{name:>15}" for name in names))
    for row, figures in table.items():
        print(f"{row:28}" + "".join(f"{figures[name]:15.4f}" for name in names), flush=True)


def lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def compare(options: argparse.Namespace) -> None:
    """Print each run's last losses, and how far NVFP4 is from BF16 of the same seed."""
    folders = sorted(path.parent for path in options.runs.glob("*/validation.jsonl"))
    steps = {folder.name: lines(folder / "telemetry.jsonl") for folder in folders}
    figures = {
        folder.name: {
            f"train, last {LAST_STEPS}": sum(s["loss"] for s in steps[folder.name][-LAST_STEPS:])
            / LAST_STEPS,
            "held out": lines(folder / "validation.jsonl")[-1]["loss"],
        }
        for folder in folders
    }
    print_table("run", figures)
    pairs = [(name, name.replace("nvfp4", "bf16")) for name in steps if "nvfp4" in name]
    pairs += [(name, "bf16-0") for name in steps if name.startswith("bf16") and name != "bf16-0"]
    gaps = []
    for name, base in pairs:
        apart = {key: figures[name][key] / figures[base][key] - 1 for key in figures[name]}
        print(f"{name} against {base}: " + ", ".join(f"{k} {v:+.2%}" for k, v in apart.items()))
        if "nvfp4" not in name:
            continue  # another seed is another order of the data
        points = [
            (ours["step"], 100 * (ours["loss"] / theirs["loss"] - 1))
            for ours, theirs in zip(steps[name], steps[base], strict=True)
        ]
        means = [
            (points[i][0], sum(y for _, y in points[i - 49 : i + 1]) / 50)
            for i in range(49, len(points))
        ]
        gaps.append(Line(name=f"{name} / {base}", points=means))
    svg = chart("Training loss apart, per cent, mean of 50 steps", gaps)
    (options.runs / "gap.svg").write_text(svg, encoding="utf-8")


def kill(options: argparse.Namespace) -> None:
    """Kill a run with SIGKILL between two checkpoints, resume it, and compare every bit."""
    folder = options.scratch / "kill"
    shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    command = [sys.executable, __file__, "victim", str(options.build), str(folder / "parts")]
    command += ["--config", options.config, *(["--nvfp4"] if options.nvfp4 else [])]
    victim = subprocess.Popen(command)
    telemetry = folder / "parts" / "telemetry.jsonl"
    while not telemetry.exists() or telemetry.read_bytes().count(b"\n") < 27:
        if victim.poll() is not None:
            sys.exit("the victim ended before it could be killed")
        time.sleep(0.02)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    reached = telemetry.read_bytes().count(b"\n")
    config = short(recipe(options))
    ends = {}
    for name, resume in (("parts", True), ("whole", False)):
        report = start(
            options.build, folder / name, config, steps=40, seed=7, resume=resume, quiet=True
        )
        ends[name] = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(report.checkpoint.glob("*.safetensors"))
        }
        ends[name]["losses"] = [line["loss"] for line in lines(folder / name / "telemetry.jsonl")]
    same = ends["parts"] == ends["whole"]
    print(
        f"killed after step {reached}, resumed from its last checkpoint, 40 steps: "
        f"{'every bit the same' if same else 'DIFFERENT'} as unbroken "
        f"({time.perf_counter() - began:.0f} s)"
    )
    shutil.rmtree(folder)
    sys.exit(0 if same else 1)


def syncs(options: argparse.Namespace) -> None:
    """Let torch raise where the host waits for the GPU, in steps 5 to 28 of 30."""
    import torch

    def watch(report: StepReport) -> None:
        if report.step in (2, 26):  # read two steps late
            torch.cuda.set_sync_debug_mode("error" if report.step == 2 else "default")

    shards, vocabulary, row_tokens = shards_of(options.build)
    folder = options.scratch / "syncs"
    shutil.rmtree(folder, ignore_errors=True)
    train(
        shards,
        config=replace(recipe(options), snapshot_every=0, validate_every=0),
        vocabulary=vocabulary,
        row_tokens=row_tokens,
        steps=30,
        out=folder,
        on_step=watch,
    )
    shutil.rmtree(folder)
    print("steps 5 to 28: the host never waited for the device")


def short(config: TrainConfig) -> TrainConfig:
    """Checkpoint every 10 steps, and measure nothing beside."""
    return replace(config, checkpoint_every=10, snapshot_every=0, validate_every=0)


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["train", "compare", "kill", "syncs", "victim"])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--config", default="nano-like")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nvfp4", action="store_true")
    parser.add_argument("--scratch", type=Path, default=None, help="where weights go meanwhile")
    options = parser.parse_args()
    options.runs = options.folders[-1]
    options.build = options.folders[0]
    options.scratch = options.scratch or options.runs / "scratch"
    options.runs.mkdir(parents=True, exist_ok=True)
    if options.what == "victim":
        start(options.build, options.runs, short(recipe(options)), steps=40, seed=7, quiet=True)
    else:
        {"train": run, "compare": compare, "kill": kill, "syncs": syncs}[options.what](options)


if __name__ == "__main__":
    main()

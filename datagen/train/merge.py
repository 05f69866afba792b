"""Checkpoints of a constant learning rate merged into what a decay would have given.

A decay multiplies each later update by a factor that falls. Summed up, the same model is a mean of
the checkpoints on the way, with weights that are the factor's differences: no training is needed.
Source: WSM, arXiv 2507.17634.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import orjson
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from datagen.errors import DataError, WorkspaceError
from datagen.shards.parquet import file_sha256, fsync_directory, write_bytes
from datagen.train.door import Merged

DECAYS: Mapping[str, Callable[[float], float]] = {
    "minus-sqrt": lambda passed: 1.0 - math.sqrt(passed),
    "linear": lambda passed: 1.0 - passed,
}
"""The factor of an update by the part of the decay that has passed, from 0 to 1."""


def merge_weights(count: int, decay: str) -> list[float]:
    """Weigh `count` checkpoints, the oldest first, as the decay would; they sum to 1.

    With the update between checkpoints i and i+1 (from 1) multiplied by w_i = decay(i / count), the
    decayed model is the first checkpoint plus the sum of w_i times those updates. Collected by
    checkpoint that is c_1 = 1 - w_1, c_j = w_(j-1) - w_j, and c_count = w_(count-1).
    """
    factor = DECAYS[decay]
    factors = [1.0, *(factor(i / count) for i in range(1, count)), 0.0]
    return [before - after for before, after in itertools.pairwise(factors)]


def snapshot_path(out: Path, step: int) -> Path:
    """Name the float32 weights kept after `step` finished steps."""
    return out / "snapshots" / f"step-{step:08d}.safetensors"


def snapshots(out: Path) -> list[Path]:
    """List a run's snapshots from the oldest to the newest."""
    return sorted((out / "snapshots").glob("step-*.safetensors"))


def save_snapshot(out: Path, step: int, weights: Mapping[str, Tensor], *, kept: int) -> Path:
    """Keep a step's float32 weights, whole or not at all; drop all but the `kept` newest."""
    path = snapshot_path(out, step)
    path.parent.mkdir(exist_ok=True)
    _write(path, weights)
    for old in snapshots(out)[:-kept]:
        old.unlink()
    return path


def drop_snapshots_after(out: Path, step: int) -> None:
    """Remove what a resumed run will write again."""
    for path in snapshots(out):
        if path > snapshot_path(out, step):
            path.unlink()


def merge(out: Path, *, window: int, decay: str, through: int | None) -> Merged:
    """Merge the last `window` snapshots up to step `through` (default: the newest) of a run.

    Arithmetic is float64, the result float32 in `merged/`, beside a JSON file that names its parts
    and their weights. WorkspaceError where there are too few snapshots.
    """
    found = [p for p in snapshots(out) if through is None or p <= snapshot_path(out, through)]
    if len(found) < max(window, 1) or window < 1:
        raise WorkspaceError(
            f"{len(found)} snapshots here, {window} asked for",
            where=str(out / "snapshots"),
            fix="a smaller --window, or a recipe with a smaller snapshot_every",
        )
    parts = found[-window:]
    weights = merge_weights(window, decay)
    target = out / "merged" / f"{parts[-1].stem}-{window}-{decay}.safetensors"
    target.parent.mkdir(exist_ok=True)
    _write(target, weighted_mean(parts, weights))
    facts = {
        "decay": decay,
        "parts": [
            {"file": path.name, "sha256": file_sha256(path), "weight": weight}
            for path, weight in zip(parts, weights, strict=True)
        ],
    }
    write_bytes(target.with_suffix(".json"), orjson.dumps(facts, option=orjson.OPT_INDENT_2))
    return Merged(path=target, parts=tuple(parts), weights=tuple(weights))


def weighted_mean(parts: Sequence[Path], weights: Sequence[float]) -> dict[str, Tensor]:
    """Add up the files' tensors by weight, one tensor at a time, in float64; float32 comes back."""
    try:
        files = [safe_open(path, framework="pt") for path in parts]
        return {
            name: sum(
                (
                    weight * file.get_tensor(name).double()  # type: ignore[no-untyped-call]
                    for file, weight in zip(files, weights, strict=True)
                ),
                torch.zeros((), dtype=torch.float64),
            ).float()
            for name in files[0].keys()  # type: ignore[no-untyped-call] # noqa: SIM118
        }
    except OSError as error:
        raise DataError(
            f"cannot read these snapshots: {error}", where=str(parts[0].parent)
        ) from error


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.rename(path)
    fsync_directory(path.parent)

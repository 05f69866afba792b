"""A training run on disk: what it is, what it measured, and the states it can go on from.

    run.json                        settings, seed and shards; written once
    telemetry.jsonl                 a StepReport a line
    checkpoints/step-00000050/      model.safetensors, optimizer.safetensors, state.json

A checkpoint directory appears by one rename, whole, after its files are on the disk.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from safetensors.torch import load_file, save_file
from torch import Tensor

from datagen.errors import DataError, WorkspaceError
from datagen.shards.parquet import file_sha256, fsync_directory, write_bytes
from datagen.train.config import ModelConfig, TrainConfig
from datagen.train.data import Cursor

_FOOTER_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A checkpoint in memory: finished steps and tokens, the data's place, and the tensors."""

    step: int
    tokens: int
    cursor: Cursor
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]


def identity(
    config: TrainConfig,
    shards: Sequence[Path],
    *,
    row_tokens: int,
    seed: int,
    processes: int,
    weights: Path | None,
) -> dict[str, Any]:
    """Describe all that a run's numbers depend on, as JSON values, the step count apart.

    A shard is told by name, size and the hash of its end, where Parquet keeps every page's place
    and statistics.
    """
    return {
        "config": dataclasses.asdict(config),
        "row_tokens": row_tokens,
        "seed": seed,
        "processes": processes,
        "weights": weights and file_sha256(weights),
        "shards": [_shard_identity(path) for path in shards],
    }


def _shard_identity(path: Path) -> list[str | int]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(size - _FOOTER_BYTES, 0))
            return [path.name, size, hashlib.sha256(file.read()).hexdigest()]
    except OSError as error:
        raise DataError(
            f"cannot read this shard: {error.strerror}",
            where=str(path),
            fix="name a finished build: out/pack/<fingerprint>, or out/latest/<mixture>",
        ) from error


def open_run(out: Path, run: Mapping[str, Any], *, resume: bool) -> None:
    """Begin a run in `out`, or check that the one there is this one."""
    path = out / "run.json"
    if not path.is_file():
        if resume:
            raise WorkspaceError("no run to resume", where=str(out), fix="leave --resume out")
        (out / "checkpoints").mkdir(parents=True, exist_ok=True)
        write_bytes(path, orjson.dumps(run, option=orjson.OPT_INDENT_2) + b"\n")
        return
    if not resume:
        raise WorkspaceError(
            "this directory holds a run already",
            where=str(out),
            fix="--resume goes on with it; another --out starts a new one",
        )
    known = orjson.loads(path.read_bytes())
    here = orjson.loads(orjson.dumps(run))
    differing = sorted(key for key in here if known.get(key) != here[key])
    if differing:
        raise WorkspaceError(
            f"the run here has another {', '.join(differing)}",
            where=str(path),
            fix="resume with the settings and shards it began with, or choose another --out",
        )


def read_run(out: Path, shards: Sequence[Path]) -> tuple[TrainConfig, int, int]:
    """Return the configuration, row length and seed of the run in `out`, made of these shards."""
    path = out / "run.json"
    try:
        known = orjson.loads(path.read_bytes())
        model = ModelConfig(**known["config"].pop("model"))
        config = TrainConfig(model=model, **known["config"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorkspaceError(
            f"no run of this version here: {error}", where=str(path), fix="name a run's folder"
        ) from error
    if known["shards"] != [_shard_identity(shard) for shard in shards]:
        raise WorkspaceError(
            "the run was made of other shards", where=str(path), fix="name the run's own build"
        )
    return config, known["row_tokens"], known["seed"]


def checkpoint_path(out: Path, step: int) -> Path:
    """Name the checkpoint after `step` finished steps."""
    return out / "checkpoints" / f"step-{step:08d}"


def save(out: Path, state: State, *, kept: int) -> Path:
    """Write a checkpoint whole or not at all, then drop all but the `kept` newest."""
    target = checkpoint_path(out, state.step)
    temporary = target.with_name(f".{target.name}.tmp")
    if temporary.exists():
        shutil.rmtree(temporary)
    temporary.mkdir()
    hashes = {}
    for name, tensors in (("model", state.model), ("optimizer", state.optimizer)):
        path = temporary / f"{name}.safetensors"
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        hashes[path.name] = file_sha256(path)
    facts = {
        "step": state.step,
        "tokens": state.tokens,
        "cursor": dataclasses.asdict(state.cursor),
        "sha256": hashes,
    }
    write_bytes(temporary / "state.json", orjson.dumps(facts, option=orjson.OPT_INDENT_2) + b"\n")
    temporary.rename(target)
    fsync_directory(target.parent)
    for old in _checkpoints(out)[:-kept]:
        shutil.rmtree(old)
    return target


def load_latest(out: Path) -> State | None:
    """Read the newest checkpoint, its files held against their hashes; None where there is none."""
    found = _checkpoints(out)
    if not found:
        return None
    path = found[-1]
    try:
        facts = orjson.loads((path / "state.json").read_bytes())
        for name, expected in facts["sha256"].items():
            if file_sha256(path / name) != expected:
                raise ValueError(f"{name} is not what was written")
        return State(
            step=facts["step"],
            tokens=facts["tokens"],
            cursor=Cursor(**facts["cursor"]),
            model=load_file(path / "model.safetensors"),
            optimizer=load_file(path / "optimizer.safetensors"),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"this checkpoint is damaged: {error}",
            where=str(path),
            fix="delete this directory: --resume then takes the one before it",
        ) from error


def _checkpoints(out: Path) -> list[Path]:
    """List the checkpoints from the oldest to the newest."""
    return sorted((out / "checkpoints").glob("step-*"))

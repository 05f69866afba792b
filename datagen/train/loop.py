"""The training loop: shards in, checkpoints and telemetry out, the same bits after any stop."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from datagen.errors import DataError, WorkspaceError
from datagen.train.checkpoint import identity, load_latest, open_run, read_run
from datagen.train.config import TrainConfig, parameter_count
from datagen.train.data import Batch, Cursor, Windows, prefetch
from datagen.train.documents import IGNORED, PADDING
from datagen.train.door import RunSettings, StepReport, TrainReport, Validation
from datagen.train.evaluate import validation
from datagen.train.model import HybridModel
from datagen.train.optimizer import MasterAdamW
from datagen.train.parallel import ALONE, Ranks, together
from datagen.train.recorder import Progress, Recorder, interruptions
from datagen.train.schedule import schedule
from datagen.train.step import update
from datagen.train.telemetry import HostFacts

_BYTES_PER_PARAMETER = 16
_PREFETCHED_BATCHES = 4


class Piece(NamedTuple):
    """A microbatch on this process's device (None where it is another's), and facts of it."""

    batch: Batch | None
    cursor: Cursor
    tokens: int
    targets: int
    phase: str


def run(settings: RunSettings, on_step: Callable[[StepReport], None]) -> TrainReport:
    """Train as `door.train` says."""
    place = _device(settings.device)
    settings = replace(settings, config=_sized(settings))
    config, out = settings.config, settings.out
    _check(settings, place)
    known = identity(
        config,
        settings.shards,
        row_tokens=settings.row_tokens,
        seed=settings.seed,
        processes=settings.processes,
        weights=settings.weights,
    )
    open_run(out, known, resume=settings.resume)
    if settings.steps is None:
        windows = _windows(settings.shards, config, settings.row_tokens, settings.seed)
        steps = windows.count() // config.batch_rows
        settings = replace(settings, steps=max(steps, 1))
    with together(settings.processes, place, partial(_follow, settings)) as ranks:
        report = _train(settings, place, ranks, on_step)
    assert report is not None
    return report


def evaluate(out: Path, shards: Sequence[Path], weights: Path) -> Validation | None:
    """Measure weights as `door.held_out_losses` says."""
    config, row_tokens, seed = read_run(out, shards)
    with _device(None):
        model = HybridModel(config.model)
    model.load_state_dict(_read(weights))
    windows = _windows(shards, config, row_tokens, seed)
    held_out = windows.held_out(config.held_out_windows, config.microbatch_rows)
    return validation(model, held_out, config, step=0)


def _follow(settings: RunSettings, ranks: Ranks) -> None:
    """Train along, in a process that neither writes nor prints."""
    place = _device(settings.device)
    if place.type == "cuda":
        place = torch.device("cuda", ranks.rank)
    _train(settings, place, ranks, lambda report: None)


def _train(
    settings: RunSettings,
    device: torch.device,
    ranks: Ranks,
    on_step: Callable[[StepReport], None],
) -> TrainReport | None:
    """Take the steps that are left; the process that leads records them, the others return None."""
    config, steps = settings.config, settings.steps
    assert steps is not None
    progress = _begin(settings, device)
    windows = _windows(settings.shards, config, settings.row_tokens, settings.seed)
    rate = schedule(config, steps)
    stream = prefetch(_pieces(windows, config, progress, device, ranks), _PREFETCHED_BATCHES)
    with closing(stream), interruptions() as interrupted:
        recorder = None
        if ranks.leads:
            held_out = windows.held_out(config.held_out_windows, config.microbatch_rows)
            recorder = Recorder(settings, steps, progress, held_out, on_step, interrupted)
        while progress.step < steps:
            drawn = list(islice(stream, config.batch_rows // config.microbatch_rows))
            batches = [piece.batch for piece in drawn if piece.batch is not None]
            lr = rate(progress.step)
            measures = update(progress.model, progress.optimizer, config, batches, lr, ranks)
            facts = HostFacts(
                step=progress.step + 1,
                epoch=drawn[-1].cursor.epoch,
                phase=drawn[-1].phase,
                lr=lr,
                tokens=sum(piece.tokens for piece in drawn),
                targets=sum(piece.targets for piece in drawn),
            )
            progress.step = facts.step
            progress.tokens += facts.tokens
            progress.cursor = drawn[-1].cursor
            if recorder is not None and recorder.take(facts, measures):
                break
    return recorder.report() if recorder is not None else None


def _pieces(
    windows: Windows,
    config: TrainConfig,
    progress: Progress,
    device: torch.device,
    ranks: Ranks = ALONE,
) -> Iterator[Piece]:
    """Draw microbatches from the run's place on; counts are taken before they leave the host."""
    drawn = windows.batches(config.microbatch_rows, progress.cursor)
    for number, (batch, cursor) in enumerate(drawn):
        mine = number % ranks.count == ranks.rank
        yield Piece(
            batch=batch.on(device) if mine else None,
            cursor=cursor,
            tokens=int((batch.document_index_BT != PADDING).sum()),
            targets=int((batch.labels_BT != IGNORED).sum()),
            phase=batch.phases[-1],
        )


def _begin(settings: RunSettings, device: torch.device) -> Progress:
    """Draw a new model, take given weights, or take the run up where it was left."""
    config = settings.config
    with device:
        model = HybridModel(config.model)
    state = load_latest(settings.out)
    if state is None:
        model.initialise_all(settings.seed)
        optimizer = MasterAdamW(model, config)
        if settings.weights is not None:
            weights = _read(settings.weights)
            model.load_state_dict(weights)
            optimizer.take(weights)
        return Progress(model=model, optimizer=optimizer, step=0, tokens=0, cursor=Cursor())
    model.load_state_dict(dict(state.model))
    optimizer = MasterAdamW(model, config)
    optimizer.restore(state.optimizer, state.step)
    return Progress(
        model=model,
        optimizer=optimizer,
        step=state.step,
        tokens=state.tokens,
        cursor=state.cursor,
    )


def _device(name: str | None) -> torch.device:
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def _sized(settings: RunSettings) -> TrainConfig:
    """Give the model the build's vocabulary."""
    config = settings.config
    return replace(config, model=replace(config.model, vocabulary=settings.vocabulary))


def _windows(shards: Sequence[Path], config: TrainConfig, row_tokens: int, seed: int) -> Windows:
    return Windows(
        shards=shards,
        vocabulary=config.model.vocabulary,
        window_tokens=config.window_tokens or row_tokens,
        seed=seed,
        held_out_every=config.held_out_every,
    )


def _read(weights: Path) -> dict[str, Tensor]:
    try:
        return load_file(weights)
    except OSError as error:
        raise DataError(
            f"cannot read these weights: {error}",
            where=str(weights),
            fix="name a model.safetensors, a snapshot or a merge of the same configuration",
        ) from error


def _check(settings: RunSettings, device: torch.device) -> None:
    """Refuse a run that cannot start: no steps, rows that cannot be shared, too little memory."""
    config = settings.config
    if settings.steps is not None and settings.steps < 1:
        raise WorkspaceError(
            f"{settings.steps} steps train nothing", where="--steps", fix="at least 1"
        )
    if settings.weights is not None and not settings.weights.is_file():
        raise WorkspaceError(
            "no such file", where=str(settings.weights), fix="--weights FILE.safetensors"
        )
    microbatches = config.batch_rows // config.microbatch_rows
    if microbatches % settings.processes:
        raise WorkspaceError(
            f"a step has {microbatches} microbatches, which {settings.processes} processes "
            "cannot share evenly",
            where="--processes",
            fix="a divisor of batch_rows / microbatch_rows",
        )
    count = parameter_count(config.model)
    needed = (count.backbone + count.mtp) * _BYTES_PER_PARAMETER
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    else:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // settings.processes
    if needed > memory:
        raise WorkspaceError(
            f"weights, gradients and optimizer take {needed / 2**30:,.0f} GiB, "
            f"this device has {memory / 2**30:,.0f}",
            where="--config",
            fix="--config tiny trains anywhere",
        )

"""The training loop: shards in, checkpoints and telemetry out, the same bits after any stop."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor

from datagen.errors import WorkspaceError
from datagen.train.checkpoint import (
    State,
    Telemetry,
    checkpoint_path,
    identity,
    load_latest,
    open_run,
    save,
)
from datagen.train.config import TrainConfig, parameter_count
from datagen.train.data import Batch, Cursor, Windows, prefetch
from datagen.train.documents import IGNORED
from datagen.train.door import StepReport, TrainReport
from datagen.train.latent_moe import max_violation
from datagen.train.model import HybridModel, objective, target_counts
from datagen.train.optimizer import MasterAdamW
from datagen.train.schedule import WarmupStableDecay

_BYTES_PER_PARAMETER = 16
_PREFETCHED_BATCHES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """One update's figures, still on the device: means by loss, MaxVio and RMS by layer."""

    mean_J: Tensor
    balance: Tensor
    max_violation_L: Tensor
    residual_rms_L: Tensor
    gradient_norm: Tensor
    tokens: Tensor
    targets: Tensor


@dataclass(slots=True, kw_only=True)
class Progress:
    """A run as it stands between two steps."""

    model: HybridModel
    optimizer: MasterAdamW
    step: int
    tokens: int
    cursor: Cursor

    def state(self) -> State:
        """Return what a checkpoint holds; the tensors are the live ones."""
        return State(
            step=self.step,
            tokens=self.tokens,
            cursor=self.cursor,
            model=self.model.state_dict(),
            optimizer=self.optimizer.state(),
        )


def run(
    shards: Sequence[Path],
    *,
    config: TrainConfig,
    vocabulary: int,
    row_tokens: int,
    steps: int,
    out: Path,
    seed: int,
    resume: bool,
    device: str | None,
    on_step: Callable[[StepReport], None],
) -> TrainReport:
    """Train as `door.train` says."""
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    config = replace(config, model=replace(config.model, vocabulary=vocabulary))
    _check(config, steps, place)
    open_run(out, identity(config, shards, row_tokens=row_tokens, seed=seed), resume=resume)
    progress = _begin(config, out, seed, place)
    windows = Windows(
        shards=shards,
        vocabulary=vocabulary,
        window_tokens=config.window_tokens or row_tokens,
        seed=seed,
        held_out_every=config.held_out_every,
    )
    schedule = WarmupStableDecay(
        peak=config.peak_lr,
        floor=config.min_lr,
        steps=steps,
        warmup_steps=round(config.warmup_fraction * steps),
        decay_steps=round(config.decay_fraction * steps),
    )
    telemetry = Telemetry(out, progress.step)
    drawn = windows.batches(config.microbatch_rows, progress.cursor)
    placed = ((batch.on(place), cursor) for batch, cursor in drawn)
    stream = prefetch(placed, _PREFETCHED_BATCHES)
    with closing(stream), interruptions() as interrupted:
        for step in range(progress.step + 1, steps + 1):
            report = _advance(progress, config, stream, schedule(step - 1))
            _refuse_nonfinite(report, out)
            telemetry.write(report)
            on_step(report)
            if step == steps or step % config.checkpoint_every == 0 or interrupted.is_set():
                telemetry.sync()
                save(out, progress.state(), kept=config.checkpoints_kept)
            if interrupted.is_set():
                break
    finished = progress.step >= steps
    return TrainReport(
        steps=progress.step,
        tokens=progress.tokens,
        parameters=sum(parameter.numel() for parameter in progress.model.parameters()),
        first_loss=telemetry.losses[0],
        last_loss=telemetry.losses[-1],
        category_losses=category_losses(progress.model, windows, config) if finished else {},
        checkpoint=checkpoint_path(out, progress.step),
        interrupted=not finished,
    )


def _begin(config: TrainConfig, out: Path, seed: int, device: torch.device) -> Progress:
    """Draw a new model, or take the run up where its last checkpoint left it."""
    with device:
        model = HybridModel(config.model)
    state = load_latest(out)
    if state is None:
        model.initialise_all(seed)
        optimizer = MasterAdamW(model, config)
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


def _advance(
    progress: Progress, config: TrainConfig, stream: Iterator[tuple[Batch, Cursor]], lr: float
) -> StepReport:
    """Take one step and bring its figures to the host: the only wait for the device in a step."""
    started = time.perf_counter()
    drawn = list(islice(stream, config.batch_rows // config.microbatch_rows))
    batches = [batch for batch, _ in drawn]
    measures = update(progress.model, progress.optimizer, config, batches, lr)
    tokens = int(measures.tokens)
    progress.cursor = drawn[-1][1]
    progress.step += 1
    progress.tokens += tokens
    loss, *mtp_losses = measures.mean_J.tolist()
    return StepReport(
        step=progress.step,
        epoch=progress.cursor.epoch,
        lr=lr,
        loss=loss,
        mtp_losses=tuple(mtp_losses),
        balance_loss=float(measures.balance),
        max_violation=tuple(measures.max_violation_L.tolist()),
        residual_rms=tuple(measures.residual_rms_L.tolist()),
        gradient_norm=float(measures.gradient_norm),
        tokens=tokens,
        targets=int(measures.targets),
        tokens_per_s=tokens / (time.perf_counter() - started),
    )


def update(
    model: HybridModel,
    optimizer: MasterAdamW,
    config: TrainConfig,
    microbatches: Sequence[Batch],
    lr: float,
) -> Measures:
    """Take one optimizer step on the mean loss of all the microbatches, then balance the experts.

    Equal to one batch of all their rows: counts are known before the first backward pass.
    """
    heads = config.model.mtp_heads
    targets_J = torch.stack([target_counts(batch, heads) for batch in microbatches]).sum(0)
    rows = sum(batch.inputs_BT.shape[0] for batch in microbatches)
    parts = []
    for batch in microbatches:
        sums = model(batch, config.loss_chunk_tokens)
        torch.autograd.backward(objective(config.model, sums, targets_J, rows))
        parts.append(sums)
    gradient_norm = optimizer.step(lr)
    tokens_LE = torch.stack([part.tokens_LE for part in parts]).sum(0)
    for mixture, tokens_E in zip(model.mixtures(), tokens_LE, strict=True):
        mixture.update_bias(tokens_E)
    tokens = torch.stack([part.tokens for part in parts]).sum()
    residual_L = torch.stack([part.residual_L for part in parts]).sum(0)
    passes = config.model.pattern.count("E") + heads
    return Measures(
        mean_J=torch.stack([part.loss_J.detach() for part in parts]).sum(0)
        / targets_J.clamp(min=1),
        balance=torch.stack([part.balance.detach() for part in parts]).sum() / (passes * rows or 1),
        max_violation_L=max_violation(tokens_LE),
        residual_rms_L=(residual_L / (tokens * config.model.d_model)).sqrt(),
        gradient_norm=gradient_norm,
        tokens=tokens,
        targets=targets_J[0],
    )


def category_losses(model: HybridModel, windows: Windows, config: TrainConfig) -> dict[str, float]:
    """Return the mean next-token loss on the held-out rows by category of document, sorted."""
    sums: dict[str, tuple[float, int]] = {}
    for batch in windows.held_out(config.held_out_windows, config.microbatch_rows):
        placed = batch.on(model.head_VD.device)
        losses_BT = model.token_losses(placed, config.loss_chunk_tokens).cpu()
        for row, categories in enumerate(batch.categories):
            for document, category in enumerate(categories):
                kept_T = batch.document_index_BT[row] == document
                kept_T &= batch.labels_BT[row] != IGNORED
                total, count = sums.get(category, (0.0, 0))
                total += float(losses_BT[row][kept_T].sum())
                sums[category] = total, count + int(kept_T.sum())
    return {name: total / count for name, (total, count) in sorted(sums.items()) if count}


@contextmanager
def interruptions() -> Iterator[threading.Event]:
    """Turn Ctrl-C into an event for the length of a block; a second Ctrl-C stops at once."""
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested
        return

    def request(_number: int, _frame: FrameType | None) -> None:
        requested.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, request)
    try:
        yield requested
    finally:
        signal.signal(signal.SIGINT, before)


def _refuse_nonfinite(report: StepReport, out: Path) -> None:
    """Stop a run whose loss or gradient is no number before it reaches a checkpoint."""
    figures = torch.tensor([report.loss, *report.mtp_losses, report.gradient_norm])
    if not torch.isfinite(figures).all():
        raise WorkspaceError(
            f"training diverged: loss {report.loss}, gradient norm {report.gradient_norm}",
            where=f"{out}: step {report.step}",
            fix="lower peak_lr and start again; checkpoints before this step are sound",
        )


def _check(config: TrainConfig, steps: int, device: torch.device) -> None:
    """Refuse a run that cannot start: no steps, or more state than the device's memory."""
    if steps < 1:
        raise WorkspaceError(f"{steps} steps train nothing", where="--steps", fix="at least 1")
    count = parameter_count(config.model)
    needed = (count.backbone + count.mtp) * _BYTES_PER_PARAMETER
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    else:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise WorkspaceError(
            f"weights, gradients and optimizer take {needed / 2**30:,.0f} GiB, "
            f"this device has {memory / 2**30:,.0f}",
            where="--config",
            fix="--config tiny trains anywhere",
        )

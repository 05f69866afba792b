"""What the leading process does beside the steps: it measures, writes, and says when to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import torch
from torch import Tensor

from datagen.errors import WorkspaceError
from datagen.train.checkpoint import State, checkpoint_path, save
from datagen.train.data import Batch, Cursor
from datagen.train.door import RunSettings, StepReport, TrainReport
from datagen.train.evaluate import sample, validation
from datagen.train.merge import drop_snapshots_after, save_snapshot
from datagen.train.model import HybridModel
from datagen.train.optimizer import MasterAdamW
from datagen.train.step import Measures
from datagen.train.telemetry import Figures, HostFacts, Telemetry


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

    def weights(self) -> dict[str, Tensor]:
        """Return the model's weights in float32: the masters where there are some."""
        masters = self.optimizer.masters
        return {n: masters.get(n, t).detach().float() for n, t in self.model.state_dict().items()}


class Recorder:
    """Keeps a run's telemetry, validation, snapshots and checkpoints as it goes."""

    def __init__(
        self,
        settings: RunSettings,
        steps: int,
        progress: Progress,
        held_out: Sequence[Batch],
        on_step: Callable[[StepReport], None],
        interrupted: threading.Event,
    ) -> None:
        self.settings, self.config, self.out = settings, settings.config, settings.out
        self.steps, self.progress, self.held_out = steps, progress, held_out
        self.on_step, self.interrupted = on_step, interrupted
        drop_snapshots_after(self.out, progress.step)
        self.telemetry = Telemetry(self.out, progress.step, self.config.model)
        device = progress.model.head_VD.device
        self.figures = Figures(self.config.model, progress.optimizer.groups, device)

    def take(self, facts: HostFacts, measures: Measures) -> bool:
        """Take a finished step in, and write what is due after it; return whether to stop here."""
        config, step = self.config, facts.step
        for report in self.figures.put(facts, measures):
            self._write(report)
        if _is_due(step, config.validate_every) and step < self.steps:
            self._validate()
        if _is_due(step, config.snapshot_every):
            self._drain()
            save_snapshot(self.out, step, self.progress.weights(), kept=config.snapshots_kept)
        stopping = step == self.steps or self.interrupted.is_set()
        if stopping or _is_due(step, config.checkpoint_every):
            self._drain()
            self.telemetry.sync()
            save(self.out, self.progress.state(), kept=config.checkpoints_kept)
        self.figures.resume()
        return stopping

    def report(self) -> TrainReport:
        """Say what the run came to; a finished one is measured once more, and writes a text."""
        progress, settings = self.progress, self.settings
        finished = progress.step >= self.steps
        losses, text = {}, None
        if finished:
            losses = self._validate()
            if settings.tokenizer is not None:
                window = self.config.window_tokens or settings.row_tokens
                text = sample(
                    progress.model, self.held_out, settings.tokenizer, window, settings.seed
                )
        return TrainReport(
            steps=progress.step,
            tokens=progress.tokens,
            parameters=sum(parameter.numel() for parameter in progress.model.parameters()),
            first_loss=self.telemetry.losses[0],
            last_loss=self.telemetry.losses[-1],
            category_losses=losses,
            sample=text,
            checkpoint=checkpoint_path(self.out, progress.step),
            interrupted=not finished,
        )

    def _validate(self) -> dict[str, float]:
        """Measure the model on the held-out records, and write that once a step."""
        step = self.progress.step
        measured = validation(self.progress.model, self.held_out, self.config, step)
        if measured is None:
            return {}
        self.telemetry.write_validation(measured)
        return dict(measured.losses)

    def _drain(self) -> None:
        """Write every step that has been taken, so that nothing on disk is ahead of it."""
        for report in self.figures.drain():
            self._write(report)

    def _write(self, report: StepReport) -> None:
        _refuse_nonfinite(report, self.settings)
        self.on_step(self.telemetry.write(report))


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _refuse_nonfinite(report: StepReport, settings: RunSettings) -> None:
    """Stop a run whose loss or gradient is no number before it reaches a checkpoint."""
    figures = torch.tensor([report.loss, *report.mtp_losses, report.gradient_norm])
    if not torch.isfinite(figures).all():
        raise WorkspaceError(
            f"training diverged: loss {report.loss}, gradient norm {report.gradient_norm}",
            where=f"{settings.out}: step {report.step}",
            fix="lower peak_lr and start again; checkpoints before this step are sound",
        )


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

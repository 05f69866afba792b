"""The trainer's door: what a caller says and gets. Needs no torch until a run starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datagen.errors import WorkspaceError
from datagen.train.config import TrainConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One step's health: a line of `telemetry.jsonl`.

    `step` counts finished steps from 1. Losses are means over targets, in nats: `loss` of the next
    token, `mtp_losses` of the heads. `balance_loss` is unscaled, the mean over mixture passes and
    rows (1 is even). `max_violation` (largest load over mean load) has an entry a mixture layer,
    the multi-token block last; `residual_rms` one a layer. `gradient_norm` is before clipping.
    """

    step: int
    epoch: int
    lr: float
    loss: float
    mtp_losses: tuple[float, ...]
    balance_loss: float
    max_violation: tuple[float, ...]
    residual_rms: tuple[float, ...]
    gradient_norm: float
    tokens: int
    targets: int
    tokens_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainReport:
    """What a run came to.

    `steps` and `tokens` count from the run's beginning, resumed parts included; `first_loss` is
    step 1's. `category_losses` is the loss on held-out rows by category, empty where none are
    held out or the run was interrupted. `checkpoint` is the directory of the last one.
    """

    steps: int
    tokens: int
    parameters: int
    first_loss: float
    last_loss: float
    category_losses: Mapping[str, float]
    checkpoint: Path
    interrupted: bool


def train(
    shards: Sequence[Path],
    *,
    config: TrainConfig,
    vocabulary: int,
    row_tokens: int,
    steps: int,
    out: Path,
    seed: int = 0,
    resume: bool = False,
    device: str | None = None,
    on_step: Callable[[StepReport], None] = lambda report: None,
) -> TrainReport:
    """Train a model on token shards for `steps` steps in all.

    `config.model` takes the `vocabulary` of the build. `out` receives `run.json`,
    `telemetry.jsonl` and `checkpoints/step-*/`; `resume` goes on from its last checkpoint,
    bitwise as if never stopped where `steps` is the same. Ctrl-C finishes the step, checkpoints
    and returns with `interrupted`. `device` defaults to a GPU where there is one, else the CPU.
    Raises WorkspaceError (settings, `out`) or DataError (shards).
    """
    try:
        from datagen.train.loop import run
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "safetensors"):
            raise
        raise WorkspaceError(
            f"training needs {error.name}",
            where="datagen train",
            fix="pip install 'datagen[train]'",
        ) from error
    return run(
        shards,
        config=config,
        vocabulary=vocabulary,
        row_tokens=row_tokens,
        steps=steps,
        out=out,
        seed=seed,
        resume=resume,
        device=device,
        on_step=on_step,
    )

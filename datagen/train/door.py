"""The trainer's door: what a caller says and gets. Needs no torch until a run starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from datagen.errors import WorkspaceError
from datagen.train.config import TrainConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One step's health: a line of `telemetry.jsonl`.

    `step` counts finished steps from 1; `phase` is that of the step's last row. Losses are means
    over targets, in nats: `loss` of the next token, `mtp_losses` of the heads. `balance_loss` is
    unscaled, the mean over mixture passes and rows (1 is even). `max_violation` (largest load over
    mean load) and `dead_experts` (without a token) have an entry a mixture layer, the multi-token
    block last; `residual_rms` one a layer. `gradient_norms` (of the weights' gradients, by part of
    the model) and their total `gradient_norm` are before clipping. `alarms` are the signatures of
    divergence that began to hold here.
    """

    step: int
    epoch: int
    phase: str
    lr: float
    loss: float
    mtp_losses: tuple[float, ...]
    balance_loss: float
    max_violation: tuple[float, ...]
    dead_experts: tuple[int, ...]
    residual_rms: tuple[float, ...]
    gradient_norm: float
    gradient_norms: Mapping[str, float]
    tokens: int
    targets: int
    tokens_per_s: float
    alarms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """The losses on held-out records after a step: a line of `validation.jsonl`.

    `losses` are means by category, `targets` how many tokens each is a mean of, `loss` the mean
    over all of them.
    """

    step: int
    loss: float
    losses: Mapping[str, float]
    targets: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainReport:
    """What a run came to.

    `steps` and `tokens` count from the run's beginning, resumed parts included; `first_loss` is
    step 1's. `category_losses` is the loss on held-out records by category, empty where none are
    held out or the run was interrupted. `sample` is text that the model wrote at the end, None
    without a tokenizer. `checkpoint` is the directory of the last one.
    """

    steps: int
    tokens: int
    parameters: int
    first_loss: float
    last_loss: float
    category_losses: Mapping[str, float]
    sample: str | None
    checkpoint: Path
    interrupted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What `train` was asked for, as it travels to the processes that take part."""

    shards: tuple[Path, ...]
    config: TrainConfig
    vocabulary: int
    row_tokens: int
    steps: int | None
    out: Path
    seed: int
    resume: bool
    device: str | None
    processes: int
    weights: Path | None
    tokenizer: Path | None


def train(
    shards: Sequence[Path],
    *,
    config: TrainConfig,
    vocabulary: int,
    row_tokens: int,
    steps: int | None,
    out: Path,
    seed: int = 0,
    resume: bool = False,
    device: str | None = None,
    processes: int = 1,
    weights: Path | None = None,
    tokenizer: Path | None = None,
    on_step: Callable[[StepReport], None] = lambda report: None,
) -> TrainReport:
    """Train a model on token shards for `steps` steps in all; None: once through the shards.

    `config.model` takes the `vocabulary` of the build. `out` receives `run.json`,
    `telemetry.jsonl`, `validation.jsonl`, `checkpoints/step-*/` and `snapshots/`; `resume` goes on
    from its last checkpoint, bitwise as if never stopped where `steps` is the same. Ctrl-C finishes
    the step, checkpoints and returns with `interrupted`. `device` defaults to a GPU where there is
    one, else the CPU. `processes` share each step's microbatches, one GPU each. `weights` are what
    a new run begins with instead of drawn ones; `tokenizer` (a tokenizer.json) makes the model
    write a text at the end. Raises WorkspaceError (settings, `out`) or DataError (shards).
    """
    settings = RunSettings(
        shards=tuple(shards),
        config=config,
        vocabulary=vocabulary,
        row_tokens=row_tokens,
        steps=steps,
        out=out,
        seed=seed,
        resume=resume,
        device=device,
        processes=processes,
        weights=weights,
        tokenizer=tokenizer,
    )
    with _torch("datagen train"):
        from datagen.train.loop import run
    return run(settings, on_step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """Weights made of a run's snapshots: the file, what went in from old to new, how much of it."""

    path: Path
    parts: tuple[Path, ...]
    weights: tuple[float, ...]


def merge(out: Path, *, window: int, decay: str, through: int | None = None) -> Merged:
    """Merge a run's last `window` snapshots, up to step `through`, as `decay` would weigh them.

    `decay` is "minus-sqrt" or "linear". WorkspaceError where there are too few snapshots.
    """
    with _torch("datagen merge"):
        from datagen.train import merge as merging
    return merging.merge(out, window=window, decay=decay, through=through)


def held_out_losses(out: Path, shards: Sequence[Path], weights: Path) -> Validation | None:
    """Measure weights on what a run held out of its shards; None where that is nothing."""
    with _torch("datagen merge"):
        from datagen.train.loop import evaluate
    return evaluate(out, shards, weights)


@contextmanager
def _torch(command: str) -> Iterator[None]:
    """Say which package is missing where torch is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "safetensors"):
            raise
        raise WorkspaceError(
            f"training needs {error.name}", where=command, fix="pip install 'datagen[train]'"
        ) from error

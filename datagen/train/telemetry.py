"""What a run measured: figures on their way from the device, and the files that keep them.

    telemetry.jsonl     a StepReport a line
    validation.jsonl    a Validation a line

Figures come to the host some steps late, in one copy a step: nobody waits for the device.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch
from torch import Tensor

from datagen.shards.parquet import write_bytes
from datagen.train.config import ModelConfig
from datagen.train.door import StepReport, Validation
from datagen.train.health import Watch
from datagen.train.step import Measures

LAG_STEPS = 2
"""On a GPU; on a CPU a step's figures are there when it ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What the host knows of a step without asking the device."""

    step: int
    epoch: int
    phase: str
    lr: float
    tokens: int
    targets: int


class Mark:
    """A moment in a device's work: passed when all that was asked of it before is done."""

    def __init__(self, device: torch.device) -> None:
        self.event = None
        self.at = time.perf_counter()
        if device.type == "cuda":
            self.event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            self.event.record()

    def seconds_after(self, other: Mark) -> float:
        """Wait for this moment; return the seconds since the other."""
        if self.event is None or other.event is None:
            return self.at - other.at
        self.event.synchronize()
        return float(other.event.elapsed_time(self.event)) / 1000


class Figures:
    """Turns steps' measures into reports, in order, `LAG_STEPS` late on a GPU."""

    def __init__(self, config: ModelConfig, groups: Iterable[str], device: torch.device) -> None:
        self.groups = tuple(groups)
        mixtures = config.pattern.count("E") + (config.mtp_heads > 0)
        self.sizes = [1 + config.mtp_heads, 1, mixtures, mixtures, len(config.pattern)]
        self.sizes += [len(self.groups), 1]
        self.lag = LAG_STEPS if device.type == "cuda" else 0
        self.waiting: deque[tuple[HostFacts, Tensor, Mark, Mark]] = deque()
        self.device = device
        self.begin = Mark(device)

    def resume(self) -> None:
        """Leave what was done since the last step out of the next one's time."""
        self.begin = Mark(self.device)

    def put(self, facts: HostFacts, measures: Measures) -> Iterator[StepReport]:
        """Send a step's figures on their way; yield the reports that are due."""
        flat = torch.cat(measures.parts()).to("cpu", non_blocking=True)
        end = Mark(self.device)
        self.waiting.append((facts, flat, self.begin, end))
        self.begin = end
        while len(self.waiting) > self.lag:
            yield self._read()

    def drain(self) -> Iterator[StepReport]:
        """Yield the reports of every step that was put."""
        while self.waiting:
            yield self._read()

    def _read(self) -> StepReport:
        facts, flat, begin, end = self.waiting.popleft()
        seconds = end.seconds_after(begin)
        means, balance, loads, dead, residual, by_group, total = (
            part.tolist() for part in torch.split(flat, self.sizes)
        )
        return StepReport(
            **dataclasses.asdict(facts),
            loss=means[0],
            mtp_losses=tuple(means[1:]),
            balance_loss=balance[0],
            max_violation=tuple(loads),
            dead_experts=tuple(map(int, dead)),
            residual_rms=tuple(residual),
            gradient_norm=total[0],
            gradient_norms=dict(zip(self.groups, by_group, strict=True)),
            tokens_per_s=facts.tokens / max(seconds, 1e-9),
        )


class Telemetry:
    """A run's files; lines after the checkpoint go, as their steps come again."""

    def __init__(self, out: Path, step: int, config: ModelConfig) -> None:
        self.out, self.watch = out, Watch(config)
        self.losses: list[float] = []
        for report in self._kept("telemetry.jsonl", step):
            self.losses.append(float(report["loss"]))
            self.watch(StepReport(**{**report, "alarms": ()}))
        self.validated = {line["step"] for line in self._kept("validation.jsonl", step)}

    def _kept(self, name: str, step: int) -> list[dict[str, Any]]:
        """Cut a file after the lines of `step`; return what is left of it."""
        path = self.out / name
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        parsed = [(line, _parsed(line)) for line in lines]
        kept = [(line, fields) for line, fields in parsed if fields and fields["step"] <= step]
        write_bytes(path, b"".join(line for line, _ in kept))
        return [dict(fields) for _, fields in kept]

    def write(self, report: StepReport) -> StepReport:
        """Append a step, with the alarms it raises; the operating system has it on return."""
        report = dataclasses.replace(report, alarms=self.watch(report))
        self._append("telemetry.jsonl", report)
        self.losses.append(report.loss)
        return report

    def write_validation(self, validation: Validation) -> None:
        """Append the losses on held-out records after a step, once."""
        if validation.step not in self.validated:
            self.validated.add(validation.step)
            self._append("validation.jsonl", validation)

    def _append(self, name: str, line: StepReport | Validation) -> None:
        with (self.out / name).open("ab") as file:
            file.write(orjson.dumps(dataclasses.asdict(line)) + b"\n")

    def sync(self) -> None:
        """Put every line on the disk, so that no checkpoint is ahead of the telemetry."""
        for name in ("telemetry.jsonl", "validation.jsonl"):
            with (self.out / name).open("rb") as file:
                os.fsync(file.fileno())


def _parsed(line: bytes) -> Mapping[str, Any] | None:
    """Read a line; None for one that a kill cut short."""
    try:
        fields: Mapping[str, Any] = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return fields

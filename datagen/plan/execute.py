"""Run a plan: finished steps are skipped, half-finished ones resumed, manifests written last.

A step's partitions are pure and idempotent: each writes whole files and then a part record, so a
kill at any moment costs at most the partitions in flight, and their answers are in the ledger.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson

from datagen.errors import DataError, WorkspaceError
from datagen.plan.progress import Progress
from datagen.plan.services import Services
from datagen.plan.steps import BuildPlan, Step
from datagen.shards.manifest import (
    MANIFEST_NAME,
    ShardManifest,
    is_finished,
    manifest_sha256,
    read_manifest,
    write_manifest,
)
from datagen.shards.parquet import FileEntry, fsync_directory, write_bytes

_LOCK_POLL_S = 0.2


class Interrupted(Exception):
    """The user asked to stop: what was in flight is finished and kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputStep:
    """A finished upstream step."""

    directory: Path
    manifest: ShardManifest

    def paths(self, folder: str = "shards") -> list[Path]:
        """The files of one folder of the step, in partition order."""
        return [self.directory / entry.path for entry in self.manifest.files_under(folder)]


@dataclass(slots=True, kw_only=True)
class StepContext:
    """What a step's code may see: its arguments, its inputs, the services, and `commit`.

    `memo` keeps what `partitions` worked out for `run`; nothing in it outlives the step.
    """

    step: Step
    directory: Path
    parts: Path
    inputs: Mapping[str, InputStep]
    services: Services
    progress: Progress
    stopping: threading.Event
    done: dict[int, dict[str, Any]] = field(default_factory=dict)
    memo: dict[str, Any] = field(default_factory=dict)

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The step's arguments."""
        return self.step.arguments

    def input(self, prefix: str) -> InputStep:
        """The one input whose name begins with `prefix`."""
        (name,) = [name for name in self.step.inputs if name.startswith(prefix)]
        return self.inputs[name]

    def commit(
        self, partition: int, files: Sequence[FileEntry], extra: Mapping[str, Any] | None = None
    ) -> None:
        """Record that a partition's files are whole and durable, with its figures."""
        record = {"files": [asdict(entry) for entry in files], "extra": dict(extra or {})}
        write_bytes(self.parts / f"{partition:05}.json", orjson.dumps(record))
        self.done[partition] = record

    def check_stop(self) -> None:
        """Raise Interrupted between two pieces of work once the user asked to stop."""
        if self.stopping.is_set():
            raise Interrupted


class Kind(Protocol):
    """How steps of one kind run; `code` and `libraries` decide their code version."""

    @property
    def code(self) -> tuple[str, ...]: ...
    @property
    def libraries(self) -> tuple[str, ...]: ...
    @property
    def partitions(self) -> Callable[[StepContext], int]: ...
    @property
    def run(self) -> Callable[[StepContext, Sequence[int]], None]: ...


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a run did: which steps ran, which were finished already."""

    ran: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)


Finisher = Callable[[StepContext, Sequence[FileEntry], Mapping[str, Any]], Sequence[FileEntry]]


def execute(
    plan: BuildPlan,
    out: Path,
    *,
    kinds: Mapping[str, Kind],
    services: Services,
    progress: Progress,
    stopping: threading.Event,
    finishers: Mapping[str, Finisher],
    wait: bool = False,
) -> Outcome:
    """Bring every step of the plan to its manifest; `finishers` by kind add files before it.

    Raises WorkspaceError where another build of the workspace, or into `out`, is running (unless
    `wait`), Interrupted after a request to stop, DataError on a full disk.
    """
    outcome = Outcome()
    if all(is_current(step, plan, out) for step in plan.steps):
        outcome.cached = [step.name for step in plan.steps]
        return outcome
    with ExitStack() as held:
        # The ledger's folder first: two builds of one workspace would pay for the same answers.
        for folder in dict.fromkeys((services.ledger_folder.resolve(), out.resolve())):
            held.enter_context(lock(folder, wait=wait, progress=progress, stopping=stopping))
        for step in plan.steps:
            if is_current(step, plan, out):
                outcome.cached.append(step.name)
                continue
            (step.directory(out) / MANIFEST_NAME).unlink(missing_ok=True)
            try:
                _run_step(
                    step, plan, out, kinds[step.kind], services, progress, stopping, finishers
                )
            except OSError as error:
                raise _disk_error(error, step, out) from error
            outcome.ran.append(step.name)
    return outcome


def is_current(step: Step, plan: BuildPlan, out: Path) -> bool:
    """Whether a step is finished, and read its inputs as they are now.

    An input that was deleted and built again may differ where a row failed the first time.
    """
    directory = step.directory(out)
    if not is_finished(directory):
        return False
    read = read_manifest(directory).input_sha256
    inputs = {name: plan.step(name).directory(out) for name in step.inputs if name in read}
    return all(
        is_finished(where) and manifest_sha256(where) == read[name]
        for name, where in inputs.items()
    )


def _run_step(
    step: Step,
    plan: BuildPlan,
    out: Path,
    kind: Kind,
    services: Services,
    progress: Progress,
    stopping: threading.Event,
    finishers: Mapping[str, Finisher],
) -> None:
    directory = step.directory(out)
    parts = out / ".parts" / step.name / step.fingerprint
    directory.mkdir(parents=True, exist_ok=True)
    parts.mkdir(parents=True, exist_ok=True)
    inputs = {}
    for name in step.inputs:
        where = plan.step(name).directory(out)
        inputs[name] = InputStep(directory=where, manifest=read_manifest(where))
    context = StepContext(
        step=step,
        directory=directory,
        parts=parts,
        inputs=inputs,
        services=services,
        progress=progress,
        stopping=stopping,
        done=_finished_parts(parts, directory),
    )
    context.check_stop()
    progress.begin(step.name, step.hints.get("rows"))
    count = kind.partitions(context)
    todo = [partition for partition in range(count) if partition not in context.done]
    if todo:
        kind.run(context, todo)
    missing = [partition for partition in range(count) if partition not in context.done]
    assert not missing, f"{step.name} left partitions {missing[:5]}"
    _finish(context, count, finishers.get(step.kind))
    shutil.rmtree(parts)
    progress.finish()


def _finish(context: StepContext, count: int, finisher: Finisher | None) -> None:
    """Merge the parts' figures, clear what no part owns, and write the manifest last."""
    step, directory = context.step, context.directory
    extra: dict[str, Any] = {}
    files: list[FileEntry] = []
    for partition in range(count):
        record = context.done[partition]
        files += [FileEntry(**entry) for entry in record["files"]]
        extra = merge_figures(extra, record["extra"])
    _clear_strays(directory, {entry.path for entry in files})
    if finisher is not None:
        files += finisher(context, files, extra)
    write_manifest(
        directory,
        ShardManifest(
            kind=step.kind,
            step=step.name,
            fingerprint=step.fingerprint,
            files=tuple(files),
            inputs={name: context.inputs[name].manifest.fingerprint for name in step.inputs},
            input_sha256={
                name: manifest_sha256(context.inputs[name].directory) for name in step.inputs
            },
            code_version=step.code_version,
            extra=extra,
        ),
    )


def _finished_parts(parts: Path, directory: Path) -> dict[int, dict[str, Any]]:
    """Part records of an earlier run whose files are all there in their size."""
    done = {}
    for path in sorted(parts.glob("*.json")):
        record = orjson.loads(path.read_bytes())
        files = [(directory / entry["path"], entry["bytes"]) for entry in record["files"]]
        if all(file.is_file() and file.stat().st_size == size for file, size in files):
            done[int(path.stem)] = record
    return done


def _clear_strays(directory: Path, owned: set[str]) -> None:
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.relative_to(directory).as_posix() not in owned:
            path.unlink()
    fsync_directory(directory)


def merge_figures(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    """Add two nested counts: numbers add, tables merge, lists join, anything else is replaced."""
    merged = dict(left)
    for key, value in right.items():
        before = merged.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            merged[key] = merge_figures(before, value)
        elif isinstance(value, list) and isinstance(before, list):
            merged[key] = [*before, *value]
        elif isinstance(value, int) and isinstance(before, int):
            merged[key] = before + value
        else:
            merged[key] = value
    return merged


def _disk_error(error: OSError, step: Step, out: Path) -> DataError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(
            f"the disk is full; step {step.name} has no manifest and nothing finished is lost",
            where=str(out),
            fix="free some space and run the same command: it goes on where it stopped",
        )
    return DataError(
        f"step {step.name} cannot use a file: {error.strerror or error}",
        where=str(error.filename or out),
        fix="mend the disk or the permissions and run the same command",
    )


@contextmanager
def lock(
    folder: Path, *, wait: bool, progress: Progress, stopping: threading.Event | None = None
) -> Iterator[None]:
    """Hold folder/.lock for the time of a run; the kernel frees it even after a kill.

    Raises WorkspaceError where another process holds it (unless `wait`), or where `folder` cannot
    be written; Interrupted after a request to stop waiting.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise WorkspaceError(
            f"builds cannot be kept here: {error.strerror}",
            where=str(folder),
            fix="name a folder that can be written with --out DIR, or with 'ledger:'",
        ) from error
    with file:
        announced = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
            if not wait:
                raise WorkspaceError(
                    f"{holder} is building here",
                    where=str(path),
                    fix="wait for it: --wait",
                )
            if not announced:
                progress.note(f"waiting: {holder} is building here")
                announced = True
            if stopping is not None and stopping.wait(_LOCK_POLL_S):
                raise Interrupted
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} ({' '.join(sys.argv[1:3])})")
        file.flush()
        yield

"""One build from start to end: compile, run, write the card, point `latest` at it, sum up."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from datagen.errors import WorkspaceError
from datagen.plan.builds import latest_link
from datagen.plan.check import check_before_run
from datagen.plan.compile import BuildRequest, compile_plan, ledger_path
from datagen.plan.execute import Finisher, Interrupted, StepContext, execute
from datagen.plan.facts import build_facts
from datagen.plan.kinds import KINDS
from datagen.plan.progress import Progress
from datagen.plan.services import Services
from datagen.plan.steps import BuildPlan
from datagen.plan.teacher import override_endpoint, override_model
from datagen.shards.manifest import manifest_sha256, read_manifest
from datagen.shards.parquet import FileEntry, file_sha256, fsync_directory, write_bytes
from datagen.workspace.load import Workspace

_INTERRUPTED = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """The command line of a build."""

    mixture: str = "phase2"
    profile: str | None = None
    tokens: int | None = None
    seed: int = 0
    endpoint: str | None = None
    model: str | None = None

    def request(self, workspace: Workspace) -> BuildRequest:
        """What the compiler needs of it."""
        return BuildRequest(
            mixture=self.mixture,
            profile=self.profile,
            tokens=self.tokens,
            seed=self.seed,
            model=override_model(workspace, self.endpoint, self.model),
            elsewhere=override_endpoint(self.endpoint) is not None,
        )


def build(
    workspace: Workspace,
    out: Path,
    options: BuildOptions,
    *,
    make_card: Callable[[Mapping[str, Any]], Mapping[str, str]],
    wait: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Make the build and return its summary; a finished build costs no model call.

    `make_card` turns the build's facts into the texts that lie beside the shards, by file name.

    Ctrl-C finishes what is in flight and raises KeyboardInterrupt; the next run goes on.
    """
    started = time.monotonic()
    request = options.request(workspace)
    plan = compile_plan(workspace, request)
    check_before_run(workspace, plan, out)

    def finish_pack(
        context: StepContext, files: Sequence[FileEntry], extra: Mapping[str, Any]
    ) -> list[FileEntry]:
        entries = []
        for name, text in make_card(build_facts(workspace, plan, out, files, extra)).items():
            content = text.encode()
            write_bytes(context.directory / name, content)
            digest = file_sha256(context.directory / name)
            entries.append(
                FileEntry(path=name, rows=0, tokens=0, bytes=len(content), sha256=digest)
            )
        return entries

    sent = run_plan(
        workspace, out, plan, options, finishers={"pack": finish_pack}, wait=wait, quiet=quiet
    )
    directory = plan.build.directory(out)
    point_latest(out, plan.mixture, directory)
    return summary(plan, directory, sent, time.monotonic() - started)


def run_plan(
    workspace: Workspace,
    out: Path,
    plan: BuildPlan,
    options: BuildOptions,
    *,
    finishers: Mapping[str, Finisher],
    wait: bool,
    quiet: bool,
) -> int:
    """Bring every step of a plan to its manifest; returns how many requests were sent.

    Ctrl-C finishes what is in flight and raises KeyboardInterrupt.
    """
    profile = workspace.profile(options.profile)
    if profile.spec.executor != "local":
        raise WorkspaceError(
            f"the executor {profile.spec.executor!r} is not built yet",
            where=profile.where("executor"),
            fix="executor: local",
        )
    with (
        Services(
            workspace=workspace,
            profile=profile,
            ledger=ledger_path(workspace, profile),
            endpoint=options.endpoint,
        ) as services,
        Progress(quiet=quiet) as progress,
        _stop_on_interrupt(progress) as stopping,
    ):
        model = options.request(workspace).model
        if model is not None and model.licence == "unknown":
            progress.note(
                f"model {model.served_as!r} has no pin: its licence goes on every record "
                "as 'unknown'"
            )
        try:
            execute(
                plan,
                out,
                kinds=KINDS,
                services=services,
                progress=progress,
                stopping=stopping,
                finishers=finishers,
                wait=wait,
            )
        except Interrupted as error:
            progress.note("stopped; what was in flight is kept")
            raise KeyboardInterrupt from error
    return services.requests_sent


@contextmanager
def _stop_on_interrupt(progress: Progress) -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a request to stop; the second one ends the process.

    Nothing is lost by it: whatever is finished is durable, and a server of ours ends by itself.
    """
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return

    def stop(number: int, _frame: FrameType | None) -> None:
        if stopping.is_set():
            os._exit(_INTERRUPTED)
        stopping.set()
        progress.note("stopping: finishing what is in flight (again to stop at once)")

    before = {int(n): signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def point_latest(out: Path, mixture: str, directory: Path) -> None:
    """Point out/latest/<mixture> at the newest build of the mixture, in one rename.

    The link made last names the latest build of all, so an older one is made again.
    """
    link = out / "latest" / mixture
    target = os.path.relpath(directory, link.parent)
    if link.is_symlink() and link.readlink() == Path(target) and link == latest_link(out):
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    # Two builds may end at once: each has a temporary link of its own, and the last one wins.
    temporary = link.with_name(f".{mixture}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
    fsync_directory(link.parent)


def summary(plan: BuildPlan, directory: Path, calls: int, seconds: float) -> dict[str, Any]:
    """What `datagen build --json` ends with; `model_calls` counts requests sent by this run."""
    manifest = read_manifest(directory)
    return {
        "build": str(directory),
        "manifest_sha256": manifest_sha256(directory),
        "tokens": sum(entry.tokens for entry in manifest.files),
        "rows": manifest.rows,
        "model_calls": calls,
        "seconds": round(seconds, 3),
        "mixture": manifest.extra["mixture"],
        "diversity": manifest.extra["diversity"],
    }

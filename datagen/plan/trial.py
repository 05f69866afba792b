"""One recipe on a few rows, without a mixture: what it keeps, what it refuses, and why."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from datagen.errors import WorkspaceError
from datagen.generate.stamp import content_json
from datagen.plan.build import BuildOptions, run_plan
from datagen.plan.check import check_before_run
from datagen.plan.compile import compile_trial
from datagen.plan.draws import parse_draw
from datagen.plan.steps import BuildPlan
from datagen.record import Record, Reject
from datagen.shards.manifest import read_manifest
from datagen.shards.records import read_records, read_rejects
from datagen.workspace.load import Workspace

T = TypeVar("T")


def try_recipe(
    workspace: Workspace,
    out: Path,
    name: str,
    options: BuildOptions,
    *,
    rows: int,
    shown: int,
    quiet: bool = False,
) -> list[dict[str, Any]]:
    """Run `recipe` or `recipe@source` on `rows` rows; one report a source.

    A report counts seeds, kept, rejected and failed rows, and the reasons by stage; `records` and
    `rejects` show some of each, drawn by hash. Raises WorkspaceError where `any` source would do.
    """
    request = options.request(workspace)
    reports = []
    for draw in parse_draw(workspace, name, "RECIPE"):
        plan = compile_trial(workspace, request, draw, rows)
        check_before_run(workspace, plan, out)
        sent = run_plan(workspace, out, plan, options, finishers={}, wait=False, quiet=quiet)
        reports.append({**_report(plan, out, shown), "model_calls": sent})
    if not reports:
        raise WorkspaceError(f"recipe {name!r} has no source", where="RECIPE", fix="name one")
    return reports


def _report(plan: BuildPlan, out: Path, shown: int) -> dict[str, Any]:
    generate, last = (
        next(step for step in plan.steps if step.kind == kind) for kind in ("generate", "filter")
    )
    made = read_manifest(generate.directory(out))
    kept = read_manifest(last.directory(out))

    def paths(step_directory: Path, folder: str) -> list[Path]:
        return [step_directory / e.path for e in read_manifest(step_directory).files_under(folder)]

    rejects = [
        reject
        for step in (generate, last)
        for reject in read_rejects(paths(step.directory(out), "rejects"))
    ]
    records = read_records(paths(last.directory(out), "shards"))
    return {
        "recipe": plan.draws[0].name,
        "seeds": made.extra["seeds"],
        "kept": kept.extra["kept"],
        "rejected": made.extra["rejected"] + kept.extra["rejected"],
        "failed": made.extra["failed"],
        "reasons": {"generate": made.extra["reasons"], "filter": kept.extra["reasons"]},
        "records": [_record(one) for one in _some(records, shown, lambda record: record.id)],
        "rejects": [_reject(one) for one in _some(rejects, shown, _reject_key)],
    }


def _some(items: Iterable[T], shown: int, key: Callable[[T], str]) -> list[T]:
    """The `shown` items of the smallest hashes: a draw that does not depend on their order."""
    return sorted(items, key=lambda one: hashlib.sha256(key(one).encode()).digest())[:shown]


def _record(record: Record) -> dict[str, Any]:
    return {
        "id": record.id,
        "row_key": record.lineage.row_key,
        "content": content_json(record) if record.messages else record.text,
        "metadata": dict(record.metadata),
    }


def _reject_key(reject: Reject) -> str:
    return "\0".join((reject.row_key, reject.reason, reject.detail, reject.content or ""))


def _reject(reject: Reject) -> dict[str, Any]:
    return {
        "row_key": reject.row_key,
        "stage": reject.stage,
        "reason": reject.reason,
        "detail": reject.detail,
        "content": reject.content,
        "metadata": dict(reject.metadata),
    }

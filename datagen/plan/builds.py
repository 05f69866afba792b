"""Finished builds: finding one, checking its bytes, drawing a preview, dropping the rest."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from datagen.errors import DataError
from datagen.plan.fingerprint import FINGERPRINT_DIGITS
from datagen.shards import sql
from datagen.shards.manifest import (
    MANIFEST_NAME,
    is_finished,
    manifest_sha256,
    read_manifest,
    verify_files,
)
from datagen.shards.parquet import fsync_directory

_LATEST = "latest"
_BUILD_STEP = "pack"
_FINGERPRINT = re.compile(rf"[0-9a-f]{{{FINGERPRINT_DIGITS}}}")


def find_build(out: Path, name: str | None) -> Path:
    """A build by folder, mixture (its latest) or fingerprint; None is the one made last.

    Raises DataError naming the builds that there are, also for a step that is no build.
    """
    latest = _latest(out)
    fix = f"name one of: {', '.join(p.name for p in latest)}" if latest else "run datagen build"
    if name is None:
        newest = latest_link(out)
        if newest is None:
            raise DataError("no build here", where=str(out), fix=fix)
        return _build(newest, fix)
    if (Path(name) / MANIFEST_NAME).is_file():
        return _build(Path(name), fix)
    if (out / _LATEST / name).is_symlink():
        return _build(out / _LATEST / name, fix)
    if name.isalnum():
        builds = sorted((out / _BUILD_STEP).glob(f"{name}*"))
        others = (step for step in _steps_on_disk(out) if step.name.startswith(name))
        found = builds or [step for step in others if is_finished(step)]
        if len(found) == 1:
            return _build(found[0], fix)
    raise DataError(f"no build {name!r}", where=str(out), fix=fix)


def _build(path: Path, fix: str) -> Path:
    directory = _finished(path)
    kind = read_manifest(directory).kind
    if kind != _BUILD_STEP:
        raise DataError(
            f"this is a step of kind {kind}, not a build", where=str(directory), fix=fix
        )
    return directory


def _latest(out: Path) -> list[Path]:
    """The links to the newest build of each mixture, by name."""
    links = (out / _LATEST).glob("*")
    return sorted(p for p in links if p.is_symlink() and not p.name.startswith("."))


def latest_link(out: Path) -> Path | None:
    """The link of the build that was made last, whatever its mixture."""
    return max(_latest(out), key=lambda link: link.lstat().st_mtime_ns, default=None)


def _finished(path: Path) -> Path:
    directory = path.resolve()
    if not is_finished(directory):
        raise DataError(
            "this build is not finished", where=str(directory), fix="run datagen build again"
        )
    return directory


def verify(build: Path, out: Path) -> dict[str, int | str]:
    """Check the hash of every file and manifest that a build rests on, and of its own files.

    `manifest_sha256` in the result is for the reader to compare: it vouches for all the rest.
    Raises DataError listing the files that differ.
    """
    problems: list[str] = []
    counts = {"steps": 0, "files": 0, "bytes": 0}
    steps = sql.closure(build, out)
    promised: dict[Path, dict[str, str]] = {}
    for step in steps:
        for name, digest in step.manifest.input_sha256.items():
            directory = out.resolve() / name / step.manifest.inputs.get(name, "unknown")
            promised.setdefault(directory, {})[digest] = step.manifest.step
    for step in steps:
        counts["steps"] += 1
        own = manifest_sha256(step.directory)
        for digest, reader in promised.get(step.directory, {}).items():
            if digest != own:
                path = step.directory / MANIFEST_NAME
                problems.append(f"{path}: not what step {reader} read")
        counts["files"] += len(step.manifest.files)
        counts["bytes"] += sum(entry.bytes for entry in step.manifest.files)
        problems += verify_files(step.directory, step.manifest.files)
    if problems:
        more = f"\n  and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise DataError(
            f"{len(problems)} of {counts['files']} files are not what the manifest says:\n  "
            + "\n  ".join(problems[:10])
            + more,
            where=str(build),
            fix="delete the folders named above and build again: the ledger keeps every answer",
        )
    return {**counts, "manifest_sha256": manifest_sha256(build)}


def preview(
    build: Path, out: Path, recipe: str, count: int, seed: int, *, rejects: bool = False
) -> list[dict[str, Any]]:
    """Draw records (or rejects) of a recipe: the `count` smallest hashes of seed and id."""
    view, key, columns = (
        ("rejects", "coalesce(record_id, row_key || coalesce(content, detail))", _REJECT_COLUMNS)
        if rejects
        else ("records", "id", _RECORD_COLUMNS)
    )
    name = recipe.replace("'", "''")
    answer = sql.query(
        sql.connect(build, out),
        f"SELECT {columns} FROM {view} WHERE generator = '{name}' "
        f"ORDER BY md5('{seed}' || {key}), {key} LIMIT {count}",
    )
    if not answer.rows:
        raise DataError(
            f"recipe {recipe!r} has no {view} in this build",
            where=str(build),
            fix=f'datagen sql "SELECT generator, count(*) FROM {view} GROUP BY 1"',
        )
    return [_readable(dict(zip(answer.columns, row, strict=True))) for row in answer.rows]


_RECORD_COLUMNS = "id, source, row_key, text, messages, metadata"
_REJECT_COLUMNS = "record_id AS id, source, row_key, stage, reason, detail, content, metadata"


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its empty columns, its JSON metadata spread out."""
    metadata = orjson.loads(row.pop("metadata") or "{}")
    shown = {name: value for name, value in row.items() if value is not None or name == "id"}
    return {**shown, **{name: value for name, value in metadata.items() if name not in shown}}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFacts:
    """What a trainer must know of a build."""

    shards: tuple[Path, ...]
    vocabulary: int
    row_tokens: int
    tokenizer: str


def token_facts(build: Path) -> TokenFacts:
    """The token shards of a build in order, its vocabulary and the length of its rows."""
    manifest = read_manifest(build)
    return TokenFacts(
        shards=tuple(build / entry.path for entry in manifest.files_under("shards")),
        vocabulary=manifest.extra["vocabulary"],
        row_tokens=manifest.extra["row_tokens"],
        tokenizer=manifest.extra["tokenizer"],
    )


def _steps_on_disk(out: Path) -> Iterator[Path]:
    """Every step directory, finished or not: `<kind>/.../<fingerprint>`, and nothing else.

    Whatever other folder `--out` may name by mistake has no such directories.
    """
    from datagen.plan.kinds import KINDS

    for kind in KINDS:
        for folder, names, _ in os.walk(out / kind):
            found = sorted(name for name in names if _FINGERPRINT.fullmatch(name))
            names[:] = sorted(set(names) - set(found))
            yield from (Path(folder) / name for name in found)


def collect_garbage(out: Path, *, dry_run: bool) -> list[tuple[str, int]]:
    """Drop step folders that no latest build rests on; returns names and bytes.

    Raises WorkspaceError while a build runs here, DataError where a latest build is broken.
    """
    if dry_run or not out.is_dir():
        return _garbage(out)
    from datagen.plan.execute import lock
    from datagen.plan.progress import Progress

    with lock(out, wait=False, progress=Progress(quiet=True)):
        dropped = _garbage(out)
        for name, _ in dropped:
            _drop(out / name, out)
        shutil.rmtree(out / ".parts", ignore_errors=True)
        for left_over in (out / _LATEST).glob(".*.tmp"):
            left_over.unlink()
    return dropped


def _garbage(out: Path) -> list[tuple[str, int]]:
    needed = set()
    for link in _latest(out):
        needed |= {step.directory for step in sql.closure(_finished(link), out)}
    return [
        (
            directory.relative_to(out).as_posix(),
            sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()),
        )
        for directory in sorted(_steps_on_disk(out))
        if directory.resolve() not in needed
    ]


def _drop(directory: Path, out: Path) -> None:
    # The manifest goes first: killed half-way, the step must not pass for a finished one.
    (directory / MANIFEST_NAME).unlink(missing_ok=True)
    fsync_directory(directory)
    shutil.rmtree(directory)
    for parent in directory.parents:
        if parent == out or any(parent.iterdir()):
            break
        parent.rmdir()

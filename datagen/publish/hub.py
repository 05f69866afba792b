"""A finished build to a data set repository on a Hugging Face hub, in one commit.

Readers of the repository see the old build or the new one, never a mixture of both.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from datagen.errors import DataError, WorkspaceError
from datagen.shards.hub import hub_errors, hub_failure
from datagen.shards.manifest import MANIFEST_NAME, verify_files
from datagen.shards.sql import FinishedStep, closure, final_records

OWN_FOLDERS = ("shards/", "records/", "provenance/")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishFile:
    """A local file and its path in the repository."""

    path_in_repo: str
    path: Path
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishPlan:
    """What would be uploaded, every hash verified."""

    repo: str
    private: bool
    files: tuple[PublishFile, ...]

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Where the data set lies, the commit that holds it, and files of an older build it dropped."""

    url: str
    revision: str
    removed: tuple[str, ...]


def plan_publication(build: Path, out: Path, repo: str, *, private: bool = True) -> PublishPlan:
    """List what publishing would upload, without network, after verifying every hash.

    The build itself, the curated records of its upstream as `records/`, and the manifest of each
    upstream step as `provenance/`. DataError for a damaged file; WorkspaceError for a bad name.
    """
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]{0,95}", repo, re.ASCII):
        raise WorkspaceError(f"{repo!r} is no repository name", where="--repo", fix="say ORG/NAME")
    first, *upstream = closure(build, out)
    final = {step.manifest.step for step in final_records(upstream)}
    files = [*_step_files(first, ""), _file(first.directory / MANIFEST_NAME, MANIFEST_NAME)]
    for step in upstream:
        name = step.manifest.step
        if name in final:
            files += _step_files(step, f"records/{name.partition('/')[2]}/", "shards")
        files.append(_file(step.directory / MANIFEST_NAME, f"provenance/{name}/{MANIFEST_NAME}"))
    ordered = tuple(sorted(files, key=lambda file: file.path_in_repo))
    return PublishPlan(repo=repo, private=private, files=ordered)


def _file(path: Path, path_in_repo: str) -> PublishFile:
    return PublishFile(path_in_repo=path_in_repo, path=path, bytes=path.stat().st_size)


def _step_files(step: FinishedStep, prefix: str, folder: str | None = None) -> list[PublishFile]:
    entries = step.manifest.files if folder is None else step.manifest.files_under(folder)
    if problems := verify_files(step.directory, entries):
        raise DataError(
            "\n  ".join(problems[:10]),
            fix="delete the step's directory and build again: the ledger keeps every answer",
        )
    strip = f"{folder}/" if folder else ""
    return [
        _file(step.directory / entry.path, prefix + entry.path.removeprefix(strip))
        for entry in entries
    ]


def publish(
    plan: PublishPlan, *, token_env: str = "HF_TOKEN", endpoint: str | None = None
) -> Published:
    """Create the repository where it does not exist and commit the plan's files to it.

    Files that an older build left in OWN_FOLDERS go in the same commit; others stay. The token
    comes from the environment variable `token_env`, else from the hub's own login. A failed upload
    may be run again: what arrived is not sent twice. Raises ServiceError.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(endpoint=endpoint, token=os.environ.get(token_env) or None)
    where = f"{api.endpoint}/datasets/{plan.repo}"
    names = {file.path_in_repo for file in plan.files}
    # The client wraps a failed upload in RuntimeError, and refused metadata in ValueError.
    failures: tuple[type[Exception], ...] = (*hub_errors(), RuntimeError, ValueError)
    try:
        api.create_repo(plan.repo, repo_type="dataset", private=plan.private, exist_ok=True)
        there = api.list_repo_files(plan.repo, repo_type="dataset")
        stale = sorted(f for f in there if f.startswith(OWN_FOLDERS) and f not in names)
        commit = api.create_commit(
            plan.repo,
            [
                *(CommitOperationAdd(f.path_in_repo, str(f.path)) for f in plan.files),
                *(CommitOperationDelete(path) for path in stale),
            ],
            commit_message="Publish a datagen build",
            repo_type="dataset",
        )
    except failures as error:
        raise hub_failure(error, where, token_env=token_env) from error
    return Published(url=where, revision=str(commit.oid), removed=tuple(stale))

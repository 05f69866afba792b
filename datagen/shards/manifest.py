"""The manifest of a step: written last, so a directory that has one is finished.

It holds no time, path or run counter: equal inputs give equal bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from datagen.errors import DataError
from datagen.shards.parquet import FileEntry, file_sha256, write_bytes

MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardManifest:
    """What a finished step wrote, from what, with which code.

    `inputs` maps each upstream step's name to its fingerprint, `input_sha256` to the hash of its
    manifest, so that the hash of one manifest vouches for all that it rests on. `extra` holds the
    step's own figures (counts by reason, shares, tokenizer) as JSON values.
    """

    kind: str
    step: str
    fingerprint: str
    files: tuple[FileEntry, ...]
    inputs: Mapping[str, str]
    code_version: str
    input_sha256: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def files_under(self, folder: str) -> tuple[FileEntry, ...]:
        """The files in one folder of the step, in path order."""
        return tuple(f for f in self.files if f.path.startswith(f"{folder}/"))

    @property
    def rows(self) -> int:
        """Rows of the main output, `shards/`."""
        return sum(f.rows for f in self.files_under("shards"))


def manifest_bytes(manifest: ShardManifest) -> bytes:
    """The manifest as indented JSON with sorted keys."""
    return orjson.dumps(
        dataclasses.asdict(manifest), option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2
    )


def write_manifest(directory: Path, manifest: ShardManifest) -> None:
    """Commit a step: every listed file is durable already, the manifest comes last."""
    write_bytes(directory / MANIFEST_NAME, manifest_bytes(manifest) + b"\n")


def read_manifest(directory: Path) -> ShardManifest:
    """Read a finished step's manifest; DataError where there is none or it is not one."""
    path = directory / MANIFEST_NAME
    try:
        data = orjson.loads(path.read_bytes())
        data["files"] = tuple(FileEntry(**entry) for entry in data["files"])
        return ShardManifest(**data)
    except FileNotFoundError as error:
        raise DataError(
            "no finished step here", where=str(directory), fix="datagen build makes it"
        ) from error
    except (orjson.JSONDecodeError, TypeError, KeyError) as error:
        raise DataError(
            f"not a manifest: {error}", where=str(path), fix="delete the directory and build again"
        ) from error


def manifest_sha256(directory: Path) -> str:
    """The hash that names a finished step: that of its manifest's bytes."""
    return file_sha256(directory / MANIFEST_NAME)


def is_finished(directory: Path) -> bool:
    """Whether the step in `directory` has its manifest."""
    return (directory / MANIFEST_NAME).is_file()


def verify_files(directory: Path, files: Sequence[FileEntry]) -> list[str]:
    """Compare each listed file with its size and sha256; one line a difference."""
    problems = []
    for entry in files:
        path = directory / entry.path
        if not path.is_file():
            problems.append(f"{path}: missing")
        elif path.stat().st_size != entry.bytes:
            problems.append(f"{path}: {path.stat().st_size} bytes, the manifest says {entry.bytes}")
        elif (found := file_sha256(path)) != entry.sha256:
            problems.append(f"{path}: sha256 {found[:12]}, the manifest says {entry.sha256[:12]}")
    return problems

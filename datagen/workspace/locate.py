"""Where the workspace is, and which paths lie inside it."""

from __future__ import annotations

import shutil
from pathlib import Path

from datagen.errors import WorkspaceError

WORKSPACE_FILE = "datagen.yaml"
FOLDERS = ("generators", "filters", "mixtures", "manifests")


def find_workspace(start: Path) -> Path:
    """The nearest folder at or above `start` that holds datagen.yaml."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / WORKSPACE_FILE).is_file():
            return folder
    raise WorkspaceError(
        f"no {WORKSPACE_FILE} here or above",
        where=str(start),
        fix="datagen init DIR writes a workspace; or name one with --workspace DIR",
    )


def starter() -> Path:
    """The starter workspace: inside an installed wheel, or the checkout itself."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "starter"
    return installed if (installed / WORKSPACE_FILE).is_file() else package.parent


def init_workspace(target: Path) -> list[str]:
    """Copy the starter into `target`; return what was written. Nothing existing is overwritten."""
    source = starter()
    present = [n for n in (WORKSPACE_FILE, *FOLDERS) if (target / n).exists()]
    if present:
        raise WorkspaceError(
            f"already holds {', '.join(present)}", where=str(target), fix="name an empty folder"
        )
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source / WORKSPACE_FILE, target / WORKSPACE_FILE)
    for folder in FOLDERS:
        shutil.copytree(source / folder, target / folder)
    (target / ".gitignore").write_text("/out/\n/.datagen/\n", encoding="utf-8")
    return [WORKSPACE_FILE, *FOLDERS, ".gitignore"]


def inside(root: Path, relative: str, *, where: str) -> Path:
    """Resolve a path that YAML names; refuse one that leaves the workspace.

    Absolute paths, `..`, NUL and symlinks that lead outside raise WorkspaceError.
    """
    path = Path(relative)
    if "\0" in relative or path.is_absolute() or ".." in path.parts:
        problem = "must be relative to the workspace, without '..'"
    else:
        full = root / path
        if full.resolve().is_relative_to(root.resolve()):
            return full
        problem = "leads outside the workspace through a link"
    raise WorkspaceError(
        f"path {relative!r} {problem}",
        where=where,
        fix="move the file into the workspace; data elsewhere: '${VAR}/...' in a profile",
    )

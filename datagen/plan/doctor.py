"""`datagen doctor`: what this machine can run, and what to do about the rest."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from datagen.agent.sandbox import sandbox_problem
from datagen.errors import DatagenError
from datagen.workspace.load import Workspace

_EXTRAS = {
    "spacy": ("text", "sentence splitting"),
    "datatrove": ("text", "datatrove's filters"),
    "selectolax": ("text", "reading HTML"),
    "xllamacpp": ("local", "the embedded model's server"),
    "datasets": ("hub", "hub sources"),
    "torch": ("train", "training"),
    "ray": ("ray", "the ray executor"),
}
_FREE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of the installation: `ok`, `missing` (something cannot be used) or `broken`."""

    part: str
    state: str
    found: str
    fix: str

    def as_json(self) -> dict[str, Any]:
        """The part as a JSON object."""
        return asdict(self)


def examine(workspace: Workspace) -> list[Part]:
    """Look at Python, extras, the sandbox, weights, ledger folder and disk."""
    return [
        Part(part="python", state="ok", found=sys.version.split()[0], fix=""),
        *_extras(),
        _sandbox(),
        *_workspace_parts(workspace),
    ]


def _extras() -> Iterator[Part]:
    for module, (extra, use) in _EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            fix = f"pip install 'datagen[{extra}]' for {use}"
            yield Part(part=module, state="missing", found="not installed", fix=fix)
        else:
            version = importlib.metadata.version(module)
            yield Part(part=module, state="ok", found=version, fix="")


def _sandbox() -> Part:
    """Whether code that a model wrote can be run here; where not, recipes that need it refuse."""
    problem = sandbox_problem()
    return Part(
        part="sandbox",
        state="missing" if problem else "ok",
        found=problem or "holds",
        fix="docs/sandbox.md names the packages" if problem else "",
    )


def _workspace_parts(workspace: Workspace) -> Iterator[Part]:
    profile = workspace.profile(None)
    seen: set[str] = set()
    for role, served in profile.spec.models.items():
        try:
            model = workspace.model(served.model, profile.where("models", role)).spec
        except DatagenError as error:
            yield Part(
                part=f"model {role}", state="broken", found=error.message, fix=str(error.fix)
            )
            continue
        if model.embedded is not None and model.name not in seen:
            seen.add(model.name)
            from datagen.llm.embedded import find_weights

            path = find_weights(model.embedded)
            state = "ok" if path else "missing"
            fix = "" if path else "scripts/quickstart fetches it; so does the first build"
            found = "in the cache" if path else "not in the cache"
            yield Part(part=f"weights {model.name}", state=state, found=found, fix=fix)
    folder = (workspace.root / profile.spec.ledger).parent
    writable = os.access(folder if folder.exists() else workspace.root, os.W_OK)
    yield Part(
        part="ledger folder",
        state="ok" if writable else "broken",
        found=str(folder),
        fix="" if writable else "make it writable, or set 'ledger:' in the profile",
    )
    free = shutil.disk_usage(workspace.root).free
    yield Part(
        part="disk",
        state="ok" if free > _FREE_BYTES else "missing",
        found=f"{free / 1e9:.1f} GB free",
        fix="" if free > _FREE_BYTES else "free some space",
    )

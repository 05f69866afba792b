"""Steps and plans: what a build will do, before it does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One content-addressed step: its output lies in out/<name>/<fingerprint>/.

    `arguments` is plain JSON and, with the inputs' fingerprints and the code version, decides the
    fingerprint. `hints` are for the eyes of a person (how many rows or calls to expect).
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    arguments: Mapping[str, Any]
    code_version: str
    fingerprint: str
    hints: Mapping[str, int] = field(default_factory=dict)

    def directory(self, out: Path) -> Path:
        """Where the step's output lies."""
        return out / self.name / self.fingerprint

    @property
    def models(self) -> list[Mapping[str, Any]]:
        """The identities of the models that a `generate` step asks, the main one first."""
        main = self.arguments.get("model") if self.kind == "generate" else None
        return [] if main is None else list(self.arguments.get("models", {"": main}).values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """A recipe on a source, as a mixture draws it: `fact_seeking@finewiki`."""

    recipe: str
    source: str

    @property
    def name(self) -> str:
        """The name that steps and reports carry."""
        return f"{self.recipe}@{self.source}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """A mixture compiled to steps in an order that can be run."""

    mixture: str
    profile: str
    budget_tokens: int
    row_tokens: int
    seed: int
    tokenizer: str
    draws: tuple[Draw, ...]
    steps: tuple[Step, ...]
    model: str | None = None

    def step(self, name: str) -> Step:
        """The step of this name."""
        return next(step for step in self.steps if step.name == name)

    @property
    def build(self) -> Step:
        """The last step, whose output is the build."""
        return self.steps[-1]

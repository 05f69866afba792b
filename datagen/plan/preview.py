"""What a build would do and spend, from specs, pins and finished manifests alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from datagen.errors import DatagenError, WorkspaceError
from datagen.mix.allocate import implied_epochs
from datagen.mix.schedule import Phase, phases_of
from datagen.plan.build import BuildOptions
from datagen.plan.compile import compile_plan
from datagen.plan.draws import draws_of, mixtures_of
from datagen.plan.execute import is_current
from datagen.plan.steps import BuildPlan
from datagen.workspace.load import Workspace

# Measured on packed rows: ids and mask take 2.3 bytes a token as zstd Parquet, twice on disk
# (documents, rows), and the text with its lineage about 6 a token in each of five steps.
_DISK_BYTES_PER_TOKEN = 35


def describe_plan(
    workspace: Workspace, out: Path, options: BuildOptions, *, horizon: bool
) -> dict[str, Any]:
    """The mixture's categories at a budget, and the steps with what is cached.

    `horizon`: without a budget take the mixture's own horizon, else the profile's budget. A
    profile whose sources cannot be pinned here still gives the categories, with a note why.
    """
    profile = workspace.profile(options.profile).spec
    mixture = workspace.mixture(options.mixture, "--mixture").spec
    tokens = options.tokens or (mixture.horizon_tokens if horizon else profile.budget_tokens)
    phases = phases_of(mixture, tokens, lambda name: workspace.mixture(name).spec)
    sized = profile.sources == "hub" or (horizon and options.tokens is None)
    notes = []
    try:
        request = replace(options, tokens=tokens).request(workspace)
        steps = _describe_steps(compile_plan(workspace, request), out)
    except WorkspaceError:
        raise
    except DatagenError as error:
        steps, notes = [], [f"steps unknown: {error.message}"]
    sums = {p.name: sum(c.share for c in p.mixture.categories.values()) for p in phases}
    for name, total in sums.items():
        if abs(total - 100) > 0.001:
            notes.append(f"{name}: shares sum to {total:g} as printed, normalised to 100")
    for phase in phases:
        empty = [name for name, spec in phase.mixture.categories.items() if not spec.draw]
        if empty:
            notes.append(
                f"{phase.name}: no source for {', '.join(empty)}: "
                f"{phase.mixture.without_source} (without_source)"
            )
    to_run = [step for step in steps if step["state"] == "to run"]
    return {
        "mixture": mixture.name,
        "profile": options.profile or workspace.file.spec.default_profile,
        "tokens": tokens,
        "categories": [
            line for phase in phases for line in _categories(workspace, phase, sized=sized)
        ],
        "notes": notes,
        "steps": steps,
        "totals": {
            "steps": len(to_run),
            "calls": sum(step["calls"] or 0 for step in to_run),
            "completion_tokens": sum(step["completion_tokens"] for step in to_run),
            "disk_bytes": tokens * _DISK_BYTES_PER_TOKEN if to_run else 0,
        },
    }


def _categories(workspace: Workspace, phase: Phase, *, sized: bool) -> list[dict[str, Any]]:
    """One line a category: its tokens, and the epochs that its sources' sizes imply.

    `sized`: whether the manifests' token counts speak of what would be read; a sample's do not.
    """
    categories = phase.mixture.categories
    total = sum(spec.share for spec in categories.values())
    draws = draws_of(workspace, mixtures_of(workspace, phase.name))
    lines = []
    for name, spec in categories.items():
        share = spec.share / total
        sizes = [
            workspace.source(draw.source).spec.tokens for text in spec.draw for draw in draws[text]
        ]
        known = [size for size in sizes if size is not None]
        size = sum(known) if sized and sizes and len(known) == len(sizes) else None
        epochs = implied_epochs(phase.tokens, share, size)
        lines.append(
            {
                "phase": phase.name,
                "category": name,
                "share": round(100 * share, 2),
                "tokens": round(phase.tokens * share),
                "epochs": None if epochs is None else round(epochs, 2),
                "draws": ", ".join(spec.draw) or "none",
            }
        )
    return lines


def _describe_steps(plan: BuildPlan, out: Path) -> list[dict[str, Any]]:
    return [
        {
            "step": step.name,
            "kind": step.kind,
            "fingerprint": step.fingerprint,
            "state": "cached" if is_current(step, plan, out) else "to run",
            "rows": step.hints.get("rows"),
            "calls": step.hints.get("calls", 0),
            "completion_tokens": step.hints.get("tokens", 0) if step.kind == "generate" else 0,
        }
        for step in plan.steps
    ]

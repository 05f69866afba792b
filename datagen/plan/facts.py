"""What a dataset card says of a build, gathered from manifests as plain values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datagen import __version__
from datagen.plan.execute import merge_figures
from datagen.plan.steps import BuildPlan, Step
from datagen.shards.manifest import ShardManifest, read_manifest
from datagen.shards.parquet import FileEntry, read_batches
from datagen.shards.sql import RECORD_KINDS
from datagen.workspace.load import Workspace

_SEED_REASONS = ("empty", "evaluation_item", "evaluation_split", "unknown_licence")

_DIVERSITY = (
    "records",
    "sampled",
    "distinct_2",
    "self_bleu",
    "effective_texts",
    "opening",
    "opening_share",
    "words_p50",
)


def build_facts(
    workspace: Workspace,
    plan: BuildPlan,
    out: Path,
    files: Sequence[FileEntry],
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """The facts of a build whose shards are written and whose manifest is not yet."""
    manifests = {
        step.name: read_manifest(step.directory(out)) for step in plan.steps if step != plan.build
    }
    mixture = workspace.mixture(plan.mixture).spec
    tokenizer = workspace.tokenizer(plan.tokenizer).spec
    return {
        "title": f"{mixture.title} ({mixture.name})",
        "mixture": plan.mixture,
        "fingerprint": plan.build.fingerprint,
        "version": __version__,
        "tokens": sum(entry.tokens for entry in files),
        "rows": sum(entry.rows for entry in files if entry.path.startswith("shards/")),
        "records": sum(line["records"] for line in extra["diversity"]),
        "row_tokens": plan.row_tokens,
        "tokenizer": tokenizer.name,
        "tokenizer_licence": tokenizer.licence,
        "command": f"datagen build --mixture {plan.mixture} --profile {plan.profile} "
        f"--tokens {plan.budget_tokens} --seed {plan.seed}"
        + (f" --model {plan.model}" if plan.model else ""),
        "lines": [
            {
                "category": _category(line, extra["mixture"]),
                **{k: line[k] for k in ("requested", "realised", "tokens", "epochs")},
            }
            for line in extra["mixture"]
        ],
        "sources": _sources(workspace, plan, out, manifests),
        "teachers": _teachers(workspace, plan),
        "stages": _stages(plan, manifests),
        "diversity": [_diversity(line) for line in extra["diversity"]],
        "corpus": _corpus(plan, manifests),
    }


def _category(line: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> str:
    """A category's name, with its phase where the mixture has several."""
    several = len({other["phase"] for other in lines}) > 1
    return f"{line['phase']}: {line['category']}" if several else str(line["category"])


def _sources(
    workspace: Workspace, plan: BuildPlan, out: Path, manifests: Mapping[str, ShardManifest]
) -> list[dict[str, Any]]:
    facts = []
    for step in plan.steps:
        if step.kind != "seeds":
            continue
        spec = workspace.source(step.arguments["source"]["name"]).spec
        manifest = manifests[step.name]
        licences: Counter[str] = Counter()
        for batch in read_batches(
            [step.directory(out) / entry.path for entry in manifest.files_under("shards")],
            ["licence"],
        ):
            licences.update(batch.column(0).to_pylist())
        from_hub = "hub" in step.arguments["pin"]
        facts.append(
            {
                "name": spec.name,
                "title": spec.title if from_hub else f"{spec.title} (local files)",
                "licences": tuple(sorted(licences)),
                "rows": manifest.rows,
                "revision": _revision(step),
                "hub_id": spec.hub.id if spec.hub is not None and from_hub else None,
                "language": spec.language,
            }
        )
    return facts


def _revision(step: Step) -> str | None:
    pin = step.arguments["pin"]
    if "hub" in pin:
        revision: str | None = pin["hub"]["revision"]
        return revision
    digests = sorted(set(pin["files"].values()))
    return "sha256 " + ", ".join(digest[:12] for digest in digests)


def _teachers(workspace: Workspace, plan: BuildPlan) -> list[dict[str, Any]]:
    facts: dict[str, dict[str, Any]] = {}
    for model in (model for step in plan.steps for model in step.models):
        known = model["name"] in workspace.names("manifests/models")
        pin = workspace.model(model["name"]).spec if known else None
        facts[model["name"]] = {
            "name": model["name"],
            "title": pin.title if pin else model["served_as"],
            "licence": model["licence"],
            "revision": model["revision"],
            "terms": pin.terms if pin else None,
            "embedded": pin is not None and pin.embedded is not None,
        }
    return list(facts.values())


def _stages(plan: BuildPlan, manifests: Mapping[str, ShardManifest]) -> list[dict[str, Any]]:
    facts: list[dict[str, Any]] = []
    for name, drawn in manifests.items():
        counts = drawn.extra.get("counts", {})
        refused = {n: counts[n] for n in _SEED_REASONS if counts.get(n)}
        if drawn.kind == "seeds" and refused:
            source = name.removeprefix("seeds/")
            facts.append(
                {"recipe": source, "stage": "seeds", "kept": drawn.rows, "rejected": refused}
            )
    for draw in plan.draws:
        for stage in RECORD_KINDS:
            manifest = manifests.get(f"{stage}/{draw.name}")
            if manifest is not None:
                facts.append(
                    {
                        "recipe": draw.name,
                        "stage": stage,
                        # A step over no rows at all has no figures.
                        "kept": manifest.extra.get("kept", 0),
                        "rejected": manifest.extra.get("reasons", {}),
                    }
                )
    return facts


def _diversity(figures: Mapping[str, Any]) -> dict[str, Any]:
    """What the card says of a draw's figures; SQL has all of them."""
    return {
        "recipe": f"{figures['generator']}@{figures['source']}",
        **{name: figures[name] for name in _DIVERSITY},
    }


def _corpus(plan: BuildPlan, manifests: Mapping[str, ShardManifest]) -> dict[str, Any]:
    clusters = plan.step("clusters").arguments
    facts: dict[str, Any] = {"exact": clusters["exact"], "minhash": clusters["minhash"]}
    found: dict[str, Any] = {}
    for step in plan.steps:
        if step.kind == "decontaminate":
            facts["decontaminate"] = {
                **step.arguments["spec"],
                "benchmarks": sorted(step.arguments["benchmarks"]),
            }
            found = merge_figures(found, manifests[step.name].extra.get("contamination", {}))
    if found:
        facts["contamination"] = found
    return facts

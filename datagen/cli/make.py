"""`datagen build` and `datagen plan`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from datagen.cli.common import (
    json_option,
    open_workspace,
    out_folder,
    out_option,
    plan_options,
    print_json,
    print_table,
    recipe_options,
    workspace_option,
)

_NAMED_STEPS = 3
_NAMED_RECIPES = 5


@click.command(name="build")
@plan_options
@workspace_option
@out_option
@json_option
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@click.option("--wait", is_flag=True, help="Wait for another build here to end.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def build_command(
    workspace_dir: Path | None,
    out_dir: Path | None,
    as_json: bool,
    dry_run: bool,
    wait: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Make a mixture: packed token shards, their manifest and card."""
    from datagen.plan.build import BuildOptions, build

    workspace = open_workspace(workspace_dir)
    out = out_folder(workspace, out_dir)
    chosen = BuildOptions(**options)
    if dry_run:
        _print_plan(workspace, out, chosen, as_json=as_json, horizon=False)
        return
    summary = build(workspace, out, chosen, wait=wait, make_card=_card_files, quiet=quiet)
    if as_json:
        print_json(summary)
        return
    print_mixture(summary["mixture"])
    click.echo()
    print_diversity(summary["diversity"])
    click.echo(
        f"\n{summary['tokens']:,} tokens in {summary['rows']:,} rows, "
        f"{summary['model_calls']:,} model calls, {summary['seconds']:.1f} s\n{summary['build']}"
    )


@click.command(name="try")
@click.argument("recipe")
@click.option("-n", "rows", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--show", "shown", type=click.IntRange(min=0), default=3, show_default=True)
@recipe_options
@workspace_option
@out_option
@json_option
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def try_command(
    recipe: str,
    rows: int,
    shown: int,
    workspace_dir: Path | None,
    out_dir: Path | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Run RECIPE (or RECIPE@SOURCE) on ROWS rows: counts, reasons, some records and rejects."""
    from datagen.plan.build import BuildOptions
    from datagen.plan.trial import try_recipe

    workspace = open_workspace(workspace_dir)
    out = out_folder(workspace, out_dir)
    chosen = BuildOptions(**options)
    reports = try_recipe(workspace, out, recipe, chosen, rows=rows, shown=shown, quiet=quiet)
    if as_json:
        print_json(reports)
        return
    for report in reports:
        _print_trial(report)


def _print_trial(report: Mapping[str, Any]) -> None:
    click.echo(
        f"{report['recipe']}: {report['seeds']} seeds, {report['kept']} kept, "
        f"{report['rejected']} rejected, {report['failed']} failed, "
        f"{report['model_calls']} model calls"
    )
    reasons = [
        [stage, reason, count]
        for stage, found in report["reasons"].items()
        for reason, count in found.items()
    ]
    if reasons:
        print_table(["stage", "reason", "rows"], reasons, right=["rows"])
    for kind in ("records", "rejects"):
        for row in report[kind]:
            click.echo()
            said = f"{row['reason']}: {row['detail']}" if kind == "rejects" else row["id"]
            click.echo(click.style(f"{row['row_key']}  {said}", bold=True))
            if row["content"]:
                click.echo(row["content"])
            for name, value in row["metadata"].items():
                click.echo(f"{name}: {value}")


def _card_files(facts: Mapping[str, Any]) -> dict[str, str]:
    """The card and the licences of a build, by file name."""
    from datagen.publish.card import (
        BuildFacts,
        DiversityFact,
        MixtureLine,
        SourceFact,
        StageFact,
        TeacherFact,
        card,
        notice,
    )

    nested = {
        "lines": MixtureLine,
        "sources": SourceFact,
        "teachers": TeacherFact,
        "stages": StageFact,
        "diversity": DiversityFact,
    }
    typed = {name: tuple(kind(**fact) for fact in facts[name]) for name, kind in nested.items()}
    build = BuildFacts(**{**facts, **typed})
    return {"README.md": card(build), "LICENSE.md": notice(build)}


def print_mixture(mixture: list[dict[str, Any]]) -> None:
    """The table of shares: what was asked for, what came out, in per cent of tokens."""
    heads = ["phase"] if len({m["phase"] for m in mixture}) > 1 else []
    print_table(
        [*heads, "category", "requested %", "realised %", "tokens", "epochs", ""],
        [
            [
                *(m[head] for head in heads),
                m["category"],
                m["requested"],
                m["realised"],
                m["tokens"],
                m["epochs"],
                "at its epoch cap" if m["capped"] else "",
            ]
            for m in mixture
        ],
        right=["requested %", "realised %", "tokens", "epochs"],
    )


def print_diversity(lines: list[dict[str, Any]]) -> None:
    """The least varied recipes, by self-BLEU; the views `diversity` and `histograms` have all."""
    measured = [line for line in lines if line["self_bleu"] is not None]
    least = sorted(measured, key=lambda line: -line["self_bleu"])[:_NAMED_RECIPES]
    heads = ["least varied", "records", "self-BLEU", "distinct-2", "clusters", "opening", "share"]
    print_table(
        heads,
        [
            [
                f"{line['generator']}@{line['source']}",
                line["records"],
                line["self_bleu"],
                line["distinct_2"],
                line["clusters"],
                line["opening"],
                line["opening_share"],
            ]
            for line in least
        ],
        right=["records", "self-BLEU", "distinct-2", "clusters", "share"],
    )


def _stage_row(kind: str, steps: list[dict[str, Any]]) -> list[Any]:
    """One line of the plan: a stage's steps, and the first few of those that would run."""
    waiting = [step for step in steps if step["state"] != "cached"]
    names = [step["step"].removeprefix(f"{kind}/") for step in waiting[:_NAMED_STEPS]]
    more = len(waiting) - len(names)
    shown = ", ".join(names) + (f" and {more} more" if more else "")
    calls = sum(step["calls"] for step in waiting)
    return [kind, len(steps), len(steps) - len(waiting), calls, shown or "nothing"]


def _size(count: float) -> str:
    """Bytes as a person reads them: 12 MB."""
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return f"{count:,.0f} {units[0]}"


@click.command(name="plan")
@plan_options
@workspace_option
@out_option
@json_option
def plan_command(
    workspace_dir: Path | None, out_dir: Path | None, as_json: bool, **options: Any
) -> None:
    """Print what a build would do; without --tokens, at the mixture's own horizon."""
    from datagen.plan.build import BuildOptions

    workspace = open_workspace(workspace_dir)
    out = out_folder(workspace, out_dir)
    _print_plan(workspace, out, BuildOptions(**options), as_json=as_json, horizon=True)


def _print_plan(workspace: Any, out: Path, options: Any, *, as_json: bool, horizon: bool) -> None:
    from datagen.plan.preview import describe_plan

    plan = describe_plan(workspace, out, options, horizon=horizon)
    if as_json:
        print_json(plan)
        return
    click.echo(f"mixture {plan['mixture']}, profile {plan['profile']}, {plan['tokens']:,} tokens\n")
    print_table(
        ["phase", "category", "share %", "tokens", "epochs", "draws"],
        [
            [c["phase"], c["category"], c["share"], c["tokens"], c["epochs"], c["draws"]]
            for c in plan["categories"]
        ],
        right=["share %", "tokens", "epochs"],
    )
    for note in plan["notes"]:
        click.echo(note)
    if not plan["steps"]:
        return
    click.echo()
    kinds: dict[str, list[dict[str, Any]]] = {}
    for step in plan["steps"]:
        kinds.setdefault(step["kind"], []).append(step)
    print_table(
        ["stage", "steps", "cached", "calls at most", "to run"],
        [_stage_row(kind, steps) for kind, steps in kinds.items()],
        right=["steps", "cached", "calls at most"],
    )
    totals = plan["totals"]
    click.echo(
        f"\nto run: {totals['steps']} steps, at most {totals['calls']:,} model calls, "
        f"at most {totals['completion_tokens']:,} generated tokens, "
        f"about {_size(totals['disk_bytes'])} of disk"
    )

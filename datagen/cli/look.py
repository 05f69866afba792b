"""`preview`, `sql`, `explain`, `verify`, `gc`: looking at what a build made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from datagen.cli.common import (
    SEED,
    json_option,
    open_workspace,
    out_folder,
    out_option,
    print_json,
    print_table,
    workspace_option,
)


@click.command(name="sql")
@click.argument("query")
@click.option("--build", "build_name", default=None, help="Build folder, mixture or fingerprint.")
@workspace_option
@out_option
@json_option
def sql_command(
    query: str,
    build_name: str | None,
    workspace_dir: Path | None,
    out_dir: Path | None,
    as_json: bool,
) -> None:
    """Run a read-only QUERY over records, rejects, documents, rows, calls, sources, mixture."""
    from datagen.plan.builds import find_build
    from datagen.shards import sql

    out = out_folder(open_workspace(workspace_dir), out_dir)
    answer = sql.query(sql.connect(find_build(out, build_name), out), query)
    if as_json:
        names = _distinct(answer.columns)
        print_json([dict(zip(names, row, strict=True)) for row in answer.rows])
    else:
        print_table(answer.columns, answer.rows, null="NULL")


def _distinct(columns: Sequence[str]) -> list[str]:
    """Column names as keys: one that stood before gains `_2`, `_3`, the first that is free."""
    names: list[str] = []
    for column in columns:
        name, number = column, 1
        while name in names or (number > 1 and name in columns):
            number += 1
            name = f"{column}_{number}"
        names.append(name)
    return names


@click.command(name="preview")
@click.argument("recipe")
@click.option("-n", "count", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the draw.")
@click.option("--rejects", is_flag=True, help="Show refused rows instead of kept ones.")
@click.option("--build", "build_name", default=None, help="Build folder, mixture or fingerprint.")
@workspace_option
@out_option
@json_option
def preview_command(
    recipe: str,
    count: int,
    seed: int,
    rejects: bool,
    build_name: str | None,
    workspace_dir: Path | None,
    out_dir: Path | None,
    as_json: bool,
) -> None:
    """Show COUNT records that RECIPE made in a build, drawn by --seed."""
    from datagen.plan.builds import find_build, preview

    out = out_folder(open_workspace(workspace_dir), out_dir)
    rows = preview(find_build(out, build_name), out, recipe, count, seed, rejects=rejects)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        head = f"{row.pop('id')}  {row.pop('source')} {row.pop('row_key')}"
        click.echo(click.style(head, bold=True))
        for name, value in row.items():
            click.echo(f"{name}: {value}")
        click.echo()


@click.command(name="explain")
@click.argument("record_id")
@click.option("--build", "build_name", default=None, help="Build folder, mixture or fingerprint.")
@workspace_option
@out_option
@json_option
def explain_command(
    record_id: str,
    build_name: str | None,
    workspace_dir: Path | None,
    out_dir: Path | None,
    as_json: bool,
) -> None:
    """Follow RECORD_ID from its seed through prompts, answers and filters to its tokens."""
    from datagen.plan.builds import find_build
    from datagen.shards.explain import explain
    from datagen.shards.sql import connect

    out = out_folder(open_workspace(workspace_dir), out_dir)
    story = asdict(explain(connect(find_build(out, build_name), out), record_id))
    if as_json:
        print_json(story)
    else:
        _print_story(story, indent=0)


def _print_story(value: Any, *, indent: int) -> None:
    """Nested names and values, one a line, long text whole."""
    pad = "  " * indent
    items = value.items() if isinstance(value, dict) else enumerate(value, start=1)
    for name, item in items:
        if isinstance(item, dict | list | tuple) and item:
            click.echo(f"{pad}{name}:")
            _print_story(item, indent=indent + 1)
        else:
            text = str(item).replace("\n", "\n" + pad + "    ")
            click.echo(f"{pad}{name}: {text}")


@click.command(name="verify")
@click.argument("build_name", required=False)
@workspace_option
@out_option
@json_option
def verify_command(
    build_name: str | None, workspace_dir: Path | None, out_dir: Path | None, as_json: bool
) -> None:
    """Check every hash of BUILD (default: the latest) and of the steps that it rests on."""
    from datagen.plan.builds import find_build, verify

    out = out_folder(open_workspace(workspace_dir), out_dir)
    counts = verify(find_build(out, build_name), out)
    if as_json:
        print_json(counts)
    else:
        click.echo(
            f"{counts['steps']} steps, {counts['files']} files, {counts['bytes']:,} bytes: "
            f"every hash holds\nmanifest {counts['manifest_sha256']}"
        )


@click.command(name="gc")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@workspace_option
@out_option
@json_option
def gc_command(
    dry_run: bool, workspace_dir: Path | None, out_dir: Path | None, as_json: bool
) -> None:
    """Drop steps that no latest build rests on; the ledger stays."""
    from datagen.plan.builds import collect_garbage

    out = out_folder(open_workspace(workspace_dir), out_dir)
    dropped = collect_garbage(out, dry_run=dry_run)
    if as_json:
        print_json([{"step": step, "bytes": size} for step, size in dropped])
        return
    for step, size in dropped:
        click.echo(f"{'would drop' if dry_run else 'dropped'} {step}  {size:,} bytes")
    click.echo(f"{len(dropped)} steps, {sum(size for _, size in dropped):,} bytes")

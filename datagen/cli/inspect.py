"""`check`, `list`, `doctor`, `pin`, `init`: the workspace and the machine."""

from __future__ import annotations

from pathlib import Path

import click

from datagen.cli.common import (
    json_option,
    open_workspace,
    print_json,
    print_table,
    workspace_option,
)


@click.command(name="check")
@click.option("--profile", default=None, help="Profile name, or a YAML file with one.")
@workspace_option
@json_option
@click.pass_context
def check_command(
    context: click.Context, profile: str | None, workspace_dir: Path | None, as_json: bool
) -> None:
    """Validate every spec, prompt, pin and licence without running anything."""
    from datagen.plan.check import check_workspace

    findings = check_workspace(open_workspace(workspace_dir), profile)
    errors = [f for f in findings if f.level == "error"]
    if as_json:
        print_json({"ok": not errors, "findings": [f.as_json() for f in findings]})
    else:
        for finding in findings:
            click.echo(f"{finding.level}: {finding.where}: {finding.message}")
            if finding.fix:
                click.echo(f"  fix: {finding.fix}")
        notes = len(findings) - len(errors)
        click.echo(f"{len(errors)} errors, {notes} notes")
    context.exit(2 if errors else 0)


@click.command(name="list")
@click.argument(
    "what",
    type=click.Choice(["generators", "filters", "mixtures", "sources", "models", "benchmarks"]),
    default="generators",
)
@workspace_option
@json_option
def list_command(what: str, workspace_dir: Path | None, as_json: bool) -> None:
    """List what the workspace and the installation offer."""
    from datagen.plan.check import list_things

    columns, rows = list_things(open_workspace(workspace_dir), what)
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(columns, rows)


@click.command(name="doctor")
@workspace_option
@json_option
@click.pass_context
def doctor_command(context: click.Context, workspace_dir: Path | None, as_json: bool) -> None:
    """Say what this machine can run, and what is missing."""
    from datagen.plan.doctor import examine

    findings = examine(open_workspace(workspace_dir))
    if as_json:
        print_json([f.as_json() for f in findings])
    else:
        print_table(
            ["part", "state", "found", "remedy"],
            [[f.part, f.state, f.found, f.fix] for f in findings],
        )
    context.exit(2 if any(f.state == "broken" for f in findings) else 0)


@click.command(name="pin")
@click.argument("names", nargs=-1)
@workspace_option
@json_option
def pin_command(names: tuple[str, ...], workspace_dir: Path | None, as_json: bool) -> None:
    """Resolve unknown hashes and hub revisions; no NAMES is every source and model."""
    from datagen.plan.pins import pin_manifests

    rows = pin_manifests(open_workspace(workspace_dir), names)
    if as_json:
        print_json([{"source": s, "field": f, "value": v} for s, f, v in rows])
    else:
        print_table(["source", "field", "value"], rows)


@click.command(name="init")
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def init_command(folder: Path, as_json: bool) -> None:
    """Write a starter workspace into FOLDER."""
    from datagen.workspace.locate import init_workspace

    written = init_workspace(folder)
    if as_json:
        print_json({"workspace": str(folder), "written": written})
        return
    for name in written:
        click.echo(f"wrote {folder / name}")
    click.echo(f"next: cd {folder} && datagen build --mixture phase2")

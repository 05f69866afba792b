"""Options that commands share, and how results are printed."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from datagen.workspace.load import Workspace

F = TypeVar("F", bound=Callable[..., Any])

SEED = click.IntRange(0, 2**63 - 1)
TOKENS = click.IntRange(1, 2**63 - 1)

_UNCUT = 1 << 20
"""Columns of a table that nobody's terminal limits."""


def workspace_option(command: F) -> F:
    """`--workspace DIR`: where datagen.yaml lies; found upwards from here by default."""
    return click.option(
        "--workspace",
        "workspace_dir",
        type=click.Path(path_type=Path),
        default=None,
        help="Folder with datagen.yaml (default: here or above).",
    )(command)


def out_option(command: F) -> F:
    """`--out DIR`: where builds go; `out/` in the workspace by default."""
    return click.option(
        "--out",
        "out_dir",
        type=click.Path(path_type=Path),
        default=None,
        help="Folder of builds (default: out/ in the workspace).",
    )(command)


def json_option(command: F) -> F:
    """`--json`: one JSON document on stdout."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")(
        command
    )


def plan_options(command: F) -> F:
    """The options that decide what a build is."""
    options = [
        click.option("--mixture", default="phase2", show_default=True, help="Name in mixtures/."),
        click.option("--tokens", type=TOKENS, default=None, help="Token budget."),
    ]
    for option in reversed(options):
        command = option(command)
    return recipe_options(command)


def recipe_options(command: F) -> F:
    """The options that decide what a recipe makes."""
    options = [
        click.option("--profile", default=None, help="Profile name, or a YAML file with one."),
        click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of all draws."),
        click.option("--endpoint", default=None, help="OpenAI-compatible URL of your own."),
        click.option("--model", default=None, help="Model name there, or a pin's name."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def open_workspace(workspace_dir: Path | None) -> Workspace:
    """The workspace that the options name."""
    from datagen.workspace.load import Workspace
    from datagen.workspace.locate import find_workspace

    return Workspace(find_workspace(workspace_dir or Path.cwd()))


def out_folder(workspace: Workspace, out_dir: Path | None) -> Path:
    """The folder of builds that the options name."""
    return out_dir.resolve() if out_dir is not None else workspace.root / "out"


def print_json(value: Any) -> None:
    """The one JSON document of a command; numbers that JSON lacks (NaN, infinity) are null."""
    click.echo(json.dumps(_finite(value), ensure_ascii=False, default=str, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    right: Sequence[str] = (),
    null: str = "unknown",
) -> None:
    """A table on stdout, as wide as it needs to be where there is no terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in right else "left",
            overflow="fold",
            no_wrap=not sys.stdout.isatty(),
        )
    for row in rows:
        table.add_row(*(_cell(value, null) for value in row))
    console = Console(markup=False, highlight=False, emoji=False)
    if not sys.stdout.isatty():
        console = Console(width=_UNCUT, markup=False, highlight=False, emoji=False)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        click.echo(line.rstrip())


def _cell(value: Any, null: str) -> str:
    if value is None:
        return null
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.2f}"
    return str(value)

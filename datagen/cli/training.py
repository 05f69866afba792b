"""`train` and `merge`: a model on a build's shards."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from datagen.train.door import StepReport, TrainReport
    from datagen.workspace.load import Workspace

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command(name="train")
@click.argument("build_name", required=False)
@click.option(
    "--config", "config_name", default="tiny", show_default=True, help="Preset, or a YAML file."
)
@click.option("--steps", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--whole", is_flag=True, help="Once through the build, whatever --steps says.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint.")
@click.option("--run", "run_dir", type=click.Path(path_type=Path), default=None)
@click.option("--weights", type=_FILE, default=None, help="Begin with these instead of chance.")
@click.option("--processes", type=click.IntRange(min=1), default=1, help="One a GPU.")
@workspace_option
@out_option
@json_option
@click.pass_context
def train_command(
    context: click.Context,
    build_name: str | None,
    config_name: str,
    steps: int,
    whole: bool,
    seed: int,
    resume: bool,
    run_dir: Path | None,
    weights: Path | None,
    processes: int,
    workspace_dir: Path | None,
    out_dir: Path | None,
    as_json: bool,
) -> None:
    """Train a model on BUILD (default: the latest) and print its falling loss."""
    from datagen.plan.builds import find_build, token_facts
    from datagen.report.training import write_page
    from datagen.train.door import train
    from datagen.train.settings import load_config

    workspace = open_workspace(workspace_dir)
    out = out_folder(workspace, out_dir)
    build = find_build(out, build_name)
    facts = token_facts(build)
    folder = run_dir or _run_folder(
        out / "train" / build.name, Path(config_name).stem, resume=resume
    )
    report = train(
        facts.shards,
        config=load_config(config_name),
        vocabulary=facts.vocabulary,
        row_tokens=facts.row_tokens,
        steps=None if whole else steps,
        out=folder,
        seed=seed,
        resume=resume,
        processes=processes,
        weights=weights,
        tokenizer=_tokenizer(workspace, facts.tokenizer),
        on_step=_warn if as_json else _show,
    )
    page = write_page(folder, sample=report.sample)
    if as_json:
        print_json({**asdict(report), "page": page})
    else:
        _print(report, page)
    if report.interrupted:
        click.echo("interrupted: the same command with --resume goes on", err=True)
        context.exit(130)


def _warn(report: StepReport) -> None:
    for alarm in report.alarms:
        click.echo(f"step {report.step}: {alarm}", err=True)


def _show(report: StepReport) -> None:
    click.echo(
        f"step {report.step:>4}  loss {report.loss:.4f}  lr {report.lr:.2e}  "
        f"{report.tokens_per_s:,.0f} tokens/s"
    )
    _warn(report)


def _print(report: TrainReport, page: Path) -> None:
    click.echo(
        f"{report.parameters:,} parameters, {report.tokens:,} tokens: "
        f"loss {report.first_loss:.4f} -> {report.last_loss:.4f}"
    )
    for category, loss in report.category_losses.items():
        click.echo(f"held out  {category:<20} {loss:.4f}")
    if report.sample is not None:
        click.echo(f"it writes  {' '.join(report.sample.split())}")
    click.echo(report.checkpoint)
    click.echo(page)


def _tokenizer(workspace: Workspace, name: str) -> Path | None:
    """The tokenizer of a build, where this workspace has it."""
    folder = workspace.root / workspace.tokenizer(name).spec.path
    path = folder / "tokenizer.json"
    return path if path.is_file() else None


def _run_folder(folder: Path, config_name: str, *, resume: bool) -> Path:
    """The newest run of a configuration to resume, or the next free folder for a new one."""
    runs = [int(p.name.rpartition("-")[2]) for p in folder.glob(f"{config_name}-[0-9]*")]
    newest = max(runs, default=0)
    return folder / f"{config_name}-{newest if resume and newest else newest + 1}"


@click.command(name="merge")
@click.argument("run_dir", metavar="RUN", type=_FOLDER)
@click.option("--window", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--decay", type=click.Choice(["minus-sqrt", "linear"]), default="minus-sqrt")
@click.option("--through", type=click.IntRange(min=1), default=None, help="Last step to take in.")
@click.option("--build", "build_name", default=None, help="Measure on what RUN held out of it.")
@workspace_option
@out_option
@json_option
def merge_command(
    run_dir: Path,
    window: int,
    decay: str,
    through: int | None,
    build_name: str | None,
    workspace_dir: Path | None,
    out_dir: Path | None,
    as_json: bool,
) -> None:
    """Merge the last snapshots of RUN with the weights of a decay that was never trained."""
    from datagen.plan.builds import find_build, token_facts
    from datagen.train.door import held_out_losses, merge

    merged = merge(run_dir, window=window, decay=decay, through=through)
    losses = {}
    if build_name is not None:
        out = out_folder(open_workspace(workspace_dir), out_dir)
        shards = token_facts(find_build(out, build_name)).shards
        for name, path in (("last", merged.parts[-1]), ("merged", merged.path)):
            losses[name] = held_out_losses(run_dir, shards, path)
    if as_json:
        print_json({**asdict(merged), "losses": {n: v and asdict(v) for n, v in losses.items()}})
        return
    rows = [[part.name, f"{w:.4f}"] for part, w in zip(merged.parts, merged.weights, strict=True)]
    print_table(["snapshot", "weight"], rows, right=["weight"])
    for name, validation in losses.items():
        click.echo(f"held out  {name:<8} {validation.loss:.4f}" if validation else "none held out")
    click.echo(merged.path)

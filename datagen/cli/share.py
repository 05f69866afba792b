"""`card`, `publish`, `train`: what a build is made for."""

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
    from datagen.train.door import StepReport


@click.command(name="card")
@click.argument("build_name", required=False)
@workspace_option
@out_option
@json_option
def card_command(
    build_name: str | None, workspace_dir: Path | None, out_dir: Path | None, as_json: bool
) -> None:
    """Print the dataset card that BUILD (default: the latest) carries."""
    from datagen.plan.builds import find_build

    out = out_folder(open_workspace(workspace_dir), out_dir)
    text = (find_build(out, build_name) / "README.md").read_text(encoding="utf-8")
    if as_json:
        print_json({"card": text})
    else:
        click.echo(text, nl=False)


@click.command(name="publish")
@click.argument("build_name", required=False)
@click.option("--repo", required=True, help="ORG/NAME on the hub.")
@click.option("--private", is_flag=True, help="Create the repository as a private one.")
@click.option("--dry-run", is_flag=True, help="List what would be uploaded; no network.")
@click.option("--hub", "hub_url", default=None, help="URL of another hub.")
@workspace_option
@out_option
@json_option
def publish_command(
    build_name: str | None,
    repo: str,
    private: bool,
    dry_run: bool,
    hub_url: str | None,
    workspace_dir: Path | None,
    out_dir: Path | None,
    as_json: bool,
) -> None:
    """Upload BUILD, the records it was packed from, and its card to Hugging Face."""
    from datagen.plan.builds import find_build
    from datagen.publish.hub import plan_publication, publish

    out = out_folder(open_workspace(workspace_dir), out_dir)
    plan = plan_publication(find_build(out, build_name), out, repo, private=private)
    done = None if dry_run else publish(plan, endpoint=hub_url)
    if as_json:
        print_json(
            {
                "repo": repo,
                "files": [{"path": f.path_in_repo, "bytes": f.bytes} for f in plan.files],
                "url": done and done.url,
                "revision": done and done.revision,
            }
        )
        return
    print_table(["file", "bytes"], [[f.path_in_repo, f.bytes] for f in plan.files], right=["bytes"])
    click.echo(
        f"uploaded to {done.url} at {done.revision}"
        if done
        else f"would upload {plan.bytes:,} bytes to {repo}"
    )


@click.command(name="train")
@click.argument("build_name", required=False)
@click.option("--config", "config_name", default="tiny", show_default=True, help="Preset.")
@click.option("--steps", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint.")
@click.option("--run", "run_dir", type=click.Path(path_type=Path), default=None)
@workspace_option
@out_option
@json_option
@click.pass_context
def train_command(
    context: click.Context,
    build_name: str | None,
    config_name: str,
    steps: int,
    seed: int,
    resume: bool,
    run_dir: Path | None,
    workspace_dir: Path | None,
    out_dir: Path | None,
    as_json: bool,
) -> None:
    """Train a model on BUILD (default: the latest) and print its falling loss."""
    from datagen.plan.builds import find_build, token_facts
    from datagen.train.config import preset
    from datagen.train.door import train

    out = out_folder(open_workspace(workspace_dir), out_dir)
    build = find_build(out, build_name)
    facts = token_facts(build)

    def show(report: StepReport) -> None:
        if not as_json:
            click.echo(
                f"step {report.step:>4}  loss {report.loss:.4f}  lr {report.lr:.2e}  "
                f"{report.tokens_per_s:,.0f} tokens/s"
            )

    report = train(
        facts.shards,
        config=preset(config_name),
        vocabulary=facts.vocabulary,
        row_tokens=facts.row_tokens,
        steps=steps,
        out=run_dir or _run_folder(out / "train" / build.name, config_name, resume=resume),
        seed=seed,
        resume=resume,
        on_step=show,
    )
    if as_json:
        print_json(asdict(report))
    else:
        click.echo(
            f"{report.parameters:,} parameters, {report.tokens:,} tokens: "
            f"loss {report.first_loss:.4f} -> {report.last_loss:.4f}"
        )
        for category, loss in report.category_losses.items():
            click.echo(f"held out  {category:<20} {loss:.4f}")
        click.echo(report.checkpoint)
    if report.interrupted:
        click.echo("interrupted: the same command with --resume goes on", err=True)
        context.exit(130)


def _run_folder(folder: Path, config_name: str, *, resume: bool) -> Path:
    """The newest run of a configuration to resume, or the next free folder for a new one."""
    runs = [int(p.name.rpartition("-")[2]) for p in folder.glob(f"{config_name}-[0-9]*")]
    newest = max(runs, default=0)
    return folder / f"{config_name}-{newest if resume and newest else newest + 1}"

"""`card` and `publish`: what a build shows to others."""

from __future__ import annotations

from pathlib import Path

import click

from datagen.cli.common import (
    json_option,
    open_workspace,
    out_folder,
    out_option,
    print_json,
    print_table,
    workspace_option,
)


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

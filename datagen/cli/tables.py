"""`dedup`, `decontaminate`: filters by themselves, on tables that need no workspace."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from datagen.cli.common import json_option, print_json, print_table

F = TypeVar("F", bound=Callable[..., Any])


def table_options(command: F) -> F:
    """The inputs, their columns, and where the results go."""
    folder = click.Path(path_type=Path)
    options = [
        click.argument("inputs", nargs=-1, required=True, type=folder),
        click.option("--id-field", default="id", show_default=True, help="Column of unique ids."),
        click.option("--text-field", default="text", show_default=True, help="Column of texts."),
        click.option(
            "-o", "--out", "out_dir", required=True, type=folder, help="Folder of the results."
        ),
        click.option(
            "--workers",
            type=click.IntRange(1, 1024),
            default=None,
            help="Threads at work (default: one a core).",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


@click.command(name="dedup")
@table_options
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.7,
    show_default=True,
    help="Similarity from which two texts are one.",
)
@click.option(
    "--recall",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.9,
    show_default=True,
    help="Chance that a pair at the threshold is found.",
)
@click.option(
    "--shingle-words", type=click.IntRange(1), default=5, show_default=True, help="Words a shingle."
)
@click.option(
    "--measure",
    type=click.Choice(["jaccard", "containment"]),
    default="jaccard",
    show_default=True,
    help="What similarity is.",
)
@click.option(
    "--index",
    "index_dir",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder of what earlier runs saw: compare with it, then add to it.",
)
@json_option
def dedup_command(
    inputs: tuple[Path, ...],
    id_field: str,
    text_field: str,
    out_dir: Path,
    workers: int | None,
    threshold: float,
    recall: float,
    shingle_words: int,
    measure: str,
    index_dir: Path | None,
    as_json: bool,
) -> None:
    """Keep one text of each cluster of near duplicates in INPUTS (Parquet, JSON lines, folders).

    Writes the kept rows in the form of each input, and clusters.parquet: for every row its id, the
    id of the row kept in its place (its own where it stands alone), its cluster's size, whether it
    was kept, and its similarity with the row kept.
    """
    from datagen.curate.dedup import dedup_tables
    from datagen.plan.execute import lock
    from datagen.plan.progress import Progress
    from datagen.shards.tables import find_tables
    from datagen.workspace.specs import MinhashSpec

    tables = find_tables(inputs, id_field=id_field, text_field=text_field)
    spec = MinhashSpec.model_validate(
        {
            "threshold": threshold,
            "recall": recall,
            "shingle_words": shingle_words,
            "measure": measure,
        }
    )
    with lock(out_dir, wait=False, progress=Progress(quiet=True)):
        report = dedup_tables(tables, out_dir, spec, workers=workers or cores(), index=index_dir)
    if as_json:
        figures = {name: getattr(report, name) for name in report.__slots__ if name != "files"}
        print_json({**figures, "files": [str(out_dir / entry.path) for entry in report.files]})
        return
    print_table(
        ["rows", "kept", "dropped", "clusters", "largest", "MB of text"],
        [
            [
                report.rows,
                report.kept,
                report.dropped,
                report.clusters,
                report.largest,
                report.text_bytes / 1e6,
            ]
        ],
        right=["rows", "kept", "dropped", "clusters", "largest", "MB of text"],
    )
    if report.indexed:
        click.echo(f"compared with {report.indexed:,} rows of {index_dir}")
    if report.mended:
        click.echo(f"{report.mended:,} rows were no UTF-8: what is none became U+FFFD")
    if report.finished:
        click.echo("finished before: the inputs are unchanged, nothing was done again")
    for entry in report.files:
        click.echo(str(out_dir / entry.path))


@click.command(name="decontaminate")
@table_options
@click.option(
    "--benchmarks",
    "benchmarks_dir",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of benchmark manifests (YAML).",
)
@click.option("--benchmark", "names", multiple=True, help="Only this one of them; repeatable.")
@click.option(
    "--min-coverage",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Share of a question's 13-word n-grams that counts.",
)
@click.option(
    "--on-hit",
    type=click.Choice(["drop", "cut"]),
    default="drop",
    show_default=True,
    help="Drop the row, or cut the span out of its text.",
)
@json_option
def decontaminate_command(
    inputs: tuple[Path, ...],
    id_field: str,
    text_field: str,
    out_dir: Path,
    workers: int | None,
    benchmarks_dir: Path,
    names: tuple[str, ...],
    min_coverage: float,
    on_hit: str,
    as_json: bool,
) -> None:
    """Take out of INPUTS (Parquet, JSON lines, folders) what holds a benchmark's questions.

    Writes the kept rows in the form of each input, and hits.parquet: id, benchmark, item, tier,
    coverage, start, end (characters of the text).
    """
    from dataclasses import asdict

    from datagen.curate.benchmarks import find_benchmarks
    from datagen.curate.decontaminate_tables import decontaminate_tables
    from datagen.plan.execute import lock
    from datagen.plan.progress import Progress
    from datagen.shards.tables import find_tables
    from datagen.workspace.specs import DecontaminateSpec

    tables = find_tables(inputs, id_field=id_field, text_field=text_field)
    benchmarks = find_benchmarks(benchmarks_dir, names)
    spec = DecontaminateSpec.model_validate({"min_coverage": min_coverage, "on_hit": on_hit})
    with lock(out_dir, wait=False, progress=Progress(quiet=True)):
        report = decontaminate_tables(tables, benchmarks, out_dir, spec, workers=workers or cores())
    if as_json:
        files = [str(out_dir / entry.path) for entry in report.files]
        print_json({**asdict(report), "files": files})
        return
    columns = ["rows", "kept", "dropped", "cut", "hits", "items", "MB of text"]
    figures = [report.rows, report.kept, report.dropped, report.cut, report.hits, report.items]
    print_table(columns, [[*figures, report.text_bytes / 1e6]], right=columns)
    for benchmark, tiers in report.tiers.items():
        click.echo(f"{benchmark}: {', '.join(f'{n:,} {tier}' for tier, n in tiers.items())}")
    if report.formulas:
        click.echo(f"{report.formulas:,} items are forms of words here: found in too many texts")
    if report.mended:
        click.echo(f"{report.mended:,} rows were no UTF-8: what is none became U+FFFD")
    if not report.read:
        click.echo("every input was looked through before and is unchanged")
    for entry in report.files:
        click.echo(str(out_dir / entry.path))

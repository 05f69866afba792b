"""The rows of an evaluation benchmark, as its manifest describes them, and where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datagen.errors import WorkspaceError
from datagen.shards.hub import read_hub
from datagen.shards.sources import PlacedRow, SourceFile, read_files, resolve_files
from datagen.workspace.load import Loaded, parse
from datagen.workspace.locate import WORKSPACE_FILE
from datagen.workspace.specs import BenchmarkFields, BenchmarkSpec

Benchmark = tuple[BenchmarkSpec, Sequence[SourceFile]]


def find_benchmarks(folder: Path, names: Sequence[str] = ()) -> list[Benchmark]:
    """The manifests in a folder, or those of the given names, each with its files.

    Files lie beside the manifest, else below the workspace around the folder. WorkspaceError, with
    file and line, for a manifest that is wrong, a pattern that matches nothing, a name that lacks.
    """
    folder = folder.resolve()
    paths = sorted(path for path in folder.glob("*") if path.suffix in (".yaml", ".yml"))
    loaded = [parse(path, BenchmarkSpec, root=folder.parent) for path in paths]
    have = {one.spec.name: one for one in loaded}
    if not loaded:
        raise WorkspaceError(
            "no benchmark manifest (*.yaml) lies in this folder",
            where=str(folder),
            fix="write one: name, licence, files, fields: {question: COLUMN}",
        )
    if missing := [name for name in names if name not in have]:
        raise WorkspaceError(
            f"no benchmark {missing[0]!r}; there are {', '.join(have)}",
            where=str(folder),
            fix="name one of them with --benchmark",
        )
    if len(have) < len(loaded):
        twice = next(one for one in loaded if have[one.spec.name] is not one)
        raise WorkspaceError(
            f"benchmark {twice.spec.name!r} has two manifests",
            where=twice.where("name"),
            fix="give each its own name",
        )
    chosen = [have[name] for name in names] or loaded
    return [(one.spec, manifest_files(one)) for one in chosen]


def manifest_files(loaded: Loaded[BenchmarkSpec]) -> list[SourceFile]:
    """The files of a manifest: beside it, else below the workspace around it."""
    here = loaded.path.resolve().parent
    root = next((one for one in here.parents if (one / WORKSPACE_FILE).is_file()), here)
    patterns = manifest_patterns(loaded, root)
    return resolve_files(root, patterns, where=loaded.where("files")) if patterns else []


def manifest_patterns(loaded: Loaded[BenchmarkSpec], root: Path) -> list[str]:
    """A manifest's patterns as they are looked up below `root`, each beside it first."""
    here = loaded.path.resolve().parent.relative_to(root.resolve())
    patterns = []
    for pattern in loaded.spec.files:
        beside = (here / pattern).as_posix()
        below = pattern.startswith("${") or (not _matches(root, beside) and _matches(root, pattern))
        patterns.append(pattern if below else beside)
    return patterns


def _matches(root: Path, pattern: str) -> bool:
    # A pattern that globs cannot take is refused, with its place, where it is resolved.
    return not pattern.startswith("/") and next(root.glob(pattern), None) is not None


def benchmark_rows(spec: BenchmarkSpec, files: Sequence[SourceFile]) -> Iterator[PlacedRow]:
    """The rows of a benchmark's files, but for those that their `split` says are for training.

    Without files, those of its hub pin.
    """
    fields = spec.fields
    columns = [fields.question]
    if fields.answer is not None:
        columns.append(fields.answer)
    if fields.choices is not None:
        columns += [fields.choices] if isinstance(fields.choices, str) else fields.choices
    if not files and spec.hub is not None:
        yield from read_hub(
            spec.hub.id,
            revision=spec.hub.revision,
            columns=columns,
            config=spec.hub.config,
            split=spec.hub.split,
            files=spec.hub.files,
            rename=spec.hub.rename,
            where=f"benchmark {spec.name}",
        )
        return
    for row in read_files(files, columns=columns, optional=["split"]):
        if not str(row.values["split"]).lower().startswith("train"):
            yield row


def options_of(row: Mapping[str, Any], fields: BenchmarkFields) -> list[str]:
    """An item's options as texts, in order; none where the benchmark has none."""
    if fields.choices is None:
        return []
    if isinstance(fields.choices, str):
        return [str(choice) for choice in row[fields.choices] or ()]
    return [str(row[column]) for column in fields.choices]

"""Which bytes a source stands for under a profile: its own files, a sample, or the hub."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datagen.curate.benchmarks import manifest_patterns
from datagen.errors import DataError, WorkspaceError
from datagen.plan.fingerprint import fingerprint
from datagen.shards.hub import read_hub
from datagen.shards.pins import pin_model, verify_pins
from datagen.shards.pins import pin_source as pin_manifest
from datagen.shards.sources import PlacedRow, SourceFile, read_files, resolve_files
from datagen.workspace.load import Loaded, Workspace
from datagen.workspace.specs import ProfileSpec, SourceSpec

_COUNTED_BYTES = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePin:
    """A source as a profile maps it: its spec with overrides applied, and its bytes.

    `identity` is what of it enters fingerprints; `rows` is None where only reading would tell.
    """

    spec: SourceSpec
    files: tuple[SourceFile, ...]
    rename: Mapping[str, str]
    identity: Mapping[str, Any]
    rows: int | None
    where: str

    @property
    def revision(self) -> str:
        """The revision that lineage states: the hub's, or one over the files' hashes."""
        if self.files:
            return f"files:{fingerprint(self.identity['files'])}"
        assert self.spec.hub is not None
        return self.spec.hub.revision or "unknown"

    def read(self) -> Iterator[PlacedRow]:
        """The source's rows that its `where` keeps, in their own order."""
        wanted = self.spec.where.items()
        for place, values in self._read_all():
            if all(values.get(column) == value for column, value in wanted):
                yield PlacedRow(place, values)

    def _read_all(self) -> Iterator[PlacedRow]:
        if self.files:
            return self._read_files()
        hub = self.spec.hub
        assert hub is not None
        return read_hub(
            hub.id,
            revision=hub.revision,
            columns=self.spec.columns,
            config=hub.config,
            split=hub.split,
            files=hub.files,
            rename=hub.rename,
            where=self.where,
        )

    def _read_files(self) -> Iterator[PlacedRow]:
        try:
            yield from read_files(self.files, columns=self.spec.columns, rename=self.rename)
        except DataError as error:
            raise DataError(
                error.message, where=error.where, fix=f"{error.fix}; it is pinned at {self.where}"
            ) from error


def pin_source(workspace: Workspace, profile: Loaded[ProfileSpec], name: str) -> SourcePin:
    """Resolve a source under a profile; hashes of files are checked against their pins.

    Raises WorkspaceError where the profile has no bytes for it, DataError for a wrong hash.
    """
    loaded = workspace.source(name)
    spec = loaded.spec
    override = profile.spec.override.get(name)
    if override is not None:
        where = profile.where("override", name)
        spec = spec.model_copy(
            update={
                "columns": override.columns or spec.columns,
                "licence": override.licence or spec.licence,
                "licence_column": override.licence_column,
                "key": override.key,
                "where": spec.where if override.where is None else override.where,
            }
        )
        return _file_pin(workspace, spec, override.files, override.sha256, override.rename, where)
    if profile.spec.sources == "sample" or spec.own:
        if spec.sample is None:
            raise WorkspaceError(
                f"source {name!r} bundles no sample",
                where=loaded.where(),
                fix=f"map it to files under 'override: {{{name}: ...}}' in the profile",
            )
        sample = spec.sample
        spec = spec.model_copy(update={"licence": spec.sample_licence})
        where = loaded.where("sample")
        return _file_pin(workspace, spec, sample.files, sample.sha256, {}, where)
    if spec.hub is None:
        raise WorkspaceError(
            f"source {name!r} has no hub pin",
            where=loaded.where(),
            fix=f"add 'hub:', or map it under 'override: {{{name}: ...}}' in the profile",
        )
    identity = {"hub": spec.hub.model_dump(mode="json"), "where": spec.where}
    return SourcePin(
        spec=spec,
        files=(),
        rename=spec.hub.rename,
        identity=identity,
        rows=spec.rows,
        where=loaded.where("hub", "revision"),
    )


def _file_pin(
    workspace: Workspace,
    spec: SourceSpec,
    patterns: Sequence[str],
    pinned: Mapping[str, str | None],
    rename: Mapping[str, str],
    where: str,
) -> SourcePin:
    files = resolve_files(workspace.root, patterns, where=where)
    hashes = verify_pins(pinned, files, root=workspace.root, where=where)
    return SourcePin(
        spec=spec,
        files=tuple(files),
        rename=rename,
        identity={"files": hashes, "rename": dict(rename), "where": spec.where},
        rows=None if spec.where else _count_rows(files),
        where=where,
    )


def _count_rows(files: Sequence[SourceFile]) -> int | None:
    """Rows of JSON lines and Parquet files, for plans; None where counting costs a long read."""
    counts = [_count_file(file.path) for file in files]
    return None if None in counts else sum(count for count in counts if count is not None)


def _count_file(path: Path) -> int | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".parquet":
            return int(pq.read_metadata(path).num_rows)
        if ".jsonl" in path.suffixes and path.suffix in (".jsonl", ".gz"):
            if path.stat().st_size > _COUNTED_BYTES:
                return None
            opener = gzip.open if path.suffix == ".gz" else open
            with opener(path, "rb") as lines:
                return sum(1 for line in lines if line.strip())
    except (OSError, EOFError, zlib.error, pa.ArrowException):
        # A damaged file has no count; reading its rows says what is wrong, and where.
        return None
    return None


def pin_benchmark(workspace: Workspace, profile: Loaded[ProfileSpec], name: str) -> dict[str, Any]:
    """A benchmark's fields and the hashes of its items' files, as a step's argument."""
    loaded = workspace.benchmark(name)
    beside = manifest_patterns(loaded, workspace.root)
    patterns = profile.spec.benchmark_files.get(name, beside)
    where = (
        profile.where("benchmark_files", name)
        if name in profile.spec.benchmark_files
        else loaded.where("files")
    )
    files = resolve_files(workspace.root, patterns, where=where)
    return {
        "spec": loaded.spec.model_dump(mode="json", exclude={"files", "hub"}),
        "patterns": list(patterns),
        "files": verify_pins({}, files, root=workspace.root, where=where),
    }


def served_benchmarks(workspace: Workspace, profile: Loaded[ProfileSpec]) -> list[str]:
    """The benchmarks whose items this profile has: bundled ones, and those it maps to files."""
    names = workspace.names("manifests/benchmarks")
    chosen = profile.spec.benchmarks
    if chosen != "all":
        return [name for name in names if name in chosen]
    return [
        name
        for name in names
        if name in profile.spec.benchmark_files or workspace.benchmark(name).spec.files
    ]


def pin_manifests(workspace: Workspace, names: Sequence[str]) -> list[tuple[str, str, str]]:
    """Fill unknown hashes and revisions of the named sources and models, or of all."""
    models = workspace.names("manifests/models")
    found: list[tuple[str, str, str]] = []
    for name in names or [*workspace.names("manifests/sources"), *models]:
        if name in models:
            pinned = pin_model(workspace.model(name).path)
        else:
            pinned = pin_manifest(workspace.source(name).path, root=workspace.root)
        found += [(name, ".".join(one.key), str(one.value)) for one in pinned]
    return found

"""The split audit: no seed comes from an evaluation set, by name or by content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datagen.curate.benchmarks import benchmark_rows, options_of
from datagen.curate.evaluation import ITEM_SCHEMA, Item, ItemIndex, find_items, hash_items
from datagen.curate.splits import listed_set, row_split, split_word
from datagen.errors import DataError, WorkspaceError
from datagen.generate.stamp import reject_seed
from datagen.plan.pins import SourcePin, pin_benchmark, served_benchmarks
from datagen.record import Reject, Seed
from datagen.shards.pins import verify_pins
from datagen.shards.sources import SourceFile, resolve_files
from datagen.workspace.load import Loaded, Workspace
from datagen.workspace.specs import BenchmarkSpec, ProfileSpec

_BATCH_ROWS = 256


def audit_names(workspace: Workspace, pin: SourcePin) -> None:
    """Refuse a source whose name, hub pin, files or conditions speak of evaluation data.

    Raises WorkspaceError with the name and the reason. `exceptions` of the workspace's
    manifests/evaluation_only.yaml excuse one word of one source.
    """
    rules = workspace.evaluation_only()
    spec = pin.spec
    excused = {e.says.lower() for e in rules.spec.exceptions if e.source == spec.name}
    hub = spec.hub
    sets = [one for one in rules.spec.sets if one.name not in excused]
    names = [("name", spec.name), *(("file", file.name) for file in pin.files)]
    if hub is not None:
        names += [("hub id", hub.id), ("hub configuration", hub.config or "")]
        names += [("hub file", file) for file in hub.files]
    for what, name in names:
        listed = listed_set(name, sets)
        if listed is not None:
            raise _refused(
                pin, f"its {what} {name!r} names {listed.name}: {listed.reason}", rules.shown
            )
    names += [("hub split", hub.split)] if hub is not None else []
    names += [("condition", str(value)) for value in spec.where.values()]
    for what, name in names:
        word = split_word(name)
        if word is not None and word not in excused:
            raise _refused(pin, f"its {what} {name!r} says {word!r}", rules.shown)


def _refused(pin: SourcePin, reason: str, rules: str) -> WorkspaceError:
    return WorkspaceError(
        f"source {pin.spec.name!r} may not give seeds: {reason}",
        where=pin.where,
        fix="seed from a train split or from rows of your own; where the word means something "
        f"else, excuse it under 'exceptions' in {rules}",
    )


def audit_arguments(workspace: Workspace, profile: Loaded[ProfileSpec]) -> dict[str, Any]:
    """What of the audit decides which seeds are kept, as a step's argument: hashes and limits."""
    rules = workspace.evaluation_only()
    return {
        "items": _item_hashes(workspace),
        "max_share": rules.spec.max_share,
        "min_rows": rules.spec.min_rows,
        "benchmarks": {
            name: pin_benchmark(workspace, profile, name)
            for name in served_benchmarks(workspace, profile)
        },
    }


def _item_files(workspace: Workspace) -> list[SourceFile]:
    rules = workspace.evaluation_only()
    if rules.spec.items is None:
        return []
    return resolve_files(workspace.root, rules.spec.items.files, where=rules.where("items"))


def _item_hashes(workspace: Workspace) -> dict[str, str]:
    rules = workspace.evaluation_only()
    if rules.spec.items is None:
        return {}
    return dict(
        verify_pins(
            rules.spec.items.sha256,
            _item_files(workspace),
            root=workspace.root,
            where=rules.where("items"),
        )
    )


def item_index(workspace: Workspace, arguments: Mapping[str, Any]) -> ItemIndex:
    """The items to look for: those that ship as hashes, and those of benchmarks at hand.

    `arguments` are those of `audit_arguments`. Raises DataError for a file of hashes that is none.
    """
    tables = [_read_hashes(file) for file in _item_files(workspace)]
    for name, entry in arguments["benchmarks"].items():
        files = resolve_files(workspace.root, entry["patterns"], where=f"benchmark {name}")
        tables.append(hash_items(name, _items(workspace.benchmark(name).spec, files)))
    return ItemIndex.of(tables)


def _read_hashes(file: SourceFile) -> pa.Table:
    try:
        with pq.ParquetFile(file.path, page_checksum_verification=True) as parquet:
            return parquet.read().select(ITEM_SCHEMA.names).cast(ITEM_SCHEMA)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DataError(
            f"no file of item hashes: {error}",
            where=file.name,
            fix="fetch the file again, or write it with scripts/hash_benchmarks.py",
        ) from error


def _items(spec: BenchmarkSpec, files: Sequence[SourceFile]) -> Iterator[Item]:
    """A benchmark's questions with their options."""
    for _, row in benchmark_rows(spec, files):
        yield Item(str(row[spec.fields.question] or ""), tuple(options_of(row, spec.fields)))


@dataclass(slots=True, kw_only=True)
class Audit:
    """Seeds under audit: those that are evaluation items become rejects, and are counted.

    `looked_at` counts the seeds whose own split, where they name one, is not one of evaluation.
    """

    index: ItemIndex
    stage: str
    refused: list[Reject]
    looked_at: int = 0
    found: Counter[str] = field(default_factory=Counter)

    def keep(self, seeds: Iterator[Seed]) -> Iterator[Seed]:
        """The seeds that are no evaluation items, in order."""
        while batch := list(islice(seeds, _BATCH_ROWS)):
            hits = find_items([seed.row for seed in batch], self.index)
            for seed, benchmark in zip(batch, hits, strict=True):
                split = row_split(seed.row)
                if split is not None:
                    self._refuse(seed, "evaluation_split", split)
                    continue
                self.looked_at += 1
                if benchmark is None:
                    yield seed
                else:
                    self.found[benchmark] += 1
                    self._refuse(seed, "evaluation_item", benchmark)

    def _refuse(self, seed: Seed, reason: str, detail: str) -> None:
        self.refused.append(
            reject_seed(seed, "", self.stage, status="rejected", reason=reason, detail=detail)
        )

    def require_clean(self, arguments: Mapping[str, Any], *, where: str) -> None:
        """Raise DataError where so many of the seeds are items that the source is a benchmark."""
        hits = self.found.total()
        if hits < arguments["min_rows"] or hits < arguments["max_share"] * self.looked_at:
            return
        benchmark, count = min(self.found.items(), key=lambda pair: (-pair[1], pair[0]))
        raise DataError(
            f"{hits} of {self.looked_at} seeds ({hits / self.looked_at:.0%}) are evaluation items, "
            f"{count} of them of {benchmark}: this source is that benchmark, whatever its name",
            where=where,
            fix="seed from the train split; 'max_share' in manifests/evaluation_only.yaml is the "
            "share that passes for leaks",
        )


def audit_rows(pin: SourcePin, index: ItemIndex, arguments: Mapping[str, Any]) -> Counter[str]:
    """Audit all rows of a source outside a build; items by benchmark, DataError as in a build."""
    audit = Audit(index=index, stage="check", refused=[])
    seeds = (
        Seed(source=pin.spec.name, row_key=place, row=values, licence=pin.spec.licence)
        for place, values in pin.read()
    )
    for _ in audit.keep(seeds):
        pass
    audit.require_clean(arguments, where=pin.where)
    return audit.found

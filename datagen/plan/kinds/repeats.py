"""Passages and prompts that records share: keyed a shard, counted over the corpus, cut a shard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from datagen.curate.exact import exact_keys, preference
from datagen.curate.lines import Hashes, Passage, cut, first_prompt, passages, shared
from datagen.plan.execute import StepContext
from datagen.plan.kinds.dedup import MIDDLE_TIER
from datagen.plan.kinds.sieve import Verdict, input_shards, shard, sieve
from datagen.record import Record
from datagen.shards.parquet import read_batches, write_parquet
from datagen.shards.records import read_records
from datagen.workspace.specs import RepeatedSpec

RANGES = 16
"""Keys are counted in ranges of their first four bits, so that one range is held at a time."""

_KINDS: tuple[Passage, ...] = ("paragraph", "line")
_PASSAGE_SCHEMA = pa.schema(
    [
        ("record_id", pa.string()),
        ("tier", pa.int8()),
        ("paragraph", pa.list_(pa.uint64())),
        ("line", pa.list_(pa.uint64())),
        ("prompt", pa.list_(pa.uint64())),
    ]
)
_SHARED_SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("key", pa.uint64()),
        ("record_id", pa.string()),
        ("documents", pa.int64()),
    ]
)
"""One row a key that several records hold; `record_id` is the one that keeps the passage."""


def _specs(context: StepContext) -> dict[Passage, RepeatedSpec]:
    asked: Mapping[Passage, object] = context.arguments["passages"]
    return {kind: RepeatedSpec.model_validate(asked[kind]) for kind in _KINDS if kind in asked}


def passage_partitions(context: StepContext) -> int:
    """One partition a shard of the deduplicated records."""
    return input_shards(context, context.step.inputs[0])


def run_passages(context: StepContext, partitions: Sequence[int]) -> None:
    """Write the keys of each record's lines, paragraphs and first prompt."""
    specs = _specs(context)
    paths = context.inputs[context.step.inputs[0]].paths()
    for partition in partitions:
        context.check_stop()
        records = list(read_records([paths[partition]]))
        texts = [record.text or "" for record in records]
        columns = {
            "record_id": pa.array([record.id for record in records], pa.string()),
            "tier": pa.array(
                [record.metadata.get("quality_tier", MIDDLE_TIER) for record in records], pa.int8()
            ),
            "prompt": pa.array(
                _prompts(records, wanted=context.arguments["prompts"]), pa.list_(pa.uint64())
            ),
        }
        for kind in _KINDS:
            least = specs[kind].min_characters if kind in specs else 0
            found = passages(texts if kind in specs else [""] * len(texts), kind, least)
            columns[kind] = pa.ListArray.from_arrays(
                pa.array(found.texts.astype(np.int32)), pa.array(found.keys)
            )
        batch = pa.RecordBatch.from_arrays(
            [columns[name] for name in _PASSAGE_SCHEMA.names], schema=_PASSAGE_SCHEMA
        )
        path = shard("shards", partition)
        files = [write_parquet(context.directory, path, [batch], _PASSAGE_SCHEMA)]
        context.commit(partition, files)
        context.progress.advance(rows=len(records))


def _prompts(records: Sequence[Record], *, wanted: bool) -> list[list[int]]:
    prompts = [first_prompt(record) if wanted else None for record in records]
    keys = exact_keys([prompt or "" for prompt in prompts])[:, 0].tolist()
    return [[] if prompt is None else [key] for prompt, key in zip(prompts, keys, strict=True)]


def shared_partitions(context: StepContext) -> int:
    """One partition a range of keys."""
    return RANGES


def run_shared(context: StepContext, partitions: Sequence[int]) -> None:
    """Write the keys that enough records hold, a range at a time: 16 bytes a passage of it held."""
    least: dict[str, int] = {kind: spec.min_documents for kind, spec in _specs(context).items()}
    names = [
        name for batch in _batches(context, "record_id") for name in batch.column(0).to_pylist()
    ]
    tiers = [batch.column(0).to_numpy() for batch in _batches(context, "tier")]
    ranks = preference(len(names), np.concatenate([np.zeros(0, np.int8), *tiers]))
    for partition in partitions:
        context.check_stop()
        batches = []
        for kind in (*least, *(["prompt"] if context.arguments["prompts"] else [])):
            keys, owners = _in_range(context, kind, partition)
            found, first, counts = shared(keys, owners, ranks, least.get(kind, 2))
            table = [
                pa.array([kind] * len(found), pa.string()),
                pa.array(found),
                pa.array([names[row] for row in first], pa.string()),
                pa.array(counts, pa.int64()),
            ]
            batches.append(pa.RecordBatch.from_arrays(table, schema=_SHARED_SCHEMA))
        path = shard("shards", partition)
        files = [write_parquet(context.directory, path, batches, _SHARED_SCHEMA)]
        rows = sum(batch.num_rows for batch in batches)
        context.commit(partition, files, {"shared": rows})
        context.progress.advance(rows=rows)


def _batches(context: StepContext, column: str) -> Iterator[pa.RecordBatch]:
    for name in context.arguments["order"]:
        yield from read_batches(context.inputs[name].paths(), [column])


def _in_range(
    context: StepContext, kind: str, partition: int
) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """The keys of a range, and which record of the plan's order holds each."""
    keys, owners, row = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], 0
    for batch in _batches(context, kind):
        column = batch.column(0)
        found = column.flatten().to_numpy()
        counts = pc.list_value_length(column).to_numpy(zero_copy_only=False)
        owner = np.repeat(np.arange(row, row + len(column)), counts)
        chosen = found >> np.uint64(60) == partition
        keys.append(found[chosen])
        owners.append(owner[chosen])
        row += len(column)
    return np.concatenate(keys), np.concatenate(owners)


def repeat_partitions(context: StepContext) -> int:
    """One partition a shard of the deduplicated records."""
    return input_shards(context, context.step.inputs[0])


def run_repeats(context: StepContext, partitions: Sequence[int]) -> None:
    """Cut shared passages from all but one record; refuse what is empty then, and same prompts.

    A record that was cut says so: metadata `cut_passages` and `cut_characters`.
    """
    specs = _specs(context)
    kept = {kind: _keepers(context, kind) for kind in (*specs, "prompt")}
    texts: dict[str, str] = {}
    cuts: dict[str, int] = {}

    def judge(records: Sequence[Record]) -> list[Verdict]:
        texts.clear()
        cuts.clear()
        texts.update({record.id: record.text for record in records if record.text is not None})
        for kind, spec in specs.items():
            if spec.recipes == "all" or context.arguments["recipe"] in spec.recipes:
                _cut_all(texts, cuts, kind, spec, kept[kind])
        prompts = _prompts(records, wanted=context.arguments["prompts"])
        return [
            _verdict(r, p, kept["prompt"], texts) for r, p in zip(records, prompts, strict=True)
        ]

    def annotate(record: Record) -> Record:
        if record.id not in cuts:
            return record
        text = texts[record.id]
        said = {
            "cut_passages": cuts[record.id],
            "cut_characters": len(record.text or "") - len(text),
        }
        return replace(record, text=text, metadata={**record.metadata, **said})

    sieve(context, partitions, context.inputs[context.step.inputs[0]], judge, annotate)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keepers:
    """Shared keys in order, and the record that keeps what each stands for."""

    keys: Hashes
    records: pa.ChunkedArray

    def places(self, keys: Hashes) -> npt.NDArray[np.int64]:
        """Where each key stands among the shared ones; -1 where it is not shared."""
        if not len(self.keys):
            return np.full(len(keys), -1)
        places = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        return np.where(self.keys[places] == keys, places, -1)


def _keepers(context: StepContext, kind: str) -> _Keepers:
    """The shared keys of a kind: ranges come in their order, and keys are sorted in each."""
    keys, records = [np.zeros(0, np.uint64)], [pa.array([], pa.string())]
    for batch in read_batches(context.inputs["shared"].paths(), ["kind", "key", "record_id"]):
        chosen = batch.filter(pc.equal(batch.column(0), kind))
        keys.append(chosen.column(1).to_numpy())
        records.append(chosen.column(2))
    whole = np.concatenate(keys)
    assert (whole[1:] > whole[:-1]).all()
    return _Keepers(keys=whole, records=pa.chunked_array(records))


def _cut_all(
    texts: dict[str, str],
    cuts: dict[str, int],
    kind: Passage,
    spec: RepeatedSpec,
    keepers: _Keepers,
) -> None:
    """Cut the shared passages of one kind out of the texts, and count them."""
    ids = list(texts)
    found = passages(list(texts.values()), kind, spec.min_characters)
    places = keepers.places(found.keys)
    for number, one in enumerate(ids):
        part = found.of(number)
        shared_here = part.start + np.flatnonzero(places[part] >= 0)
        gone = [row for row in shared_here if keepers.records[int(places[row])].as_py() != one]
        if gone:
            texts[one] = cut(texts[one], found.bounds[gone])
            cuts[one] = cuts.get(one, 0) + len(gone)


def _verdict(
    record: Record, prompt: Sequence[int], keepers: _Keepers, texts: Mapping[str, str]
) -> Verdict:
    place = int(keepers.places(np.array(prompt, np.uint64))[0]) if prompt else -1
    keeper = record.id if place < 0 else keepers.records[place].as_py()
    if keeper != record.id:
        return "same_prompt", f"the question of {keeper}"
    if record.id in texts and not texts[record.id].strip():
        return "only_repeats", "every passage stands in other records"
    return None

"""The steps that make records: drawing seeds from a source, and running a recipe over them."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa

from datagen.curate.evaluation import ItemIndex
from datagen.errors import ServiceError
from datagen.generate.run import Method, SeedResult, generate
from datagen.generate.stamp import Stamp, reject_seed
from datagen.llm.ask import CallRecord, SeedAsk
from datagen.llm.prompts import load_prompts
from datagen.llm.teacher import Teacher
from datagen.llm.wire import Completion
from datagen.pack.render import Renderer
from datagen.plan.audit import Audit, item_index
from datagen.plan.execute import Interrupted, StepContext
from datagen.plan.fingerprint import fingerprint
from datagen.plan.kinds.sieve import shard, write_records
from datagen.plan.licences import is_known_licence
from datagen.plan.pins import pin_source
from datagen.plan.resolve import resolve_method, wants_tokenizer
from datagen.plan.teacher import without_weights
from datagen.record import Record, Reject, Seed
from datagen.shards.parquet import FileEntry, write_parquet
from datagen.shards.records import json_text, read_seeds, reject_batch, seed_batch
from datagen.shards.schema import CALL_SCHEMA, REJECT_SCHEMA, SEED_SCHEMA
from datagen.shards.sources import draw_seeds
from datagen.workspace.specs import ModelSpec, ProfileSpec, RecipeSpec, TokenizerSpec

_LEAST_SEEDS = 64
_MOST_SEEDS = 2048


def one_partition(context: StepContext) -> int:
    """A source is read once, in its own order."""
    return 1


def run_seeds(context: StepContext, partitions: Sequence[int]) -> None:
    """Draw the rows that the plan's recipes need, in shards of `rows_per_shard`."""
    arguments = context.arguments
    services = context.services
    pin = pin_source(services.workspace, services.profile, arguments["source"]["name"])
    counts: Counter[str] = Counter()
    seeds = draw_seeds(
        pin.read(),
        source=pin.spec.name,
        content=pin.spec.text or pin.spec.messages or "",
        licence=pin.spec.licence,
        key=pin.spec.key,
        licence_column=pin.spec.licence_column,
        limit=arguments["limit"],
        seed=arguments["seed"],
        counts=counts,
    )
    files: list[FileEntry] = []
    licences: Counter[str] = Counter()
    refused: list[Reject] = []
    audit = Audit(index=_item_index(context), stage=context.step.name, refused=refused)
    allowed = set(arguments["allow_licences"])
    kept = _licensed(audit.keep(seeds), allowed, context.step.name, refused)
    while chunk := list(islice(kept, arguments["rows_per_shard"])):
        context.check_stop()
        path = shard("shards", len(files))
        files.append(write_parquet(context.directory, path, [seed_batch(chunk)], SEED_SCHEMA))
        licences.update(seed.licence for seed in chunk)
        context.progress.advance(rows=len(chunk))
    audit.require_clean(arguments["audit"], where=pin.where)
    if refused:
        path = shard("rejects", 0)
        batch = [reject_batch(refused)]
        files.append(write_parquet(context.directory, path, batch, REJECT_SCHEMA))
        counts.update(reject.reason for reject in refused)
    context.commit(
        0,
        files,
        {"counts": dict(sorted(counts.items())), "licences": dict(sorted(licences.items()))},
    )


def _item_index(context: StepContext) -> ItemIndex:
    """The items that no seed may be, indexed once for all the sources of a plan."""
    memo, arguments = context.services.memo, context.arguments["audit"]
    key = f"evaluation items {fingerprint(arguments)}"
    if key not in memo:
        memo[key] = item_index(context.services.workspace, arguments)
    index: ItemIndex = memo[key]
    return index


def _licensed(
    seeds: Iterator[Seed], allowed: set[str], stage: str, refused: list[Reject]
) -> Iterator[Seed]:
    """The seeds whose own licence is known, or allowed by name; the others become rejects."""
    for seed in seeds:
        if is_known_licence(seed.licence) or seed.licence in allowed:
            yield seed
            continue
        refused.append(
            reject_seed(
                seed,
                "",
                stage,
                status="rejected",
                reason="unknown_licence",
                detail=seed.licence,
            )
        )


def generate_partitions(context: StepContext) -> int:
    """One partition a seed shard, as many as the recipe's limit reaches into."""
    files = context.inputs[context.step.inputs[0]].manifest.files_under("shards")
    limit = context.arguments["limit"]
    taken = 0
    for count, entry in enumerate(files):
        if limit is not None and taken >= limit:
            return count
        taken += entry.rows
    return len(files)


def run_generate(context: StepContext, partitions: Sequence[int]) -> None:
    """Run the recipe's method over its seeds; many seeds at once, shards in seed order."""
    asyncio.run(_generate(context, partitions))


@dataclass(slots=True, kw_only=True)
class _Part:
    """What has come of one partition so far."""

    records: list[Record] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    calls: list[tuple[Seed, CallRecord]] = field(default_factory=list)
    seeds: int = 0


class _Seeds:
    """The seeds of the partitions to do, in order; ends early once the user asked to stop."""

    def __init__(self, context: StepContext, partitions: Sequence[int]) -> None:
        source = context.inputs[context.step.inputs[0]]
        self.paths = source.paths()
        self.sizes = [entry.rows for entry in source.manifest.files_under("shards")]
        self.limit = context.arguments["limit"]
        self.partitions = partitions
        self.context = context
        self.cut_short = False

    def count(self, partition: int) -> int:
        """How many seeds of a partition the recipe takes."""
        before = sum(self.sizes[:partition])
        left = self.sizes[partition] if self.limit is None else self.limit - before
        return min(self.sizes[partition], left)

    def __iter__(self) -> Iterator[Seed]:
        for partition in self.partitions:
            for seed in islice(read_seeds([self.paths[partition]]), self.count(partition)):
                if self.context.stopping.is_set():
                    self.cut_short = True
                    return
                yield seed


async def _generate(context: StepContext, partitions: Sequence[int]) -> None:
    arguments = context.arguments
    services = context.services
    recipe = RecipeSpec.model_validate({**arguments["recipe"], "title": ""})
    loaded = services.workspace.recipe(recipe.name)
    method = resolve_method(recipe.method, recipe.arguments, at=loaded.where)
    method_arguments = {**_columns(method, arguments["columns"]), **recipe.arguments}
    place = f"generators/{recipe.name}"
    root = services.workspace.root
    prompts = load_prompts(services.workspace.prompt_files(recipe.name), root=root)
    if wants_tokenizer(method):
        spec = TokenizerSpec.model_validate(arguments["tokenizer"])
        method_arguments["tokenizer"] = Renderer(spec, root)
    stamp = Stamp(
        generator=recipe.name,
        version=recipe.version,
        fingerprint=arguments["fingerprint"],
        source_revision=arguments["source_revision"],
        models={m["name"]: (m["revision"], m["licence"]) for m in context.step.models},
    )
    seeds = _Seeds(context, partitions)

    def count_answer(completion: Completion) -> None:
        context.progress.advance(calls=1, tokens=completion.completion_tokens)

    async with AsyncExitStack() as stack:
        teachers: dict[str, Teacher] = {}
        main = arguments["model"]
        for role, model in arguments.get("models", {recipe.model: main} if main else {}).items():
            served = services.teacher(_served_model(context, model), role, count_answer)
            teachers[role] = await stack.enter_async_context(served)

        def ask_for(seed: Seed) -> SeedAsk:
            return SeedAsk(
                teachers.get(recipe.model or ""),
                prompts,
                others={prompt: teachers[role] for prompt, role in recipe.models.items()},
                source=seed.source,
                row_key=seed.row_key,
                number=seed.number,
                build_seed=arguments["seed"],
                max_calls=recipe.max_calls_per_seed,
                sampling=recipe.sampling,
                recipe=place,
            )

        results = generate(
            seeds,
            method=method,
            arguments=method_arguments,
            stamp=stamp,
            ask_for=ask_for,
            stage=context.step.name,
            window=_window(services.profile.spec, teachers),
        )
        await _collect(context, seeds, results)
    if seeds.cut_short:
        raise Interrupted


def _window(profile: ProfileSpec, roles: Iterable[str]) -> int:
    """How many seeds are in flight: as many as the served models take requests at once.

    Results do not depend on it: they come in the order of the seeds.
    """
    served = [profile.models[role] for role in roles if role in profile.models]
    room = sum(endpoint.max_concurrency for role in served for endpoint in role.endpoints)
    return min(max(room, _LEAST_SEEDS), _MOST_SEEDS)


def _columns(method: Method, columns: Mapping[str, Any]) -> dict[str, Any]:
    """The source's content columns, for a method whose `text` and `messages` name them."""
    parameters = inspect.signature(method).parameters
    return {name: column for name, column in columns.items() if column and name in parameters}


def _served_model(context: StepContext, identity: Mapping[str, Any]) -> ModelSpec:
    """The pin behind an identity; without its weights' hash where another server stands for it."""
    workspace = context.services.workspace
    if identity["name"] in workspace.names("manifests/models"):
        pin = workspace.model(identity["name"]).spec
        return pin if pin.revision == identity["revision"] else without_weights(pin)
    return ModelSpec(
        name=identity["name"],
        title=identity["name"],
        licence=identity["licence"],
        served_as=identity["served_as"],
    )


async def _collect(context: StepContext, seeds: _Seeds, results: Any) -> None:
    """Write each partition when its last seed is done; hold back those with failed rows.

    Failed rows are only committed when they stay within `max_failed_share`, so that a bad hour of
    the service is tried again by the next run and not written into a build.
    """
    held: list[tuple[int, _Part]] = []
    before = [part["extra"] for part in context.done.values()]
    failed = sum(extra["failed"] for extra in before)
    total = sum(extra["seeds"] for extra in before) + sum(map(seeds.count, seeds.partitions))
    allowed = context.arguments["max_failed_share"]
    waiting = iter(seeds.partitions)
    current, part = next(waiting), _Part()
    async for seed, result in results:
        _add(part, seed, result)
        for reject in result.rejects:
            if reject.status == "failed":
                failed += 1
                if failed > allowed * total:
                    raise _too_many_failed(context, failed, total, reject.detail)
        context.progress.advance(
            rows=1,
            kept=len(result.records),
            rejected=sum(r.status == "rejected" for r in result.rejects),
            failed=sum(r.status == "failed" for r in result.rejects),
        )
        if part.seeds == seeds.count(current):
            if any(reject.status == "failed" for reject in part.rejects):
                held.append((current, part))
            else:
                _write(context, current, part)
            current, part = next(waiting, -1), _Part()
    for partition, done in held:
        _write(context, partition, done)


def _too_many_failed(context: StepContext, failed: int, total: int, detail: str) -> ServiceError:
    return ServiceError(
        f"{failed} of {total} rows failed, more than max_failed_share allows; the last: {detail}",
        where=context.step.name,
        fix="mend the service and run the same command: answers so far are in the ledger; "
        "or raise max_failed_share in the profile",
    )


def _add(part: _Part, seed: Seed, result: SeedResult) -> None:
    part.records += result.records
    part.rejects += result.rejects
    part.calls += [(seed, call) for call in result.calls]
    part.seeds += 1


def _write(context: StepContext, partition: int, part: _Part) -> None:
    files = write_records(context, partition, part.records, part.rejects)
    if part.calls:
        generator = context.arguments["recipe"]["name"]
        batch = pa.RecordBatch.from_pylist(
            [_call_row(generator, seed, call) for seed, call in part.calls], schema=CALL_SCHEMA
        )
        path = shard("calls", partition)
        files.append(write_parquet(context.directory, path, [batch], CALL_SCHEMA))
    reasons = Counter(reject.reason for reject in part.rejects)
    context.commit(
        partition,
        files,
        {
            "seeds": part.seeds,
            "kept": len(part.records),
            "rejected": sum(r.status == "rejected" for r in part.rejects),
            "failed": sum(r.status == "failed" for r in part.rejects),
            "reasons": dict(sorted(reasons.items())),
            "calls": len({call.key for _, call in part.calls}),
            "completion_tokens": sum(call.completion_tokens for _, call in part.calls),
        },
    )


def _call_row(generator: str, seed: Seed, call: CallRecord) -> dict[str, Any]:
    return {
        "key": call.key,
        "generator": generator,
        "source": seed.source,
        "row_key": seed.row_key,
        "prompt": call.prompt,
        "prompt_sha256": call.prompt_sha256,
        "model": call.model,
        "messages": json_text(call.messages),
        "answer": call.answer,
        "reasoning": call.reasoning,
        "finish_reason": call.finish_reason,
        "prompt_tokens": call.prompt_tokens,
        "completion_tokens": call.completion_tokens,
    }

"""Legal recipes on rows: as shipped, with a scripted model or without any.

rows = sample("cuad")
found = unasked("legal/cuad_clause_type", rows[0], number=3)
found = asked(folder, "legal/tosdr_qa", rows, script, start=1)
result = ended(folder, "legal/tosdr_qa", rows[0], script)
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from datagen.generate.run import SeedResult, generate
from datagen.generate.stamp import Stamp
from datagen.llm.ask import SeedAsk
from datagen.llm.client import Client
from datagen.llm.ledger import Ledger
from datagen.llm.prompts import Prompt, load_prompts
from datagen.llm.teacher import Teacher
from datagen.plan.resolve import resolve_method, wants_tokenizer
from datagen.record import Draft, Seed
from datagen.workspace.specs import EndpointSpec, RecipeSpec
from tests.generate.through_recipe import ROOT, WORKSPACE, served
from tests.servers import Answer, FaultServer


class Words:
    """A tokenizer for which a word is a token."""

    def count(self, text: str) -> int:
        return len(text.split())

    def cut(self, text: str, budget_tokens: int) -> str:
        return " ".join(text.split()[:budget_tokens])


def sample(name: str) -> list[dict[str, Any]]:
    path = ROOT / f"manifests/samples/{name}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@functools.cache
def shipped(recipe: str) -> tuple[RecipeSpec, Any, dict[str, Prompt]]:
    """A recipe with its method and its prompts, read once."""
    loaded = WORKSPACE.recipe(recipe)
    method = resolve_method(loaded.spec.method, loaded.spec.arguments, at=loaded.where)
    return loaded.spec, method, load_prompts(WORKSPACE.prompt_files(recipe), root=ROOT)


def unasked(recipe: str, row: Mapping[str, Any], number: int = 0, **changes: Any) -> list[Draft]:
    """A recipe on one row without a model."""
    spec, method, prompts = shipped(recipe)
    arguments = {**spec.arguments, **changes}
    if wants_tokenizer(method):
        arguments["tokenizer"] = Words()
    seed = Seed(source="rows", row_key=str(number), row=row, licence="CC0-1.0", number=number)
    ask = SeedAsk(
        None, prompts, source="rows", row_key=str(number), build_seed=7, number=number, max_calls=0
    )
    return list(asyncio.run(method(seed, ask, **arguments)))


def asked(
    folder: Path,
    recipe: str,
    rows: list[dict[str, Any]],
    answer: Answer,
    *,
    start: int = 0,
    requests: list[dict[str, Any]] | None = None,
    **changes: Any,
) -> list[Draft]:
    """A recipe on rows that stand at the places from `start` on in the draw."""
    spec, method, _ = shipped(recipe)

    async def run(url: str) -> list[Draft]:
        found: list[Draft] = []
        async with AsyncExitStack() as stack:
            teachers = await _teachers(stack, folder, spec, url)
            for number, row in enumerate(rows, start):
                key = str(number)
                seed = Seed(source="rows", row_key=key, row=row, licence="CC0-1.0", number=number)
                ask = _ask(recipe, seed, teachers)
                found += await method(seed, ask, **{**spec.arguments, **changes})
                assert not ask.exhausted
        return found

    with FaultServer(answer=answer) as server:
        try:
            return asyncio.run(run(server.url))
        finally:
            if requests is not None:
                requests += server.requests


def ended(
    folder: Path, recipe: str, row: Mapping[str, Any], answer: Answer, **changes: Any
) -> SeedResult:
    """What the engine makes of a recipe on one row: stamped records, and what was refused."""
    spec, method, _ = shipped(recipe)
    arguments = {**spec.arguments, **changes}
    if wants_tokenizer(method):
        arguments["tokenizer"] = Words()
    seed = Seed(source="rows", row_key="0", row=row, licence="CC0-1.0")

    async def run(url: str) -> SeedResult:
        async with AsyncExitStack() as stack:
            teachers = await _teachers(stack, folder, spec, url)
            stamp = Stamp(
                generator=recipe,
                version="1",
                fingerprint="0",
                source_revision="0",
                models=dict.fromkeys(teachers, ("1", "Apache-2.0")),
            )
            results = generate(
                [seed],
                method=method,
                arguments=arguments,
                stamp=stamp,
                ask_for=lambda one: _ask(recipe, one, teachers),
                stage=recipe,
                window=1,
            )
            ((_, result),) = [found async for found in results]
        return result

    with FaultServer(answer=answer) as server:
        return asyncio.run(run(server.url))


async def _teachers(
    stack: AsyncExitStack, folder: Path, spec: RecipeSpec, url: str
) -> dict[str, Teacher]:
    ledger = stack.enter_context(Ledger(folder / "ledger.sqlite"))
    roles = sorted({role for role in (spec.model, *spec.models.values()) if role})
    return {
        role: Teacher(
            await stack.enter_async_context(
                Client(served(role), [EndpointSpec(url=url)], timeout_s=5)
            ),
            ledger,
        )
        for role in roles
    }


def _ask(recipe: str, seed: Seed, teachers: Mapping[str, Teacher]) -> SeedAsk:
    spec, _, prompts = shipped(recipe)
    return SeedAsk(
        teachers.get(str(spec.model)),
        prompts,
        source="rows",
        row_key=seed.row_key,
        number=seed.number,
        build_seed=7,
        max_calls=spec.max_calls_per_seed,
        others={prompt: teachers[role] for prompt, role in spec.models.items()},
        sampling={name: one.model_dump() for name, one in spec.sampling.items()},
    )


def reasons(drafts: list[Draft]) -> list[str]:
    return [(draft.rejected or "kept").partition(":")[0] for draft in drafts]


def last(body: Mapping[str, Any]) -> str:
    return str(body["messages"][-1]["content"])

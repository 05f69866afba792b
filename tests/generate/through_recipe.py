"""One seed row through a recipe as it is shipped, with a scripted server for its models.

found = drafts(folder, "judged", {"messages": [...]}, script)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

from datagen.llm.ask import SeedAsk
from datagen.llm.client import Client
from datagen.llm.ledger import Ledger
from datagen.llm.prompts import Prompt, load_prompts
from datagen.llm.teacher import Teacher
from datagen.pack.render import Renderer
from datagen.plan.resolve import resolve_method, wants_tokenizer
from datagen.record import Draft, Seed
from datagen.workspace.load import Workspace
from datagen.workspace.specs import EndpointSpec, ModelSpec
from tests.servers import Answer, FaultServer

ROOT = Path(__file__).resolve().parents[2]
WORKSPACE = Workspace(ROOT)


def method_of(recipe: str) -> Callable[..., Any]:
    """The function that a recipe names, its arguments checked."""
    loaded = WORKSPACE.recipe(recipe)
    return resolve_method(loaded.spec.method, loaded.spec.arguments, at=loaded.where)


@lru_cache
def renderer() -> Renderer:
    """The bundled tokenizer with its template."""
    return Renderer(WORKSPACE.tokenizer("datagen-32k").spec, ROOT)


@lru_cache
def prompts_of(recipe: str) -> dict[str, Prompt]:
    """The recipe's prompts, those of shared folders included."""
    return load_prompts(WORKSPACE.prompt_files(recipe), root=ROOT)


def served(role: str) -> ModelSpec:
    """A model that the scripted server knows by the name of its role."""
    return ModelSpec(name=role, title=role, licence="Apache-2.0", served_as=role)


def drafts(
    folder: Path,
    recipe: str,
    row: Mapping[str, Any],
    answer: Answer | None,
    *,
    key: str = "1",
    sampling: Mapping[str, Mapping[str, Any]] | None = None,
    requests: list[dict[str, Any]] | None = None,
    **changes: Any,
) -> list[Draft]:
    """Run a recipe on one row.

    `changes` replace arguments, `sampling` lies over the recipe's own, and `requests` collects
    what was asked. Without `answer` there is no model, and a method that asks fails.
    """
    spec = WORKSPACE.recipe(recipe).spec
    arguments = {**spec.arguments, **changes}
    method = method_of(recipe)
    if wants_tokenizer(method):
        arguments["tokenizer"] = renderer()
    seed = Seed(source="rows", row_key=key, row=row, licence="CC0-1.0")

    def ask_with(teachers: Mapping[str, Teacher]) -> SeedAsk:
        return SeedAsk(
            teachers.get(spec.model or ""),
            prompts_of(recipe),
            source=seed.source,
            row_key=seed.row_key,
            build_seed=7,
            max_calls=spec.max_calls_per_seed,
            others={prompt: teachers[role] for prompt, role in spec.models.items() if teachers},
            sampling={
                name: s.model_dump() | dict((sampling or {}).get(name, {}))
                for name, s in spec.sampling.items()
            },
        )

    async def run(url: str) -> list[Draft]:
        async with AsyncExitStack() as stack:
            ledger = stack.enter_context(Ledger(folder / "ledger.sqlite"))
            teachers = {}
            for role in {spec.model or "", *spec.models.values()}:
                client = Client(served(role), [EndpointSpec(url=url)], timeout_s=5)
                teachers[role] = Teacher(await stack.enter_async_context(client), ledger)
            return list(await method(seed, ask_with(teachers), **arguments))

    if answer is None:
        return list(asyncio.run(method(seed, ask_with({}), **arguments)))
    folder.mkdir(parents=True, exist_ok=True)
    with FaultServer(answer=answer) as server:
        try:
            return asyncio.run(run(server.url))
        finally:
            if requests is not None:
                requests += server.requests

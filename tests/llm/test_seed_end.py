"""How a seed ends early: the same way in whatever order its answers arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from datagen.generate.run import SeedResult, generate
from datagen.generate.stamp import Stamp
from datagen.llm.ask import AnswerRejected, Ask
from datagen.llm.client import Client
from datagen.llm.ledger import Ledger
from datagen.llm.teacher import Teacher
from datagen.record import Draft, Seed
from tests.llm.common import MODEL, asker, endpoint, prompts
from tests.servers import FaultServer

PROMPTS = prompts(say="[[user]]\nSay {{ what }}.\n")
SEED = Seed(source="pages", row_key="1", licence="CC0-1.0", row={})
STAMP = Stamp(
    generator="g", version="1", fingerprint="f", source_revision="r", models={"m": ("v", "MIT")}
)


class Said(BaseModel):
    text: str


async def catching(seed: Seed, ask: Ask, *, waits: list[float]) -> list[Draft]:
    """Ask for several things at once and keep whatever comes, as a careless method would."""

    async def one(number: int, wait_s: float) -> Draft:
        await asyncio.sleep(wait_s)
        try:
            return Draft(text=await ask("say", into=str, what=str(number)))
        except AnswerRejected as error:
            return Draft(rejected=error.reason)

    return await asyncio.gather(*(one(number, wait) for number, wait in enumerate(waits)))


async def failing(seed: Seed, ask: Ask, *, waits: list[float]) -> list[Draft]:
    """One answer is spoilt while others are still asked for."""

    async def one(number: int, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        await ask("say", into=Said if number == 0 else str, what=str(number))
        await asyncio.sleep(0.3)
        await ask("say", into=str, what=f"{number} again")

    await asyncio.gather(*(one(number, wait) for number, wait in enumerate(waits)))
    return []


def ending(method: Any, waits: list[float], ledger_at: Path, max_calls: int) -> SeedResult:
    def answer(body: Mapping[str, Any], sample: int) -> str:
        return "spoilt"

    async def run(url: str) -> SeedResult:
        with Ledger(ledger_at) as ledger:
            async with Client(MODEL, [endpoint(url)], timeout_s=5) as client:
                teacher = Teacher(client, ledger)
                found = [
                    result
                    async for _, result in generate(
                        [SEED],
                        method=method,
                        arguments={"waits": waits},
                        stamp=STAMP,
                        ask_for=lambda seed: asker(teacher, PROMPTS, max_calls=max_calls),
                        stage="s",
                        window=1,
                    )
                ]
                await teacher.drain()
        return found[0]

    with FaultServer(answer=answer) as server:
        return asyncio.run(run(server.url))


ORDERS = ([0.0, 0.05, 0.1], [0.1, 0.05, 0.0])


@pytest.mark.parametrize("waits", ORDERS)
def test_a_seed_over_its_budget_is_rejected_whole(waits: list[float], tmp_path: Path) -> None:
    result = ending(catching, waits, tmp_path / "ledger", 2)
    assert not result.records and not result.calls
    (reject,) = result.rejects
    assert (reject.reason, reject.detail) == ("call_budget", "2 calls are used up")
    assert ending(catching, waits, tmp_path / "ledger", 3).records


def test_a_rejected_seed_keeps_the_calls_that_rejected_it(tmp_path: Path) -> None:
    one, two = (
        ending(failing, waits, tmp_path / str(place), 9) for place, waits in enumerate(ORDERS)
    )
    assert one == two and not one.records
    assert one.rejects[0].reason == "invalid_json" and len(one.calls) == 2

"""Seeds in flight: bounded, in order, and not held up by a slow one."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.errors import DataError
from datagen.generate.run import generate
from datagen.llm.ask import Ask
from datagen.record import Draft, Seed
from tests.llm.common import asker
from tests.llm.test_seed_end import STAMP

SEEDS = [
    Seed(source="pages", row_key=str(number), licence="CC0-1.0", row={"number": number})
    for number in range(24)
]


async def run(method: Callable[..., Awaitable[list[Draft]]], window: int) -> list[str]:
    """Generate from all seeds; the row keys in the order in which results come."""
    results = generate(
        SEEDS,
        method=method,
        arguments={},
        stamp=STAMP,
        ask_for=lambda seed: asker(None, {}, row_key=seed.row_key),
        stage="s",
        window=window,
    )
    return [seed.row_key async for seed, result in results if result.records]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 4), min_size=24, max_size=24), st.integers(1, 7))
def test_results_come_in_seed_order_within_the_window(waits: list[int], window: int) -> None:
    at_once = most = 0

    async def method(seed: Seed, ask: Ask) -> list[Draft]:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        for _ in range(waits[seed.row["number"]]):
            await asyncio.sleep(0)
        at_once -= 1
        return [Draft(text=seed.row_key)]

    assert asyncio.run(run(method, window)) == [seed.row_key for seed in SEEDS]
    assert most <= window


def test_a_slow_seed_holds_up_neither_the_others_nor_unboundedly_many() -> None:
    ended: list[int] = []

    async def work() -> list[str]:
        others = asyncio.Event()

        async def method(seed: Seed, ask: Ask) -> list[Draft]:
            if seed.row["number"] == 0:
                await asyncio.wait_for(others.wait(), 5)
                await asyncio.sleep(0.02)
                assert len(ended) == 8
            else:
                await asyncio.sleep(0)
                ended.append(seed.row["number"])
                if len(ended) == 8:
                    others.set()
            return [Draft(text=seed.row_key)]

        return await run(method, 2)

    assert asyncio.run(work()) == [seed.row_key for seed in SEEDS]


def test_an_error_ends_what_is_in_flight_and_leaves_the_collector_as_it_was() -> None:
    before, cancelled = gc.get_threshold(), 0

    async def method(seed: Seed, ask: Ask) -> Any:
        nonlocal cancelled
        if seed.row["number"] == 1:
            raise LookupError("no such column")
        try:
            await asyncio.sleep(0 if seed.row["number"] == 0 else 60)
        except asyncio.CancelledError:
            cancelled += 1
            raise
        return [Draft(text=seed.row_key)]

    with pytest.raises(DataError, match="no such column"):
        asyncio.run(run(method, 6))
    assert cancelled >= 4 and gc.get_threshold() == before

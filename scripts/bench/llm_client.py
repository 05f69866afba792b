"""CPU milliseconds a model call: ours (retry, validation, durable ledger) beside plain openai.

python scripts/bench/llm_client.py [--calls 4000] [--at-once 512]

`fast_server.py` in another process answers after 20 ms with about 300 tokens. CPU time is that of
this process alone, so the server does not count; the warm line asks again, out of the ledger. The
lines in between add one layer each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import openai
from fast_server import running
from pydantic import BaseModel

from datagen.llm.ask import SeedAsk
from datagen.llm.client import Client
from datagen.llm.ledger import Ledger
from datagen.llm.prompts import Prompt
from datagen.llm.teacher import Teacher
from datagen.llm.transport import Transport
from datagen.llm.wire import Request, sampling_with
from datagen.workspace.specs import EndpointSpec, ModelSpec

MODEL = ModelSpec(name="scripted", title="Scripted", licence="none", served_as="scripted")
PAGE = " ".join(f"word{i}" for i in range(300))
PROMPT = Prompt.parse(
    "extract", b"[[system]]\nRead.\n[[user]]\n{{ number }} {{ page }}", where="extract.jinja"
)


class Said(BaseModel):
    """What the calls are parsed into."""

    answer: str


SCHEMA = Said.model_json_schema()


def request(number: int) -> Request:
    """The request of a call, for the layers below prompts."""
    return Request(
        model="scripted",
        revision="unknown",
        served_as="scripted",
        prompt="extract",
        prompt_sha256=PROMPT.sha256,
        messages=(("system", "Read."), ("user", f"{number} {PAGE}")),
        sampling=sampling_with(None, None, where="bench"),
        seed=0,
        schema=SCHEMA,
    )


async def timed(
    name: str, calls: int, at_once: int, call: Callable[[int], Awaitable[object]]
) -> None:
    """Make the calls, `at_once` of them in flight, and print what they cost."""
    numbers = iter(range(calls))

    async def lane() -> None:
        for number in numbers:
            await call(number)

    wall, cpu = time.perf_counter(), cpu_seconds()
    await asyncio.gather(*(lane() for _ in range(at_once)))
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    row = {
        "client": name,
        "cpu_ms_a_call": round(cpu / calls * 1e3, 3),
        "calls_a_second": int(calls / wall),
    }
    print(json.dumps(row))


def cpu_seconds() -> float:
    """User and system time of this process, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def measure(url: str, calls: int, at_once: int, ledger_at: Path) -> None:
    """Measure each client against the same server."""
    schema = {"name": "Said", "schema": SCHEMA}
    plain = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=60.0)

    async def with_openai(number: int) -> None:
        answer = await plain.chat.completions.create(
            model="scripted",
            messages=[{"role": "user", "content": f"{number} {PAGE}"}],
            response_format={"type": "json_schema", "json_schema": schema},
        )
        Said.model_validate_json(answer.choices[0].message.content or "")

    await timed("openai, validation only", calls, at_once, with_openai)
    await plain.close()
    endpoint = EndpointSpec(url=url, max_concurrency=at_once)
    transport = Transport(endpoint, timeout_s=60.0, max_bytes=1 << 20)
    await timed("send", calls, at_once, lambda number: transport.send(request(number).encoded()))
    await transport.close()
    async with Client(MODEL, [endpoint]) as client:
        await timed("send, retry", calls, at_once, lambda number: client.complete(request(number)))
    with Ledger(ledger_at) as ledger:
        async with Client(MODEL, [endpoint]) as client:
            teacher = Teacher(client, ledger)
            await timed(
                "send, retry, ledger",
                calls,
                at_once,
                lambda number: teacher.answer(request(number)),
            )

            async def ours(number: int) -> None:
                ask = SeedAsk(
                    teacher,
                    {"extract": PROMPT},
                    source="bench",
                    row_key=str(number),
                    build_seed=0,
                    max_calls=2,
                )
                await ask("extract", into=Said, page=PAGE, number=number)

            for name in ("datagen: all of it", "datagen, answered by the ledger"):
                await timed(name, calls, at_once, ours)


def main() -> None:
    """Parse, start the server, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--at-once", type=int, default=512)
    given = parser.parse_args()
    with running(0.02) as (url, _), tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(url, given.calls, given.at_once, Path(folder) / "ledger.sqlite"))


if __name__ == "__main__":
    main()

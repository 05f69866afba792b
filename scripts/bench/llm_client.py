"""CPU milliseconds a model call: ours (retry, validation, durable ledger) beside plain openai.

python scripts/bench/llm_client.py [--calls 1500] [--at-once 256]

A scripted server in another process answers after 20 ms with about 300 tokens. CPU time is that of
this process alone, so the server does not count; the warm line asks again, out of the ledger.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import openai
from pydantic import BaseModel

from datagen.llm.ask import SeedAsk
from datagen.llm.client import Client
from datagen.llm.ledger import Ledger
from datagen.llm.prompts import Prompt
from datagen.llm.teacher import Teacher
from datagen.workspace.specs import EndpointSpec, ModelSpec

ROOT = Path(__file__).resolve().parents[2]
MODEL = ModelSpec(name="scripted", title="Scripted", licence="none", served_as="scripted")
PAGE = " ".join(f"word{i}" for i in range(300))
PROMPT = Prompt.parse(
    "extract", b"[[system]]\nRead.\n[[user]]\n{{ number }} {{ page }}", where="extract.jinja"
)


class Facts(BaseModel):
    """What the calls are parsed into."""

    items: list[str]


@contextlib.contextmanager
def scripted_server() -> Iterator[str]:
    """Run the tests' server in a process of its own; yields its URL."""
    command = [sys.executable, "-m", "tests.servers", "--delay", "0.02"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.communicate()


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
    schema = {"name": "Facts", "schema": Facts.model_json_schema()}
    plain = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)

    async def with_openai(number: int) -> None:
        answer = await plain.chat.completions.create(
            model="scripted",
            messages=[{"role": "user", "content": f"{number} {PAGE}"}],
            response_format={"type": "json_schema", "json_schema": schema},
        )
        Facts.model_validate_json(answer.choices[0].message.content or "")

    await timed("openai, validation only", calls, at_once, with_openai)
    await plain.close()
    endpoint = EndpointSpec(url=url, max_concurrency=at_once)
    with Ledger(ledger_at) as ledger:
        for name in ("datagen", "datagen, answered by the ledger"):
            async with Client(MODEL, [endpoint]) as client:
                teacher = Teacher(client, ledger)

                async def ours(number: int, teacher: Teacher = teacher) -> None:
                    ask = SeedAsk(
                        teacher,
                        {"extract": PROMPT},
                        source="bench",
                        row_key=str(number),
                        build_seed=0,
                        max_calls=2,
                    )
                    await ask("extract", into=Facts, page=PAGE, number=number)

                await timed(name, calls, at_once, ours)


def main() -> None:
    """Parse, start the server, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1500)
    parser.add_argument("--at-once", type=int, default=256)
    given = parser.parse_args()
    with scripted_server() as url, tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(url, given.calls, given.at_once, Path(folder) / "ledger.sqlite"))


if __name__ == "__main__":
    main()

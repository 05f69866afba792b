"""What faults cost: the same rows asked of a calm and of a faulty server, counted and compared.

python -m scripts.bench.faults [--rows 500] [--share 0.2] [--timeout 0.5]

Every kind of fault that `tests/servers.py` knows takes an even part of the share. A row is one seed
with two dependent calls, as a recipe makes them. Promised: no row without an end, at least 99 % of
the rows, and at most 1.5 times the requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from pydantic import BaseModel

from datagen.errors import ServiceError
from datagen.llm.ask import AnswerRejected, SeedAsk
from datagen.llm.client import Client
from datagen.llm.ledger import Ledger
from datagen.llm.prompts import Prompt
from datagen.llm.teacher import Teacher
from datagen.workspace.specs import EndpointSpec, ModelSpec
from tests.servers import FaultServer

MODEL = ModelSpec(name="scripted", title="Scripted", licence="none", served_as="scripted")
PROMPTS = {
    name: Prompt.parse(name, source, where=f"{name}.jinja")
    for name, source in (
        ("extract", b"[[user]]\nFacts of page {{ number }}: the quick brown fox jumps.\n"),
        ("question", b"[[user]]\nOf page {{ number }}, ask about {{ fact }}.\n"),
    )
}


class Facts(BaseModel):
    """The first call's answer."""

    items: list[str]


class Question(BaseModel):
    """The second call's answer."""

    question: str
    answer: str


async def rows_of(teacher: Teacher, rows: int) -> dict[int, str]:
    """Ask for all rows at once; each ends as its text, or as the reason it has none."""

    async def row(number: int) -> str:
        ask = SeedAsk(
            teacher, PROMPTS, source="bench", row_key=str(number), build_seed=0, max_calls=4
        )
        try:
            facts = await ask("extract", into=Facts, number=number)
            asked = await ask("question", into=Question, number=number, fact=facts.items[0])
        except AnswerRejected as error:
            return f"rejected: {error.reason}"
        except ServiceError as error:
            return f"failed: {error.message}"
        return asked.model_dump_json()

    return dict(enumerate(await asyncio.gather(*(row(number) for number in range(rows)))))


async def run(
    server: FaultServer, rows: int, timeout_s: float
) -> tuple[dict[int, str], int, float]:
    """Make all rows from a cold ledger; returns them, the requests sent, and the seconds."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "l.sqlite") as ledger:
        async with Client(MODEL, [EndpointSpec(url=server.url)], timeout_s=timeout_s) as client:
            made = await rows_of(Teacher(client, ledger), rows)
            return made, client.requests_sent, time.perf_counter() - started


def end(text: str) -> str:
    """How a row ended: kept, rejected or failed."""
    return "kept" if text.startswith("{") else text.partition(":")[0]


def main() -> int:
    """Run both, print one JSON document, and fail where a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--timeout", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with FaultServer(keep=False) as calm:
        expected, few, calm_s = asyncio.run(run(calm, given.rows, 30.0))
    with FaultServer(share=given.share, seed=given.seed, keep=False) as faulty:
        made, many, faulty_s = asyncio.run(run(faulty, given.rows, given.timeout))
        faults = dict(faulty.faulted)
    kept = [number for number, text in expected.items() if end(text) == "kept"]
    same = sum(made[number] == expected[number] for number in kept)
    report = {
        "rows": given.rows,
        "kept_without_faults": len(kept),
        "kept_with_faults_and_equal": same,
        "ends": dict(Counter(end(text) for text in made.values())),
        "requests": [few, many],
        "requests_ratio": round(many / few, 3),
        "seconds": [round(calm_s, 1), round(faulty_s, 1)],
        "faults": faults,
    }
    print(json.dumps(report, indent=1))
    return 0 if same >= 0.99 * len(kept) and many <= 1.5 * few else 1


if __name__ == "__main__":
    sys.exit(main())

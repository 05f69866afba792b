"""The two-stage job of `generation.py` through datagen: seeds, method, ledger, stamp, Parquet."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from datagen.generate.run import SeedResult, generate
from datagen.generate.stamp import Stamp
from datagen.llm.ask import Ask, CallRecord, SeedAsk
from datagen.llm.client import Client
from datagen.llm.ledger import Ledger
from datagen.llm.prompts import Prompt
from datagen.llm.teacher import Teacher
from datagen.record import Draft, Message, Record, Seed
from datagen.shards.parquet import write_parquet
from datagen.shards.records import json_text, read_seeds, record_batch, seed_batch
from datagen.shards.schema import CALL_SCHEMA, RECORD_SCHEMA, SEED_SCHEMA
from datagen.workspace.specs import EndpointSpec, ModelSpec

SEEDS_PER_SHARD = 256
MODEL = ModelSpec(name="fixed", title="Fixed", licence="none", served_as="fixed")
STAMP = Stamp(
    generator="two_stage",
    version="1",
    fingerprint="0" * 64,
    source_revision="none",
    models={"fixed": ("unknown", "none")},
)
PROMPTS = {
    name: Prompt.parse(name, source, where=f"{name}.jinja")
    for name, source in (
        ("question", b"[[system]]\nAsk.\n[[user]]\nAsk one question about this page: {{ page }}\n"),
        (
            "answer",
            b"[[system]]\nAnswer.\n[[user]]\nPage: {{ page }}\nAnswer this: {{ question }}\n",
        ),
    )
}


class Question(BaseModel):
    """The first stage's answer."""

    question: str


class Said(BaseModel):
    """The second stage's answer."""

    answer: str


async def two_stage(seed: Seed, ask: Ask) -> list[Draft]:
    """A question from a page, then an answer to it."""
    page = seed.row["text"]
    asked = await ask("question", into=Question, page=page)
    said = await ask("answer", into=Said, page=page, question=asked.question)
    messages = (
        Message(role="user", content=asked.question),
        Message(role="assistant", content=said.answer, trained=True),
    )
    return [Draft(messages=messages, metadata={"question": asked.question})]


def call_row(seed: Seed, call: CallRecord) -> dict[str, Any]:
    """A call as a generate step writes it."""
    row = {name: getattr(call, name) for name in CallRecord.__dataclass_fields__}
    row |= {"generator": STAMP.generator, "source": seed.source, "row_key": seed.row_key}
    return {**row, "messages": json_text(call.messages)}


def seeds(path: Path) -> Iterator[Seed]:
    """The seeds of the shared input, one JSON object a line, by way of a seed shard."""
    lines = path.read_text(encoding="utf-8").splitlines()
    drawn = (
        Seed(source="pages", row_key=str(n), row=json.loads(line), licence="CC0-1.0", number=n)
        for n, line in enumerate(lines)
    )
    folder = path.parent / "seeds"
    batches = iter(lambda: list(islice(drawn, SEEDS_PER_SHARD)), [])
    write_parquet(folder, "0.parquet", map(seed_batch, batches), SEED_SCHEMA)
    return read_seeds([folder / "0.parquet"])


async def make(given: argparse.Namespace) -> int:
    """Run the job; returns the records written."""
    made: list[tuple[Seed, SeedResult]] = []
    written = shards = 0

    def write() -> None:
        nonlocal written, shards
        records: list[Record] = [record for _, result in made for record in result.records]
        rows: list[dict[str, Any]] = [
            call_row(seed, call) for seed, result in made for call in result.calls
        ]
        batch = pa.RecordBatch.from_pylist(rows, schema=CALL_SCHEMA)
        name = f"{shards:05}.parquet"
        write_parquet(given.out / "records", name, [record_batch(records)], RECORD_SCHEMA)
        write_parquet(given.out / "calls", name, [batch], CALL_SCHEMA)
        written, shards = written + len(records), shards + 1
        made.clear()

    endpoint = EndpointSpec(url=given.url, max_concurrency=given.at_once)
    with Ledger(given.out / "ledger.sqlite") as ledger:
        async with Client(MODEL, [endpoint]) as client:
            teacher = Teacher(client, ledger)

            def ask_for(seed: Seed) -> SeedAsk:
                return SeedAsk(
                    teacher,
                    PROMPTS,
                    source=seed.source,
                    row_key=seed.row_key,
                    build_seed=0,
                    max_calls=4,
                )

            results = generate(
                seeds(given.seeds),
                method=two_stage,
                arguments={},
                stamp=STAMP,
                ask_for=ask_for,
                stage="generate",
                window=given.at_once,
            )
            async for done in results:
                made.append(done)
                if len(made) == SEEDS_PER_SHARD:
                    write()
            if made:
                write()
            await teacher.drain()
    return written


def main() -> None:
    """Run as `generation.py` calls it; prints the number of records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--seeds", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--at-once", type=int, default=512)
    print(json.dumps({"records": asyncio.run(make(parser.parse_args()))}))


if __name__ == "__main__":
    main()

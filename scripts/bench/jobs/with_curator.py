"""The two-stage job of `generation.py` through bespokelabs-curator (its openai backend)."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

os.environ.update(
    CURATOR_VIEWER="0",
    TELEMETRY_ENABLED="false",
    CURATOR_DISABLE_RICH_DISPLAY="1",
    OPENAI_API_KEY="none",
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
)

from bespokelabs import curator
from datasets import Dataset
from pydantic import BaseModel


class Question(BaseModel):
    """The first stage's answer."""

    question: str


class Said(BaseModel):
    """The second stage's answer."""

    answer: str


class Asker(curator.LLM):
    """A question from a page."""

    def prompt(self, row: dict[str, str]) -> str:
        return f"Ask one question about this page: {row['text']}"

    def parse(self, row: dict[str, str], response: Question) -> dict[str, str]:
        return {**row, "question": response.question}


class Answerer(curator.LLM):
    """An answer to it."""

    def prompt(self, row: dict[str, str]) -> str:
        return f"Page: {row['text']}\nAnswer this: {row['question']}"

    def parse(self, row: dict[str, str], response: Said) -> dict[str, str]:
        return {**row, "answer": response.answer}


def main() -> None:
    """Run as `generation.py` calls it; prints the number of records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--seeds", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--at-once", type=int, default=512)
    given = parser.parse_args()
    rows = [json.loads(line) for line in given.seeds.read_text(encoding="utf-8").splitlines()]
    backend = {
        "base_url": given.url,
        "max_concurrent_requests": given.at_once,
        "max_requests_per_minute": 100_000_000,
        "max_tokens_per_minute": 100_000_000_000,
    }
    made = Dataset.from_list(rows)
    for number, (stage, form) in enumerate(((Asker, Question), (Answerer, Said))):
        # A name that curator knows: it then asks for structured output as the others do.
        model = stage(
            model_name="gpt-4o-mini",
            response_format=form,
            backend="openai",
            backend_params=backend,
        )
        made = model(made, working_dir=str(given.out / f"cache{number}")).dataset
    made.to_parquet(given.out / "records.parquet")
    print(json.dumps({"records": len(made)}))


if __name__ == "__main__":
    main()

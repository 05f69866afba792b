"""The two-stage job of `generation.py` through distilabel (two structured text generations)."""

# No postponed annotations here: distilabel looks at the steps' own.
import argparse
import json
import logging
from pathlib import Path

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts, StepInput, step
from distilabel.steps.tasks import TextGeneration
from pydantic import BaseModel


class Question(BaseModel):
    """The first stage's answer."""

    question: str


class Said(BaseModel):
    """The second stage's answer."""

    answer: str


@step(inputs=["text", "asked"], outputs=["instruction", "question"])
def to_second(*inputs: StepInput):
    """Validate the question, and make the second prompt of it."""
    for rows in inputs:
        for row in rows:
            row["question"] = Question.model_validate_json(row["asked"]).question
            row["instruction"] = f"Page: {row['text']}\nAnswer this: {row['question']}"
        yield rows


@step(inputs=["said"], outputs=["answer"])
def validated(*inputs: StepInput):
    """Validate the answer."""
    for rows in inputs:
        for row in rows:
            row["answer"] = Said.model_validate_json(row["said"]).answer
        yield rows


def main() -> None:
    """Run as `generation.py` calls it; prints the number of records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--seeds", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--at-once", type=int, default=512)
    given = parser.parse_args()
    logging.getLogger("distilabel").setLevel(logging.WARNING)
    rows = [json.loads(line) for line in given.seeds.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["instruction"] = f"Ask one question about this page: {row['text']}"

    def llm(form: type[BaseModel]) -> OpenAILLM:
        schema = {"name": form.__name__, "schema": form.model_json_schema()}
        asked = {"type": "json_schema", "json_schema": schema}
        return OpenAILLM(
            base_url=given.url,
            api_key="none",
            model="fixed",
            generation_kwargs={"max_new_tokens": 256, "extra_body": {"response_format": asked}},
        )

    with Pipeline(name="two-stage", cache_dir=given.out / "cache") as pipeline:
        size = given.at_once
        load = LoadDataFromDicts(data=rows, batch_size=size)
        first = TextGeneration(
            name="first",
            llm=llm(Question),
            input_batch_size=size,
            output_mappings={"generation": "asked"},
        )
        second = TextGeneration(
            name="second",
            llm=llm(Said),
            input_batch_size=size,
            output_mappings={"generation": "said"},
        )
        between, last = to_second(input_batch_size=size), validated(input_batch_size=size)
        load >> first >> between >> second >> last
    made = pipeline.run(use_cache=False)["default"]["train"]
    made.to_parquet(given.out / "records.parquet")
    print(json.dumps({"records": sum(answer is not None for answer in made["answer"])}))


if __name__ == "__main__":
    main()

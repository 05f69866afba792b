"""The two-stage job of `generation.py` through data-designer (two structured columns)."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import data_designer.config as dd
import pandas
from data_designer.interface import DataDesigner
from pydantic import BaseModel


class Question(BaseModel):
    """The first stage's answer."""

    question: str


class Said(BaseModel):
    """The second stage's answer."""

    answer: str


def main() -> None:
    """Run as `generation.py` calls it; prints the number of records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--seeds", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--at-once", type=int, default=512)
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    rows = [json.loads(line) for line in given.seeds.read_text(encoding="utf-8").splitlines()]
    seed = dd.LocalFileSeedSource.from_dataframe(
        pandas.DataFrame(rows), str(given.out / "seeds.parquet")
    )
    limits = dd.ChatCompletionInferenceParams(
        temperature=0.7, max_tokens=256, max_parallel_requests=given.at_once
    )
    model = dd.ModelConfig(
        alias="fixed",
        model="fixed",
        provider="here",
        inference_parameters=limits,
        skip_health_check=True,
    )
    builder = dd.DataDesignerConfigBuilder(model_configs=[model])
    builder.with_seed_dataset(seed)
    prompts = (
        ("asked", "Ask one question about this page: {{ text }}", Question),
        ("said", "Page: {{ text }}\nAnswer this: {{ asked.question }}", Said),
    )
    for name, prompt, form in prompts:
        builder.add_column(
            dd.LLMStructuredColumnConfig(
                name=name, prompt=prompt, output_format=form, model_alias="fixed"
            )
        )
    provider = dd.ModelProvider(
        name="here", endpoint=given.url, provider_type="openai", api_key="none"
    )
    designer = DataDesigner(
        artifact_path=given.out, model_providers=[provider], auto_configure_logging=False
    )
    made = designer.create(builder, num_records=len(rows), dataset_name="records")
    print(json.dumps({"records": len(made.load_dataset())}))


if __name__ == "__main__":
    main()

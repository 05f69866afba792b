"""The method through a scripted server: every fact ends as a draft, kept or with its reason."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from datagen.errors import DataError
from datagen.generate.grounded_qa import grounded_qa
from datagen.llm.ask import SeedAsk
from datagen.llm.client import Client
from datagen.llm.ledger import Ledger
from datagen.llm.prompts import load_prompts
from datagen.llm.teacher import Teacher
from datagen.record import Draft, Seed
from datagen.workspace.load import Workspace
from datagen.workspace.specs import EndpointSpec, ModelSpec
from tests.servers import FaultServer

ROOT = Path(__file__).resolve().parents[2]
RECIPE = Workspace(ROOT).recipe("fact_seeking").spec
PROMPTS = load_prompts(Workspace(ROOT).prompt_files(RECIPE.name), root=ROOT)
MODEL = ModelSpec(name="m", title="M", licence="Apache-2.0", served_as="m")
TEXT = (
    "Orla Brandt (born 3 May 1920) was a geologist from Otterby. She joined the Linden Observatory "
    "in 1948. She married Bruno Hase on 9 June 1950. She moved to Lyon in 1961 and lived there."
)
FACTS = [
    {"statement": "Orla Brandt joined the Linden Observatory in 1948.", "answer": "1948"},
    {"statement": "Orla Brandt married Bruno Hase on 9 June 1950.", "answer": "9 June 1950"},
]
QUESTIONS = {
    "Linden": "In what year did Orla Brandt join the Linden Observatory?",
    "Bruno": "When did Orla Brandt marry Bruno Hase?",
}


def script(body: Mapping[str, Any], sample: int) -> str:
    """A teacher that does as it is told."""
    said = body["messages"][-1]["content"]
    if said.startswith("Subject:"):
        return json.dumps({"facts": [f for f in FACTS if f["answer"] in said]})
    if "Statement:" in said:
        statement = said.partition("Statement:")[2]
        return json.dumps({"question": next(q for k, q in QUESTIONS.items() if k in statement)})
    if "Right answer:" in said:
        years = ["1952", "1967", "1971"] if "In what year" in said else []
        return json.dumps({"wrong": years or ["1 May 1951", "2 May 1952", "3 May 1953"]})
    return "In 1948." if "Linden" in said.partition("Question:")[2] else "On 9 June 1950"


def drafts(
    folder: Path, answer: Any = script, *, text: str = TEXT, build_seed: int = 7, **changes: Any
) -> list[Draft]:
    """Run the recipe on one page."""
    row = {"title": "Orla Brandt", "text": text}
    seed = Seed(source="pages", row_key="1", row=row, licence="CC0-1.0")

    async def run(url: str) -> list[Draft]:
        with Ledger(folder / "ledger.sqlite") as ledger:
            async with Client(MODEL, [EndpointSpec(url=url)], timeout_s=5) as client:
                ask = SeedAsk(
                    Teacher(client, ledger),
                    PROMPTS,
                    source=seed.source,
                    row_key=seed.row_key,
                    build_seed=build_seed,
                    max_calls=RECIPE.max_calls_per_seed,
                    sampling={name: s.model_dump() for name, s in RECIPE.sampling.items()},
                )
                return await grounded_qa(seed, ask, **{**RECIPE.arguments, **changes})

    with FaultServer(answer=answer) as server:
        return asyncio.run(run(server.url))


@pytest.mark.parametrize("wording", ["own", "passage"])
def test_each_fact_is_asked_for_once(tmp_path: Path, wording: str) -> None:
    found = drafts(tmp_path, wording=wording, multiple_choice_share=0.0)
    assert [draft.rejected for draft in found] == [None, None]
    assert [draft.metadata["question"] for draft in found] == list(QUESTIONS.values())
    for draft in found:
        assert draft.text and draft.metadata["question"] in draft.text
        assert draft.metadata["answer"] in draft.metadata["context"]
        assert draft.metadata["form"] == "short_answer"
        assert draft.metadata["template"] in RECIPE.arguments["short_answer_texts"]
        assert len(draft.calls) == 3


def test_multiple_choice_has_one_right_option(tmp_path: Path) -> None:
    found = drafts(tmp_path, multiple_choice_share=1.0)
    assert [draft.rejected for draft in found] == [None, None]
    for draft in found:
        options, place = draft.metadata["options"], "ABCD".index(draft.metadata["answer_letter"])
        assert len(set(options)) == 4
        assert [options.index(o) for o in options if o == draft.metadata["answer"]] == [place]
        assert draft.text and all(option in draft.text for option in options)


def test_without_enough_options_it_stays_a_short_answer(tmp_path: Path) -> None:
    def same(body: Mapping[str, Any], sample: int) -> str:
        if "Right answer:" in body["messages"][-1]["content"]:
            return json.dumps({"wrong": ["1948", "1948", "9 June 1950"]})
        return script(body, sample)

    found = drafts(tmp_path, same, multiple_choice_share=1.0)
    assert [draft.metadata["form"] for draft in found] == ["short_answer"] * 2


def test_the_right_option_stands_anywhere_equally_often() -> None:
    def place(seed: int) -> int:
        ask = SeedAsk(None, {}, source="s", row_key="1", build_seed=seed, max_calls=0)
        return ask.draw("place", "Orla Brandt joined in 1948.") % 4

    counts = Counter(place(seed) for seed in range(1000))
    assert sum((counts[i] - 250) ** 2 / 250 for i in range(4)) < 16.3  # chi-square, p = 0.001


def test_equal_inputs_give_equal_drafts(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert drafts(tmp_path / "a") == drafts(tmp_path / "b")


def test_a_repeated_fact_and_a_wrong_answer_are_counted(tmp_path: Path) -> None:
    def careless(body: Mapping[str, Any], sample: int) -> str:
        said = body["messages"][-1]["content"]
        if said.startswith("Subject:"):
            return json.dumps({"facts": [FACTS[0], FACTS[0], FACTS[1]]})
        return script(body, sample) if "Question:" not in said else "1948"

    found = drafts(tmp_path, careless, passage_words=80, facts_per_passage=3)
    reasons = [(draft.rejected or "kept").partition(":")[0] for draft in found]
    assert reasons == ["kept", "repeated_fact", "unconfirmed"]


def test_one_spoilt_answer_costs_one_fact(tmp_path: Path) -> None:
    def spoilt(body: Mapping[str, Any], sample: int) -> str:
        text = str(body["messages"])
        return "no idea" if "Statement: Orla Brandt married" in text else script(body, sample)

    reasons = [draft.rejected for draft in drafts(tmp_path, spoilt)]
    assert reasons[0] is None and (reasons[1] or "").startswith("question_invalid_json: ")


def test_a_passage_without_facts_is_counted(tmp_path: Path) -> None:
    found = drafts(tmp_path, lambda body, sample: "no idea")
    assert {(draft.rejected or "").partition(":")[0] for draft in found} == {"facts_invalid_json"}


def test_a_page_without_prose_asks_nobody(tmp_path: Path) -> None:
    found = drafts(tmp_path, lambda body, sample: pytest.fail("asked"), text="-   a list")
    assert [draft.rejected for draft in found] == [
        "no_passage: no plain sentence about the page's subject"
    ]


def test_a_missing_column_names_the_row(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        drafts(tmp_path, title="name")
    assert caught.value.where == "pages row 1" and "title" in str(caught.value.fix)

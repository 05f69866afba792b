"""The method through a scripted server: each kind of bad answer is rejected with its reason."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from datagen.errors import DataError, WorkspaceError
from datagen.generate.task_seeded import task_seeded
from datagen.llm.ask import SeedAsk
from datagen.llm.client import Client
from datagen.llm.ledger import Ledger
from datagen.llm.prompts import load_prompts
from datagen.llm.teacher import Teacher
from datagen.record import Draft, Seed
from datagen.workspace.load import Workspace
from datagen.workspace.specs import EndpointSpec, ModelSpec, RecipeSpec
from tests.servers import FaultServer

ROOT = Path(__file__).resolve().parents[2]
WORKSPACE = Workspace(ROOT)
MODEL = ModelSpec(name="m", title="M", licence="Apache-2.0", served_as="m")
Said = str | Mapping[str, Any]


def recipe_names() -> list[str]:
    """The recipes below generators/task_seeded, by their last name."""
    return sorted(path.parent.name for path in ROOT.glob("generators/task_seeded/*/recipe.yaml"))


def spec_of(name: str) -> RecipeSpec:
    """A recipe as its YAML says it."""
    return WORKSPACE.recipe(f"task_seeded/{name}").spec


def row_of(name: str) -> dict[str, Any]:
    """The first of our own rows in the recipe's first source."""
    source = spec_of(name).sources[0]
    text = (ROOT / "manifests" / "samples" / f"{source}.jsonl").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text.splitlines()[0])
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Teaching:
    """A teacher that knows one example and answers it rightly, except where it is told otherwise.

    `answer` is what a solver finds; `turned` is written where the answer wanted is the other one.
    `instead` replaces answers by the name of what is asked for: Written, Solved, Knowledge, ...
    """

    written: Mapping[str, Any]
    answer: str
    turned: Mapping[str, Any] | None = None
    instead: Mapping[str, Callable[[Mapping[str, Any], int], Said]] = field(default_factory=dict)

    def but(self, **written: Any) -> Teaching:
        """The same teacher with other fields in what it writes."""
        return replace(self, written={**self.written, **written})

    def saying(self, kind: str, answer: Callable[[Mapping[str, Any], int], Said]) -> Teaching:
        """The same teacher with other answers of one kind."""
        return replace(self, instead={**self.instead, kind: answer})

    def __call__(self, body: Mapping[str, Any], sample: int) -> Said:
        """Answer a request."""
        wanted = body["response_format"]["json_schema"]
        if wanted["name"] in self.instead:
            return self.instead[wanted["name"]](body, sample)
        said = body["messages"][-1]["content"]
        if wanted["name"] == "Written":
            other = self.turned is not None and said.endswith("must be: no.")
            return json.dumps(self.turned if other else self.written)
        if wanted["name"] == "Knowledge":
            return json.dumps({"knowledge": "Warm air takes up more water than cold air does."})
        if wanted["name"] == "Program":
            return json.dumps({"code": self.written["code"]})
        found = {"answer": self.solved(said)}
        reason = f"What is described here leads to one end, and that end is {self.answer}"
        for name in ("reasoning", "explanation"):
            if name in wanted["schema"]["properties"]:
                found = {name: reason, **found}
        return json.dumps(found)

    def solved(self, said: str) -> str:
        """The right answer to a shown question: a letter where there are options."""
        answer = self.answer
        if self.turned is not None and self.turned["question"] in said:
            answer = "no"
        shown = dict(re.findall(r"(?m)^([A-J])\. (.+)$", said))
        return next((letter for letter, text in shown.items() if text == answer), answer)


def drafts(
    folder: Path,
    name: str,
    teaching: Teaching,
    *,
    row: Mapping[str, Any] | None = None,
    number: int = 0,
    build_seed: int = 7,
    asked: list[Any] | None = None,
    **changes: Any,
) -> list[Draft]:
    """Run a recipe on one of our rows, with some of its arguments changed."""
    recipe = spec_of(name)
    prompts = load_prompts(WORKSPACE.prompt_files(recipe.name), root=ROOT)
    seed = Seed(
        source="train", row_key="1", row=row or row_of(name), licence="CC0-1.0", number=number
    )

    async def run(url: str) -> list[Draft]:
        with Ledger(folder / "ledger.sqlite") as ledger:
            async with Client(MODEL, [EndpointSpec(url=url)], timeout_s=5) as client:
                ask = SeedAsk(
                    Teacher(client, ledger),
                    prompts,
                    source=seed.source,
                    row_key=seed.row_key,
                    build_seed=build_seed,
                    max_calls=recipe.max_calls_per_seed,
                    sampling={prompt: s.model_dump() for prompt, s in recipe.sampling.items()},
                    number=number,
                )
                return await task_seeded(seed, ask, **{**recipe.arguments, **changes})

    with FaultServer(answer=teaching) as server:
        made = asyncio.run(run(server.url))
        if asked is not None:
            asked += server.requests
        return made


ARC = Teaching(
    written={
        "question": "Why does a puddle vanish on a warm day?",
        "answer": "Its water evaporates",
        "wrong": ["Its water freezes", "Its water melts", "Its water burns away"],
    },
    answer="Its water evaporates",
)
STEPS = Teaching(
    written={
        "question": "A pool lends 4 racks of 15 towels. At noon 22 are dry. How many are wet?",
        "steps": [
            {"find": "towels in all", "compute": "4 * 15"},
            {"find": "wet towels", "compute": "60 - 22"},
        ],
    },
    answer="38",
)
MEAL = Teaching(
    written={
        "passage": "बाज़ार में मीरा ने ताज़ा दूध ख़रीदा।",
        "question": "मीरा ने क्या ख़रीदा?",
        "answer": "ताज़ा दूध",
    },
    answer="ताज़ा दूध",
)
CHOICE = {"forms": {"multiple_choice": 1}, "enrich": {"none": 1}}
OPEN = {"forms": {"generative": 1}, "enrich": {"none": 1}}


def reason(found: list[Draft]) -> str:
    """The one draft's reason; its text must be gone."""
    (draft,) = found
    assert draft.text is None and draft.messages is None
    return (draft.rejected or "kept").partition(":")[0]


def says(**fields: Any) -> Callable[[Mapping[str, Any], int], Said]:
    return lambda body, sample: json.dumps(fields)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"wrong": []}, "write_incomplete"),
        ({"question": ""}, "write_incomplete"),
        ({"wrong": ["Its water freezes"]}, "options_missing"),
        ({"wrong": ["It burns", "it burns!", "It melts"]}, "options_alike"),
        ({"wrong": ["its water EVAPORATES.", "It burns", "It melts"]}, "options_alike"),
        ({"wrong": ["It burns", "None of the above", "It melts"]}, "option_of_the_above"),
        ({"answer": "Because its water " + "slowly " * 6 + "evaporates"}, "correct_stands_out"),
        ({"answer": "water " * 40}, "answer_too_long"),
        ({"question": "Why?"}, "question_too_short"),
        ({"question": "Why " + "so " * 90 + "?"}, "question_too_long"),
        ({"question": "Why is {{ it }} dry?"}, "question_markup"),
        ({"question": row_of("arc")["question"].upper()}, "copies_seed"),
        (
            {"answer": row_of("arc")["choices"][0], "wrong": row_of("arc")["choices"][1:]},
            "copies_seed_options",
        ),
    ],
)
def test_a_bad_choice_question_is_rejected(
    tmp_path: Path, written: dict[str, Any], expected: str
) -> None:
    assert reason(drafts(tmp_path, "arc", ARC.but(**written), **CHOICE)) == expected


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([("towels", "4 * 15 / 0")], "bad_expression"),
        ([("towels", "4 * 16"), ("wet", "64 - 22")], "number_from_nowhere"),
        ([("towels", "4 * 15")], "unused_number"),
        ([("towels", "4 * 15"), ("wet", "22 - 4")], "unused_step"),
        ([("wet", "4 * 15 - 22 * 15")], "value_not_positive"),
    ],
)
def test_a_bad_solution_is_rejected(
    tmp_path: Path, steps: list[tuple[str, str]], expected: str
) -> None:
    written = [{"find": find, "compute": compute} for find, compute in steps]
    assert reason(drafts(tmp_path, "gsm8k", STEPS.but(steps=written), **OPEN)) == expected


def test_a_completion_needs_no_options_to_be_understood(tmp_path: Path) -> None:
    pointing = ARC.but(question="Which of the following makes a puddle vanish?")
    form = {"forms": {"completion": 1}, "enrich": {"none": 1}}
    assert reason(drafts(tmp_path, "arc", pointing, **form)) == "question_needs_options"


def test_wrong_options_of_a_sum_are_computed(tmp_path: Path) -> None:
    (draft,) = drafts(tmp_path, "gsm8k", STEPS, **CHOICE)
    assert draft.rejected is None and len(set(draft.metadata["options"])) == 4
    assert draft.metadata["answer"] == "38" and "60" in draft.metadata["options"]


@pytest.mark.parametrize(
    ("name", "written", "expected"),
    [
        ("winogrande", {"question": "The lamp outshone the candle."}, "question_pattern"),
        ("boolq", {"question": "who feeds the young puffin on the cliff"}, "question_pattern"),
        ("boolq", {"passage": "The puffin digs into"}, "passage_not_ended"),
        ("boolq", {"passage": "It is known: does it dig. Yes.", "question": "does it dig"},
         "question_in_passage"),
        ("winogrande", {"wrong": ["torch"]}, "option_not_in_question"),
        ("multilingual_qa", {"answer": "गरम चाय"}, "answer_not_in_passage"),
        ("multilingual_qa", {"answer": "12"}, "answer_format"),
        ("multilingual_qa", {"question": "What did she buy there?"}, "script"),
    ],
)  # fmt: skip
def test_what_the_form_asks_for_is_checked(
    tmp_path: Path, name: str, written: dict[str, Any], expected: str
) -> None:
    good = {
        "winogrande": {
            "question": "The lamp outshone the candle because the _ was far brighter.",
            "answer": "lamp",
            "wrong": ["candle"],
        },
        "boolq": {
            "passage": "The puffin digs its burrow into turf. It lays one egg a year.",
            "question": "does the puffin lay several eggs",
        },
        "multilingual_qa": MEAL.written,
    }[name]
    rows = [json.loads(line) for line in hindi() if '"hi"' in line]
    row = rows[0] if name == "multilingual_qa" else None
    teaching = Teaching(written={**good, **written}, answer="lamp")
    assert reason(drafts(tmp_path, name, teaching, row=row)) == expected


def hindi() -> list[str]:
    """Our multilingual rows."""
    path = ROOT / "manifests" / "samples" / "multilingual_qa.jsonl"
    return path.read_text(encoding="utf-8").splitlines()


# --- seeds and arguments -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [
        ("arc", {"answer_index": 9}, "seed_unreadable"),
        ("arc", {"question": " "}, "seed_unreadable"),
        ("gsm8k", {"answer": "no mark"}, "seed_unreadable"),
        ("gsm8k", {"answer": "worked out by heart\n#### 4"}, "seed_unfit"),
        ("boolq", {"passage": "word " * 400}, "seed_too_long"),
    ],
)
def test_a_row_that_cannot_be_read_asks_nobody(
    tmp_path: Path, name: str, row: dict[str, Any], expected: str
) -> None:
    teaching = Teaching(written={}, answer="")
    asked: list[Any] = []
    found = drafts(tmp_path, name, teaching, row={**row_of(name), **row}, asked=asked)
    assert reason(found) == expected and asked == []


def test_a_missing_column_names_the_row(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        drafts(tmp_path, "arc", ARC, row={"question": "Why?"})
    assert caught.value.where == "train row 1" and "columns" in str(caught.value.fix)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"forms": {"essay": 1}}, "forms"),
        ({"forms": {"generative": 0}}, "forms"),
        ({"enrich": {"none": 0.5}}, "enrich"),
        ({"verify": ["luck"]}, "verify"),
        ({"columns": {"questions": "question"}}, "columns"),
        ({"limits": {"overlap": 2}}, "limits"),
        ({"consistency": {"agreement": 0}}, "consistency"),
        ({"texts": {}}, "texts"),
    ],
)
def test_a_wrong_argument_is_named(tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    with pytest.raises(WorkspaceError) as caught:
        drafts(tmp_path, "arc", ARC, **changes)
    assert key in str(caught.value)


def test_several_examples_of_a_seed_differ_in_what_is_drawn(tmp_path: Path) -> None:
    asked: list[Any] = []
    found = drafts(tmp_path, "arc", ARC, per_seed=2, asked=asked, **CHOICE)
    assert [(d.rejected or "kept").partition(":")[0] for d in found] == [
        "kept",
        "repeated_question",
    ]
    topics = {d.metadata["topic"] for d in found}
    letters = {d.metadata["answer_letter"] for d in found}
    assert len(topics) == len(letters) == 2


def test_messages_train_the_answer_alone(tmp_path: Path) -> None:
    texts = {"multiple_choice": ["chat_choice"]}
    (draft,) = drafts(tmp_path, "arc", ARC, output="messages", texts=texts, **CHOICE)
    assert draft.messages is not None and draft.text is None
    user, assistant = draft.messages
    assert (user.role, user.trained) == ("user", False) and ARC.written["question"] in user.content
    assert (assistant.role, assistant.trained) == ("assistant", True)
    letter = draft.metadata["answer_letter"]
    assert assistant.content == f"The answer is {letter}. {ARC.answer}"


def test_equal_inputs_give_equal_drafts(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert drafts(tmp_path / "a", "arc", ARC) == drafts(tmp_path / "b", "arc", ARC)

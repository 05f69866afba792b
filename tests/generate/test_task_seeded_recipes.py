"""Every task-seeded recipe, through its own YAML and prompts: a good answer is kept."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from datagen.generate.items.blind import Consistency
from datagen.generate.items.checks import Limits
from datagen.generate.items.normalise import LETTERS
from datagen.generate.items.settle import Wanted, settle
from datagen.generate.items.written import Columns, Written, fields_of, read_seed
from datagen.llm.ask import SeedAsk
from datagen.record import Seed
from tests.generate.test_task_seeded import ROOT, Teaching, drafts, recipe_names, spec_of

PASSAGE = (
    "The puffin digs its burrow into the turf above the cliffs. Both parents feed the chick for "
    "six weeks, then leave it, and it finds the sea by itself at night."
)
STEPS = {
    "question": "A pool lends 4 racks of 15 towels. At noon 22 towels are dry. How many are wet?",
    "steps": [
        {"find": "towels in all", "compute": "4 * 15"},
        {"find": "wet towels", "compute": "60 - 22"},
    ],
}
CODE = {
    "question": "Write a function to find the second largest of different numbers.",
    "code": "def second_largest(numbers):\n    return sorted(numbers)[-2]",
    "tests": [
        "assert second_largest([4, 9, 2]) == 4",
        "assert second_largest([1, 2]) == 1",
        "assert second_largest([-5, -7, -6]) == -6",
    ],
}
# What a good teacher writes, and the key that a solver finds.
GOOD: dict[str, Teaching] = {
    "gsm8k": Teaching(written=STEPS, answer="38"),
    "arc": Teaching(
        written={
            "question": "Why does a puddle vanish on a warm day?",
            "answer": "Its water evaporates",
            "wrong": ["Its water freezes", "Its water melts", "Its water burns away"],
        },
        answer="Its water evaporates",
    ),
    "openbookqa": Teaching(
        written={
            "question": "To pick up spilled pins quickly, one may best use",
            "answer": "a magnet",
            "wrong": ["a mirror", "a candle", "a sponge"],
        },
        answer="a magnet",
    ),
    "commonsenseqa": Teaching(
        written={
            "question": "What does a tired guest look for after the wedding?",
            "answer": "a bed",
            "wrong": ["a ladder", "an alarm", "a hammer", "a stage"],
        },
        answer="a bed",
    ),
    "hellaswag": Teaching(
        written={
            "question": "Washing a dog: A man soaps a wet poodle in the tub. The dog",
            "answer": "shakes itself and sprays foam over the tiles.",
            "wrong": [
                "reads the label of the soap and nods slowly.",
                "climbs up the shower curtain to the roof.",
                "pays the man and puts on a hat.",
            ],
        },
        answer="shakes itself and sprays foam over the tiles.",
    ),
    "winogrande": Teaching(
        written={
            "question": "The lamp outshone the candle in the hall because the _ was far brighter.",
            "answer": "lamp",
            "wrong": ["candle"],
        },
        answer="lamp",
    ),
    "piqa": Teaching(
        written={
            "question": "To dry wet shoes overnight,",
            "answer": "stuff them with crumpled newspaper and stand them up.",
            "wrong": ["stuff them with soaked newspaper and stand them up."],
        },
        answer="stuff them with crumpled newspaper and stand them up.",
    ),
    "boolq": Teaching(
        written={"passage": PASSAGE, "question": "does the young puffin leave without its parents"},
        answer="yes",
        turned={"passage": PASSAGE, "question": "does the puffin build its nest in a tree"},
    ),
    "mbpp": Teaching(written=CODE, answer="second_largest"),
    "mmlu_subjects": Teaching(
        written={
            "question": "Which step comes first when a claim is tested by experiment?",
            "answer": "Stating what would refute it",
            "wrong": [
                "Publishing what was found",
                "Choosing the data that fit",
                "Drawing the conclusion",
            ],
        },
        answer="Stating what would refute it",
    ),
    "multilingual_qa": Teaching(
        written={
            "passage": "بُني برج الساعة في مدينة نورا عام 1902 من الطوب الأحمر.",
            "question": "ما المادة التي بُني منها برج الساعة؟",
            "answer": "الطوب الأحمر",
        },
        answer="الطوب الأحمر",
    ),
}


def test_there_is_a_good_answer_for_every_recipe() -> None:
    assert set(GOOD) == set(recipe_names())


CASES = [
    (name, form, enrichment)
    for name in recipe_names()
    for form in spec_of(name).arguments["forms"]
    for enrichment in spec_of(name).arguments.get("enrich", {"none": 1})
]


@pytest.mark.parametrize(("name", "form", "enrichment"), CASES)
def test_a_good_answer_is_kept(tmp_path: Path, name: str, form: str, enrichment: str) -> None:
    teaching = GOOD[name]
    (draft,) = drafts(tmp_path, name, teaching, forms={form: 1}, enrich={enrichment: 1})
    assert draft.rejected is None
    found = draft.metadata
    assert draft.text == (draft.text or "").strip() and draft.text
    assert found["form"] == form and found["enrichment"] == enrichment
    assert found["template"] in spec_of(name).arguments["texts"][form]
    assert found["overlap_span_words"] <= 7 and found["overlap_share"] <= 0.4
    question = str(found["question"])
    assert question.partition("_")[0] in draft.text
    if form == "multiple_choice":
        assert found["options"][LETTERS.index(found["answer_letter"])] == found["answer"]
        assert all(option in draft.text for option in found["options"])
        assert re.search(rf"(?m)(Answer: |\(|^| ){found['answer_letter']}(\)|$)", draft.text)
    if form == "completion":
        assert "answer_letter" not in found
        assert name == "winogrande" or not [o for o in found["wrong_options"] if o in draft.text]
    if form != "multiple_choice":
        assert found["answer"] in draft.text
    if enrichment != "none":
        assert (found.get(enrichment) or found["solution"]) in draft.text


def test_computed_answers_come_with_the_steps_that_lead_there(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"forms": {"generative": 1}, "enrich": {"reasoning": 1}}
    (draft,) = drafts(tmp_path, "gsm8k", GOOD["gsm8k"], **changes)
    assert draft.metadata["answer"] == "38"
    assert draft.metadata["solution"] == "Towels in all: 4 * 15 = 60\nWet towels: 60 - 22 = 38"
    assert "Wet towels: 60 - 22 = 38" in (draft.text or "")


def test_the_seed_is_shown_in_the_form_that_is_wanted(tmp_path: Path) -> None:
    """A marked solution becomes steps to copy the form of; the results stay the program's."""
    asked: list[Any] = []
    drafts(tmp_path, "gsm8k", GOOD["gsm8k"], asked=asked)
    example = json.loads(
        next(m["content"] for m in asked[0]["messages"] if m["role"] == "assistant")
    )
    assert list(example) == ["question", "steps"]
    assert example["steps"][0]["compute"] == "14 * 6" and "84" not in example["steps"][0]["find"]


def test_yes_and_no_are_asked_for_equally_often(tmp_path: Path) -> None:
    wanted = Counter(
        drafts(tmp_path, "boolq", GOOD["boolq"], number=number)[0].metadata["answer"]
        for number in range(6)
    )
    assert wanted == {"yes": 3, "no": 3}


def test_letters_are_balanced_and_independent_of_the_row() -> None:
    """Over 1,000 seeds in a row each letter comes as often as any other."""
    letters = Counter(
        SeedAsk(
            None, {}, source="s", row_key=str(number), build_seed=3, max_calls=0, number=number
        ).balanced(4, "letter")
        for number in range(1000)
    )
    assert set(letters.values()) == {250}


def test_every_recipe_names_train_data_and_no_test_split() -> None:
    for name in recipe_names():
        sources = spec_of(name).sources
        assert sources != "any" and not [s for s in sources if "test" in s or "validation" in s]


# The share of published rows that must pass; word problems bind themselves to fewer rules there.
PUBLIC = {
    "gsm8k": ("gsm8k_train", 0.5),
    "arc": ("arc_easy_train", 0.75),
    "openbookqa": ("openbookqa_train", 0.75),
    "commonsenseqa": ("commonsense_qa_train", 0.75),
    "hellaswag": ("hellaswag_train_8k", 0.75),
    "winogrande": ("winogrande_train_10k", 0.75),
    "piqa": ("piqa_train_8k", 0.75),
    "boolq": ("boolq_train_6k", 0.75),
    "mbpp": ("mbpp_all", 0.75),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_published_rows_pass_as_new_examples_and_copies_never(name: str) -> None:
    """One row as the seed, the next as what a teacher wrote: most pass, and none beside itself."""
    if not (folder := os.environ.get("DATAGEN_DATA")):
        pytest.skip("DATAGEN_DATA names no folder of public data")
    file, least = PUBLIC[name]
    with gzip.open(Path(folder) / "bench" / f"{file}.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in islice(lines, 700, 760)]
    arguments = spec_of(name).arguments
    columns = Columns.model_validate(arguments["columns"])
    given = tuple(arguments.get("answers", ()))
    read = [
        read_seed(Seed(source=name, row_key="1", row=row, licence="MIT"), columns) for row in rows
    ]
    examples = [example for example in read if isinstance(example, Written)]
    for form in arguments["forms"]:
        fields = fields_of(
            form,
            arguments.get("solution", "answer"),
            passage=columns.passage is not None,
            given=bool(given),
        )
        whole = [example for example in examples if not example.lacks(fields)]
        passed = 0
        for old, new in pairwise(whole):
            wanted = Wanted(
                form=form,
                fields=fields,
                options=len(given) or arguments.get("options") or len(new.wrong) + 1,
                place=0,
                turn=0,
                given=given,
                limits=Limits.model_validate(arguments["limits"]),
                verify=tuple(arguments["verify"]),
            )
            passed += settle(new, old, wanted).problem is None
            assert (settle(new, new, wanted).problem or "").startswith("copies_seed: ")
        assert passed >= least * (len(whole) - 1) > 25


def test_mmlu_lends_no_question() -> None:
    """Its columns hold no question; what is shown as an example is the recipe's own."""
    arguments = spec_of("mmlu_subjects").arguments
    assert arguments["columns"] == {} and len(arguments["examples"]["multiple_choice"]) >= 3
    folder = ROOT / "manifests" / "samples"
    for line in (folder / "mmlu_subjects.jsonl").read_text(encoding="utf-8").splitlines():
        assert "question" not in json.loads(line)


def worst_calls(arguments: Mapping[str, Any], sampling: Mapping[str, Any]) -> int:
    """Requests of one seed whose every answer is repaired, by a server of one sample a request."""
    how = Consistency.model_validate(arguments.get("consistency", {}))
    forms = [form for form, weight in arguments["forms"].items() if weight]
    kinds = [kind for kind, weight in arguments.get("enrich", {"none": 1}).items() if weight]

    def asked(prompt: str) -> int:
        return (sampling[prompt].n or 1) + 1 if prompt in sampling else 2

    code = arguments.get("solution") == "code"
    orders = 1 if code or set(forms) == {"generative"} else min(how.orders, how.samples)
    options = len(arguments.get("answers", ())) or arguments.get("options")
    orders = min(orders, options or orders)
    blind = how.samples + orders if "consistency" in arguments.get("verify", ["consistency"]) else 0
    own = {
        "none": 0,
        "reasoning": 0 if arguments.get("solution") == "steps" else asked("reason"),
        "knowledge": asked("knowledge") + blind,
        "explanation": asked("explain"),
    }
    once = asked("write") + blind + max(own[kind] for kind in kinds)
    return int(arguments.get("per_seed", 1)) * once


@pytest.mark.parametrize("name", recipe_names())
def test_no_seed_needs_more_calls_than_its_recipe_allows(name: str) -> None:
    """As the recipe stands, and with the arguments that its header gives for a large teacher."""
    spec = spec_of(name)
    assert worst_calls(spec.arguments, spec.sampling) <= spec.max_calls_per_seed
    text = (ROOT / "generators" / "task_seeded" / name / "recipe.yaml").read_text(encoding="utf-8")
    (advice,) = re.findall(r"(?m)^#   (per_seed: .*?),?$", text)
    large = yaml.safe_load("{" + advice + "}")
    allowed = large.pop("max_calls_per_seed")
    assert allowed == worst_calls({**spec.arguments, **large}, spec.sampling)

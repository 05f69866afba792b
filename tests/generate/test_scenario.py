"""Moral scenarios: letters tell nothing, the key is the row's, and reasoning must end at it."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import os
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from datagen.errors import DataError, WorkspaceError
from datagen.generate.scenario import scenario
from datagen.generate.scenes.cases import NEEDS, sentence
from datagen.generate.scenes.verdict import Expected, final_letters, judge_answer
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
WORKSPACE = Workspace(ROOT)
CHOICE = WORKSPACE.recipe("moral_scenarios/multiple_choice").spec
CHAIN = WORKSPACE.recipe("moral_scenarios/chain_of_thought").spec
PROMPTS = {
    spec.name: load_prompts(WORKSPACE.prompt_files(spec.name), root=ROOT)
    for spec in (CHOICE, CHAIN)
}
MODEL = ModelSpec(name="m", title="M", licence="Apache-2.0", served_as="m")
STORY = {
    "ID": "1",
    "norm": "You should give back what you have borrowed.",
    "situation": "Wanda borrowed a drill from Piet.",
    "intention": "Wanda wants to tidy up.",
    "moral_action": "Wanda carries the drill back to Piet.",
    "moral_consequence": "Piet repairs his fence.",
    "immoral_action": "Wanda hides the drill on a shelf.",
    "immoral_consequence": "Piet has to buy another drill.",
}
CUSTOM = {
    "action": "bringing soup to a sick neighbour.",
    "action-moral-judgment": "1.0",
    "action-agree": "4.0",
    "rot": "It's kind to bring soup to a sick neighbour.",
    "rot-bad": "0",
}
THOUGHT = (
    "The norm asks people to give back a borrowed drill, and Wanda either carries it to Piet "
    "or hides it on a shelf."
)
DIRECTIONS = ("moral", "immoral")


def asked(row: Mapping[str, Any], number: int = 0, build_seed: int = 7, **changes: Any) -> Draft:
    """One row through the recipe that asks no model."""
    seed = Seed(source="s", row_key=str(number), row=row, licence="CC0-1.0", number=number)
    ask = SeedAsk(
        None,
        PROMPTS[CHOICE.name],
        source=seed.source,
        row_key=seed.row_key,
        build_seed=build_seed,
        max_calls=0,
        number=number,
    )
    (draft,) = asyncio.run(scenario(seed, ask, **{**CHOICE.arguments, **changes}))
    return draft


def drafts_of(rows: Iterable[Mapping[str, Any]], **changes: Any) -> list[Draft]:
    return [asked(row, number, **changes) for number, row in enumerate(rows)]


def every_cell(**changes: Any) -> list[Draft]:
    """As many drafts of one row as there are cells, so that each cell comes once."""
    return drafts_of([STORY] * 20, **changes)


# --- letters tell nothing ------------------------------------------------------------------------


def real_rows(name: str) -> list[dict[str, Any]]:
    data = os.environ.get("DATAGEN_DATA")
    if data is None:
        pytest.skip("DATAGEN_DATA is not set: no real rows")
    with gzip.open(Path(data) / "moral" / f"{name}.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    return random.Random(1).sample(rows, min(1000, len(rows)))


def made_rows(count: int, fields: Sequence[str]) -> list[dict[str, Any]]:
    draw = random.Random(5)
    words = ["".join(draw.choices("abcdefghijklmnoprstuvw", k=7)) for _ in range(400)]
    return [{name: " ".join(draw.choices(words, k=9)) for name in fields} for _ in range(count)]


def chi_square(pairs: Sequence[tuple[Any, Any]]) -> tuple[float, float]:
    """Pearson's statistic of two properties, and what chance exceeds once in a thousand."""
    table, left, right = Counter(pairs), Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    total = sum(
        (table[a, b] - left[a] * right[b] / len(pairs)) ** 2 / (left[a] * right[b] / len(pairs))
        for a in left
        for b in right
    )
    freedom = (len(left) - 1) * (len(right) - 1)
    # Wilson and Hilferty's approximation; 3.09 standard deviations are one in a thousand.
    bound = freedom * (1 - 2 / (9 * freedom) + 3.09 * (2 / (9 * freedom)) ** 0.5) ** 3
    return total, bound


def check_letters(drafts: Sequence[Draft], letters: str) -> None:
    """Uniform within 2 percentage points, independent of place in the source, form and label."""
    kept = [(n, draft.metadata) for n, draft in enumerate(drafts) if draft.rejected is None]
    counts = Counter(found["answer_letter"] for _, found in kept)
    assert set(counts) == set(letters)
    for count in counts.values():
        assert abs(count / len(kept) - 1 / len(letters)) <= 0.02
    properties = {
        "direction": [found["direction"] for _, found in kept],
        "label": [(found["form"], found["label"]) for _, found in kept],
        "template": [found["template"] for _, found in kept],
        "tenth": [n * 10 // len(drafts) for n, _ in kept],
        **{f"row modulo {k}": [n % k for n, _ in kept] for k in range(2, 21)},
    }
    for name, values in properties.items():
        if len(set(values)) > 1:
            pairs = [(f["answer_letter"], v) for (_, f), v in zip(kept, values, strict=True)]
            statistic, bound = chi_square(pairs)
            assert statistic < bound, name


STORY_FORMS = [form for form in NEEDS if form != "judge_custom"]


def test_letters_and_directions_are_even_over_1000_stories() -> None:
    drafts = drafts_of(made_rows(1000, list(STORY)))
    assert all(draft.rejected is None for draft in drafts)
    check_letters(drafts, "AB")
    cells = Counter(
        (d.metadata["form"], d.metadata["direction"], d.metadata["answer_letter"]) for d in drafts
    )
    assert cells == dict.fromkeys(itertools.product(STORY_FORMS, DIRECTIONS, "AB"), 50)


def test_letters_are_even_over_1000_real_stories() -> None:
    """A file that has only the norm and both actions: asked by the forms that need no more."""
    drafts = drafts_of(real_rows("moral_stories_norm_actions_dev"))
    kept = [draft for draft in drafts if draft.rejected is None]
    assert len(drafts) == 1000 and len(kept) >= 990
    check_letters(drafts, "AB")
    directions = Counter(draft.metadata["direction"] for draft in kept)
    assert abs(directions["moral"] - directions["immoral"]) <= 0.04 * len(kept)
    assert {draft.metadata["form"] for draft in kept} == {
        "choose_action",
        "judge_action",
        "choose_norm",
    }


def test_letters_are_even_over_real_stories_with_all_fields() -> None:
    drafts = drafts_of(real_rows("moral_stories_full_fields"))
    kept = Counter(d.metadata["answer_letter"] for d in drafts if d.rejected is None)
    assert sum(kept.values()) >= 0.95 * len(drafts)
    assert abs(kept["A"] - kept["B"]) <= 0.04 * len(drafts)


def test_letters_are_even_over_1000_real_judgements() -> None:
    drafts = drafts_of(real_rows("social_chem_101_part"))
    assert {d.metadata["label"] for d in drafts if d.rejected is None} == {"good", "okay"}
    check_letters(drafts, "ABC")


def test_letters_are_even_over_1000_made_judgements() -> None:
    draw = random.Random(3)
    rows = [
        {**CUSTOM, "action-moral-judgment": float(draw.choice((-2, -1, 0, 1, 1, 1, 2)))}
        for _ in range(1000)
    ]
    drafts = drafts_of(rows)
    assert {d.metadata["label"] for d in drafts} == {"good", "okay", "bad"}
    check_letters(drafts, "ABC")


def test_another_build_draws_another_order() -> None:
    first, second = (
        [asked(STORY, n, build_seed=seed).metadata["answer_letter"] for n in range(60)]
        for seed in (1, 2)
    )
    assert first != second and asked(STORY, 3) == asked(STORY, 3)


# --- the key is the row's ------------------------------------------------------------------------


def test_every_cell_has_the_right_answer() -> None:
    drafts = every_cell()
    for draft in drafts:
        found = draft.metadata
        place = "AB".index(found["answer_letter"])
        assert found["options"][place] == found["answer"]
        assert len(set(found["options"])) == 2
        assert draft.text and all(option in draft.text for option in found["options"])
        assert found["question"] in draft.text and found["context"] in draft.text
        shown = found["direction"]
        answers = {
            "choose_action": STORY[f"{shown}_action"],
            "find_action": STORY[f"{shown}_action"],
            "choose_outcome": STORY[f"{shown}_consequence"],
            "choose_norm": STORY["norm"],
        }
        if found["form"] in answers:
            assert found["answer"] == answers[found["form"]]
        else:
            words = CHOICE.arguments["wordings"]["judge_action"]
            assert found["answer"] in [w[shown] for w in words]
        if found["form"] in ("judge_action", "choose_outcome", "choose_norm"):
            assert STORY[f"{shown}_action"] in found["context"]
        if found["form"] == "find_action":
            assert STORY[f"{shown}_consequence"] in found["context"]
        assert (STORY["norm"] in found["context"]) == (found["form"] != "choose_norm")
        assert found["norm"] == STORY["norm"]
    assert len({(d.metadata["form"], d.metadata["direction"]) for d in drafts}) == 10


def test_questions_ask_in_their_direction() -> None:
    drafts = [d for d in drafts_of([STORY] * 400) if d.metadata["form"] == "choose_action"]
    questions = {(d.metadata["direction"], d.metadata["question"]) for d in drafts}
    assert len(questions) == 6
    assert ("moral", "Which action follows the norm?") in questions
    assert ("immoral", "Which action goes against the norm?") in questions


def test_a_hidden_norm_is_not_spoken_of() -> None:
    for draft in every_cell(show=["situation"], forms={"choose_action": ["question_action"]}):
        assert "norm" not in (draft.text or "") and STORY["norm"] not in (draft.text or "")
        assert STORY["intention"] not in (draft.text or "")


def test_wrong_norms_share_no_word_with_the_story() -> None:
    forms = {"choose_norm": ["question_norm"]}
    draft = asked(STORY, forms=forms, norms=["You should buy your own drill.", "Be kind to ducks."])
    assert sorted(draft.metadata["options"]) == ["Be kind to ducks.", STORY["norm"]]
    draft = asked(STORY, forms=forms, norms=["You should buy your own drill."])
    assert draft.rejected == "too_few_norms: 0 share no word with the story"
    four = asked(STORY, forms=forms, norm_options=4)
    assert len(set(four.metadata["options"])) == 4


@pytest.mark.parametrize(("judgement", "label"), [("2.0", "good"), (0, "okay"), (-1.0, "bad")])
def test_judgements_become_labels(judgement: object, label: str) -> None:
    draft = asked({**CUSTOM, "action-moral-judgment": judgement})
    words = CHOICE.arguments["wordings"]["judge_custom"]
    assert draft.metadata["label"] == label and draft.rejected is None
    assert draft.metadata["answer"] in [w[label] for w in words]
    assert sorted(draft.metadata["options"]) in [sorted(w.values()) for w in words]
    assert draft.metadata["norm"] == CUSTOM["rot"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({**STORY, "immoral_action": "wanda carries the drill back to Piet"}, "options_alike"),
        ({**STORY, "norm": " "}, "missing_field"),
        ({**CUSTOM, "action-moral-judgment": "nan"}, "no_judgement"),
        ({**CUSTOM, "action-moral-judgment": ""}, "missing_field"),
        ({**CUSTOM, "action-agree": "2.0"}, "disputed"),
        ({**CUSTOM, "action-agree": None}, "disputed"),
        ({**CUSTOM, "rot-bad": "1"}, "marked_bad"),
    ],
)
def test_rows_that_give_no_question_say_why(row: dict[str, Any], reason: str) -> None:
    forms = {"choose_action": ["question_action"], "judge_custom": ["question_custom"]}
    assert (asked(row, forms=forms).rejected or "").partition(":")[0] == reason


def test_equal_outcomes_give_no_question() -> None:
    row = {**STORY, "immoral_consequence": STORY["moral_consequence"]}
    draft = asked(row, forms={"choose_outcome": ["question_outcome"]})
    assert (draft.rejected or "").startswith("options_alike: ")


def test_columns_of_another_source_name_the_row() -> None:
    with pytest.raises(DataError, match="no form can be asked") as caught:
        asked({"text": "A page."})
    assert caught.value.where == "s row 0" and "moral_action" in str(caught.value.fix)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"forms": {"guess": ["question_norm"]}}, "no form 'guess'"),
        ({"forms": {"choose_action": []}}, "has no question"),
        ({"wordings": {}}, "are not worded"),
        ({"wordings": {"judge_action": [{"moral": "Fine."}]}}, "are not worded"),
        ({"norm_options": 1}, "norm_options is 1"),
    ],
)
def test_a_recipe_that_asks_for_what_there_is_not(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(WorkspaceError, match=said):
        asked(STORY, **changes)


def test_cells_of_a_csv_file_lose_their_quotes() -> None:
    assert sentence('"He said ""no""."') == 'He said "no".'
    assert sentence(" he  waits\n") == "He waits."
    assert sentence('"No" is all he said') == '"No" is all he said.'
    assert sentence(None) == ""


# --- reasoning must end at the key ---------------------------------------------------------------


def reasoned(
    folder: Path, answer: Any, *, row: Mapping[str, Any] = STORY, number: int = 0, **changes: Any
) -> tuple[Draft, list[dict[str, Any]]]:
    """One row through the recipe with reasoning; the draft, and what was asked."""
    seed = Seed(source="s", row_key="1", row=row, licence="CC0-1.0", number=number)

    async def run(url: str) -> list[Draft]:
        with Ledger(folder / "ledger.sqlite") as ledger:
            async with Client(MODEL, [EndpointSpec(url=url)], timeout_s=5) as client:
                ask = SeedAsk(
                    Teacher(client, ledger),
                    PROMPTS[CHAIN.name],
                    source=seed.source,
                    row_key=seed.row_key,
                    build_seed=7,
                    max_calls=CHAIN.max_calls_per_seed,
                    sampling={name: s.model_dump() for name, s in CHAIN.sampling.items()},
                    number=number,
                )
                return await scenario(seed, ask, **{**CHAIN.arguments, **changes})

    with FaultServer(answer=answer) as server:
        (draft,) = asyncio.run(run(server.url))
        return draft, server.requests


def key_of(body: Mapping[str, Any]) -> str:
    """The right letter, found in the request: the story's moral or immoral side."""
    said = body["messages"][-1]["content"]
    options = dict(
        line.split(". ", 1) for line in said.splitlines() if line[:3] in ("A. ", "B. ", "C. ")
    )
    against = "against" in said or "ignores" in said or "not be done" in said
    wanted = STORY["immoral_action" if against else "moral_action"]
    return next(str(letter) for letter, text in options.items() if text == wanted)


def right(body: Mapping[str, Any], sample: int) -> str:
    return f"{THOUGHT}\nAnswer: {key_of(body)}"


def wrong(body: Mapping[str, Any], sample: int) -> str:
    return f"{THOUGHT}\nAnswer: {'B' if key_of(body) == 'A' else 'A'}"


FORMS = {"choose_action": ["question_action"]}
chain = partial(reasoned, forms=FORMS)


@pytest.mark.parametrize("number", range(4))
def test_agreeing_reasoning_becomes_a_conversation(tmp_path: Path, number: int) -> None:
    draft, requests = chain(tmp_path, right, number=number)
    assert draft.rejected is None and draft.messages is not None
    user, assistant = draft.messages
    assert user.role == "user" and not user.trained and user.reasoning is None
    assert all(option in user.content for option in draft.metadata["options"])
    assert "Answer" not in user.content
    assert assistant.trained and assistant.reasoning == THOUGHT
    assert draft.metadata["answer_letter"] in assistant.content
    assert draft.metadata["samples"] == draft.metadata["agreeing"] == 3
    assert len(draft.calls) == 1 and requests


def test_agreeing_reasoning_becomes_a_text(tmp_path: Path) -> None:
    draft, _ = chain(tmp_path, right, reasoning="text", texts=["text_reasoned"])
    assert draft.rejected is None and draft.text is not None
    assert draft.text.endswith(f"{THOUGHT}\nAnswer: {draft.metadata['answer_letter']}")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (wrong, "letter_disagrees"),
        (lambda body, sample: THOUGHT, "no_letter"),
        (lambda body, sample: f"{THOUGHT}\nAnswer: C", "no_letter"),
        (lambda body, sample: f"Answer: {key_of(body)}", "short_reasoning"),
        (
            lambda body, sample: f"{'It rains on the hills. ' * 5}\nAnswer: {key_of(body)}",
            "off_topic",
        ),
        (
            lambda body, sample: (
                f"{CHAIN.arguments['examples'][2]['reasoning']} {THOUGHT}\nAnswer: {key_of(body)}"
            ),
            "quotes_example",
        ),
        (
            lambda body, sample: f"The answer is A. {THOUGHT} So the answer is B.",
            "letter_disagrees",
        ),
        (
            lambda body, sample: (
                f"The correct answer is given as {key_of(body)}. {THOUGHT}\nAnswer: {key_of(body)}"
            ),
            "key_named",
        ),
        (
            lambda body, sample: {"content": THOUGHT, "finish_reason": "length"},
            "reasoning_truncated",
        ),
    ],
)
@pytest.mark.parametrize("blind", [True, False])
def test_reasoning_that_cannot_be_kept(
    tmp_path: Path, answer: Any, reason: str, blind: bool
) -> None:
    draft, _ = chain(tmp_path, answer, blind=blind)
    assert (draft.rejected or "").partition(":")[0] == reason
    assert draft.metadata["blind"] is blind and draft.text is None and draft.messages is None


def test_the_first_sample_that_agrees_is_kept(tmp_path: Path) -> None:
    def third(body: Mapping[str, Any], sample: int) -> str:
        return right(body, sample).replace("The norm", "Indeed the norm") if sample else THOUGHT

    draft, _ = chain(tmp_path, third)
    assert draft.messages is not None
    assert (draft.messages[1].reasoning or "").startswith("Indeed")
    assert (draft.metadata["agreeing"], draft.metadata["samples"]) == (2, 3)


def test_one_agreeing_sample_of_three_is_chance(tmp_path: Path) -> None:
    def once(body: Mapping[str, Any], sample: int) -> str:
        return right(body, sample) if sample == 1 else wrong(body, sample)

    draft, _ = chain(tmp_path, once)
    assert draft.rejected == "letter_disagrees: 1 of 3 samples end at the label"
    draft, _ = chain(tmp_path, once, min_agreeing=0.3)
    assert draft.rejected is None


def test_hidden_reasoning_is_kept_apart_from_what_is_said(tmp_path: Path) -> None:
    def thinking(body: Mapping[str, Any], sample: int) -> dict[str, str]:
        said = f"Wanda owes Piet his drill.\nAnswer: {key_of(body)}"
        return {"content": said, "reasoning_content": f"Hm. {THOUGHT}"}

    draft, _ = chain(tmp_path, thinking)
    assert draft.messages is not None
    assert draft.messages[1].reasoning == f"Hm. {THOUGHT}"
    assert draft.messages[1].content.startswith("Wanda owes Piet his drill.")


def test_blind_reasoning_is_never_told_the_label(tmp_path: Path) -> None:
    """The prompt knows the scene, the question and the options in order, and nothing else."""
    known = PROMPTS[CHAIN.name]["reason"].variables
    assert known == {"scene", "question", "options", "examples"}
    for number in range(4):
        _, requests = chain(tmp_path, right, number=number)
        assert requests
        for body in requests:
            turns = body["messages"]
            assert [turn["role"] for turn in turns[-2:]] == ["assistant", "user"]
            assert "nswer" not in turns[-1]["content"] and "rrive" not in str(turns)


def test_a_swapped_key_leaves_the_blind_prompt_as_it_was(tmp_path: Path) -> None:
    """Judged actions with opposite judgements are asked about in the same words."""
    bodies = []
    for folder, judgement in (("good", "1.0"), ("bad", "-1.0")):
        (tmp_path / folder).mkdir()
        words = CHAIN.arguments["wordings"]["judge_custom"][0]
        row = {**CUSTOM, "action-moral-judgment": judgement}
        _, requests = reasoned(
            tmp_path / folder,
            lambda body, sample: THOUGHT,
            row=row,
            wordings={**CHAIN.arguments["wordings"], "judge_custom": [words]},
        )
        scene, *options = requests[0]["messages"][-1]["content"].splitlines()
        bodies.append((scene, requests[0]["messages"][:-1], sorted(o[3:] for o in options[1:])))
    assert bodies[0] == bodies[1]


def test_examples_end_at_their_letters_and_at_all_of_them() -> None:
    examples = CHAIN.arguments["examples"]
    for name in ("reason", "explain"):
        variables = {"scene": "S", "question": "Q", "options": [], "answer_letter": "A"}
        messages = PROMPTS[CHAIN.name][name].messages({**variables, "examples": examples})
        said = [text for role, text in messages if role == "assistant"]
        ends = [final_letters(text, 3)[1] for text in said]
        assert ends == [[example["answer_letter"]] for example in examples]
    assert sorted(example["answer_letter"] for example in examples) == ["A", "B", "C"]
    assert len({len(example["options"]) for example in examples}) == 2


def test_told_reasoning_is_told(tmp_path: Path) -> None:
    draft, requests = chain(tmp_path, right, blind=False)
    letter = draft.metadata["answer_letter"]
    assert requests[0]["messages"][-1]["content"].endswith(f"Arrive at: {letter}")


@pytest.mark.parametrize(
    ("text", "before", "said"),
    [
        ("Because of this.\nAnswer: B", "Because of this.", ["B"]),
        ("So it is.\n**Answer:** (b)", "So it is.", ["B"]),
        ("So it is.\n**Answer**: B.", "So it is.", ["B"]),
        ("It helps him. The correct answer is A, because he asked.", "It helps him.", ["A"]),
        ("It helps.\n\\boxed{B}", "It helps.", ["B"]),
        ("It helps.\n\n(A)", "It helps.", ["A"]),
        ("Final answer: option A", "", ["A"]),
        ("The answer is A friend who helps.", "The answer is A friend who helps.", []),
        ("A good deed", "A good deed", []),
        ("Answer: D", "Answer: D", []),
        ("Answer: A. No, the answer is B.", "Answer: A.", ["A", "B"]),
        ("", "", []),
    ],
)
def test_final_letters(text: str, before: str, said: list[str]) -> None:
    assert final_letters(text, 2) == (before, said)


LEAKS = [
    "The correct answer is given as B",
    "the answer was provided, so I explain it",
    "Since the correct option is B",
    "We are told that the right answer is B",
    "I was given the label",
    "According to the answer key it is B",
    "The given answer fits",
    "Given that the correct answer is B",
    "The ground truth says so",
]
HARMLESS = [
    "Given that the norm asks for help, hiding it is wrong",
    "Wanda was given a second option by Piet",
    "He is told to wait, and the choice is his",
    "The key is to respect other people",
    "So the right answer is the second one",
    "It was given back by Wanda",
]


@pytest.mark.parametrize(
    ("remark", "named"), [*((text, True) for text in LEAKS), *((text, False) for text in HARMLESS)]
)
def test_reasoning_that_names_the_key(remark: str, named: bool) -> None:
    expected = Expected(
        letter="B", options=["x", "y"], fixed=False, scene=THOUGHT, examples=[], fewest_words=5
    )
    found = judge_answer(f"{remark}. {THOUGHT}\nAnswer: B", None, expected)
    assert (found.problem or "").startswith("key_named") == named


@pytest.mark.parametrize(
    ("end", "kept"),
    [
        ("so it goes against the norm", False),
        ("It seems to go by it and follows the norm, yet it goes against the norm", False),
        ("nobody could say that it goes against the norm: it follows the norm", True),
        ("so nothing is amiss", True),
        ("It follows the norm, and hardly anybody would say that it goes against the norm", True),
        ("It follows the norm; keeping it would be what goes against the norm", True),
        ("so it follows the norm. To keep it would not be right and goes against the norm", True),
        ("so it follows the norm, whereas hiding it goes against the norm", True),
        ("It follows the norm rather than that it goes against the norm", True),
        ("Carrying it back follows the norm and hiding it goes against the norm", True),
        ("It goes against the norm", False),
        (
            "Therefore it goes against the norm, and nobody would say that it follows the norm",
            False,
        ),
        ("so it goes against the norm. Piet would be glad of his drill", False),
        ("so it follows the norm. However, it goes against the norm", False),
        ("She does not return it and goes against the norm", False),
        ("The answer is that it goes against the norm", False),
        ("It does not only look bad, it goes against the norm", False),
    ],
)
def test_reasoning_that_ends_on_the_other_option(end: str, kept: bool) -> None:
    expected = Expected(
        letter="B",
        options=["It goes against the norm.", "It follows the norm."],
        fixed=True,
        scene=THOUGHT,
        examples=[],
        fewest_words=5,
    )
    found = judge_answer(f"{THOUGHT} {end}.\nAnswer: B", None, expected)
    assert (found.problem is None) == kept
    assert kept or (found.problem or "").startswith("reasoning_disagrees: ")


def test_a_negated_label_does_not_decide() -> None:
    """What hardly anybody would say is no conclusion, and a plain sentence is one."""
    for end, kept in (
        ("It is good, and hardly anybody would say that it is bad", True),
        ("It is bad, and hardly anybody would say that it is good", False),
        ("Some might say that it is bad, but it is good", True),
        ("It is not good, it is bad", False),
    ):
        expected = Expected(
            letter="B",
            options=["It is bad.", "It is good.", "It is okay."],
            fixed=True,
            scene=THOUGHT,
            examples=[],
            fewest_words=5,
        )
        found = judge_answer(f"{THOUGHT} {end}.\nAnswer: B", None, expected)
        assert (found.problem is None) == kept, end

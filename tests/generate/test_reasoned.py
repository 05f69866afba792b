"""Answers thought through at medium effort, through the recipe: verified, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.generate.reasoned import with_reasoning
from datagen.generate.verify.same import agrees
from datagen.record import Draft, Message
from datagen.workspace.load import parse
from datagen.workspace.specs import ModelSpec
from tests.generate.through_recipe import ROOT, WORKSPACE, drafts

NAME = "reasoning_control/medium_effort"
PROBLEM = {"question": "What is 14 * 6 - 51, in threes?", "answer": "14*6 = 84\n...\n#### 11"}
TALK = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Name a river."},
        {"role": "assistant", "content": "The Elbe."},
        {"role": "user", "content": "Another?"},
        {"role": "assistant", "content": "The Oder."},
    ]
}
LAST_LINE = 'End with a line that says "Answer:" and then the final answer alone.'


def solved(
    folder: Path, content: str, reasoning: str | None = "84 - 51 = 33; 33 / 3 = 11.", **more: Any
) -> Draft:
    (draft,) = drafts(
        folder,
        NAME,
        PROBLEM,
        lambda body, sample: {"content": content, "reasoning_content": reasoning},
        text="question",
        **more,
    )
    return draft


@pytest.mark.parametrize(
    "content",
    ["33 / 3 = 11.\n\nAnswer: 11", "So\n**Answer:** 11.0", "It is $\\boxed{11}$.", "#### 11\n"],
)
def test_a_right_answer_is_kept_with_its_reasoning(tmp_path: Path, content: str) -> None:
    draft = solved(tmp_path, content)
    assert draft.rejected is None and draft.messages is not None
    user, assistant = draft.messages
    assert user.content == f"{PROBLEM['question']}\n\n{LAST_LINE}"
    assert (assistant.content, assistant.reasoning) == (
        content.strip(),
        "84 - 51 = 33; 33 / 3 = 11.",
    )
    assert assistant.trained and assistant.masked is None
    assert draft.metadata["verified"] is True and draft.metadata["expected"] == "11"


@pytest.mark.parametrize(
    ("content", "reasoning", "reason"),
    [
        ("Answer: 12", "hm", "wrong_answer: '12' is not '11'"),
        ("Answer: -11", "hm", "wrong_answer: '-11' is not '11'"),
        ("It is eleven or so.", "hm", "no_final_answer: "),
        ("Answer: 11", None, "no_reasoning: "),
        ("Answer: 11", "  \n", "no_reasoning: "),
    ],
)
def test_each_kind_of_bad_answer_is_refused(
    tmp_path: Path, content: str, reasoning: str | None, reason: str
) -> None:
    draft = solved(tmp_path, content, reasoning)
    assert (draft.rejected or "kept").startswith(reason)
    assert draft.metadata["verified"] is False


def test_a_cut_answer_is_not_repaired(tmp_path: Path) -> None:
    """A repaired answer would reason about the first one: nothing more is asked."""
    asked: list[dict[str, Any]] = []
    (draft,) = drafts(
        tmp_path,
        NAME,
        PROBLEM,
        lambda body, sample: {"content": "Because", "finish_reason": "length"},
        text="question",
        requests=asked,
    )
    assert (draft.rejected or "").startswith("answer_truncated: ") and len(asked) == 1


def test_of_several_samples_the_first_good_one_is_kept(tmp_path: Path) -> None:
    said = ["Answer: 12", "Answer: 11", "Answer: 11.0"]

    def script(body: Mapping[str, Any], sample: int) -> Mapping[str, Any]:
        return {"content": said[sample], "reasoning_content": f"thought {sample}"}

    (draft,) = drafts(
        tmp_path, NAME, PROBLEM, script, text="question", sampling={"solve": {"n": 3}}
    )
    assert draft.rejected is None and draft.messages
    assert draft.messages[-1].reasoning == "thought 1"


def test_a_conversation_lends_its_opening(tmp_path: Path) -> None:
    """System and first question are asked as they stand; nothing is there to verify with."""
    asked: list[dict[str, Any]] = []
    (draft,) = drafts(
        tmp_path,
        NAME,
        TALK,
        lambda body, sample: "<think>A river, briefly.</think>\n\nThe Spree.",
        messages="messages",
        requests=asked,
    )
    assert [(m["role"], m["content"]) for m in asked[0]["messages"]] == [
        ("system", "Be brief."),
        ("user", "Name a river."),
    ]
    assert draft.rejected is None and draft.messages
    assert [turn.content for turn in draft.messages] == ["Be brief.", "Name a river.", "The Spree."]
    assert draft.messages[-1].reasoning == "A river, briefly."
    assert draft.metadata["verified"] is False


def test_a_row_without_a_question_is_refused(tmp_path: Path) -> None:
    def never(body: Mapping[str, Any], sample: int) -> str:
        raise AssertionError("nothing was to be asked")

    row = {"messages": [{"role": "assistant", "content": "Hello."}]}
    (draft,) = drafts(tmp_path, NAME, row, never, messages="messages")
    assert (draft.rejected or "").startswith("no_question: ")


def test_the_pin_asks_for_medium_effort() -> None:
    pin = parse(ROOT / "manifests/models/gpt-oss-120b-medium.yaml", ModelSpec, root=ROOT).spec
    assert (pin.reasoning_effort, pin.licence) == ("medium", "Apache-2.0")
    assert pin.hub is not None and (pin.hub.id, pin.hub.revision) == ("openai/gpt-oss-120b", None)
    assert WORKSPACE.recipe(NAME).spec.model == "reasoner"


@pytest.mark.parametrize(
    ("said", "expected", "same"),
    [
        ("$1,000.00", "1000", True),
        ("396 pencils", "396", True),
        ("-x", "x", False),
        ("-pi", "pi", False),
        ("x^2 - 1", "x^2 1", False),
        ("x = -4", "x = 4", False),
        ("$x=4$", "x = 4", True),
        ("\\frac{5}{18}", "5/18", True),
        ("5/17", "5/18", False),
        ("a + b", "a - b", False),
        ("mira.", "Mira", True),
        ("not Mira", "Mira", False),
        ("10:05", "10:05", True),
        ("1005", "10:05", False),
        ("", "Mira", False),
        (r"3\sqrt5", r"3\sqrt2", False),
        (r"3\sqrt{5}", r"3\sqrt5", True),
        (r"2\pi", "2", False),
        ("2 pi", "2", False),
        ("5x", "5y", False),
        ("5x", "5", False),
        ("x-3", "x+3", False),
        ("x - 3", "x-3", True),
        (r"(3,\pi/4)", r"(3,\pi/2)", False),
        (r"\left(3, \frac{\pi}{4}\right)", r"(3,\pi/4)", True),
        (r"x\le3", "x>3", False),
        (r"x \leq 3", "x <= 3", True),
        ("x \u2264 3", r"x\le3", True),
        ("3x", "-3x", False),
        ("(-inf,2]", "(inf,2)", False),
        ("(-inf,2]", "(-inf, 2]", True),
        ("5\u00b2", "52", False),
        ("5\u00b2", "5^2", True),
        ("2(3)", "23", False),
        ("5!", "5", False),
        ("5 or more", "5", False),
        ("It is not 7", "7", False),
        ("x = 3, y = 4", "4", False),
        ("2x = 6", "6", False),
        ("x = 4", "y = 4", False),
        ("5 km", "5 miles", False),
        ("$5", "5 dollars", True),
        ("$5", "\u20ac5", False),
        ("5 hours", "5 hour", True),
        (r"90^\circ", "90", True),
        (r"5 \text{ cm}^2", "5", True),
        (r"10\%", "10 percent", True),
        (r"1{,}000", "1,000", True),
        (r"\text{Evelyn}", "Evelyn", True),
        (r"\frac12", "1/2", True),
        (r"\dfrac12", r"\tfrac{1}{2}", True),
        (r"1\frac12", "11/2", False),
        (r"1\frac12", "1.5", True),
        (r"\frac{\sqrt{3}}2", r"\sqrt3/2", True),
        (r"\frac{x+1}2", "(x+1)/2", True),
        (r"\frac{x+1}2", "x+1/2", False),
        (r"2^\frac12", "2^1/2", False),
        (r"\Phi", r"\phi", False),
        ("a - b", "- b", False),
        ("well-known", "well known", True),
        ("3.5 and 4", "35 and 4", False),
        ("1, 2", "12", False),
    ],
)
def test_final_answers_agree(said: str, expected: str, same: bool) -> None:
    assert agrees(said, expected) is same


@given(number=st.integers(-(10**9), 10**9), other=st.integers(-(10**9), 10**9))
def test_numbers_agree_only_with_themselves(number: int, other: int) -> None:
    assert agrees(f"{number:,}", str(number))
    assert agrees(str(other), str(number)) == (other == number)


FORMULAS = st.one_of(
    st.text(max_size=30),
    st.text(alphabet=r"0123xyab+-*/^=<>()[]{},.!%$ \\", max_size=16),
    st.lists(
        st.sampled_from([r"\frac", r"\sqrt", r"\text{m}", "{", "}", "1", "2", "x", "-", " ", "$"]),
        max_size=10,
    ).map("".join),
)


@given(one=FORMULAS, other=FORMULAS)
def test_agreement_is_reflexive_and_symmetric(one: str, other: str) -> None:
    assert agrees(one, one)
    assert agrees(one, other) == agrees(other, one)


@given(
    number=st.integers(1000, 10**9),
    form=st.sampled_from(
        ["{:,} apples", "${:,}", "{:,} dollars", "It is {:,}.", "x = {}", "{} km/h", r"${}$"]
    ),
)
def test_numbers_with_units_agree_with_the_number(number: int, form: str) -> None:
    assert agrees(form.format(number), str(number))
    assert not agrees(form.format(number), str(number + 1))
    assert agrees(f"{number}%", f"{number:,} percent")


@given(
    number=st.integers(1, 999),
    rest=st.sampled_from([r"\sqrt2", r"\pi", "x", "(x+1)", "^2", "!", "+x", "-3", " or more"]),
)
def test_a_formula_is_not_the_number_in_it(number: int, rest: str) -> None:
    assert not agrees(f"{number}{rest}", str(number))
    assert not agrees(f"-{number}{rest}", f"{number}{rest}")


@given(thoughts=st.text(max_size=20), content=st.text(max_size=20))
def test_thoughts_in_marks_are_taken_apart(thoughts: str, content: str) -> None:
    """Only in front of the content, only when ended, and never over reasoning that stands apart."""
    said = Message(role="assistant", content=f"\n<think>{thoughts}</think>{content}")
    if "</think>" not in thoughts + content:
        found = with_reasoning(said)
        assert (found.reasoning or "") == thoughts.strip() and found.content == content.strip()
    for kept in (f"x{said.content}", "<think>open"):
        message = Message(role="assistant", content=kept)
        assert with_reasoning(message) is message
    apart = Message(role="assistant", content=said.content, reasoning="r")
    assert with_reasoning(apart) is apart

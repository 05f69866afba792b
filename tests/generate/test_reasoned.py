"""Answers thought through at medium effort, through the recipe: verified, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.generate.reasoned import agrees, with_reasoning
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
    ],
)
def test_final_answers_agree(said: str, expected: str, same: bool) -> None:
    assert agrees(said, expected) is same


@given(number=st.integers(-(10**9), 10**9), other=st.integers(-(10**9), 10**9))
def test_numbers_agree_only_with_themselves(number: int, other: int) -> None:
    assert agrees(f"{number:,}", str(number))
    assert agrees(str(other), str(number)) == (other == number)


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

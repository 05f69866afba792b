"""What is not believed: keys are asked for blind, enrichments must lead there, programs run."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from datagen.errors import WorkspaceError
from datagen.generate.verify.code import run_tests
from tests.generate.test_task_seeded import (
    ARC,
    CHOICE,
    Said,
    Teaching,
    drafts,
    reason,
    row_of,
    says,
)

# --- asked blind ---------------------------------------------------------------------------------


def test_a_model_with_a_favourite_letter_agrees_with_no_key(tmp_path: Path) -> None:
    for number in range(4):
        found = drafts(tmp_path, "arc", ARC.saying("Solved", says(answer="B")), number=number,
                       **CHOICE)  # fmt: skip
        assert reason(found) == "disagreement"
        assert found[0].metadata["agreement"] <= 0.5


def test_samples_are_counted_against_the_threshold(tmp_path: Path) -> None:
    def three_of_four(body: Mapping[str, Any], sample: int) -> Said:
        first = "Its water melts" if sample == 1 and "seed" in body else ""
        right = ARC.solved(body["messages"][-1]["content"])
        shown = dict(re.findall(r"(?m)^([A-J])\. (.+)$", body["messages"][-1]["content"]))
        wrong = next(letter for letter in shown if letter != right)
        turned = shown["A"] == shown[min(shown)] and first
        return json.dumps({"answer": wrong if turned and right < "C" else right})

    teaching = ARC.saying("Solved", three_of_four)
    shares = [
        drafts(tmp_path, "arc", teaching, number=number, **CHOICE)[0].metadata["agreement"]
        for number in range(4)
    ]
    assert set(shares) <= {0.5, 0.75, 1.0} and 0.75 in shares
    strict = {"samples": 4, "agreement": 1.0, "orders": 2}
    found = drafts(tmp_path, "arc", teaching, number=shares.index(0.75), consistency=strict,
                   **CHOICE)  # fmt: skip
    assert reason(found) == "disagreement"


def test_the_solver_never_sees_the_key(tmp_path: Path) -> None:
    asked: list[Any] = []
    drafts(tmp_path, "arc", ARC, asked=asked, forms={"generative": 1}, enrich={"reasoning": 1})
    blind = [str(body) for body in asked if "Written" not in str(body["response_format"])]
    assert len(blind) >= 2 and not [body for body in blind if ARC.answer in body]


def test_other_orders_are_asked(tmp_path: Path) -> None:
    asked: list[Any] = []
    drafts(tmp_path, "arc", ARC, asked=asked, **CHOICE)
    shown = {tuple(re.findall(r"(?m)^[A-J]\. (.+)$", b["messages"][-1]["content"])) for b in asked}
    assert len({order for order in shown if order}) == 2


def test_an_unreadable_solver_agrees_never(tmp_path: Path) -> None:
    found = drafts(tmp_path, "arc", ARC.saying("Solved", lambda b, s: "no idea"), **CHOICE)
    assert reason(found) == "disagreement" and found[0].metadata["agreement"] == 0


# --- enrichments ---------------------------------------------------------------------------------

LONG = "Warmth gives the small parts of water enough speed to leave the puddle as vapour"


@pytest.mark.parametrize(
    ("kind", "answered", "fields", "expected"),
    [
        ("reasoning", "Solved", {"reasoning": LONG, "answer": "ice"}, "reasoning_disagrees"),
        ("reasoning", "Solved",
         {"reasoning": f"{LONG}. 2 + 2 = 5 parts.", "answer": ARC.answer}, "reasoning_arithmetic"),
        ("reasoning", "Solved", {"reasoning": "So.", "answer": ARC.answer}, "reasoning_too_short"),
        ("explanation", "Explained", {"explanation": LONG, "answer": "ice"},
         "explanation_disagrees"),
        ("explanation", "Explained",
         {"explanation": "Nobody has ever been able to tell how or why.", "answer": ARC.answer},
         "explanation_off_topic"),
        ("knowledge", "Knowledge", {"knowledge": "Vapour."}, "knowledge_too_short"),
        ("knowledge", "Knowledge", {"knowledge": f"{LONG}, hence option B is right."},
         "knowledge_names_options"),
    ],
)  # fmt: skip
def test_a_bad_enrichment_rejects_the_example(
    tmp_path: Path, kind: str, answered: str, fields: dict[str, str], expected: str
) -> None:
    def answer(body: Mapping[str, Any], sample: int) -> Said:
        """Say it where it is asked for; a plain solving comes before and is right."""
        wanted = body["response_format"]["json_schema"]["schema"]["properties"]
        plain = answered == "Solved" and "reasoning" not in wanted
        return json.dumps({"answer": ARC.answer} if plain else fields)

    found = drafts(tmp_path, "arc", ARC.saying(answered, answer), forms={"generative": 1},
                   enrich={kind: 1})  # fmt: skip
    assert reason(found) == expected


def test_reasoning_that_calls_another_option_the_answer_contradicts_itself(tmp_path: Path) -> None:
    def torn(body: Mapping[str, Any], sample: int) -> Said:
        right = ARC.solved(body["messages"][-1]["content"])
        other = "A" if right != "A" else "B"
        said = {"reasoning": f"{LONG}. So the answer is {other}.", "answer": right}
        many = "reasoning" in body["response_format"]["json_schema"]["schema"]["properties"]
        return json.dumps(said if many else {"answer": right})

    found = drafts(tmp_path, "arc", ARC.saying("Solved", torn), forms={"multiple_choice": 1},
                   enrich={"reasoning": 1})  # fmt: skip
    assert reason(found) == "reasoning_contradicts"


def test_knowledge_that_leads_astray_is_rejected(tmp_path: Path) -> None:
    def led(body: Mapping[str, Any], sample: int) -> Said:
        said = body["messages"][-1]["content"]
        return json.dumps({"answer": "it froze" if "Warm air" in said else ARC.answer})

    found = drafts(tmp_path, "arc", ARC.saying("Solved", led), forms={"generative": 1},
                   enrich={"knowledge": 1})  # fmt: skip
    assert reason(found) == "knowledge_misleads"


# --- programs ------------------------------------------------------------------------------------

CODE = Teaching(
    written={
        "question": "Write a function to find the second largest of different numbers.",
        "code": "def second_largest(numbers):\n    return sorted(numbers)[-2]",
        "tests": [
            "assert second_largest([4, 9, 2]) == 4",
            "assert second_largest([1, 2]) == 1",
            "assert second_largest([-5, -7, -6]) == -6",
        ],
    },
    answer="second_largest",
)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"code": "def second_largest(:"}, "code_syntax"),
        ({"code": "second_largest = max"}, "code_without_function"),
        ({"tests": [CODE.written["tests"][0]] * 3}, "tests_few"),
        ({"tests": [*CODE.written["tests"][:2], "second_largest([3, 4])"]}, "test_is_no_assertion"),
        ({"tests": [*CODE.written["tests"][:2], "assert 1 + 1 == 2"]}, "test_calls_nothing"),
        ({"tests": [*CODE.written["tests"][:2], "assert second_largest("]}, "test_syntax"),
        ({"code": "def second_largest(numbers):\n    return max(numbers)"}, "code_fails"),
        ({"code": row_of("mbpp")["code"]}, "copies_seed"),
        (
            {"tests": [f"assert second_largest([{n}, 1]) != {n}" for n in (2, 3, 4)]},
            "tests_prove_nothing",
        ),
    ],
)
def test_a_bad_program_is_rejected(tmp_path: Path, written: dict[str, Any], expected: str) -> None:
    needs_sandbox()
    assert reason(drafts(tmp_path, "mbpp", CODE.but(**written), enrich={"none": 1})) == expected


def test_a_wording_that_others_read_otherwise_is_rejected(tmp_path: Path) -> None:
    needs_sandbox()
    other = says(code="def second_largest(numbers):\n    return sorted(numbers)[1]")
    found = drafts(tmp_path, "mbpp", CODE.saying("Program", other), enrich={"none": 1})
    assert reason(found) == "disagreement"


def needs_sandbox() -> None:
    """Skip where the sandbox says that it cannot hold."""
    try:
        asyncio.run(run_tests("def f():\n    return 1", ["assert f() == 1"]))
    except WorkspaceError as error:
        pytest.skip(f"no sandbox here: {error.message}")

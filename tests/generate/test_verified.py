"""Answers that a source brings along: right ones are kept, others say why they are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from datagen.errors import DataError
from datagen.record import Draft
from tests.agent.needs import needs_sandbox
from tests.generate.through_recipe import drafts

TASK = {
    "text": "Write a function triple that takes a number three times.",
    "code": "def triple(x):\r\n    return 3 * x",
    "test_setup_code": "two = 2",
    "test_list": ["assert triple(two) == 6 ", "assert triple(-1) == -3"],
}


def made(row: dict[str, Any], **changes: Any) -> Draft:
    """The draft of one row; a model that is asked fails the test."""
    (draft,) = drafts(Path(), "verified/code", row, None, **changes)
    return draft


@needs_sandbox()
def test_a_solution_that_passes_its_tests_is_kept() -> None:
    draft = made(TASK)
    assert draft.rejected is None and draft.text is not None
    assert draft.text.startswith(TASK["text"]) and "return 3 * x\n```" in draft.text
    assert all(test.strip() in draft.text for test in TASK["test_list"])
    assert draft.metadata["verifier"] == "code"


@needs_sandbox()
def test_a_solution_that_does_not_is_refused() -> None:
    wrong = made(TASK | {"code": "def triple(x):\n    return 6"})
    assert (wrong.rejected or "").startswith("wrong: test_failed: test 2")
    assert made(TASK | {"code": "  "}).rejected == "wrong: no code"


def test_without_tests_nothing_is_right() -> None:
    for tests in ([], ["", " "], None):
        rejected = made(TASK | {"test_list": tests}).rejected or ""
        assert rejected.startswith("unusable_spec: ")


def test_other_verifiers_by_arguments() -> None:
    row = {"text": "How many?", "code": "It is 7.", "test_list": "So 3 + 4.\n#### 7"}
    given: dict[str, Any] = {
        "verifier": "exact",
        "setup": None,
        "expected_after": "####",
        "spec": {"form": "number"},
    }
    assert made(row | {"test_list": "#### 8"}, **given).rejected == "wrong: answered 'It is 7.'"
    kept = made(row | {"test_list": "#### 7"}, **given)
    assert kept.rejected is None and kept.metadata["expected"] == {"form": "number", "answer": "7"}


def test_a_missing_column_names_the_row() -> None:
    with pytest.raises(DataError, match="no column 'code'"):
        made({name: cell for name, cell in TASK.items() if name != "code"})

"""RL prompts through their recipes: kept by pass rate, profiled, and never trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datagen.errors import DataError, WorkspaceError
from datagen.generate.verify.verdict import spec_problem
from datagen.record import Draft, Lineage, Record
from datagen.workspace.specs import SourceSpec
from tests.agent.needs import needs_sandbox
from tests.generate.through_recipe import ROOT, WORKSPACE, drafts, renderer

PROBLEM = {"question": "Ada has 4 hens and buys 5. How many has she?", "answer": "4+5=9\n#### 9"}
TASK = {
    "text": "Write a function triple that takes a number three times.",
    "test_setup_code": "",
    "test_list": ["assert triple(2) == 6", "assert triple(-1) == -3"],
}
STRUCTURED = {
    "instruction": "Name the town in: We met in Palmouth.",
    "shown": '{"type": "object"}',
    "checked": '{"type": "object", "properties": {"town": {"const": "Palmouth"}}, '
    '"required": ["town"]}',
}
INSTRUCTION = {
    "instruction": "Praise tea in at most three words.",
    "rules": '[{"rule": "words", "at_most": 3}]',
}
RIGHT_CODE = "```python\ndef triple(x):\n    return 3 * x\n```"
CASES = {
    "math": (PROBLEM, "4 and 5 are 9.\nAnswer: 9", "Answer: 8"),
    "code": (TASK, RIGHT_CODE, "```python\ndef triple(x):\n    return 6\n```"),
    "structured": (STRUCTURED, '{"town": "Palmouth"}', '{"town": "Selby"}'),
    "instructions": (INSTRUCTION, "Tea is good", "Tea is good, and more than that"),
}
RECIPES = [pytest.param(n, marks=needs_sandbox()) if n == "code" else n for n in CASES]


def profiled(folder: Path, name: str, said: Sequence[Any], **changes: Any) -> Draft:
    """The draft of a recipe's own case when the student says these things, eight times in all."""
    row = CASES[name][0]

    def script(body: Mapping[str, Any], sample: int) -> Any:
        return said[sample % len(said)]

    arguments = {"samples": 8, **changes}
    (draft,) = drafts(folder, f"rl_prompts/{name}", row, script, **arguments)
    return draft


@pytest.mark.parametrize("name", RECIPES)
def test_a_task_that_is_solved_sometimes_is_kept(tmp_path: Path, name: str) -> None:
    row, right, wrong = CASES[name]
    draft = profiled(tmp_path, name, [right, wrong, wrong, wrong])
    assert draft.rejected is None and draft.messages is not None
    (turn,) = draft.messages
    assert turn.role == "user" and not turn.trained
    assert str(row.get("question") or row.get("text") or row["instruction"]) in turn.content
    found = draft.metadata
    assert (found["samples"], found["passes"], found["pass_rate"]) == (8, 2, 0.25)
    assert (found["difficulty"], found["answer"]) == (0.75, right)
    assert found["prompt"] == turn.content and len(draft.calls) == 1
    assert sum(found["problems"].values()) == 6
    # What stands in the metadata is enough to verify an answer later.
    assert spec_problem(found["verifier"], json.loads(json.dumps(found["expected"]))) is None


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_always_or_never_solved_is_rejected(tmp_path: Path, name: str) -> None:
    _, right, wrong = CASES[name]
    easy = profiled(tmp_path / "easy", name, [right])
    hard = profiled(tmp_path / "hard", name, [wrong])
    assert easy.rejected == "too_easy: 8 of 8 pass" and easy.metadata["pass_rate"] == 1.0
    assert hard.rejected == "too_hard: 0 of 8 pass" and "answer" not in hard.metadata


def test_the_range_of_pass_rates_is_the_recipes(tmp_path: Path) -> None:
    _, right, wrong = CASES["math"]
    said = [right, *[wrong] * 7]
    assert profiled(tmp_path / "in", "math", said).rejected is None
    out = profiled(tmp_path / "out", "math", said, min_pass_rate=0.2)
    assert out.rejected == "too_hard: 1 of 8 pass"
    every = profiled(tmp_path / "all", "math", [right], max_pass_rate=1.0)
    assert every.rejected is None and every.metadata["difficulty"] == 0.0


def test_the_student_sees_the_record_and_no_more(tmp_path: Path) -> None:
    requests: list[dict[str, Any]] = []
    draft = profiled(tmp_path, "structured", ["{}"], requests=requests)
    assert draft.messages is None or draft.messages[0].content == draft.metadata["prompt"]
    (asked,) = requests
    assert asked["model"] == "student" and asked["n"] == 8
    assert [m["role"] for m in asked["messages"]] == ["user"]
    assert asked["messages"][0]["content"] == draft.metadata["prompt"]
    assert "Palmouth" in draft.metadata["prompt"] and '"const"' not in draft.metadata["prompt"]


def test_an_answer_without_an_end_has_failed(tmp_path: Path) -> None:
    cut = {"content": "4 and 5 are", "finish_reason": "length"}
    right = CASES["math"][1]
    some = profiled(tmp_path / "some", "math", [right, right, right, cut])
    assert some.rejected is None and some.metadata["pass_rate"] == 0.75
    assert some.metadata["problems"] == {"unfinished": 2}
    half = profiled(tmp_path / "half", "math", [right, cut])
    assert half.rejected == "unfinished: 4 of 8 answers"
    none = profiled(tmp_path / "none", "math", [cut])
    assert (none.rejected or "").startswith("unfinished: truncated")


def test_an_answer_to_the_repair_is_no_sample(tmp_path: Path) -> None:
    """Where no sample ends, the one that a second request brings must not count as a pass."""

    def script(body: Mapping[str, Any], sample: int) -> Any:
        repair = body.get("n", 1) == 1  # the samples are asked for in one request
        cut = {"content": "4 and 5 are", "finish_reason": "length"}
        return CASES["math"][1] if repair else cut

    (draft,) = drafts(tmp_path, "rl_prompts/math", PROBLEM, script)
    assert draft.rejected == "unfinished: 3 of 4 answers"


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("math", {"question": "How many?", "answer": "It depends."}, "answer"),
        ("math", {"question": "How many?", "answer": "#### many"}, "no number"),
        ("math", {"question": " ", "answer": "#### 9"}, "no task"),
        ("code", TASK | {"test_list": []}, "no test"),
        ("code", TASK | {"test_list": ["", " "]}, "no test"),
        ("code", TASK | {"test_list": "[not json"}, "tests"),
        ("structured", STRUCTURED | {"checked": "{not json"}, "schema"),
        ("structured", STRUCTURED | {"checked": '{"typ": "object"}'}, "typ"),
        ("structured", STRUCTURED | {"checked": None}, "schema"),
        ("instructions", INSTRUCTION | {"rules": "[]"}, "rules"),
        ("instructions", INSTRUCTION | {"rules": '[{"rule": "rhymes"}]'}, "rhymes"),
    ],
)
def test_a_row_that_cannot_be_verified_asks_nobody(name: str, row: Any, said: str) -> None:
    (draft,) = drafts(Path(), f"rl_prompts/{name}", row, None)
    assert draft.rejected is not None and draft.rejected.startswith("unusable_spec: ")
    assert said in draft.rejected


def test_a_wrong_recipe_is_a_workspace_error() -> None:
    wrong = [{"verifier": "taste"}, {"min_pass_rate": 0.9, "max_pass_rate": 0.1}, {"samples": 1}]
    for changes in wrong:
        with pytest.raises(WorkspaceError):
            drafts(Path(), "rl_prompts/math", PROBLEM, None, **changes)
    with pytest.raises(DataError):
        drafts(Path(), "rl_prompts/math", {"question": "How many?"}, None)


def _rows(source: SourceSpec) -> list[dict[str, Any]]:
    assert source.sample is not None
    lines = (ROOT / source.sample.files[0]).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("name", "kind", "held"),
    [
        ("rl_structured", "json", "checked"),
        ("rl_instructions", "form", "rules"),
    ],
)
def test_every_sample_row_can_be_verified(name: str, kind: Any, held: str) -> None:
    rows = _rows(WORKSPACE.source(name).spec)
    assert len(rows) == WORKSPACE.source(name).spec.rows
    key = {"json": "schema", "form": "rules"}[kind]
    for row in rows:
        assert spec_problem(kind, {key: json.loads(row[held])}) is None, row["id"]
        if kind == "json":
            assert spec_problem("json", {"schema": json.loads(row["shown"])}) is None, row["id"]


def test_a_packed_prompt_has_no_target(tmp_path: Path) -> None:
    """The packer takes such a record, and no token of it is trained."""
    draft = profiled(tmp_path, "math", [CASES["math"][1], CASES["math"][2]])
    lineage = Lineage(
        generator="rl_prompts/math",
        version="1",
        fingerprint="f",
        source="s",
        source_revision="r",
        row_key="1",
        licence="CC0-1.0",
    )
    record = Record(
        id="1", text=None, messages=draft.messages, lineage=lineage, metadata=draft.metadata
    )
    batch = renderer().documents([record])
    ids, mask = batch["input_ids"][0].as_py(), batch["loss_mask"][0].as_py()
    assert len(ids) == len(mask) > 10 and np.sum(mask) == 0
    assert PROBLEM["question"] in renderer().decode(ids)

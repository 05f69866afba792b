"""The judge through its recipe: scores decide by the thresholds in YAML, and only by them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.errors import WorkspaceError
from datagen.record import Draft
from tests.generate.through_recipe import ROOT, WORKSPACE, drafts

RECIPE = WORKSPACE.recipe("judged").spec
THRESHOLDS: dict[str, float] = RECIPE.arguments["thresholds"]
GOOD = dict.fromkeys(THRESHOLDS, 5)
ROW = {
    "messages": [
        {"role": "user", "content": "How many legs has a spider?"},
        {"role": "assistant", "content": "A spider has eight legs."},
    ]
}


def said(scores: Any, reason: str = "It is right and short.") -> str:
    return json.dumps({"reason": reason, "scores": scores})


def judge_row(folder: Path, *answers: str, **changes: Any) -> Draft:
    """The draft of ROW when the judge says these things in turn; the last one is repeated."""
    waiting = list(answers)

    def script(body: Mapping[str, Any], sample: int) -> str:
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    (draft,) = drafts(folder, "judged", ROW, script, messages="messages", **changes)
    return draft


def test_a_good_row_is_kept_as_it_stands(tmp_path: Path) -> None:
    draft = judge_row(tmp_path, said(GOOD))
    assert draft.rejected is None and draft.messages is not None
    assert [(m.role, m.content) for m in draft.messages] == [
        (m["role"], m["content"]) for m in ROW["messages"]
    ]
    assert draft.metadata["scores"] == GOOD
    assert draft.metadata["judge_reason"] == "It is right and short."
    assert len(draft.calls) == 1


@pytest.mark.parametrize("name", THRESHOLDS)
def test_each_criterion_can_fail_it(tmp_path: Path, name: str) -> None:
    """The threshold itself passes; one less is refused, and both numbers are said."""
    least = THRESHOLDS[name]
    assert judge_row(tmp_path / "on", said(GOOD | {name: least})).rejected is None
    refused = judge_row(tmp_path / "under", said(GOOD | {name: least - 1}))
    assert refused.rejected == f"below_threshold: {name} {least - 1} < {least}"
    assert refused.metadata["scores"][name] == least - 1


@pytest.mark.parametrize(
    "bad",
    [
        said(dict.fromkeys(list(THRESHOLDS)[1:], 5)),
        said(GOOD | {"kind": 5}),
        said(dict.fromkeys(THRESHOLDS, 6)),
        said(dict.fromkeys(THRESHOLDS, 0)),
        said(dict.fromkeys(THRESHOLDS, "5")),
        said(dict.fromkeys(THRESHOLDS, True)),
        said(GOOD, reason=""),
        said(GOOD).replace("5", "NaN"),
        json.dumps(GOOD),
    ],
    ids=["missing", "unknown", "above", "below", "word", "yes", "no reason", "nan", "flat"],
)
def test_an_answer_off_the_form_is_asked_for_again(tmp_path: Path, bad: str) -> None:
    """It never becomes a score: repaired once, then the row is refused."""
    assert judge_row(tmp_path / "repaired", bad, said(GOOD)).rejected is None
    refused = judge_row(tmp_path / "refused", bad)
    assert refused.rejected is not None and refused.rejected.startswith("judge_schema: ")
    assert len(refused.calls) == 2


def test_no_answer_and_no_row(tmp_path: Path) -> None:
    """A judge that only talks, and a row without messages, each have their reason."""
    talk = judge_row(tmp_path / "talk", "I would say it is good.")
    assert (talk.rejected or "").startswith("judge_invalid_json: ")

    def never(body: Mapping[str, Any], sample: int) -> str:
        raise AssertionError("an empty row was judged")

    (empty,) = drafts(tmp_path, "judged", {"messages": []}, never, messages="messages")
    assert empty.rejected == "empty: no messages"


def test_the_judge_sees_the_row_and_the_scale(tmp_path: Path) -> None:
    """Every criterion of the recipe is explained, the conversation shown, decoding held."""
    asked: list[dict[str, Any]] = []
    drafts(
        tmp_path,
        "judged",
        ROW,
        lambda body, sample: said(GOOD),
        messages="messages",
        requests=asked,
    )
    (body,) = asked
    system, *_, last = (message["content"] for message in body["messages"])
    assert all(f"\n{name}: " in system for name in THRESHOLDS)
    assert "from 1 (bad) to 5 (excellent)" in system
    assert last == "user: How many legs has a spider?\n\nassistant: A spider has eight legs."
    scores = body["response_format"]["json_schema"]["schema"]["properties"]["scores"]
    assert scores["required"] == list(THRESHOLDS) and not scores["additionalProperties"]


def test_examples_in_the_prompt_follow_its_own_form() -> None:
    """What the prompt shows as an answer is one that the recipe would read."""
    lines = (ROOT / "generators/judged/judge.jinja").read_text(encoding="utf-8").splitlines()
    shown = [json.loads(line) for line in lines if line.startswith('{"reason"')]
    assert shown and all(set(one["scores"]) == set(THRESHOLDS) for one in shown)


def test_several_votes_are_averaged(tmp_path: Path) -> None:
    """`n` samples in the recipe's sampling: means of the valid ones, compared unrounded by hand."""
    votes = [GOOD, GOOD | {"correct": 2}, {"correct": 1}, GOOD | {"correct": 4}]

    def script(body: Mapping[str, Any], sample: int) -> str:
        return said(votes[sample], reason=f"vote {sample}")

    draft = drafts(
        tmp_path, "judged", ROW, script, sampling={"judge": {"n": 4}}, messages="messages"
    )[0]
    assert draft.metadata["scores"]["correct"] == pytest.approx(11 / 3, abs=1e-3)
    assert draft.metadata["judge_votes"] == 3 and draft.metadata["judge_reason"] == "vote 0"
    assert draft.rejected == "below_threshold: correct 3.667 < 4"


@settings(max_examples=25, deadline=None)
@given(scores=st.fixed_dictionaries({name: st.integers(1, 5) for name in THRESHOLDS}))
def test_passing_is_all_thresholds_met(scores: dict[str, int]) -> None:
    """A text is judged as a conversation is; it passes if and only if no score is too low."""
    with tempfile.TemporaryDirectory() as folder:
        (draft,) = drafts(Path(folder), "judged", {"text": "Snow."}, lambda *_: said(scores))
    low = [name for name, least in THRESHOLDS.items() if scores[name] < least]
    assert (draft.rejected is None) == (not low)
    if low:
        assert (draft.rejected or "").startswith(f"below_threshold: {low[0]} ")


@pytest.mark.parametrize(
    "changes",
    [{"thresholds": {}}, {"thresholds": {"correct": 6}}, {"scale": [5, 1]}, {"scale": [1]}],
    ids=str,
)
def test_thresholds_that_decide_nothing_are_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(WorkspaceError) as caught:
        judge_row(tmp_path, said(GOOD), **changes)
    assert (caught.value.where or "").startswith("arguments: ") and caught.value.fix

"""Reasoning cut at a budget, through the recipe, the real tokenizer and the packer's mask."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datagen.errors import WorkspaceError
from datagen.generate.budget_cut import budget_cut
from datagen.record import Draft, Lineage, Message, Record
from tests.generate.through_recipe import ROOT, WORKSPACE, drafts, method_of, renderer

NAME = "reasoning_control/budget_cut"
ARGUMENTS = WORKSPACE.recipe(NAME).spec.arguments
LOW, HIGH = ARGUMENTS["budget_tokens"]
ROWS = [
    json.loads(line)
    for line in (ROOT / "manifests/samples/reasoning_traces.jsonl").read_text("utf-8").splitlines()
]
LINEAGE = Lineage(
    generator="g",
    version="1",
    fingerprint="f",
    source="s",
    source_revision="r",
    row_key="k",
    licence="CC0-1.0",
)


def cut(row: Mapping[str, Any], *, key: str = "1", answer: Any = None, **changes: Any) -> Draft:
    column = {"messages": "messages"} if "messages" in row else {"text": "question"}
    with tempfile.TemporaryDirectory() as folder:
        (draft,) = drafts(Path(folder), NAME, row, answer, key=key, **column, **changes)
    return draft


def last(draft: Draft) -> Message:
    assert draft.rejected is None and draft.messages
    return draft.messages[-1]


def trace(reasoning: str, content: str = "Done.", **more: Any) -> dict[str, Any]:
    turn = {"role": "assistant", "content": content, "reasoning_content": reasoning}
    return {"messages": [{"role": "user", "content": "Why?"}, turn], **more}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_every_bundled_trace_is_cut_or_whole(row: dict[str, Any]) -> None:
    """The answer stays, the reasoning is a beginning, and the figures say how long it is."""
    draft = cut(row, key=row["id"])
    said, was = last(draft), row["messages"][-1]
    assert said.content == was["content"]
    assert said.reasoning is not None and was["reasoning_content"].startswith(said.reasoning)
    found = draft.metadata
    assert found["reasoning_tokens"] == renderer().count(said.reasoning)
    assert found["full_reasoning_tokens"] == renderer().count(was["reasoning_content"])
    if found["cut"]:
        assert LOW <= found["budget_tokens"] <= min(HIGH, found["full_reasoning_tokens"] - 1)
        assert found["reasoning_tokens"] <= found["budget_tokens"]
        assert (said.masked, found["mask"]) == ("reasoning_end", "reasoning_end")
    else:
        assert said.reasoning == was["reasoning_content"] and said.masked is None
    assert found["verified"] is (row["answer"] is not None)
    assert [turn.content for turn in draft.messages or ()] == [
        turn["content"] for turn in row["messages"]
    ]


def rows_of(share: float) -> list[bool]:
    row = trace("one two three four five six seven eight nine ten")
    return [
        cut(row, key=str(n), uncut_share=share, budget_tokens=[2, 5]).metadata["cut"]
        for n in range(60)
    ]


def test_a_share_stays_whole() -> None:
    """None at 0, all at 1, about half at 0.5 (six standard deviations)."""
    assert all(rows_of(0.0)) and not any(rows_of(1.0))
    assert 7 < sum(rows_of(0.5)) < 53


def test_budgets_are_spread_over_the_bounds() -> None:
    """Every budget between the bounds occurs, and none beyond."""
    row = trace("one two three four five six seven eight nine ten")
    budgets = {
        cut(row, key=str(n), uncut_share=0.0, budget_tokens=[2, 5]).metadata["budget_tokens"]
        for n in range(60)
    }
    assert budgets == {2, 3, 4, 5}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    reasoning=st.text(min_size=1, max_size=80),
    content=st.text(max_size=10),
    low=st.integers(1, 12),
    more=st.integers(0, 40),
    mask=st.sampled_from(["reasoning_end", "reasoning", "none"]),
    key=st.text(max_size=3),
)
def test_any_reasoning_and_any_budget(
    reasoning: str, content: str, low: int, more: int, mask: str, key: str
) -> None:
    """What is kept fits its budget, and rendering leaves out exactly what the mask names."""
    row = trace(reasoning, content)
    draft = cut(row, key=key, uncut_share=0.0, budget_tokens=[low, low + more], mask=mask)
    whole = renderer().count(reasoning)
    if whole <= low:
        assert (draft.rejected or "").startswith("too_short_to_cut: ")
        return
    if draft.rejected is not None:
        assert draft.rejected.startswith("nothing_left: ")
        return
    said = last(draft)
    assert said.reasoning is not None and reasoning.startswith(said.reasoning)
    assert renderer().count(said.reasoning) <= draft.metadata["budget_tokens"] < whole
    record = Record(id="r", text=None, messages=draft.messages, lineage=LINEAGE, metadata={})
    (document,) = renderer().documents([record]).to_pylist()
    trained = [i for i, m in zip(document["input_ids"], document["loss_mask"], strict=True) if m]
    thought = {
        "none": f"<think>{said.reasoning}</think>",
        "reasoning_end": f"<think>{said.reasoning}",
        "reasoning": "",
    }[mask]
    text = renderer().decode(document["input_ids"])
    shown = f"<think>{said.reasoning}</think>{content}<|end|>"
    assert text.endswith(shown)
    assert renderer().decode(trained) == f"{thought}{content}<|end|>"


def test_the_draw_is_fixed_by_seed_and_row() -> None:
    assert cut(ROWS[0], key="a") == cut(ROWS[0], key="a")
    budgets = {cut(ROWS[0], key=str(n)).metadata["budget_tokens"] for n in range(12)}
    assert len(budgets) > 3


def test_the_recipe_runs_the_method_of_this_room() -> None:
    assert method_of(NAME) is budget_cut


def test_each_kind_of_bad_row_is_refused() -> None:
    """Nothing to cut, too short, a wrong known answer, nobody who answered, an empty row."""
    reasons = {
        "too_short_to_cut": trace("Short."),
        "wrong_answer": trace("long " * 50, "Answer: 4", answer="5"),
        "no_final_answer": trace("long " * 50, "Four.", answer="5"),
        "empty": {"messages": []},
    }
    for reason, row in reasons.items():
        found = cut(row, uncut_share=0.0).rejected or "kept"
        assert found.partition(":")[0] == reason
    for row in (trace(""), {"messages": [{"role": "user", "content": "Why?"}]}):
        found = cut(row, unreasoned="reject").rejected or "kept"
        assert found.startswith("no_reasoning: ")


def test_thoughts_in_marks_are_cut_too() -> None:
    """A set that keeps thoughts inside the content is read as one that keeps them apart."""
    content = f"<think>\n{'because ' * 60}</think>\n\nDone."
    row = {
        "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": content}]
    }
    said = last(cut(row, uncut_share=0.0))
    assert said.content == "Done." and said.masked == "reasoning_end"
    assert "<think>" not in (said.reasoning or "")


def test_a_row_without_reasoning_is_asked_anew() -> None:
    """The teacher's reasoning is cut, its answer checked against the known one and kept."""
    problem = {"question": "What is 6 * 7?", "answer": "#### 42"}

    def script(content: str, reasoning: str | None) -> Draft:
        said = {"content": content, "reasoning_content": reasoning}
        return cut(problem, answer=lambda body, sample: said, uncut_share=0.0)

    draft = script("Answer: 42", "six times seven " * 20)
    assert last(draft).content == "Answer: 42" and last(draft).masked == "reasoning_end"
    assert draft.metadata["cut"] and draft.metadata["reasoning_from"] == "model"
    assert len(draft.calls) == 1
    assert (script("Answer: 43", "six " * 40).rejected or "").startswith("wrong_answer: ")
    assert (script("Answer: 42", None).rejected or "").startswith("no_reasoning: ")
    assert (script("Answer: 42", "Easy.").rejected or "").startswith("too_short_to_cut: ")


@pytest.mark.parametrize(
    "changes",
    [
        {"budget_tokens": [0, 5]},
        {"budget_tokens": [9, 5]},
        {"budget_tokens": [5]},
        {"uncut_share": 1.5},
        {"mask": "end"},
    ],
    ids=str,
)
def test_arguments_that_mean_nothing_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(WorkspaceError) as caught:
        cut(ROWS[0], **changes)
    assert (caught.value.where or "").startswith("arguments: ") and caught.value.fix

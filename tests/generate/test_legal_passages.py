"""Passages with a mark or a function: labels that are seen blind, and nothing leaks."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from datagen.errors import WorkspaceError
from datagen.generate.legal.sentences import sentences
from tests.generate.legal_rows import asked, last, reasons, sample, unasked

# --- passages with and without a mark ------------------------------------------------------------

APPEALS = "legal/canadian_appeal_outcome"
DEFINITIONS = "legal/definition_classification"
LABELS = {"allowed": "allow", "dismissed": "dismiss"}


def reads_outcome(body: Mapping[str, Any], _: int) -> str:
    """A careful reader of the passage alone."""
    said = last(body).lower()
    if "in part" in said or "quash" in said or "abandoned" in said:
        return '{"label": "other"}'
    for label, stem in LABELS.items():
        if re.search(rf"appeal (?:\w+ ){{1,3}}{stem}|would {stem} the appeal", said):
            return json.dumps({"label": label})
    return '{"label": "not_stated"}'


def test_outcomes_are_read_and_passages_without_one_leak_nothing(tmp_path: Path) -> None:
    rows = sample("canadian_appeals")
    found = asked(tmp_path, APPEALS, rows, reads_outcome, none_every=1)
    assert set(reasons(found)) == {"kept"}
    labels = Counter(draft.metadata["label"] for draft in found)
    assert labels["not_stated"] == len(rows) == sum(labels.values()) / 2
    assert min(labels[label] for label in ("allowed", "dismissed", "other")) >= 4
    betrays = re.compile(
        r"appeal\w* (?:is|was|must|should|succe|fail)|dismiss|allow|quash|uph[eo]ld|revers|affirm"
        r"|set aside|erred|succeed|correct|disagree|merit|conclu|restor|costs",
        re.IGNORECASE,
    )
    for draft in found:
        told = draft.metadata
        row = next(row for row in rows if told["context"][:60] in " ".join(
            row["unofficial_text"].split()))  # fmt: skip
        assert told["context"] in " ".join(row["unofficial_text"].split())
        if told["label"] == "not_stated":
            assert betrays.search(told["context"]) is None
            assert told["answer"] == "The passage does not say."
        assert draft.text and told["context"] in draft.text and told["answer"] in draft.text


def test_unmarked_passages_are_one_in_three_as_the_recipe_has_it(tmp_path: Path) -> None:
    """Three outcomes and none: with a none at every third text all four are about as many."""
    rows = sample("canadian_appeals")[:12]
    found = asked(tmp_path, APPEALS, rows, reads_outcome)
    assert Counter(draft.metadata["label"] == "not_stated" for draft in found) == {
        False: 12,
        True: 4,
    }


def test_a_label_that_the_model_does_not_see_is_rejected(tmp_path: Path) -> None:
    rows = sample("canadian_appeals")[:3]
    found = asked(tmp_path, APPEALS, rows, lambda body, i: '{"label": "other"}', none_every=1)
    kept = {draft.metadata["label"] for draft in found if draft.rejected is None}
    assert kept == {"other"} and reasons(found).count("unconfirmed") == 5
    (tmp_path / "unread").mkdir()
    found = asked(tmp_path / "unread", APPEALS, rows[:1], lambda body, i: "no idea")
    assert reasons(found) == ["confirm_invalid_json"]


def mixed(*lines: str) -> dict[str, str]:
    filler = "The farm lies by the river and grows barley on its northern fields each year."
    return {"unofficial_text": " ".join([filler] * 6 + list(lines))}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (mixed("We heard no more of it."), ["no_mark"]),
        (
            mixed("I would allow the appeal of the town, and I would dismiss the appeal of Ray."),
            ["two_labels", "no_mark"],
        ),
        ({"unofficial_text": "The appeal is dismissed."}, ["length", "no_mark"]),
        (
            {"unofficial_text": " ".join(["The judge erred in law on this point, he says."] * 6)
             + " I would allow the appeal."},
            ["kept", "no_unmarked"],
        ),
    ],
)  # fmt: skip
def test_texts_without_clear_passages_are_counted(row: dict[str, str], expected: list[str]) -> None:
    found = unasked(APPEALS, row, confirm_share=None, none_every=1)
    assert sorted(set(reasons(found)) - {"kept"}) == sorted(set(expected) - {"kept"})


def test_an_appeal_below_is_no_outcome_of_this_one() -> None:
    """A disposition in the first half is history, and no passage without an outcome either."""
    lines = ["In 2009 the appeal is dismissed by the board, as its record of that day says."]
    lines += [
        "The parties then met three times in the hall of the parish and talked at length."
    ] * 9
    found = unasked(APPEALS, {"unofficial_text": " ".join(lines)}, confirm_share=None)
    assert reasons(found) == ["no_mark"]


def test_definitions_are_verbatim_sentences_with_their_term(tmp_path: Path) -> None:
    rows = sample("court_opinions")

    def reader(body: Mapping[str, Any], _: int) -> str:
        defines = re.search(r"\b(?:means?|defin\w+|refers to|denotes)\b", last(body))
        return json.dumps({"label": "yes" if defines else "no"})

    found = [d for d in asked(tmp_path, DEFINITIONS, rows, reader) if d.rejected is None]
    labels = Counter(draft.metadata["label"] for draft in found)
    assert labels["yes"] == labels["no"] >= 12
    every = [line for row in rows for line in sentences(row["text"])]
    for draft in found:
        told = draft.metadata
        assert told["context"] in every
        if told["label"] == "yes":
            assert told["term"] in told["context"] and f"“{told['term']}”" in told["answer"]
        else:
            assert "term" not in told
            assert not re.search(r"\b(?:mean|defin|refer|denot|term|called)", told["context"])


def test_patterns_and_answers_must_be_whole() -> None:
    row = sample("court_opinions")[0]
    with pytest.raises(WorkspaceError, match="no pattern"):
        unasked(DEFINITIONS, row, leaks=["(open"])
    with pytest.raises(WorkspaceError, match="no answer"):
        unasked(DEFINITIONS, row, answers={"yes": "Yes."})


# --- functions of passages -----------------------------------------------------------------------

FUNCTIONS = "legal/function_of_decision"
ORDER = ["facts", "procedural_history", "issue", "rule", "analysis", "conclusion", "decree"]


def knows_functions(body: Mapping[str, Any], _: int) -> str:
    """The bundled opinions have their name and seven paragraphs in this order."""
    said = last(body)
    if "\nFunction:" in said:
        function = said.rpartition("Function: ")[2].partition(" (")[0].replace(" ", "_")
        numbered = re.findall(r"^(\d+)\. ", said, re.MULTILINE)
        return json.dumps({"number": len(numbered) - 7 + ORDER.index(function) + 1})
    passage = said.removeprefix("Passage: ")
    for row in sample("court_opinions"):
        blocks = row["text"].split("\n\n")[1:]
        if passage in blocks:
            return json.dumps({"label": ORDER[blocks.index(passage)]})
    return '{"label": "facts"}'


def test_functions_are_found_confirmed_and_balanced(tmp_path: Path) -> None:
    rows = [row for row in sample("court_opinions") for _ in range(7)][:49]
    found = asked(tmp_path, FUNCTIONS, rows, knows_functions, min_words=2)
    labels = Counter(draft.metadata["label"] for draft in found)
    assert labels == dict.fromkeys(ORDER, 14)
    assert set(reasons(found)) == {"kept"}
    for draft in found:
        assert draft.text and draft.metadata["context"] in draft.text
        assert draft.metadata["answer"] in draft.text and len(draft.calls) == 2


@pytest.mark.parametrize(
    ("find", "confirm", "expected"),
    [
        ({"number": 0}, {"label": "facts"}, ["not_found", "not_found"]),
        ({"number": 99}, {"label": "facts"}, ["not_found", "not_found"]),
        ({"number": "one"}, {"label": "facts"}, ["schema", "schema"]),
        ({"number": 1}, {"label": "poetry"}, ["unconfirmed", "unconfirmed"]),
    ],
)
def test_functions_that_are_not_seen_are_rejected(
    tmp_path: Path, find: Any, confirm: Any, expected: list[str]
) -> None:
    def script(body: Mapping[str, Any], _: int) -> str:
        return json.dumps(find if "\nFunction:" in last(body) else confirm)

    found = asked(tmp_path, FUNCTIONS, sample("court_opinions")[:1], script)
    assert reasons(found) == expected


def test_a_paragraph_serves_one_function(tmp_path: Path) -> None:
    def script(body: Mapping[str, Any], _: int) -> str:
        said = last(body)
        if "\nFunction:" in said:
            return '{"number": 1}'
        return json.dumps({"label": "analysis"})

    found = asked(tmp_path, FUNCTIONS, sample("court_opinions")[:1], script, per_text=7)
    place = reasons(found).index("kept")
    assert reasons(found) == [
        *["unconfirmed"] * place,
        "kept",
        *["found_twice"] * (6 - place),
    ]
    few = {"text": "Affirmed."}
    assert reasons(asked(tmp_path, FUNCTIONS, [few], script)) == ["few_paragraphs"]

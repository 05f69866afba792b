"""Labelled rows as items: letters balanced, negatives that are negative, evidence word for word."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from datagen.errors import DataError, WorkspaceError
from datagen.record import Draft
from tests.generate.legal_rows import asked, ended, last, reasons, sample, unasked
from tests.generate.through_recipe import WORKSPACE
from tests.servers import Answer

# --- CaseHOLD ------------------------------------------------------------------------------------


def test_the_holding_that_the_row_names_is_right_and_letters_are_balanced() -> None:
    rows = sample("casehold")
    letters: Counter[str] = Counter()
    for number in range(200):
        row = rows[number % len(rows)]
        (draft,) = unasked("legal/casehold", row, number)
        told = draft.metadata
        right = row[f"holding_{row['label']}"]
        assert told["answer"] == right
        assert told["options"]["ABCDE".index(told["answer_letter"])] == right
        assert sorted(told["options"]) == sorted(row[f"holding_{i}"] for i in range(5))
        assert draft.text and all(option in draft.text for option in told["options"])
        letters[told["answer_letter"]] += 1
    assert letters == dict.fromkeys("ABCDE", 40)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"citing_prompt": "See Hollis (<HOLDING>)."}, "short_text"),
        (
            {"citing_prompt": "A passage that is long enough but leaves out nothing at all."},
            "no_mark",
        ),
        ({"holding_1": "  "}, "empty_option"),
        ({"holding_1": "Holding that X,", "holding_2": "holding that x"}, "options_alike"),
    ],
)
def test_a_row_without_one_right_holding_is_rejected(changes: dict[str, str], reason: str) -> None:
    assert reasons(unasked("legal/casehold", {**sample("casehold")[0], **changes})) == [reason]


@pytest.mark.parametrize("label", ["5", "-1", "", "B"])
def test_a_label_that_is_no_place_rejects_the_row(label: str) -> None:
    row = {**sample("casehold")[0], "label": label}
    assert reasons(unasked("legal/casehold", row)) == ["no_right_option"]


def test_a_column_that_is_missing_is_an_error_and_a_value_of_another_type_is_not(
    tmp_path: Path,
) -> None:
    row = sample("casehold")[0]
    with pytest.raises(DataError, match="no column 'holding_3'"):
        unasked("legal/casehold", {name: row[name] for name in row if name != "holding_3"})
    nobody: Answer = lambda body, _: "{}"  # noqa: E731
    result = ended(tmp_path, "legal/casehold", {**row, "holding_3": ["a", "b"]}, nobody)
    assert [(reject.status, reject.reason) for reject in result.rejects] == [
        ("rejected", "row_unusable")
    ]


def test_own_options_and_labels_exclude_each_other() -> None:
    with pytest.raises(WorkspaceError):
        unasked("legal/casehold", sample("casehold")[0], option_columns=[])
    with pytest.raises(WorkspaceError, match="more than"):
        unasked(TOS, CLAUSE, options=11)


# --- terms of service ----------------------------------------------------------------------------

TOS = "legal/tos_clause_understanding"
CLAUSE = {"text": "We may close your account at any time and without any notice.", "labels": [1]}
GOOD = "It says that the provider may close your account at any time, so a user can lose it."


def explains(said: str, faithful: int = 5) -> Answer:
    """Explains with these words, and judges them."""

    def script(body: Mapping[str, Any], _: int) -> str:
        if "\nCriteria: " in last(body):
            scores = {"faithful": faithful, "clear": 4}
            return json.dumps({"reason": "As the clause has it.", "scores": scores})
        return said

    return script


def test_a_clause_with_its_explanation_is_kept(tmp_path: Path) -> None:
    (draft,) = asked(tmp_path, TOS, [CLAUSE], explains(GOOD), explained_share=1.0)
    assert draft.rejected is None and draft.text and draft.text.rstrip().endswith(GOOD)
    told = draft.metadata
    assert told["label"] == "unilateral_termination"
    assert told["options"]["ABCD".index(told["answer_letter"])] == told["answer"]
    assert "none of the other things" in " ".join(told["options"])


def test_a_clause_without_a_label_does_none_of_it(tmp_path: Path) -> None:
    row = {"text": "You can change your password at any time on the settings page.", "labels": []}
    said = "The clause only says that you can change your password on the settings page."
    (draft,) = asked(tmp_path, TOS, [row], explains(said), explained_share=1.0)
    assert draft.rejected is None and draft.metadata["label"] == "none"
    assert "none of the other things" in draft.metadata["answer"]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("It says that Skyline may close your account at any time without notice.", "new_names"),
        ("The provider may close your account with 30 days of notice at any time.", "new_numbers"),
        ('The clause says "for good cause only", and so the account is safe.', "new_quote"),
        ("It may.", "length"),
        ("The account may be closed at any time, which is arbitration of a kind.", "names_another"),
    ],
)
def test_an_explanation_that_adds_something_is_rejected(
    tmp_path: Path, said: str, reason: str
) -> None:
    found = asked(tmp_path, TOS, [CLAUSE], explains(said), explained_share=1.0)
    assert reasons(found) == [f"explanation_{reason}"]


def test_an_explanation_that_the_judge_doubts_is_rejected(tmp_path: Path) -> None:
    found = asked(tmp_path, TOS, [CLAUSE], explains(GOOD, faithful=2), explained_share=1.0)
    assert [draft.rejected for draft in found] == ["explanation_below_threshold: faithful 2 < 4"]
    (tmp_path / "silent").mkdir()
    assert reasons(
        asked(tmp_path / "silent", TOS, [CLAUSE], explains(""), explained_share=1.0)
    ) == ["explanation_empty"]


def test_the_unexplained_share_asks_nobody() -> None:
    """All nine classes stand in the sample, and the letters are balanced over the draw."""
    rows = [row for row in sample("unfair_tos") if len(row["labels"]) < 2 and row not in fair()]
    assert len(rows) == 28
    letters: Counter[str] = Counter()
    classes: Counter[str] = Counter()
    for number in range(112):
        row = rows[number % len(rows)]
        (draft,) = unasked(TOS, row, number, explained_share=0.0)
        assert draft.rejected is None and draft.text and draft.metadata["answer"] in draft.text
        letters[draft.metadata["answer_letter"]] += 1
        classes[draft.metadata["label"]] += 1
    assert letters == dict.fromkeys("ABCD", 28) and len(classes) == 9


def test_a_clause_with_two_labels_has_no_one_answer() -> None:
    assert reasons(unasked(TOS, {**CLAUSE, "labels": [1, 2]})) == ["several_labels"]
    assert reasons(unasked(TOS, {**CLAUSE, "labels": [8]})) == ["unknown_label"]


def fair() -> list[dict[str, Any]]:
    """The sample's clauses on the subject of a label that they do not bear."""
    return sample("unfair_tos")[-3:]


def test_a_fair_clause_on_the_subject_of_a_label_does_not_count_as_none() -> None:
    """UNFAIR-ToS marks what may be unfair: without a label a clause may still choose the law."""
    found = [draft for row in fair() for draft in unasked(TOS, row, explained_share=0.0)]
    assert [row["labels"] for row in fair()] == [[], [], []]
    assert [(draft.rejected or "").partition(":")[0] for draft in found] == ["cue_of_a_label"] * 3
    named = ["choice_of_law", "jurisdiction", "unilateral_change"]
    assert all(name in (draft.rejected or "") for name, draft in zip(named, found, strict=True))


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("limitation_of_liability", "The app is provided as is, and you use it when you like."),
        ("limitation_of_liability", "Nothing here excludes our liability for gross negligence."),
        ("unilateral_termination", "You may close your account whenever you wish to do so."),
        ("unilateral_change", "These terms were last updated on the first day of May."),
        (
            "content_removal",
            "You can remove your own posts and photos on the page of your profile.",
        ),
        ("contract_by_using", "When you register you are asked whether you accept these terms."),
        ("choice_of_law", "The mandatory law where you live protects you as a consumer."),
        ("jurisdiction", "You may sue us at the place where you have your home."),
        ("arbitration", "Tell our support team first if you have a dispute with a driver."),
    ],
)
def test_each_label_has_cues_of_what_is_on_its_subject(label: str, text: str) -> None:
    (draft,) = unasked(TOS, {"text": text, "labels": []}, explained_share=0.0)
    assert draft.rejected and draft.rejected.startswith("cue_of_a_label")
    labels = WORKSPACE.recipe(TOS).spec.arguments["labels"]
    (cues,) = (one["cues"] for one in labels if one["name"] == label)
    assert any(re.search(cue, text, re.IGNORECASE) for cue in cues)


def test_a_label_that_a_clause_only_mentions_is_not_among_its_options() -> None:
    text = "We may close your account at any time; the courts of the place where you live decide."
    courts = next(
        one["says"]
        for one in WORKSPACE.recipe(TOS).spec.arguments["labels"]
        if one["name"] == "jurisdiction"
    )
    for number in range(40):
        (draft,) = unasked(TOS, {"text": text, "labels": [1]}, number, explained_share=0.0)
        assert draft.rejected is None and courts not in draft.metadata["options"]
    everything = [{**one, "cues": ["."]} for one in WORKSPACE.recipe(TOS).spec.arguments["labels"]]
    assert reasons(unasked(TOS, CLAUSE, labels=everything)) == ["few_options"]


# --- ContractNLI ---------------------------------------------------------------------------------


def test_evidence_is_a_verbatim_span_and_stands_where_it_is_needed() -> None:
    counts: Counter[str] = Counter()
    for number, row in enumerate(sample("contract_nli")):
        (draft,) = unasked("legal/contract_nli", row, number)
        spans = [row["text"][start:end] for start, end in row["spans"]]
        for item in draft.metadata["items"]:
            annotation = row["annotations"][item["key"]]
            assert item["answer"].replace(" m", "M") == annotation["choice"]
            assert item["evidence"] == [spans[i] for i in annotation["spans"]]
            assert all(passage in draft.metadata["context"] for passage in item["evidence"])
            assert bool(item["evidence"]) == (item["answer"] != "Not mentioned")
            assert draft.text and item["hypothesis"] in draft.text
            counts[item["answer"]] += 1
        assert draft.metadata["labels"] and draft.text and draft.text.index(row["text"]) >= 0
    assert min(counts.values()) > 30


def test_evidence_that_does_not_fit_its_answer_is_rejected() -> None:
    row = sample("contract_nli")[0]
    entailed = next(k for k, a in row["annotations"].items() if a["choice"] == "Entailment")
    silent = next(k for k, a in row["annotations"].items() if a["choice"] == "NotMentioned")
    bare = {**row["annotations"], entailed: {"choice": "Entailment", "spans": []}}
    assert reasons(unasked("legal/contract_nli", {**row, "annotations": bare})) == [
        "evidence_mismatch",
        "kept",
    ]
    lone = {silent: {"choice": "NotMentioned", "spans": [0]}}
    assert reasons(unasked("legal/contract_nli", {**row, "annotations": lone})) == [
        "evidence_mismatch",
        "no_hypothesis",
    ]


def test_documents_that_cannot_be_shown_are_rejected() -> None:
    row = sample("contract_nli")[0]
    assert reasons(unasked("legal/contract_nli", row, max_tokens=50)) == ["long_document"]
    assert reasons(unasked("legal/contract_nli", {**row, "text": " "})) == ["empty"]


@pytest.mark.parametrize(
    ("changes", "usable"),
    [
        ({"spans": []}, True),
        ({"spans": [[0, 10**6]] * 20}, True),
        ({"spans": [["here", None]] * 20}, True),
        ({"spans": None}, True),
        ({"hypotheses": {}}, False),
        ({"annotations": {"h1": {"choice": "Maybe", "spans": []}}}, False),
        ({"annotations": {"h1": None}}, False),
    ],
)
def test_a_broken_hypothesis_is_rejected_alone(changes: dict[str, Any], usable: bool) -> None:
    """Where the spans are broken, what is not mentioned needs none."""
    drafts = unasked("legal/contract_nli", {**sample("contract_nli")[0], **changes})
    assert reasons(drafts)[-1] == ("kept" if usable else "no_hypothesis")
    assert set(reasons(drafts)[:-1]) == {"row_unusable"}
    if usable:
        assert {item["answer"] for item in drafts[-1].metadata["items"]} == {"Not mentioned"}


def test_columns_of_another_layout_are_missing_or_unusable(tmp_path: Path) -> None:
    row = sample("contract_nli")[0]
    with pytest.raises(DataError, match="no column 'spans'"):
        unasked("legal/contract_nli", {name: row[name] for name in row if name != "spans"})
    nobody: Answer = lambda body, _: "{}"  # noqa: E731
    result = ended(tmp_path, "legal/contract_nli", {**row, "annotations": "none"}, nobody)
    assert [reject.reason for reject in result.rejects] == ["row_unusable"]


# --- CUAD ----------------------------------------------------------------------------------------

CUAD = "legal/cuad_clause_type"


def pairs() -> Iterator[tuple[dict[str, Any], Draft]]:
    for number, row in enumerate(sample("cuad")):
        for draft in unasked(CUAD, row, number):
            yield row, draft


def test_every_clause_has_one_negative_that_no_marked_span_meets() -> None:
    alike = WORKSPACE.recipe(CUAD).spec.arguments["alike"]
    labels: Counter[str] = Counter()
    by_clause: dict[tuple[str, str], list[str]] = {}
    for row, draft in pairs():
        assert draft.rejected is None
        told = draft.metadata
        marked = {qa["id"].partition("__")[2]: qa["answers"] for qa in row["qas"]}
        start = row["context"].index(told["context"])
        end = start + len(told["context"])
        meets = any(
            answer["answer_start"] < end and start < answer["answer_start"] + len(answer["text"])
            for answer in marked[told["asked_type"]]
        )
        assert meets == (told["label"] == "yes")
        if told["label"] == "no":
            pair = {told["asked_type"], told["clause_type"]}
            assert not any(pair <= set(group) for group in alike)
        labels[told["label"]] += 1
        by_clause.setdefault((row["title"], told["context"]), []).append(told["label"])
    assert labels["yes"] == labels["no"] > 90
    assert all(sorted(found) == ["no", "yes"] for found in by_clause.values())


def changed(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(json.dumps(sample("cuad")[0]))
    change(row)
    return row


def test_contracts_that_are_long_or_unclean_are_rejected() -> None:
    row = sample("cuad")[0]
    assert reasons(unasked(CUAD, row, max_tokens=100)) == ["long_contract"]
    redacted = {**row, "context": row["context"] + "\n\nThe price is [***]."}
    assert reasons(unasked(CUAD, redacted)) == ["unclean_contract"]
    assert reasons(unasked(CUAD, row, min_words=90)) == ["no_clause"]


def test_only_the_first_qualifying_clause_of_a_type_is_used() -> None:
    def twice(row: dict[str, Any]) -> None:
        law = next(qa for qa in row["qas"] if "Governing Law" in qa["id"])
        (first,) = law["answers"]
        late = "For all else the parties look to the law of the place in which the seller resides."
        law["answers"] = [
            {"text": late, "answer_start": len(row["context"]) + 2},
            first,
            {"text": first["text"][:20], "answer_start": first["answer_start"]},
        ]
        row["context"] += f"\n\n{late}"

    row = changed(twice)
    found = [d.metadata["context"] for d in unasked(CUAD, row)]
    assert sum("governed by" in clause for clause in found) == 2
    assert not any("look to the law" in clause for clause in found)


def test_a_clause_without_a_stranger_has_no_negative() -> None:
    def alone(row: dict[str, Any]) -> None:
        row["qas"] = [qa for qa in row["qas"] if "Governing Law" in qa["id"]]

    assert reasons(unasked(CUAD, changed(alone))) == ["kept", "no_negative"]


def test_a_type_whose_answers_stand_elsewhere_is_rejected_alone() -> None:
    def moved(row: dict[str, Any]) -> None:
        for qa in row["qas"]:
            for answer in qa["answers"]:
                answer["answer_start"] += 1

    drafts = unasked(CUAD, changed(moved))
    assert set(reasons(drafts)) == {"row_unusable", "no_clause"}
    assert any("does not stand" in (draft.rejected or "") for draft in drafts)
    whole = len(unasked(CUAD, sample("cuad")[0]))

    def one(**change: Any) -> dict[str, Any]:
        return changed(lambda row: next(q for q in row["qas"] if q["answers"]).update(change))

    for row in (
        one(question="Which law governs?"),
        one(answers=[{"text": "x", "answer_start": None}]),
        one(answers=[{"answer_start": 3}]),
    ):
        assert Counter(reasons(unasked(CUAD, row))) == {"row_unusable": 1, "kept": whole - 2}

    def twice(row: dict[str, Any]) -> None:
        row["qas"].append(next(q for q in row["qas"] if q["answers"]))

    assert Counter(reasons(unasked(CUAD, changed(twice)))) == {
        "row_unusable": 1,
        "kept": whole - 2,
    }

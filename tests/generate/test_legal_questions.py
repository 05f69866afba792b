"""Questions with answers that are looked up, confirmed or judged, and why others are refused."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from datagen.errors import DataError, WorkspaceError
from tests.generate.legal_rows import asked, ended, last, reasons, sample, unasked
from tests.generate.through_recipe import WORKSPACE
from tests.servers import Answer

# --- yes and no ----------------------------------------------------------------------------------

TOSDR = "legal/tosdr_qa"
POINT = {
    "service": "Larkmail",
    "title": "You can delete your account",
    "quoteText": "You may delete your account at any time on the settings page.",
}


def asks_both_ways(body: Mapping[str, Any], _: int) -> str:
    said = last(body)
    if "Answer wanted: yes" in said:
        return '{"question": "Can users of Larkmail delete their account at any time?"}'
    if "Answer wanted: no" in said:
        return '{"question": "Does Larkmail keep an account that its user wants to delete?"}'
    return json.dumps({"label": "no" if "keep an account" in said else "yes"})


def test_half_of_the_questions_are_answered_no(tmp_path: Path) -> None:
    found = asked(tmp_path, TOSDR, [POINT] * 8, asks_both_ways)
    assert reasons(found) == ["kept"] * 8
    assert Counter(draft.metadata["answer"] for draft in found) == {"Yes": 4, "No": 4}
    for draft in found:
        assert draft.metadata["label"] == draft.metadata["answer"].lower()
        assert draft.text and draft.metadata["question"] in draft.text


@pytest.mark.parametrize(
    ("question", "label", "reason"),
    [
        ("How do users of Larkmail delete an account?", "yes", "not_a_yes_no_question"),
        ("Can users of it delete their account at any time?", "yes", "subject_unnamed"),
        ("Can users of Larkmail not delete their account?", "yes", "negated_question"),
        ("Can users of Larkmail delete their account within 9 days?", "yes", "new_numbers"),
        ("Can users of Larkmail delete an account with Pebble Notes?", "yes", "new_names"),
        ("Does the passage let users of Larkmail delete an account?", "yes", "points_at_passage"),
        ("Is Larkmail a cheerful company for everybody?", "yes", "beside_the_point"),
        ("May Larkmail change the settings page at any time?", "yes", "other_statement"),
        ("Is Larkmail good?", "yes", "length"),
        ("Can users of Larkmail delete their account at any time?", "no", "unconfirmed"),
    ],
)
def test_questions_that_do_not_ask_it_are_rejected(
    tmp_path: Path, question: str, label: str, reason: str
) -> None:
    def script(body: Mapping[str, Any], _: int) -> str:
        confirming = "Answer wanted" not in last(body)
        return json.dumps({"label": label} if confirming else {"question": question})

    assert reasons(asked(tmp_path, TOSDR, [POINT], script, start=1)) == [reason]


def test_a_point_without_a_quotation_is_rejected(tmp_path: Path) -> None:
    found = asked(tmp_path, TOSDR, [{**POINT, "quoteText": ""}], asks_both_ways)
    assert reasons(found) == ["empty"]


# --- judged questions ----------------------------------------------------------------------------

ECFR = "legal/ecfr_diverse_qa"
GLUE = sample("ecfr_sections")[0]
WRITTEN: dict[str, dict[str, Any]] = {
    "yes_no": {"question": "Must a maker of wood glue keep records of labels for 4 years?"},
    "short_answer": {
        "question": "For how long must records of labels on wood glue be kept?",
        "answer": "4 years",
    },
    "multiple_choice": {
        "question": "How large must the words on a container of wood glue be printed?",
        "answer": "no smaller than 3 millimeters",
        "wrong": ["no smaller than 50 milliliters", "no larger than 4 millimeters", "any size"],
    },
    "open": {
        "question": "What must a maker of wood glue do for a container of 50 milliliters or more?",
        "answer": "The maker must put a label on the container. It must name the maker and month.",
    },
}
SCORES = {"correct": 5, "supported": 5, "clear": 4}


def selected(said: str) -> list[str]:
    """The letter under which the right answer is shown."""
    return re.findall(r"^([A-D])\. no smaller than 3 millimeters$", said, re.MULTILINE)


def writes(
    changes: Mapping[str, Any] | None = None,
    scores: Mapping[str, int] = SCORES,
    right: str = "",
) -> Answer:
    """Writes as asked, but for `changes`, judges with `scores`, and finds `right` or the key."""

    def script(body: Mapping[str, Any], _: int) -> str:
        said = last(body)
        if "\nA. " in said:
            return json.dumps({"right": list(right or selected(said))})
        if "\nCriteria: " in said:
            return json.dumps({"reason": "It is what the section says.", "scores": dict(scores)})
        form = "open"
        if wanted := re.search(r"the answer must be (Yes|No)", said):
            return json.dumps({**WRITTEN["yes_no"], "answer": wanted[1], **(changes or {})})
        if "wrong options of the same kind" in said:
            form = "multiple_choice"
        elif "answered with a few words" in said:
            form = "short_answer"
        return json.dumps({**WRITTEN[form], **(changes or {})})

    return script


def test_every_kind_of_question_is_kept_judged_and_balanced(tmp_path: Path) -> None:
    requests: list[dict[str, Any]] = []
    found = asked(tmp_path, ECFR, [GLUE] * 40, writes(), per_text=1, requests=requests)
    assert set(reasons(found)) == {"kept"}
    kinds = Counter(draft.metadata["kind"] for draft in found)
    assert kinds == dict.fromkeys(("yes_no", "fact", "choice", "reason", "case"), 8)
    for draft in found:
        told = draft.metadata
        assert told["scores"] == SCORES and told["judge_reason"]
        assert len(draft.calls or ()) == (3 if told["form"] == "multiple_choice" else 2)
        if told["form"] == "multiple_choice":
            assert told["options"]["ABCD".index(told["answer_letter"])] == told["answer"]
        if told["form"] == "yes_no":
            assert told["label"] == told["answer"].lower()
    assert {body["model"] for body in requests} == {"teacher", "judge"}
    asks_judge = [body["model"] == "judge" for body in requests]
    assert asks_judge == [bool(re.search(r"\n(?:Criteria:|A\.) ", last(body))) for body in requests]


def test_options_are_shown_blind_and_only_the_key_may_be_right(tmp_path: Path) -> None:
    """Two right options, another one, or none: the item is refused, whatever the scores were."""
    kinds = WORKSPACE.recipe(ECFR).spec.arguments["kinds"]
    only = [one for one in kinds if one["form"] == "multiple_choice"]
    requests: list[dict[str, Any]] = []

    def ask(name: str, script: Answer) -> list[Any]:
        (tmp_path / name).mkdir()
        folder = tmp_path / name
        return asked(folder, ECFR, [GLUE], script, kinds=only, per_text=1, requests=requests)

    (kept,) = ask("kept", writes())
    key = kept.metadata["answer_letter"]
    assert kept.rejected is None
    blind = last(requests[-1])
    assert all(option in blind for option in kept.metadata["options"])
    assert "Answer:" not in blind.partition("Section: ")[2]
    other = next(letter for letter in "ABCD" if letter != key)
    both = "".join(sorted(key + other))
    synonym = {"wrong": ["at least 3 millimeters", "no larger than 4 millimeters", "any size"]}
    (draft,) = ask("two", writes(synonym, right=both))
    assert draft.rejected == f"several_right: {', '.join(both)}"
    assert draft.metadata["scores"] == SCORES and len(draft.calls or ()) == 3
    (draft,) = ask("other", writes(right=other))
    assert draft.rejected == f"unconfirmed: {key}, the model says {other}"


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("fact", {"answer": "forever and a day"}, "answer_not_in_text"),
        ("fact", {"answer": "for 7 years"}, "new_numbers"),
        ("fact", {"question": "According to the text, what must be kept for 4 years?"},
         "points_at_passage"),
        ("fact", {"question": "What does Wendell Krum have to keep for years?"}, "new_names"),
        ("fact", {"question": "A maker must keep the records of labels, ?"}, "not_a_question"),
        ("fact", {"question": "Tell me of the records of labels."}, "not_a_question"),
        ("fact", {"answer": "A container that is shipped from one plant of a maker to another "
          "need not be labeled"}, "long_answer"),
        ("choice", {"wrong": ["any size", "Any size.", "no size"]}, "options_alike"),
        ("choice", {"wrong": ["any size"]}, "options_alike"),
        ("yes_no", {"answer": "Perhaps"}, "other_answer"),
        ("case", {"answer": "Bakers rejoice whenever sunlight warms quiet gardens beyond town."},
         "answer_not_in_text"),
    ],
)  # fmt: skip
def test_questions_that_a_program_can_refuse_never_reach_the_judge(
    tmp_path: Path, kind: str, changes: dict[str, Any], reason: str
) -> None:
    kinds = WORKSPACE.recipe(ECFR).spec.arguments["kinds"]
    only = [one for one in kinds if one["name"] == kind]
    requests: list[dict[str, Any]] = []
    found = asked(
        tmp_path, ECFR, [GLUE], writes(changes), kinds=only, per_text=1, requests=requests
    )
    assert reasons(found) == [reason]
    assert {body["model"] for body in requests} == {"teacher"}


def test_the_thresholds_of_the_recipe_decide(tmp_path: Path) -> None:
    low = {"correct": 3, "supported": 5, "clear": 5}
    found = asked(tmp_path, ECFR, [GLUE], writes(scores=low), per_text=1)
    assert [draft.rejected for draft in found] == ["below_threshold: correct 3 < 4"]
    assert found[0].metadata["scores"] == low
    found = asked(tmp_path, ECFR, [GLUE], writes(scores=low), per_text=1, thresholds={
        "correct": 3, "supported": 5, "clear": 5})  # fmt: skip
    assert reasons(found) == ["kept"]


def test_a_question_is_asked_once_of_a_text(tmp_path: Path) -> None:
    kinds = [one for one in WORKSPACE.recipe(ECFR).spec.arguments["kinds"] if one["form"] == "open"]
    assert reasons(asked(tmp_path, ECFR, [GLUE], writes(), kinds=kinds)) == [
        "kept",
        "repeated_question",
    ]
    assert reasons(asked(tmp_path, ECFR, [{**GLUE, "text": "Short."}], writes())) == ["length"]
    with pytest.raises(WorkspaceError, match="cannot be asked"):
        asked(tmp_path, ECFR, [GLUE], writes(), kinds=[{"name": "x", "form": "poem"}])


# --- codebook ------------------------------------------------------------------------------------

GLOBALCIT = "legal/globalcit_nationality"
CODED = {"country": "Varland", "iso3": "VRL", "year": 2021, "mode_id": "L05",
         "article": "art. 3", "code": "1"}  # fmt: skip
GOOD = [
    "Does a citizen of Varland lose citizenship by acquiring that of another country, under the "
    "law in force on 1 January 2021?",
    "Is the citizenship of Varland lost when its citizen acquires that of another country under "
    "the law of 1 January 2021?",
    "On 1 January 2021, did the law in force make a citizen of Varland lose this citizenship by "
    "acquiring another?",
]


def rewords(questions: list[str]) -> Answer:
    return lambda body, _: json.dumps({"questions": questions})


def test_a_question_and_its_three_rewordings_have_the_looked_up_answer(tmp_path: Path) -> None:
    found = asked(tmp_path, GLOBALCIT, [CODED], rewords(GOOD))
    assert reasons(found) == ["kept"] * 4
    assert [draft.metadata["wording"] for draft in found] == ["codebook"] + ["rephrased"] * 3
    for draft in found:
        assert draft.metadata["label"] == "yes" and "Varland" in draft.metadata["question"]
        assert draft.text and draft.metadata["question"] in draft.text and "Yes" in draft.text
    assert found[0].calls == () and all(len(draft.calls or ()) == 1 for draft in found[1:])


def test_the_codebook_s_own_wording_has_no_model_in_its_lineage(tmp_path: Path) -> None:
    """It rests on no answer, though the seed asked for rewordings: their licence is not its own."""
    records = ended(tmp_path, GLOBALCIT, CODED, rewords(GOOD)).records
    by_wording = [(one.metadata["wording"], one.lineage.model) for one in records]
    assert by_wording == [("codebook", None)] + [("rephrased", "teacher")] * 3
    assert records[0].lineage.model_licence is None and records[0].lineage.calls == ()
    assert records[1].lineage.model_licence == "Apache-2.0" and len(records[1].lineage.calls) == 1


def test_the_codebook_answers_every_bundled_row() -> None:
    entries = {e["variable"]: e for e in WORKSPACE.recipe(GLOBALCIT).spec.arguments["entries"]}
    seen: Counter[str] = Counter()
    for row in sample("globalcit"):
        (draft,) = unasked(GLOBALCIT, row, rephrasings=0)
        if row["code"] == "99":
            assert reasons([draft]) == ["no_code"]
            continue
        assert draft.metadata["answer"] == entries[row["mode_id"]]["answers"][row["code"]]["answer"]
        assert str(row["year"]) in draft.metadata["question"]
        assert "{" not in f"{draft.text}"
        seen[draft.metadata["label"]] += 1
    assert min(seen["yes"], seen["no"]) >= 8


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (GOOD[0].replace("Varland", "the state"), "lost"),
        (GOOD[0].replace("2021", "2020"), "lost"),
        (GOOD[0].replace("1 January 2021", "2021"), "numbers_changed"),
        (GOOD[0].replace("lose", "keep"), "term_lost"),
        (GOOD[0].replace("lose", "not lose"), "negation_changed"),
        (GOOD[0].replace("another country", "another, Corsana"), "new_names"),
        (GOOD[0].removesuffix("?"), "not_a_question"),
        ("Varland 1 2021 lose another?", "length"),
        ("Under the law of Varland in force on 1 January 2021, does a citizen of Varland lose this "
         "citizenship by acquiring that of another country?", "not_reworded"),
    ],
)  # fmt: skip
def test_rewordings_that_change_the_question_are_rejected(
    tmp_path: Path, question: str, reason: str
) -> None:
    found = asked(tmp_path, GLOBALCIT, [CODED], rewords([question, GOOD[1], GOOD[1]]))
    assert reasons(found) == ["kept", reason, "kept", "not_reworded"]


def test_rows_outside_the_codebook() -> None:
    assert reasons(unasked(GLOBALCIT, {**CODED, "mode_id": "A99"})) == ["no_entry"]
    assert reasons(unasked(GLOBALCIT, {**CODED, "code": None})) == ["no_code"]
    assert reasons(unasked(GLOBALCIT, {**CODED, "code": "7"})) == ["unknown_code"]
    (draft,) = unasked(GLOBALCIT, {**CODED, "country": "{year} Isles"}, rephrasings=0)
    assert draft.rejected is None and "{year} Isles" in draft.metadata["question"]
    with pytest.raises(DataError, match="no column"):
        unasked(GLOBALCIT, {"mode_id": "L05", "code": "1", "country": "Varland"})

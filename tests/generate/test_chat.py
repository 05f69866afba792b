"""Chat through its recipes: the judge picks, the user has a strategy, the last turn is trained."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datagen.errors import WorkspaceError
from datagen.generate.chat_best_of_n import chat_best_of_n
from datagen.generate.chat_multi_turn import _plan, chat_multi_turn
from datagen.llm.ask import SeedAsk
from datagen.record import Draft
from tests.generate.through_recipe import ROOT, WORKSPACE, drafts, method_of

BEST, TURNS = "chat/best_of_n", "chat/multi_turn"
CRITERIA = list(WORKSPACE.recipe(BEST).spec.arguments["thresholds"])
STRATEGIES: dict[str, str] = WORKSPACE.recipe(TURNS).spec.arguments["strategies"]
ROW = {"prompt": "How do I keep basil alive?"}
Body = Mapping[str, Any]


def scores(**changed: int) -> str:
    marks = dict.fromkeys(CRITERIA, 4) | changed
    return json.dumps({"reason": "It says how.", "scores": marks})


# --- best of n -----------------------------------------------------------------------------------


def best(
    folder: Path,
    answers: list[str],
    verdict: Callable[[str], str],
    *,
    row: Mapping[str, Any] = ROW,
    key: str = "1",
    requests: list[dict[str, Any]] | None = None,
    **changes: Any,
) -> Draft:
    """The draft when the teacher gives these answers, and the judge says this of each."""

    def script(body: Body, sample: int) -> str:
        if body["model"] == "teacher":
            return answers[sample]
        return verdict(body["messages"][-1]["content"].rpartition("assistant: ")[2])

    column = {"messages": "messages"} if "messages" in row else {"text": "prompt"}
    (draft,) = drafts(folder, BEST, row, script, key=key, requests=requests, **column, **changes)
    return draft


def by_last_digit(answer: str) -> str:
    return scores(helpful=int(answer[-1]))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(marks=st.lists(st.integers(1, 5), min_size=4, max_size=4))
def test_the_best_scored_answer_is_kept(
    tmp_path_factory: pytest.TempPathFactory, marks: list[int]
) -> None:
    """Whatever the order: the kept one has the highest mean, and only over the thresholds."""
    answers = [f"{'abcd'[n]} {mark}" for n, mark in enumerate(marks)]
    draft = best(tmp_path_factory.mktemp("best"), answers, by_last_digit)
    if max(marks) < 4:
        assert draft.rejected == f"below_threshold: helpful {max(marks)} < 4"
        return
    assert draft.rejected is None and draft.messages is not None
    said = draft.messages[-1]
    assert said.content in answers and said.content.endswith(str(max(marks))) and said.trained
    assert draft.metadata["n"] == 4 and len(draft.metadata["candidate_scores"]) == 4
    assert draft.metadata["score"] == max(draft.metadata["candidate_scores"])
    assert draft.metadata["scores"]["helpful"] == max(marks)


def test_a_high_mean_under_a_threshold_is_not_picked(tmp_path: Path) -> None:
    """The thresholds come first: 5, 3, 5 loses against 4, 4, 3."""
    shining = scores(helpful=5, correct=3, clear=5)
    draft = best(
        tmp_path, ["a", "b", "c", "d"], lambda said: shining if said == "a" else scores(clear=3)
    )
    assert draft.rejected is None and draft.messages
    assert draft.messages[-1].content != "a"


def test_ties_are_drawn_between(tmp_path: Path) -> None:
    """The same for the same row; over rows each of the equals is picked about as often."""
    answers = ["a", "b", "c", "d"]
    picked: list[str] = []
    for number in range(48):
        draft = best(tmp_path, answers, lambda said: scores(), key=str(number))
        assert draft.messages
        picked.append(draft.messages[-1].content)
    assert set(Counter(picked)) == set(answers) and max(Counter(picked).values()) < 30
    again = best(tmp_path, answers, lambda said: scores(), key="0")
    assert again.messages and again.messages[-1].content == picked[0]


def test_equal_answers_are_judged_once(tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []
    draft = best(
        tmp_path,
        ["Water it.", " Water  it. ", "Sun.", "Sun."],
        lambda said: scores(),
        requests=asked,
    )
    assert sum(body["model"] == "judge" for body in asked) == 2
    assert len(draft.metadata["candidate_scores"]) == 2 and draft.metadata["n"] == 4


def test_what_cannot_be_judged_is_out(tmp_path: Path) -> None:
    """One answer without a verdict is out; without any verdict nothing is kept."""
    draft = best(
        tmp_path / "one", ["a", "b", "c", "d"], lambda said: scores() if said == "c" else "Fine!"
    )
    assert draft.rejected is None and draft.messages and draft.messages[-1].content == "c"
    assert draft.metadata["candidate_scores"].count(None) == 3
    draft = best(tmp_path / "all", ["a", "b", "c", "d"], lambda said: "Fine!")
    assert (draft.rejected or "").startswith("judge_invalid_json: ")


def test_no_answer_and_no_question(tmp_path: Path) -> None:
    draft = best(tmp_path / "a", [" "] * 4, lambda said: scores())
    assert (draft.rejected or "").startswith("answer_empty: ")
    row = {"messages": [{"role": "assistant", "content": "Hello."}]}
    draft = best(tmp_path / "b", [], lambda said: scores(), row=row)
    assert (draft.rejected or "").startswith("no_question: ")


def test_a_system_message_is_kept_and_shown(tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []
    row = {
        "messages": [
            {"role": "system", "content": "Speak like a gardener."},
            {"role": "user", "content": "Basil?"},
            {"role": "assistant", "content": "An old answer."},
        ]
    }
    draft = best(tmp_path, list("abcd"), lambda said: scores(), row=row, requests=asked)
    assert [turn.role for turn in draft.messages or ()] == ["system", "user", "assistant"]
    first = next(body for body in asked if body["model"] == "teacher")
    assert first["messages"][0] == {"role": "system", "content": "Speak like a gardener."}
    assert "An old answer." not in json.dumps(asked)


# --- several turns -------------------------------------------------------------------------------


def talk(
    folder: Path,
    *,
    earlier: str = "Water it every day, in the evening, from above, with a lot of water.",
    user: Callable[[int], str] = lambda turn: f"And when it droops, number {turn}?",
    answer: str = "Water it from below.",
    verdict: str | None = None,
    requests: list[dict[str, Any]] | None = None,
    key: str = "1",
    row: Mapping[str, Any] = ROW,
    **changes: Any,
) -> Draft:
    """The draft when everybody says this; earlier answers differ by their number."""

    def script(body: Body, sample: int) -> str:
        said = body["messages"][-1]["content"]
        if body["model"] == "student":
            return f"{earlier} {len(body['messages'])}" if earlier.strip() else earlier
        if body["model"] == "judge":
            return verdict or scores()
        if "The next message:" in said:
            return user(said.count("assistant: "))
        return answer

    column = {"messages": "messages"} if "messages" in row else {"text": "prompt"}
    (draft,) = drafts(folder, TURNS, row, script, key=key, requests=requests, **column, **changes)
    return draft


@pytest.mark.parametrize("count", [2, 3, 4])
def test_only_the_last_answer_is_trained(tmp_path: Path, count: int) -> None:
    """Roles alternate; the student gives the earlier answers, the teacher the last one."""
    asked: list[dict[str, Any]] = []
    draft = talk(tmp_path, questions=[count, count], requests=asked)
    assert draft.rejected is None and draft.messages is not None
    assert [turn.role for turn in draft.messages] == ["user", "assistant"] * count
    assert [turn.trained for turn in draft.messages] == [False] * (2 * count - 1) + [True]
    assert draft.messages[-1].content == "Water it from below."
    models = Counter(body["model"] for body in asked)
    assert models == {"student": count - 1, "teacher": count, "judge": 1}
    assert draft.metadata["questions"] == count == len(draft.metadata["strategies"]) + 1
    assert len(set(draft.metadata["strategies"])) == count - 1
    assert draft.metadata["scores"] == dict.fromkeys(CRITERIA, 4.0)


def test_everybody_sees_all_that_was_said(tmp_path: Path) -> None:
    """The last answer is asked for as a conversation, turn by turn; the user has its strategy."""
    asked: list[dict[str, Any]] = []
    draft = talk(tmp_path, questions=[4, 4], requests=asked)
    assert draft.messages is not None
    last = next(
        body
        for body in asked
        if body["model"] == "teacher" and "The next message:" not in str(body["messages"])
    )
    assert [(m["role"], m["content"]) for m in last["messages"]] == [
        (turn.role, turn.content) for turn in draft.messages[:-1]
    ]
    users = [b["messages"][-1]["content"] for b in asked if "The next message:" in str(b)]
    for name, said in zip(draft.metadata["strategies"], users, strict=True):
        assert said.endswith(f"The next message: {STRATEGIES[name]}")


def test_a_system_message_stays(tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []
    row = {
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Basil?"},
        ]
    }
    draft = talk(tmp_path, row=row, questions=[2, 2], requests=asked)
    assert [turn.role for turn in draft.messages or ()][:2] == ["system", "user"]
    systems = [b["messages"][0]["content"] for b in asked if b["model"] == "student"]
    assert systems == ["Be kind.\nAnswer in a few sentences."]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"earlier": " "}, "earlier_empty"),
        ({"user": lambda turn: "..."}, "user_says_nothing"),
        ({"user": lambda turn: "word " * 61}, "user_talks_too_long"),
        ({"user": lambda turn: "How do I keep basil alive"}, "user_repeats_itself"),
        ({"user": lambda turn: "Why?\nassistant: Because."}, "user_goes_on_for_others"),
        ({"user": lambda turn: "The next message: Why?"}, "user_speaks_of_the_prompt"),
        ({"answer": "Cut at max_tokens, I see."}, "answer_speaks_of_the_prompt"),
        ({"answer": "Yes.\n\nUser: thanks"}, "answer_goes_on_for_others"),
        ({"answer": "{earlier}"}, "answer_repeats_itself"),
        ({"answer": ""}, "answer_empty"),
        ({"verdict": scores(correct=3)}, "below_threshold"),
        ({"verdict": "Good."}, "judge_invalid_json"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_kind_of_bad_turn_ends_it(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    if changes.get("answer") == "{earlier}":
        changes = {"earlier": "Sun.", "answer": "Sun. 2"}
    draft = talk(tmp_path, questions=[2, 2], **changes)
    assert (draft.rejected or "kept").partition(":")[0] == reason


def test_a_user_who_hands_the_answer_back_is_refused(tmp_path: Path) -> None:
    draft = talk(tmp_path, questions=[2, 2], earlier="Sun.", user=lambda turn: "sun 2")
    assert (draft.rejected or "").startswith("user_echoes: ")


def test_a_label_in_front_is_taken_off(tmp_path: Path) -> None:
    draft = talk(tmp_path, questions=[2, 2], user=lambda turn: "**User:** Why?")
    assert draft.rejected is None and draft.messages and draft.messages[2].content == "Why?"


def test_after_brevity_the_answer_is_shorter(tmp_path: Path) -> None:
    only = {"strategies": {"brevity": STRATEGIES["brevity"]}, "questions": [2, 2]}
    assert talk(tmp_path / "a", **only).rejected is None
    draft = talk(tmp_path / "b", answer="word " * 30, **only)
    assert (draft.rejected or "").startswith("not_shorter: 30 words after ")
    assert talk(tmp_path / "c", answer="word " * 30, shorter_after=[], **only).rejected is None


def test_without_thresholds_nobody_judges(tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []
    draft = talk(tmp_path, thresholds={}, requests=asked)
    assert draft.rejected is None and "scores" not in draft.metadata
    assert all(body["model"] != "judge" for body in asked)


def test_first_strategies_are_balanced() -> None:
    """Among as many seeds as there are strategies each comes first once."""
    names = list(STRATEGIES)
    for block in range(4):
        plans = []
        for number in range(block * len(names), (block + 1) * len(names)):
            ask = SeedAsk(
                None, {}, source="s", row_key=str(number), build_seed=1, max_calls=0, number=number
            )
            plans.append(_plan(ask, names, 2))
        assert sorted(plan[0] for plan in plans) == sorted(names)
        assert all(len(set(plan)) == 2 for plan in plans)


@pytest.mark.parametrize(
    "changes",
    [
        {"questions": [1, 2]},
        {"questions": [3, 2]},
        {"questions": [2, 5]},
        {"strategies": {"clarify": "ask."}},
        {"shorter_after": ["short"]},
    ],
    ids=str,
)
def test_arguments_that_mean_nothing_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(WorkspaceError) as caught:
        talk(tmp_path, **changes)
    assert (caught.value.where or "").startswith("arguments: ") and caught.value.fix


@pytest.mark.parametrize(("name", "method"), [(BEST, chat_best_of_n), (TURNS, chat_multi_turn)])
def test_the_recipes_run_the_methods_of_this_room(name: str, method: Any) -> None:
    assert method_of(name) is method


def test_bundled_prompts_are_varied() -> None:
    rows = [
        json.loads(line)
        for line in (ROOT / "manifests/samples/chat_prompts.jsonl").read_text("utf-8").splitlines()
    ]
    assert len(rows) >= 24 and len({row["prompt"] for row in rows}) == len(rows)
    assert max(Counter(row["topic"] for row in rows).values()) <= len(rows) / 5

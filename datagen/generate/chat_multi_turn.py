"""Conversations of several turns: a simulated user with a strategy, and weaker earlier answers.

Only the last answer is trained. The earlier ones may come from a weaker model (`models: {earlier:
student}` in the recipe), so that the last one is learned as a way out of a middling conversation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datagen.errors import WorkspaceError
from datagen.generate.document import document
from datagen.generate.judge import SCALE, judged, shown_turns
from datagen.generate.reasoned import opening
from datagen.llm.ask import Answer, AnswerRejected, Ask
from datagen.record import Draft, Message, Role, Seed

MOST_QUESTIONS = 4
"""For so many questions the prompts `earlier` and `answer` have places."""

_LABEL = re.compile(r"^\s*[*_]*(?:user|assistant)[*_]*\s*:[*_]*\s*", re.IGNORECASE)
_NEXT_TURN = re.compile(r"^\s*[*_]*(?:user|assistant|human)[*_]*\s*:", re.IGNORECASE | re.MULTILINE)
# What only somebody says who answers the instruction, or the demand to answer again.
_OF_THE_PROMPT = re.compile(r"the next message:|cannot be used \(|max_tokens", re.IGNORECASE)


@dataclass(slots=True, kw_only=True)
class _Talk:
    """A conversation as far as it has come, and which prompt is being asked."""

    ask: Ask
    turns: list[Message]
    calls: list[str] = field(default_factory=list)
    asking: str = ""

    async def say(self, prompt: str, role: Role, **variables: Any) -> str | None:
        """Let a prompt write the next turn; why it cannot be one, or None.

        It may use `system`, `said` (what user and assistant said, in turn) and `turns` (all, with
        their roles).
        """
        self.asking = prompt
        system = "\n\n".join(turn.content for turn in self.turns if turn.role == "system")
        said = [turn.content for turn in self.turns if turn.role != "system"]
        samples = await self.ask.answers(
            prompt, into=str, turns=shown_turns(self.turns), system=system, said=said, **variables
        )
        return self._take(prompt, role, samples[0])

    def _take(self, prompt: str, role: Role, answer: Answer[str]) -> str | None:
        self.calls.append(answer.key)
        said = _LABEL.sub("", answer.value).strip()
        own = [_words(turn.content) for turn in self.turns if turn.role == role]
        if not _words(said):
            return f"{prompt}_says_nothing: {answer.value[:80]!r}"
        if _NEXT_TURN.search(said):
            return f"{prompt}_goes_on_for_others: {said[:80]!r}"
        if _OF_THE_PROMPT.search(said):
            return f"{prompt}_speaks_of_the_prompt: {said[:80]!r}"
        if _words(said) in own:
            return f"{prompt}_repeats_itself: {said[:80]!r}"
        if role == "user" and any(_words(said) == _words(turn.content) for turn in self.turns):
            return f"{prompt}_echoes: {said[:80]!r}"
        self.turns.append(Message(role=role, content=said, reasoning=answer.reasoning))
        return None


async def chat_multi_turn(
    seed: Seed,
    ask: Ask,
    *,
    strategies: Mapping[str, str],
    questions: Sequence[int] = (2, 3),
    most_user_words: int = 80,
    shorter_after: Sequence[str] = (),
    thresholds: Mapping[str, float] | None = None,
    scale: Sequence[int] = SCALE,
    text: str | None = "text",
    messages: str | None = None,
    metadata: Sequence[str] = (),
) -> list[Draft]:
    """Draft a conversation that begins with the row's first question.

    How many `questions` the user asks is drawn between the bounds. `earlier` answers each but the
    last; `user` then goes on by a strategy (what `strategies` says of it is the prompt's
    `strategy`), each used once at most, the first of them in balance over the seeds; `answer`
    answers the last question and is the only turn trained. After a strategy in `shorter_after`
    that answer must be shorter than the one before. With `thresholds`, `judge` scores the last
    answer.
    """
    _check(strategies, questions, shorter_after)
    (row,) = await document(seed, ask, text=text, messages=messages, metadata=metadata)
    if row.rejected is not None:
        return [row]
    before = opening(row)
    if not before or before[-1].role != "user":
        said = "no_question: no user turn before the first answer"
        return [Draft(metadata=row.metadata, rejected=said)]
    fewest, most = questions
    plan = _plan(ask, list(strategies), fewest + ask.draw("questions") % (most - fewest + 1) - 1)
    found: dict[str, Any] = {
        **row.metadata,
        "form": "chat",
        "question": before[-1].content,
        "strategies": plan,
        "last_strategy": plan[-1],
        "questions": len(plan) + 1,
    }
    talk = _Talk(ask=ask, turns=before)
    try:
        problem = await _talk_through(talk, [strategies[name] for name in plan], most_user_words)
        if problem is None and plan[-1] in shorter_after:
            problem = _not_shorter(talk.turns)
        if problem is None and thresholds:
            talk.asking = "judge"
            verdict = await judged(
                ask, "judge", thresholds=thresholds, scale=scale, turns=shown_turns(talk.turns)
            )
            talk.calls.append(verdict.key)
            found |= verdict.metadata
            problem = None if verdict.passed else f"below_threshold: {verdict.failed}"
    except AnswerRejected as error:
        problem = f"{talk.asking}_{error.reason}: {error.detail}"
        talk.calls += error.calls
    return [_draft(talk, found, problem)]


async def _talk_through(talk: _Talk, strategies: Sequence[str], most_words: int) -> str | None:
    """Let everybody speak in turn; the first thing wrong with a turn ends it."""
    for strategy in strategies:
        problem = await talk.say("earlier", "assistant")
        problem = problem or await talk.say("user", "user", strategy=strategy)
        if problem is not None:
            return problem
        if (words := len(talk.turns[-1].content.split())) > most_words:
            return f"user_talks_too_long: {words} words, {most_words} at most"
    return await talk.say("answer", "assistant")


def _draft(talk: _Talk, found: Mapping[str, Any], problem: str | None) -> Draft:
    """The conversation with its last answer trained, and no reasoning but that answer's."""
    last = len(talk.turns) - 1
    turns = tuple(
        Message(
            role=turn.role,
            content=turn.content,
            reasoning=turn.reasoning if place == last else None,
            trained=place == last and turn.role == "assistant",
        )
        for place, turn in enumerate(talk.turns)
    )
    calls = tuple(dict.fromkeys(talk.calls))
    return Draft(messages=turns, metadata=found, calls=calls, rejected=problem)


def _plan(ask: Ask, names: Sequence[str], count: int) -> list[str]:
    """Which strategies, in which order: the first in balance over the seeds, the rest by draw."""
    first = names[ask.balanced(len(names), "strategy")]
    rest = sorted(
        (name for name in names if name != first), key=lambda name: ask.draw("strategy", name)
    )
    return [first, *rest][:count]


def _not_shorter(turns: Sequence[Message]) -> str | None:
    said = [len(turn.content.split()) for turn in turns if turn.role == "assistant"]
    if said[-1] < said[-2]:
        return None
    return f"not_shorter: {said[-1]} words after {said[-2]}"


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _check(
    strategies: Mapping[str, str], questions: Sequence[int], shorter_after: Sequence[str]
) -> None:
    """WorkspaceError for bounds or strategies that cannot be meant."""
    if len(questions) != 2 or not 2 <= questions[0] <= questions[1] <= MOST_QUESTIONS:
        raise WorkspaceError(
            f"{list(questions)} are no bounds",
            where="arguments: questions",
            fix=f"write [fewest, most], from 2 to {MOST_QUESTIONS}",
        )
    if len(strategies) < questions[1] - 1:
        raise WorkspaceError(
            f"{len(strategies)} strategies for up to {questions[1] - 1} further questions",
            where="arguments: strategies",
            fix="list more strategies, or ask fewer questions",
        )
    for name in shorter_after:
        if name not in strategies:
            raise WorkspaceError(
                f"no strategy {name!r}",
                where="arguments: shorter_after",
                fix=f"one of {', '.join(strategies)}",
            )

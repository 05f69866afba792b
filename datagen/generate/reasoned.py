"""A question answered by a model that thinks first: reasoning and answer kept apart.

How long it thinks is the model's own doing (`reasoning_effort` in its manifest); where the source
knows the answer, the model's must be the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from datagen.generate.document import document
from datagen.generate.verify.exact import final_answer
from datagen.generate.verify.same import agrees
from datagen.llm.ask import Answer, AnswerRejected, Ask
from datagen.record import Draft, Message, Seed

_THINK, _END_THINK = "<think>", "</think>"


async def reasoned(
    seed: Seed,
    ask: Ask,
    *,
    text: str | None = "text",
    messages: str | None = None,
    answer: str | None = None,
    metadata: Sequence[str] = (),
) -> list[Draft]:
    """Draft the row's question with the reasoning and the answer that a model gives to it.

    The question is the row's `text`, or what its `messages` say before the first assistant turn.
    It is asked through the prompt `solve` in the words of `text_user`, which are also the record's
    user turn. `answer` names a column with the known answer; where a row has one, a sample that
    does not end in it is refused, and the first good sample is kept.
    """
    (row,) = await document(seed, ask, text=text, messages=messages, metadata=metadata)
    if row.rejected is not None:
        return [row]
    before = opening(row)
    if not before or before[-1].role != "user":
        said = "no_question: no user turn before the first answer"
        return [Draft(metadata=row.metadata, rejected=said)]
    expected = expected_answer(seed, answer)
    question = before[-1].content
    asked = ask.text("text_user", question=question, checked=expected is not None)
    system = "\n\n".join(turn.content for turn in before[:-1])
    found = {**row.metadata, "form": "reasoning", "question": question, "expected": expected}
    try:
        samples = await ask.answers("solve", into=str, system=system, question=asked)
    except AnswerRejected as error:
        said = f"answer_{error.reason}: {error.detail}"
        return [Draft(metadata=found, calls=error.calls, rejected=said)]
    problems = [_problem(sample, expected) for sample in samples]
    chosen = next((n for n, problem in enumerate(problems) if problem is None), 0)
    best = samples[chosen]
    found |= {
        "answer": final_answer(best.value, marked=True) or best.value,
        "verified": expected is not None and problems[chosen] is None,
        "reasoning_from": "model",
    }
    turns = (
        *before[:-1],
        replace(before[-1], content=asked),
        Message(role="assistant", content=best.value, reasoning=best.reasoning, trained=True),
    )
    return [Draft(messages=turns, metadata=found, calls=(best.key,), rejected=problems[chosen])]


def with_reasoning(message: Message) -> Message:
    """A turn whose thoughts stand apart, where they stood in front of its content in marks."""
    said = message.content.lstrip()
    if message.reasoning is not None or not said.startswith(_THINK) or _END_THINK not in said:
        return message
    thoughts, _, content = said.removeprefix(_THINK).partition(_END_THINK)
    return replace(message, reasoning=thoughts.strip() or None, content=content.strip())


def opening(row: Draft) -> list[Message]:
    """The turns before the first answer: all of a text, as the user's."""
    if row.messages is None:
        return [Message(role="user", content=(row.text or "").strip())]
    turns = list(row.messages)
    answered = [n for n, turn in enumerate(turns) if turn.role == "assistant"]
    return turns[: answered[0]] if answered else turns


def expected_answer(seed: Seed, column: str | None) -> str | None:
    """The row's known final answer; None where it has none."""
    known: Any = seed.row.get(column) if column is not None else None
    if known is None or not str(known).strip():
        return None
    return final_answer(str(known), marked=True) or str(known).strip()


def answer_problem(text: str, expected: str | None) -> str | None:
    """Why an answer cannot be kept beside the one that is known; None where none is known."""
    if expected is None:
        return None
    said = final_answer(text, marked=True)
    if said is None:
        return "no_final_answer: no line says 'Answer: ...'"
    return None if agrees(said, expected) else f"wrong_answer: {said[:80]!r} is not {expected!r}"


def _problem(sample: Answer[str], expected: str | None) -> str | None:
    """Why a sample cannot be kept."""
    if not (sample.reasoning or "").strip():
        return "no_reasoning: the server gave the answer alone"
    return answer_problem(sample.value, expected)

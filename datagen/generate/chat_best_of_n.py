"""Best of n: several answers to one question, of which a judge picks the one to train on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from datagen.generate.document import document
from datagen.generate.judge import SCALE, JudgeVerdict, judged, shown_turns
from datagen.generate.reasoned import opening
from datagen.llm.ask import Answer, AnswerRejected, Ask
from datagen.record import Draft, Message, Seed


async def chat_best_of_n(
    seed: Seed,
    ask: Ask,
    *,
    thresholds: Mapping[str, float],
    n: int = 4,
    scale: Sequence[int] = SCALE,
    text: str | None = "text",
    messages: str | None = None,
    metadata: Sequence[str] = (),
) -> list[Draft]:
    """Draft the row's first question with the best of `n` answers, by the mean of its scores.

    The question is the row's `text`, or what its `messages` say before the first assistant turn.
    `answer` is sampled `n` times; `judge` scores each different answer, and one that misses a
    threshold or cannot be judged is out. Answers of equal mean are drawn between. Nothing is kept
    where none is left.
    """
    (row,) = await document(seed, ask, text=text, messages=messages, metadata=metadata)
    if row.rejected is not None:
        return [row]
    before = opening(row)
    if not before or before[-1].role != "user":
        said = "no_question: no user turn before the first answer"
        return [Draft(metadata=row.metadata, rejected=said)]
    question = before[-1].content
    found: dict[str, Any] = {**row.metadata, "form": "chat", "question": question, "n": n}
    system = "\n\n".join(turn.content for turn in before[:-1])
    try:
        samples = await ask.answers("answer", into=str, n=n, system=system, question=question)
    except AnswerRejected as error:
        said = f"answer_{error.reason}: {error.detail}"
        return [Draft(metadata=found, calls=error.calls, rejected=said)]
    different = list({" ".join(sample.value.split()): sample for sample in samples[::-1]}.values())
    candidates = different[::-1]
    verdicts = await asyncio.gather(
        *(_verdict(ask, before, sample, thresholds, scale) for sample in candidates)
    )
    found["candidate_scores"] = [
        round(_mean(verdict), 3) if isinstance(verdict, JudgeVerdict) else None
        for verdict in verdicts
    ]
    return [_pick(ask, before, found, candidates, verdicts)]


async def _verdict(
    ask: Ask,
    before: Sequence[Message],
    sample: Answer[str],
    thresholds: Mapping[str, float],
    scale: Sequence[int],
) -> JudgeVerdict | AnswerRejected:
    """What the judge says of an answer, or why it says nothing."""
    turns = [*shown_turns(before), {"role": "assistant", "content": sample.value}]
    try:
        return await judged(ask, "judge", thresholds=thresholds, scale=scale, turns=turns)
    except AnswerRejected as error:
        return error


def _pick(
    ask: Ask,
    before: Sequence[Message],
    found: Mapping[str, Any],
    candidates: Sequence[Answer[str]],
    verdicts: Sequence[JudgeVerdict | AnswerRejected],
) -> Draft:
    """The draft of the best answer; of the best refused one where none meets the thresholds."""
    scored = [
        (sample, verdict)
        for sample, verdict in zip(candidates, verdicts, strict=True)
        if isinstance(verdict, JudgeVerdict)
    ]
    if not scored:
        errors = [error for error in verdicts if isinstance(error, AnswerRejected)]
        calls = tuple(call for error in errors for call in error.calls)
        said = f"judge_{errors[0].reason}: {errors[0].detail}"
        return Draft(metadata=found, calls=calls, rejected=said)
    passed = [one for one in scored if one[1].passed] or scored
    top = max(_mean(verdict) for _, verdict in passed)
    tied = [one for one in passed if _mean(one[1]) == top]
    sample, verdict = tied[ask.draw("tie") % len(tied)]
    answer = Message(
        role="assistant", content=sample.value, reasoning=sample.reasoning, trained=True
    )
    return Draft(
        messages=(*before, answer),
        metadata={**found, **verdict.metadata, "score": round(_mean(verdict), 3)},
        calls=(sample.key, *(one.key for _, one in scored)),
        rejected=None if verdict.passed else f"below_threshold: {verdict.failed}",
    )


def _mean(verdict: JudgeVerdict) -> float:
    return fmean(verdict.scores.values())

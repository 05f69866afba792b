"""A judge: one prompt that returns scores and a reason, and thresholds that decide.

Any method may ask it with `judged`; `judge` itself is the method that judges a source's rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Annotated, Any

from pydantic import BaseModel, Field, field_validator

from datagen.errors import WorkspaceError
from datagen.generate.document import document
from datagen.llm.ask import AnswerRejected, Ask
from datagen.record import Draft, Message, Seed

SCALE = (1, 5)
_LONGEST_REASON = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeVerdict:
    """What a judge said: a score for each criterion, why, and whether every threshold is met.

    `failed` names the first criterion (in the order of the thresholds) that lies under its
    threshold, with both numbers: `"correct 2 < 4"`. `votes` counts the valid samples, `key` names
    their answer in the ledger (`Draft.calls`).
    """

    scores: dict[str, float]
    reason: str
    passed: bool
    failed: str | None
    votes: int
    key: str

    @property
    def metadata(self) -> dict[str, Any]:
        """What a record keeps of it."""
        return {"scores": self.scores, "judge_reason": self.reason, "judge_votes": self.votes}


async def judged(
    ask: Ask,
    prompt: str,
    /,
    *,
    thresholds: Mapping[str, float],
    scale: Sequence[int] = SCALE,
    **variables: Any,
) -> JudgeVerdict:
    """Let the prompt's model score `variables` by every criterion that `thresholds` names.

    The template may also use `criteria` (their names, in order), `low` and `high`. A score is a
    number from `low` to `high`; an answer that misses a criterion or scores another one is
    invalid. With `n` above 1 in the prompt's sampling the scores are means over the valid samples,
    and the reason is the first one's. Raises `AnswerRejected` where no answer is valid, and
    WorkspaceError for thresholds that nothing could fail or meet.
    """
    criteria = tuple(thresholds)
    low, high = _checked(thresholds, scale)
    samples = await ask.answers(
        prompt,
        into=_form(criteria, low, high),
        schema=_schema(criteria, low, high),
        criteria=list(criteria),
        low=low,
        high=high,
        **variables,
    )
    scores = {
        name: round(fmean(sample.value.scores[name] for sample in samples), 3) for name in criteria
    }
    failed = next((name for name in criteria if scores[name] < thresholds[name]), None)
    return JudgeVerdict(
        scores=scores,
        reason=samples[0].value.reason,
        passed=failed is None,
        failed=None if failed is None else f"{failed} {scores[failed]:g} < {thresholds[failed]:g}",
        votes=len(samples),
        key=samples[0].key,
    )


async def judge(
    seed: Seed,
    ask: Ask,
    *,
    thresholds: Mapping[str, float],
    scale: Sequence[int] = SCALE,
    text: str | None = "text",
    messages: str | None = None,
    metadata: Sequence[str] = (),
) -> list[Draft]:
    """Keep a row, as it stands, if the prompt `judge` scores it high enough by every criterion.

    `text`, `messages` and `metadata` are those of `document`. The prompt is shown `text`, or the
    conversation as `turns` of role and content. Scores and reason go into the metadata.
    """
    (row,) = await document(seed, ask, text=text, messages=messages, metadata=metadata)
    if row.rejected is not None:
        return [row]
    try:
        verdict = await judged(
            ask,
            "judge",
            thresholds=thresholds,
            scale=scale,
            text=row.text or "",
            turns=shown_turns(row.messages or ()),
        )
    except AnswerRejected as error:
        said = f"judge_{error.reason}: {error.detail}"
        return [Draft(metadata=row.metadata, calls=error.calls, rejected=said)]
    return [
        Draft(
            text=row.text,
            messages=row.messages,
            metadata={**row.metadata, **verdict.metadata},
            calls=(verdict.key,),
            rejected=None if verdict.passed else f"below_threshold: {verdict.failed}",
        )
    ]


def shown_turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    """A conversation for a template: role and content of each turn, without reasoning."""
    return [{"role": message.role, "content": message.content} for message in messages]


def _checked(thresholds: Mapping[str, float], scale: Sequence[int]) -> tuple[int, int]:
    """The ends of the scale; WorkspaceError where scale or thresholds cannot decide anything."""
    if not thresholds:
        raise WorkspaceError(
            "a judge without criteria passes everything",
            where="arguments: thresholds",
            fix="name at least one criterion with its lowest score: {correct: 4}",
        )
    if len(scale) != 2 or scale[0] >= scale[1]:
        raise WorkspaceError(
            f"{list(scale)} is no scale", where="arguments: scale", fix="write [lowest, highest]"
        )
    low, high = scale
    for name, least in thresholds.items():
        if not low <= least <= high:
            raise WorkspaceError(
                f"the threshold of {name!r} is {least:g}, the scale goes from {low} to {high}",
                where="arguments: thresholds",
                fix="give a threshold on the scale, or change 'scale'",
            )
    return low, high


@lru_cache(maxsize=256)
def _form(criteria: tuple[str, ...], low: int, high: int) -> type[Any]:
    """The type of an answer: a reason, and a score on the scale for exactly these criteria."""
    score = Annotated[float, Field(strict=True, ge=low, le=high, allow_inf_nan=False)]

    class Verdict(BaseModel):
        """What a judge answers."""

        reason: Annotated[str, Field(min_length=1)]
        scores: dict[str, score]

        @field_validator("scores")
        @classmethod
        def _complete(cls, scores: dict[str, float]) -> dict[str, float]:
            missing = [name for name in criteria if name not in scores]
            unknown = [name for name in scores if name not in criteria]
            if missing or unknown:
                said = [f"no score for {', '.join(missing)}"] if missing else []
                raise ValueError("; ".join([*said, *(f"unknown {name!r}" for name in unknown)]))
            return scores

    return Verdict


def _schema(criteria: Sequence[str], low: int, high: int) -> dict[str, Any]:
    """The same as JSON schema, in whole numbers: a reason first, so that the scores follow it."""
    score = {"type": "integer", "minimum": low, "maximum": high}
    return _object(
        {
            "reason": {"type": "string", "minLength": 1, "maxLength": _LONGEST_REASON},
            "scores": _object(dict.fromkeys(criteria, score)),
        }
    )


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }

"""One asking and what comes of it: the rendered prompt, its samples, and those that are valid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from datagen.llm.answers import Invalid, read_answer
from datagen.llm.prompts import Messages, Prompt, defang
from datagen.llm.wire import Choice, TokenLogprob
from datagen.workspace.specs import Sampling

T = TypeVar("T")

_LONGEST_SHOWN = 800


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[T]):
    """A validated answer: its value, and where in the ledger it is paid for.

    `text` is the raw content, `reasoning` the reasoning content where the server separates it,
    `logprobs` one entry a token where they were asked for.
    """

    value: T
    text: str
    key: str
    finish_reason: str
    reasoning: str | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One asking: the rendered prompt and how it is to be answered."""

    template: Prompt
    messages: Messages
    sampling: Sampling
    schema: Mapping[str, Any] | None
    schema_name: str
    logprobs: bool

    def repair(self, text: str, problem: Invalid) -> Asked:
        """The same asking for one sample, with the bad answer and what was wrong with it.

        Plain text is asked for anew without a word of that: what is said here would come back in
        the answer, and answers become training text.
        """
        once = replace(self, sampling=self.sampling.model_copy(update={"n": 1}))
        if self.schema is None:
            return once
        shown = defang(text.strip()[:_LONGEST_SHOWN]) or "(no answer)"
        turn = (
            f"That answer cannot be used ({problem.detail}). Answer the request again, with one "
            "JSON value that follows the schema, and with nothing else."
        )
        return replace(
            once, messages=(*self.messages, ("assistant", shown), ("user", defang(turn)))
        )


def read_samples(
    into: type[T], samples: Sequence[tuple[str, Choice]]
) -> tuple[list[Answer[T]], list[Invalid]]:
    """Part samples into valid answers and what is wrong with the others."""
    good: list[Answer[T]] = []
    problems: list[Invalid] = []
    for key, choice in samples:
        try:
            value = read_answer(into, choice)
        except Invalid as problem:
            problems.append(problem)
            continue
        good.append(
            Answer(
                value=value,
                text=choice.text,
                key=key,
                finish_reason=choice.finish_reason,
                reasoning=choice.reasoning,
                logprobs=choice.logprobs,
            )
        )
    return good, problems

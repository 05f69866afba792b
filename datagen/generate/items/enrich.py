"""What may stand beside an answer: background knowledge, reasoning, or an explanation.

Knowledge and reasoning are asked for without the key. Reasoning counts where it arrives at the key
by itself; knowledge where the question is still answered rightly with it; an explanation, which is
shown the key, where it ends at the key. Worked arithmetic is computed again in all three.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from datagen.generate.items.arithmetic import last_value, wrong_equation
from datagen.generate.items.blind import (
    Consistency,
    Item,
    Solved,
    blind_agreement,
    solved_schema,
)
from datagen.generate.items.normalise import (
    LETTERS,
    number_of,
    plain_words,
    read_letter,
    same_answer,
)
from datagen.generate.items.options import lettered
from datagen.llm.ask import Ask

_FEWEST_WORDS = 8
_STATED = re.compile(
    r"\b(?:answer|option|choice)\s*(?:is|:|=)\s*:?\s*(.{1,80}?)\s*(?:[.;\n]\s|[.;]?$)",
    re.IGNORECASE | re.MULTILINE,
)
_NAMES_OPTION = re.compile(
    r"\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer)s?\s*(?:is\b|:)?\s*\(?[A-J]\b"
    r"|(?P<before>[^\W\d_]+)?\s*\((?P<bare>[A-J])\)|\b[Tt]he (?:question|options)\b"
)
_SYMBOLS = frozenset(
    "symbol letter unit vitamin point formula variable constant sign element abbreviation".split()
)
_OF_OPTIONS = re.compile(r"\b(?:option|choice|answer|correct|wrong|incorrect)s?\b", re.IGNORECASE)


class Knowledge(BaseModel):
    """Background of a question, in a few sentences."""

    knowledge: str


class Explained(BaseModel):
    """Why an answer is right, and the answer that this shows."""

    explanation: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Enriched:
    """A text to stand beside an answer, what was measured of it, and why it may not."""

    text: str
    problem: str | None
    metadata: Mapping[str, Any] = field(default_factory=dict)


async def enriched(
    ask: Ask,
    kind: str,
    item: Item,
    *,
    consistency: Consistency | None,
    code: str = "",
    calls: list[str],
) -> Enriched:
    """Ask for `knowledge`, `reasoning` or an `explanation` of an item, and check it.

    With `consistency`, knowledge is held against blind samples that are shown it.
    """
    if kind == "reasoning":
        return await _reasoning(ask, item, calls=calls)
    if kind == "explanation":
        return await _explanation(ask, item, code=code, calls=calls)
    found = await _knowledge(ask, item, calls=calls)
    if found.problem is not None or consistency is None:
        return found
    blind = await blind_agreement(ask, item, consistency, calls=calls, knowledge=found.text)
    problem = None
    if blind.share < consistency.agreement:
        problem = f"knowledge_misleads: {blind.agreed} of {blind.asked} samples agree with it"
    metadata = {"agreement_with_knowledge": round(blind.share, 4)}
    return Enriched(text=found.text, problem=problem, metadata=metadata)


async def _reasoning(ask: Ask, item: Item, *, calls: list[str]) -> Enriched:
    """Reasoning of the first blind sample that arrives at the key; else what the first one did."""
    samples = await ask.answers(
        "reason",
        into=Solved,
        schema=solved_schema(item, first="reasoning"),
        passage=item.passage,
        question=item.question,
        options=lettered(item.options),
        given=list(item.given),
    )
    calls += [sample.key for sample in samples]
    problems = []
    for sample in samples:
        text = sample.value.reasoning.strip()
        problem = ending_problem(text, sample.value.answer, item)
        if problem is None:
            return Enriched(text=text, problem=None)
        problems.append(problem)
    return Enriched(text=samples[0].value.reasoning.strip(), problem=f"reasoning_{problems[0]}")


async def _knowledge(ask: Ask, item: Item, *, calls: list[str]) -> Enriched:
    """A paragraph of background, asked for without options or key."""
    (sample, *_) = await ask.answers(
        "knowledge", into=Knowledge, passage=item.passage, question=item.question
    )
    calls.append(sample.key)
    text = sample.value.knowledge.strip()
    problem = text_problem(text)
    if problem is None and (named := named_option(text, item)):
        problem = f"names_options: {named!r}"
    return Enriched(text=text, problem=f"knowledge_{problem}" if problem else None)


def named_option(text: str, item: Item) -> str | None:
    """Where a text speaks of the question or of one of its options, or None.

    A letter in brackets is an option, except behind what it abbreviates (`carbon (C)`) or a word
    such as `symbol`, in a sentence that says nothing of options.
    """
    letters = LETTERS[: len(item.options)]
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        for found in _NAMES_OPTION.finditer(sentence):
            letter = found["bare"]
            before = (found["before"] or "").casefold()
            symbol = before in _SYMBOLS or before.startswith((letter or "?").casefold())
            if letter and letter not in letters:
                continue
            if letter and symbol and not _OF_OPTIONS.search(sentence):
                continue
            return found[0].strip()
    return None


async def _explanation(ask: Ask, item: Item, *, code: str, calls: list[str]) -> Enriched:
    """Why the key is right; the model is shown the key, and must end at it."""
    (sample, *_) = await ask.answers(
        "explain",
        into=Explained,
        schema=solved_schema(item, first="explanation"),
        passage=item.passage,
        question=item.question,
        options=lettered(item.options),
        answer=item.answer,
        letter=item.letter,
        given=list(item.given),
        code=code,
    )
    calls.append(sample.key)
    text = sample.value.explanation.strip()
    problem = ending_problem(text, sample.value.answer, item, numbers=False)
    if (
        problem is None
        and not item.given
        and not set(plain_words(item.answer)) & set(plain_words(text))
    ):
        problem = f"off_topic: no word of {item.answer[:60]!r} in it"
    return Enriched(text=text, problem=f"explanation_{problem}" if problem else None)


def text_problem(text: str) -> str | None:
    """Why a text is no knowledge, reasoning or explanation: too short, or its sums are wrong."""
    words = len(plain_words(text))
    if words < _FEWEST_WORDS:
        return f"too_short: {words} words"
    wrong = wrong_equation(text)
    return f"arithmetic: {wrong}" if wrong else None


def ending_problem(text: str, said: str, item: Item, *, numbers: bool = True) -> str | None:
    """Why a text does not lead to the key of an item.

    `said` is the answer given after it. What the text itself last calls the answer must not be
    another one; with `numbers`, a text that leads to a number ends with that number.
    """
    if not _agrees(said, item):
        return f"disagrees: it ends at {said[:60]!r}, the answer is {item.key!r}"
    stated = [match[1] for match in _STATED.finditer(text)]
    if stated and _names_another(stated[-1], item):
        return f"contradicts: it calls {stated[-1]!r} the answer, which is {item.key!r}"
    value = number_of(item.answer)
    if numbers and value is not None and not item.options and last_value(text) not in (None, value):
        return f"ends_elsewhere: its last number is not {item.answer}"
    return text_problem(text)


def _agrees(said: str, item: Item) -> bool:
    if item.options:
        return read_letter(said, item.options) == item.letter
    return same_answer(said, item.answer)


def _names_another(stated: str, item: Item) -> bool:
    """Whether what a text calls the answer is readable, and another answer than the key."""
    if item.options:
        return read_letter(stated, item.options) not in (None, item.letter)
    wanted, found = number_of(item.answer), number_of(stated)
    if wanted is not None:
        return found is not None and found != wanted
    others = [given for given in item.given if given != item.answer]
    return any(same_answer(stated, other) for other in others)

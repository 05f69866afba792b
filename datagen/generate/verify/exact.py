"""Exact answers: numbers in any of their spellings, the letter of an option, a normalised text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from datagen.generate.verify.same import (
    agrees,
    normal,
    read_number,
    same_number,
    unit_form,
    unwrapped,
)

_MARKED = re.compile(
    r"(?:####|(?:final\s+)?answer(?:\s+is)?\s*[:=]|answer\s+is)\s*(.+)", re.IGNORECASE
)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
_MOST_WORDS = 12
_LETTER = re.compile(
    r"^(?:option\s+)?[(\[]?([A-Z])[)\].:]?(?:$|[\s.:,)\u2013-]+(.*)$)", re.I | re.S
)


class ExactSpec(BaseModel):
    """What an exact answer is held against.

    `answer`: the right one, or several that are equally right. `tolerance`: largest relative
    difference of a number. `units`: if a unit is said, it is one of these. `options`: texts of the
    options in order, so that their text counts beside their letter. `marked`: whether the answer
    must stand after a mark (`\\\\boxed{}`, `####`, `Answer:`) and not alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    answer: str | int | float | Annotated[list[str | int | float], Field(min_length=1)]
    form: Literal["number", "letter", "text"] = "text"
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.0
    units: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    marked: bool = False

    @model_validator(mode="after")
    def _can_be_met(self) -> ExactSpec:
        for right in self.accepted:
            if self.form == "number" and read_number(right, self.units) is None:
                raise ValueError(f"the right answer is no number: {right[:40]!r}")
            if self.form == "letter" and read_letter(right, ()) is None:
                raise ValueError(f"the right answer is no letter: {right[:40]!r}")
            if not right.strip():
                raise ValueError("the right answer is empty")
        return self

    @property
    def accepted(self) -> list[str]:
        """Every right answer, as text."""
        given = self.answer if isinstance(self.answer, list) else [self.answer]
        return [str(one) for one in given]


def final_answer(text: str, *, marked: bool = False) -> str | None:
    """The part of an answer that says the result: the last that is boxed or marked, else all of it.

    Without a mark only a single short line counts, so that no number of a long reasoning is taken
    for its end. Reasoning up to `</think>` is left out.
    """
    text = text.rpartition("</think>")[2].strip()
    if (boxed := _last_boxed(text)) is not None:
        return boxed.strip()
    found = [mark for mark in _MARKED.finditer(text) if mark[1].strip(" *_`$")]
    if found:
        return found[-1][1].strip().strip("*_`").strip()
    if marked or "\n" in text or not 0 < len(text.split()) <= _MOST_WORDS:
        return None
    return text


def _last_boxed(text: str) -> str | None:
    """What the last `\\boxed{...}` holds, braces balanced."""
    for mark in reversed(list(_BOXED.finditer(text))):
        depth = 1
        for place in range(mark.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            if depth == 0:
                return text[mark.end() : place]
    return None


def read_letter(text: str, options: Sequence[str]) -> str | None:
    """The letter of an option, from `B`, `(B)`, `B. its text`, or its text alone."""
    text = unwrapped(text).strip().strip("*_`").strip()
    named = [chr(65 + n) for n, one in enumerate(options) if normal(one) == normal(text)]
    if len(named) == 1:
        return named[0]
    found = _LETTER.match(text)
    if found is None:
        return None
    letter, rest = found[1].upper(), normal(found[2] or "")
    place = ord(letter) - 65
    if options and (place >= len(options) or (rest and rest != normal(options[place]))):
        return None
    return letter if options or not rest else None


def exact_problem(answer: str, spec: Mapping[str, Any]) -> str | None:
    """Why an answer is not the right one, or None where it is."""
    wanted = ExactSpec.model_validate(spec)
    said = final_answer(answer, marked=wanted.marked)
    if said is None:
        return "no final answer"
    if wanted.form == "number":
        return _number_problem(said, wanted)
    if wanted.form == "letter":
        letter = read_letter(said, wanted.options)
        if letter is None:
            return f"no letter in {said[:40]!r}"
        right = {read_letter(one, ()) for one in wanted.accepted}
        return None if letter in right else f"answered {letter}"
    if any(agrees(said, one) for one in wanted.accepted):
        return None
    return f"answered {said[:40]!r}"


def _number_problem(said: str, wanted: ExactSpec) -> str | None:
    amount = read_number(said, wanted.units)
    if amount is None:
        return f"no single number in {said[:40]!r}"
    units = frozenset(map(unit_form, wanted.units))
    if units and amount.unit and amount.unit not in units:
        return f"in {amount.unit!r}"
    for one in wanted.accepted:
        right = read_number(one, wanted.units)
        if right is None:
            continue
        if amount.unit in units and right.unit in units:
            right = replace(right, unit=amount.unit)
        if same_number(amount, right, tolerance=wanted.tolerance):
            return None
    return f"answered {said[:40]!r}"

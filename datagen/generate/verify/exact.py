"""Exact answers: numbers in any of their spellings, the letter of an option, a normalised text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

_MARKED = re.compile(
    r"(?:####|(?:final\s+)?answer(?:\s+is)?\s*[:=]|answer\s+is)\s*(.+)", re.IGNORECASE
)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
_MOST_WORDS = 12
_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}")
_POWER = re.compile(r"\s*(?:\\times|\\cdot|\u00d7|\*)\s*10\s*\^\s*\{?\s*([+-]?\d+)\s*\}?")
_NUMBER = re.compile(
    r"""(?<![\w.,/])(?P<sign>[+-]?)\s*
        (?: (?P<whole>\d+)\s+(?P<over>\d+)/(?P<under>[1-9]\d*)
          | (?P<top>\d+(?:\.\d+)?)\s*/\s*(?P<bottom>\d*[1-9]\d*(?:\.\d+)?)
          | (?P<plain>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:e(?P<power>[+-]?\d{1,3}))?
        )(?![\d/]|[.,]\d)\s*
        (?P<percent>%|percent\b|per\s+cent\b)?\s*
        (?:(?P<scale>thousand|million|billion|trillion)\b)?
        \s*(?P<unit>[^\W\d_]+(?:/[^\W\d_]+)?)?""",
    re.VERBOSE | re.IGNORECASE,
)
_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_LETTER = re.compile(
    r"^(?:option\s+)?[(\[]?([A-Z])[)\].:]?(?:$|[\s.:,)\u2013-]+(.*)$)", re.I | re.S
)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


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
            if self.form == "number" and read_number(right) is None:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """A number as it was written: its value, whether in per cent, and the word behind it."""

    value: Fraction
    percent: bool = False
    unit: str = ""


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


def read_number(text: str) -> Amount | None:
    """The one number that a short text says, after its last `=`; None for no number or several."""
    text = unicodedata.normalize("NFKC", text.replace("\u2212", "-")).replace("\u2044", "/")
    text = _WRAPPED.sub(r" \1 ", text)
    while (shorter := _FRACTION.sub(r" (\1)/(\2) ", text)) != text:
        text = shorter
    text = re.sub(r"\((\s*-?[\d.]+\s*)\)", r"\1", text)
    text = re.sub(r"(?<=\d)\s*/\s*(?=\d)", "/", text)
    text = _POWER.sub(r"e\1", text)
    text = re.sub(r"\\[,;!% ]|[$\u20ac\u00a3\u00a5\u2009\u202f]|\\\(|\\\)|[{}]", _kept, text)
    text = re.split(r"=|\\approx|\u2248", text)[-1]
    found = list(_NUMBER.finditer(text))
    return _amount(found[0]) if len(found) == 1 else None


def _kept(mark: re.Match[str]) -> str:
    return "%" if mark[0] == "\\%" else ""


def _amount(mark: re.Match[str]) -> Amount:
    if mark["whole"]:
        value = int(mark["whole"]) + Fraction(int(mark["over"]), int(mark["under"]))
    elif mark["top"]:
        value = Fraction(mark["top"]) / Fraction(mark["bottom"])
    else:
        value = Fraction(mark["plain"].replace(",", "")) * Fraction(10) ** int(mark["power"] or 0)
    value *= 10 ** _SCALES.get((mark["scale"] or "").lower(), 0)
    return Amount(
        value=-value if mark["sign"] == "-" else value,
        percent=mark["percent"] is not None,
        unit=(mark["unit"] or "").casefold(),
    )


def same_number(said: Amount, right: Amount, *, tolerance: float = 0.0) -> bool:
    """Whether two amounts are equal: 50% is 0.5, and is 50 too where only the sign is missing.

    Up to one, where a share and a percentage may be confused, only the share counts.
    """

    def near(one: Fraction, other: Fraction) -> bool:
        return abs(one - other) <= Fraction(tolerance) * abs(other)

    if said.percent == right.percent:
        return near(said.value, right.value)
    percent, bare = (said, right) if said.percent else (right, said)
    if near(percent.value / 100, bare.value):
        return True
    return abs(percent.value) > 1 and near(percent.value, bare.value)


def read_letter(text: str, options: Sequence[str]) -> str | None:
    """The letter of an option, from `B`, `(B)`, `B. its text`, or its text alone."""
    text = _WRAPPED.sub(r"\1", text).strip().strip("*_`").strip()
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


def normal(text: str) -> str:
    """A text without case, articles, punctuation and accents of width."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = "".join(" " if unicodedata.category(c)[0] in "PZ" else c for c in text)
    return " ".join(_ARTICLES.sub(" ", text).split())


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
    if normal(said) in {normal(one) for one in wanted.accepted}:
        return None
    return f"answered {said[:40]!r}"


def _number_problem(said: str, wanted: ExactSpec) -> str | None:
    amount = read_number(said)
    if amount is None:
        return f"no single number in {said[:40]!r}"
    units = {unit.casefold() for unit in wanted.units}
    if units and amount.unit and amount.unit not in units:
        return f"in {amount.unit!r}"
    rights = filter(None, map(read_number, wanted.accepted))
    if any(same_number(amount, right, tolerance=wanted.tolerance) for right in rights):
        return None
    return f"answered {said[:40]!r}"

"""The form of an answer: rules that a program can check.

rules: [{rule: words, at_most: 60}, {rule: bullets, exactly: 3}, {rule: lacks, text: very}]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import SchemaError

from datagen.generate.verify.json_schema import matches, read_json

_BULLET = re.compile(r"^[ \t]*[-*\u2022][ \t]+\S", re.MULTILINE)
_NUMBERED = re.compile(r"^[ \t]*(\d{1,4})[.)][ \t]+\S", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}[ \t]+\S", re.MULTILINE)
_SENTENCE_END = re.compile(r"[.!?\u2026]+[\"')\]]*(?:\s+|$)|[\u3002\uff01\uff1f]+|\n\s*\n")

Times = Annotated[int, Field(ge=0)]
Counted = Literal["words", "sentences", "paragraphs", "lines", "bullets", "headings"]
Holding = Literal["contains", "lacks", "begins", "ends", "each_line_begins", "pattern"]


class CountRule(BaseModel):
    """So many of something: `exactly`, or `at_least` and `at_most`.

    Words are parted by blanks, sentences end with their marks, paragraphs with a blank line;
    `lines` are those that say something, `bullets` begin with `-`, `*` or a bullet, `headings` with
    `#`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: Counted
    exactly: Times | None = None
    at_least: Times | None = None
    at_most: Times | None = None

    @model_validator(mode="after")
    def _asks_for_something(self) -> CountRule:
        low, high = self.at_least, self.at_most
        if self.exactly is None and low is None and high is None:
            raise ValueError(f"{self.rule}: say exactly, at_least or at_most")
        if low is not None and high is not None and low > high:
            raise ValueError(f"{self.rule}: at_least {low} is above at_most {high}")
        return self


class TextRule(BaseModel):
    """A text that stands, or does not stand, somewhere.

    `contains`: a whole word or phrase in any case, `times` or at least once. `lacks`: nowhere, not
    even within a word, in any case. `begins`, `ends`, `each_line_begins`: exactly so. `pattern`: a
    pattern of Rust's regex crate occurs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: Holding
    text: Annotated[str, Field(min_length=1)]
    times: Times | None = None

    @model_validator(mode="after")
    def _can_be_checked(self) -> TextRule:
        if self.times is not None and self.rule != "contains":
            raise ValueError(f"{self.rule}: 'times' belongs to 'contains'")
        if self.rule == "pattern":
            try:
                matches(self.text, "")
            except SchemaError as error:
                raise ValueError(f"pattern: {str(error).splitlines()[0]}") from None
        return self


class ListRule(BaseModel):
    """A list numbered 1, 2, 3 without a gap, of so many items."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: Literal["numbered"]
    exactly: Annotated[int, Field(ge=1)]


class CaseRule(BaseModel):
    """Every letter in upper or in lower case."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: Literal["upper_case", "lower_case"]


class JsonRule(BaseModel):
    """One JSON value and nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: Literal["json"]


Rule = Annotated[CountRule | TextRule | ListRule | CaseRule | JsonRule, Field(discriminator="rule")]


class FormSpec(BaseModel):
    """The rules that an answer must follow, all of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _sentences(text: str) -> list[str]:
    return [part for part in _SENTENCE_END.split(text) if any(c.isalnum() for c in part)]


_FIND: dict[str, Callable[[str], list[str]]] = {
    "words": str.split,
    "sentences": _sentences,
    "paragraphs": lambda text: [part for part in re.split(r"\n\s*\n", text) if part.strip()],
    "lines": _lines,
    "bullets": _BULLET.findall,
    "headings": _HEADING.findall,
}


def rule_problem(text: str, rule: Rule) -> str | None:
    """How a text breaks a rule, or None where it follows it."""
    if isinstance(rule, CountRule):
        return _count_problem(len(_FIND[rule.rule](text)), rule)
    if isinstance(rule, TextRule):
        return _text_problem(text, rule)
    if isinstance(rule, ListRule):
        found = [int(number) for number in _NUMBERED.findall(text)]
        wanted = list(range(1, rule.exactly + 1))
        return None if found == wanted else f"numbered: {found[:12]}"
    if isinstance(rule, CaseRule):
        shifted = text.upper() if rule.rule == "upper_case" else text.lower()
        cased = text.upper() != text.lower()
        return None if cased and text == shifted else f"{rule.rule}: not all of it"
    try:
        read_json(text)
    except (ValueError, RecursionError) as error:
        return f"json: {error}"[:120]
    return None


def _count_problem(found: int, rule: CountRule) -> str | None:
    low = rule.exactly if rule.exactly is not None else rule.at_least or 0
    high = rule.exactly if rule.exactly is not None else rule.at_most
    good = low <= found and (high is None or found <= high)
    return None if good else f"{rule.rule}: {found}"


def _text_problem(text: str, rule: TextRule) -> str | None:
    wanted = rule.text
    if rule.rule == "contains":
        whole = rf"(?<!\w){re.escape(wanted)}(?!\w)"
        found = len(re.findall(whole, text, re.IGNORECASE))
        good = found > 0 if rule.times is None else found == rule.times
        return None if good else f"contains: {wanted!r} stands {found} times"
    good = {
        "lacks": lambda: wanted.casefold() not in text.casefold(),
        "begins": lambda: text.startswith(wanted),
        "ends": lambda: text.endswith(wanted),
        "each_line_begins": lambda: all(line.startswith(wanted) for line in _lines(text)),
        "pattern": lambda: matches(wanted, text),
    }[rule.rule]()
    return None if good else f"{rule.rule}: {wanted!r}"


def form_problem(answer: str, spec: Mapping[str, Any]) -> str | None:
    """The first rule that an answer breaks, or None; an empty answer follows none."""
    text = answer.rpartition("</think>")[2].strip()
    if not text:
        return "nothing is said"
    rules = FormSpec.model_validate(spec).rules
    found = (rule_problem(text, rule) for rule in rules)
    return next((one for one in found if one is not None), None)

"""Spans of a sentence that can answer a question: dates, years, counts and names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["date", "month", "day", "year", "number", "title", "name"]

MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_YEAR = r"(?:1[0-9]|20)[0-9]{2}"
_CAPITAL = r"[A-ZÀ-ÞĀ-Ž]"
_WORD = rf"(?:{_CAPITAL}[\w’'&-]*\w(?:\.(?=\s[A-ZÀ-Þ]))?|{_CAPITAL}\.)"
_JOIN = r"(?: | of | of the | for | for the | de | de la | van | von | di | del | al-| bin | & )"
_PATTERNS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    (
        "date",
        re.compile(rf"\b\d{{1,2}} (?:{MONTHS}) \d{{4}}\b|\b(?:{MONTHS}) \d{{1,2}}, \d{{4}}\b"),
    ),
    ("month", re.compile(rf"\b(?:{MONTHS}) \d{{4}}\b")),
    ("day", re.compile(rf"\b(?:{MONTHS}) \d{{1,2}}\b|\b\d{{1,2}} (?:{MONTHS})\b")),
    ("title", re.compile(r"“[^“”]{2,80}”")),
    ("name", re.compile(rf"(?<![\w’'-]){_WORD}(?:{_JOIN}(?:{_WORD}|\d{{1,3}}(?:\.\d+)*\b))*")),
    ("year", re.compile(rf"(?<![\w$£€,.-]){_YEAR}(?![\w%]|[,.]\d)")),
    (
        "number",
        re.compile(
            r"(?<![\w$£€,.–-])(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
            r"(?: (?:million|billion|trillion))?(?: ?%| percent| per cent)?(?![\w–-]|[,.]\d)"
        ),
    ),
)
# Words that a name is followed by; anything else after it is taken for the noun it qualifies.
_AFTER_NAME = frozenset(
    re.findall(
        r"\S+",
        "in on at by for from to with and or as was is were are which who where when after "
        "before during until since of under between against through over near while but that "
        "has had into",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A piece of a sentence by its character offsets."""

    text: str
    kind: Kind
    start: int
    end: int


def find_spans(sentence: str) -> list[Span]:
    """All dates, years, numbers, quoted titles and capitalised names, in order, none twice."""
    found: list[Span] = []
    for kind, pattern in _PATTERNS:
        for match in pattern.finditer(sentence):
            start, end = match.span()
            if all(end <= span.start or span.end <= start for span in found):
                found.append(Span(text=match[0], kind=kind, start=start, end=end))
    return sorted(found, key=lambda span: span.start)


def answer_spans(statement: str, subject: str) -> list[Span]:
    """The spans that one question can ask for: each the only one of its kind, no name cut short.

    Left out are the subject itself, coordinated names ("Lima and Quito"), names that qualify a
    noun ("the French actor"), and numbers that count nothing.
    """
    spans = _joined_places(statement, find_spans(statement))
    kinds = [span.kind for span in spans]
    dated = any(kind in ("date", "month") for kind in kinds)
    found = []
    for span in spans:
        if span.start < len(subject) or span.text.casefold() in subject.casefold():
            continue
        single = kinds.count(span.kind) == 1
        if span.kind == "name":
            keep = _is_whole_name(statement, span)
        elif span.kind == "number":
            keep = single and re.match(r" [a-z]{2}", statement[span.end :]) is not None
        elif span.kind == "year":
            keep = single and not dated and _stands_alone(statement, span)
        else:
            keep = single and span.kind in ("date", "month")
        if keep:
            found.append(span)
    return found


def _joined_places(statement: str, spans: list[Span]) -> list[Span]:
    """`Lyon, France` after a preposition is one answer."""
    found: list[Span] = []
    for span in spans:
        last = found[-1] if found else None
        if (
            last is not None
            and last.kind == span.kind == "name"
            and statement[last.end : span.start] == ", "
            and re.search(r"\b(?:in|at|near|from|to) (?:the )?$", statement[: last.start])
        ):
            text = statement[last.start : span.end]
            found[-1] = Span(text=text, kind="name", start=last.start, end=span.end)
        else:
            found.append(span)
    return found


def _is_whole_name(statement: str, span: Span) -> bool:
    before, after = statement[: span.start].rstrip(), statement[span.end :]
    if not _stands_alone(statement, span):
        return False
    if re.match(r",? (?:and|or|&) |, [A-ZÀ-Þ“]|\.\S", after):
        return False
    return not before.endswith((" and", ",", " or", "-", "–", "/")) and len(span.text) > 2


def _stands_alone(statement: str, span: Span) -> bool:
    """Whether no noun follows that the span would qualify."""
    follows = re.match(r"([.,;)])|\s([\w’']+)", statement[span.end :])
    return follows is not None and (bool(follows[1]) or follows[2] in _AFTER_NAME)


def shape(answer: str) -> str:
    """A regular expression for text of the same form: a year, a date, a number, a name."""
    day = r"([1-9]|[12][0-9]|3[01])"
    forms = (
        (_YEAR, "(1[0-9]|20)[0-9]{2}"),
        (rf"\d{{1,2}} (?:{MONTHS}) \d{{4}}", f"{day} ({MONTHS}) (1[0-9]|20)[0-9]{{2}}"),
        (rf"(?:{MONTHS}) \d{{1,2}}, \d{{4}}", f"({MONTHS}) {day}, (1[0-9]|20)[0-9]{{2}}"),
        (rf"(?:{MONTHS}) \d{{4}}", f"({MONTHS}) (1[0-9]|20)[0-9]{{2}}"),
        (r"\d{1,3}(?:,\d{3})+", f"[1-9][0-9]{{0,2}}(,[0-9]{{3}}){{{answer.count(',')}}}"),
        (r"\d+", f"[1-9][0-9]{{0,{max(1, len(answer) - 1)}}}"),
    )
    for form, pattern in forms:
        if re.fullmatch(form, answer):
            return pattern
    return '[A-Z][^"\\\\0-9,;.]{2,50}' if answer[:1].isupper() else '[^"\\\\]{2,60}'

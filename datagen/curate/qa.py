"""Filters on question-and-answer records, over the metadata that their method leaves.

Read are `question`, `answer`, `context`, `form` (`short_answer` or `multiple_choice`), `options`
and `answer_letter`. Each name says what is wrong, since rejects are counted by it.
"""

from __future__ import annotations

import re

from datagen.curate.words import word_form
from datagen.record import Record

_POINTS_AT_PASSAGE = re.compile(
    r"\b(?:the|this|that|given|above|following|provided)"
    r" (?:passage|text|article|excerpt|context|document|paragraph|page|snippet)\b"
    r"|\baccording to (?:the|this) (?:statement|information|author)\b"
    r"|\b(?:mentioned|described|stated|discussed|listed) (?:above|here|below|earlier)\b",
    re.IGNORECASE,
)
_PRONOUN = re.compile(
    r"\b(?:he|she|they|him|his|hers?|their|theirs|them|its|this|these|those)\b"
    r"|\b(?:is|was|did|does|has|had|can|will) it\b",
    re.IGNORECASE,
)
_ARTICLES = frozenset(("a", "an", "the"))
_QUESTION_MARKS = ("?", "？", "؟", ";")


def _value(record: Record, key: str) -> str:
    return str(record.metadata.get(key) or "")


def _words(text: str) -> list[str]:
    return word_form(text).split()


def _without_articles(text: str) -> tuple[str, ...]:
    words = _words(text)
    return tuple(word for word in words if word not in _ARTICLES) or tuple(words)


def _holds(text: str, part: str) -> bool:
    """Whether the words of `part` run through `text` one after another."""
    return bool(part.strip()) and f" {word_form(part)} " in f" {word_form(text)} "


def not_a_question(record: Record, *, min_words: int = 4, max_words: int = 60) -> str | None:
    """Refuse what is not one question: no question mark at the end, too short or too long."""
    question = _value(record, "question").strip()
    if not question:
        return "no question in the metadata"
    if not question.endswith(_QUESTION_MARKS):
        return f"ends with {question[-12:]!r}"
    words = len(_words(question))
    return None if min_words <= words <= max_words else f"{words} words"


def points_at_passage(record: Record) -> str | None:
    """Refuse a question that only makes sense beside its passage: "according to the text"."""
    found = _POINTS_AT_PASSAGE.search(_value(record, "question"))
    return found.group() if found else None


def subject_unnamed(record: Record) -> str | None:
    """Refuse a question that says "he", "it" or "this" and names nobody and nothing.

    A name is a capital after the first word, a digit or a quotation; a pronoun that has one
    beside it may well refer to it.
    """
    question = _value(record, "question")
    pronoun = _PRONOUN.search(question)
    if pronoun is None:
        return None
    rest = question.strip().partition(" ")[2]
    named = any(c.isupper() or c.isdigit() or c in "\"“'«" for c in rest.replace(" I ", " "))
    return None if named else f"{pronoun.group()!r} stands for nothing"


def answer_in_question(record: Record) -> str | None:
    """Refuse a question that gives its own answer away."""
    answer = _value(record, "answer")
    return answer[:80] if _holds(_value(record, "question"), answer) else None


def answer_not_in_context(record: Record, *, min_share: float = 0.8) -> str | None:
    """Refuse an answer whose words the passage lacks: less than this share of the distinct ones."""
    wanted = set(_without_articles(_value(record, "answer")))
    if not wanted:
        return "no answer in the metadata"
    missing = wanted - set(_words(_value(record, "context")))
    share = 1 - len(missing) / len(wanted)
    return f"missing: {' '.join(sorted(missing))[:80]}" if share < min_share else None


def answer_too_long(record: Record, *, max_words: int = 30) -> str | None:
    """Refuse an answer that is a passage rather than an answer."""
    words = len(_words(_value(record, "answer")))
    return f"{words} words" if words > max_words else None


def options_alike(record: Record) -> str | None:
    """Refuse options that differ only in case, punctuation or articles."""
    seen: dict[tuple[str, ...], str] = {}
    for option in record.metadata.get("options") or ():
        key = _without_articles(str(option))
        if key in seen:
            return f"{seen[key]!r} and {option!r}"
        seen[key] = str(option)
    return None


def correct_option_stands_out(record: Record, *, max_ratio: float = 3.0) -> str | None:
    """Refuse a correct option that its length gives away against the longest of the others."""
    options = [str(option) for option in record.metadata.get("options") or ()]
    place = ord((_value(record, "answer_letter") or "A")[0].upper()) - ord("A")
    if len(options) < 2:
        return None
    if not 0 <= place < len(options):
        return f"answer_letter is {_value(record, 'answer_letter')!r} of {len(options)} options"
    others = max(len(option) for i, option in enumerate(options) if i != place)
    ratio = len(options[place]) / max(others, 1)
    # A few characters more are no clue: "ten" against "seventeen".
    far = len(options[place]) - others > 20
    return f"{ratio:.1f} x the longest other" if far and ratio > max_ratio else None

"""What a program can see of a new example beside the one it was modelled on."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Annotated

from pydantic import Field

from datagen.generate.items.normalise import answer_form, number_of, plain_words, script_of
from datagen.generate.items.overlap import Overlap, ngram_share, overlap
from datagen.generate.items.written import TextField, Written, text_problem
from datagen.workspace.specs import Positive, Spec

_ENDS = (".", "!", "?", "…", "。", "！", "？", "।", "؟")
_CLOSING = " \n\"'”’»)]」』"


class Limits(Spec):
    """What is too close to the seed, too long, or too telling; docs/task_seeded.md has a table."""

    span_words: Positive = 8
    overlap: Annotated[float, Field(gt=0, le=1)] = 0.4
    seed_words: Positive = 250
    passage_words: Positive = 200
    question_words: Positive = 100
    answer_words: Positive = 30
    steps: Positive = 8
    patterns: dict[TextField, str] = Field(default_factory=dict)
    option_ratio: Annotated[float, Field(ge=1)] = 2.0
    of_the_above: bool = False
    options_in_question: bool = False
    code_s: Annotated[float, Field(gt=0)] = 5.0


def closest(new: Written, old: Written) -> Overlap:
    """How much of the old example stands in the new one: the worst of question, passage, code.

    Programs are compared by n-grams alone: runs such as `for i in range(n)` are nobody's.
    """
    texts = [overlap(new.question, old.question), overlap(new.passage, old.passage)]
    code = ngram_share(plain_words(new.code), plain_words(old.code), n=5)
    return Overlap(
        span_words=max(text.span_words for text in texts),
        ngram_share=max(code, *(text.ngram_share for text in texts)),
    )


def copy_problem(found: Overlap, limits: Limits) -> str | None:
    """Whether a new example is the old one in other clothes."""
    if found.span_words <= limits.span_words and found.ngram_share <= limits.overlap:
        return None
    return f"copies_seed: {found.span_words} words in a row, {found.ngram_share:.0%} of its n-grams"


def wording_problem(new: Written, old: Written, limits: Limits, *, passage: bool) -> str | None:
    """Why question and passage are not worded as they should be."""
    if passage:
        problem = text_problem(new.passage, max_words=limits.passage_words)
        if problem is not None:
            return f"passage_{problem}"
        # Thai, for one, ends no sentence with a mark; the seed shows what is usual.
        marked = not old.passage or old.passage.rstrip(_CLOSING).endswith(_ENDS)
        if marked and not new.passage.rstrip(_CLOSING).endswith(_ENDS):
            return f"passage_not_ended: it ends with {new.passage[-30:]!r}"
        if runs_in(new.question, new.passage):
            return f"question_in_passage: {new.question[:60]!r}"
    problem = text_problem(new.question, max_words=limits.question_words)
    if problem is not None:
        return f"question_{problem}"
    for name, pattern in limits.patterns.items():
        text = getattr(new, name).strip()
        if not re.fullmatch(pattern, text):
            return f"{name}_pattern: {text[:30]!r} ... {text[-30:]!r} is not {pattern}"
    return None


def answer_problem(
    new: Written, old: Written, limits: Limits, verify: Collection[str]
) -> str | None:
    """Why an answer that the model states does not have the seed's format.

    `verify` may hold `answer_format` (a number where the seed has one), `script` (written as the
    seed is) and `grounded` (its words stand in the passage one after another).
    """
    words = len(new.answer.split())
    if words > limits.answer_words:
        return f"answer_too_long: {words} words, {limits.answer_words} at most"
    if "answer_format" in verify:
        number = number_of(old.answer) is not None
        if number != (number_of(new.answer) is not None):
            wanted = "a number" if number else "words"
            return f"answer_format: {new.answer[:60]!r} where the seed has {wanted}"
    if "script" in verify:
        for name in ("passage", "question"):
            wanted, found = script_of(getattr(old, name)), script_of(getattr(new, name))
            if wanted and found != wanted:
                return f"script: the {name} is in {found or 'none'}, the seed's in {wanted}"
    if "grounded" in verify and not _grounded(new.answer, new.passage):
        return f"answer_not_in_passage: {new.answer[:60]!r}"
    taken = {answer_form(option) for option in (old.answer, *old.wrong)}
    options = [answer_form(option) for option in (new.answer, *new.wrong)]
    same = sum(option in taken for option in options)
    if new.wrong and same * 2 > len(options):
        return f"copies_seed_options: {same} of {len(options)} options are the seed's"
    return None


def runs_in(part: str, text: str) -> bool:
    """Whether the words of `part` stand in `text` one after another."""
    wanted = plain_words(part)
    return bool(wanted) and f" {' '.join(wanted)} " in f" {' '.join(plain_words(text))} "


def _grounded(answer: str, passage: str) -> bool:
    """Whether an answer stands in the passage, where other scripts join particles to words."""
    if runs_in(answer, passage):
        return True
    if script_of(answer) in ("LATIN", "CYRILLIC", "GREEK", ""):
        return False
    return "".join(answer.split()) in "".join(passage.split())

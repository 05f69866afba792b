"""Options of a multiple-choice question: what is wrong with a set of them, and how they stand."""

from __future__ import annotations

import re
from collections.abc import Sequence

from datagen.generate.items.normalise import LETTERS, answer_form

# A few characters more are no clue: "ten" against "seventeen".
_NO_CLUE_CHARACTERS = 20
_OF_THE_ABOVE = re.compile(
    r"\b(?:all|none|both|neither|any|either)\b.{0,12}\b(?:above|these|those|options|answers)\b"
    r"|^\s*(?:both|neither) (?:[A-J]\b|\([A-J]\)).{0,8}(?:[A-J]\b|\([A-J]\))"
    r"|^\s*[A-J] (?:and|or) [A-J]\s*\.?$",
    re.IGNORECASE,
)
_LABEL = re.compile(r"^\s*(?:\(?[A-Ja-j]\)|[A-J][.:])\s+")


def without_label(option: str) -> str:
    """An option without the letter that a model put before it: "B) Mars" -> "Mars"."""
    return _LABEL.sub("", option).strip()


def options_problem(
    answer: str,
    wrong: Sequence[str],
    *,
    count: int,
    max_ratio: float = 2.0,
    allow_of_the_above: bool = False,
) -> str | None:
    """Why `answer` and `wrong` are no set of `count` options, or None.

    Options are alike where only case, marks or articles differ, or where they are one number. The
    correct one stands out where it is longer than `max_ratio` times the longest wrong one.
    """
    if len(wrong) != count - 1:
        return f"options_missing: {len(wrong)} wrong options, {count - 1} wanted"
    seen: dict[str, str] = {}
    for option in (answer, *wrong):
        form = answer_form(option)
        if not form:
            return f"option_empty: {option!r}"
        if form in seen:
            return f"options_alike: {seen[form]!r} and {option!r}"
        seen[form] = option
        if not allow_of_the_above and _OF_THE_ABOVE.search(option):
            return f"option_of_the_above: {option!r}"
    longest = max(len(option) for option in wrong)
    if len(answer) - longest > _NO_CLUE_CHARACTERS and len(answer) > max_ratio * longest:
        return f"correct_stands_out: {len(answer) / longest:.1f} times the longest wrong option"
    return None


def placed(answer: str, wrong: Sequence[str], place: int) -> list[str]:
    """The options in the order in which they stand, the correct one at `place`."""
    return [*wrong[:place], answer, *wrong[place:]]


def rotated(options: Sequence[str], by: int) -> list[str]:
    """The options in another order: each `by` places further down, the last ones first."""
    by %= len(options)
    return [*options[-by:], *options[:-by]] if by else list(options)


def lettered(options: Sequence[str]) -> list[dict[str, str]]:
    """Options as templates show them: each with its letter and text."""
    return [
        {"letter": letter, "text": text} for letter, text in zip(LETTERS, options, strict=False)
    ]

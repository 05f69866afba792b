"""Rows of Moral Stories and Social Chemistry 101 as questions with one right option.

A **form** is a kind of question, a **direction** whether it turns on what is right or on what is
wrong, a **place** where the right option stands. All combinations that a row allows are laid out
as cells, and each seed draws one cell, so that no letter tells of a form or a direction.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Direction = Literal["moral", "immoral", "neutral"]

_ACTIONS = ("norm", "moral_action", "immoral_action")
_OUTCOMES = (*_ACTIONS, "moral_consequence", "immoral_consequence")
_JUDGEMENT = "action-moral-judgment"
NEEDS: Mapping[str, tuple[str, ...]] = {
    "choose_action": _ACTIONS,
    "judge_action": _ACTIONS,
    "choose_norm": _ACTIONS,
    "choose_outcome": _OUTCOMES,
    "find_action": _OUTCOMES,
    "judge_custom": ("action", _JUDGEMENT),
}
"""The forms, and the columns that each needs; the last is for Social Chemistry 101."""
FIXED: Mapping[str, frozenset[str]] = {
    "judge_action": frozenset(("moral", "immoral")),
    "judge_custom": frozenset(("good", "okay", "bad")),
}
"""The labels of the forms whose options are the same for every row, worded by the recipe."""

_STEM_CHARACTERS = 5
_COMMON = frozenset(
    "about after again against always anyone anything because before being could doing every "
    "everybody everyone going having never nobody other others people person should somebody "
    "someone something their there these thing things those though under until where which while "
    "without would wrong yourself".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """What questions may look like: the words of fixed options, further norms, what is shown.

    `wordings` has for a form several ways to word its options, each by label. `norms` are wrong
    options of `choose_norm`, of which one less than `norm_options` is used.
    """

    wordings: Mapping[str, Sequence[Mapping[str, str]]]
    show: Sequence[str]
    norms: Sequence[str]
    norm_options: int
    min_agreement: float
    draw: Callable[..., int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One combination of the layout: a form, a direction and the right option's place."""

    form: str
    direction: Direction
    place: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A question whose options have no order yet; `label` says what the right one is.

    `shown` holds what the scene tells: norm, situation, intention, action, outcome.
    """

    form: str
    direction: Direction
    label: str
    right: str
    wrong: tuple[str, ...]
    norm: str
    shown: Mapping[str, str] = field(default_factory=dict)


def usable_forms(row: Mapping[str, Any], forms: Sequence[str]) -> list[str]:
    """The forms whose columns this row has, filled, in the order given."""
    return [form for form in forms if all(_filled(row.get(name)) for name in NEEDS[form])]


def layout(forms: Sequence[str], design: Design) -> list[Cell]:
    """Every form in both directions with the right option at every place, equally often."""
    sizes = {form: option_count(form, design) for form in forms}
    slots = math.lcm(*sizes.values())
    directions: tuple[Direction, ...] = ("moral", "immoral")
    return [
        Cell(form=form, direction=direction, place=slot % sizes[form])
        for form in forms
        for direction in directions
        for slot in range(slots)
    ]


def option_count(form: str, design: Design) -> int:
    """How many options a question of this form has."""
    if form == "choose_norm":
        return design.norm_options
    return len(FIXED[form]) if form in FIXED else 2


def case_of(row: Mapping[str, Any], cell: Cell, design: Design) -> Case | str:
    """The question that a cell makes of a row, or why it makes none (`reason: detail`)."""
    if cell.form == "judge_custom":
        return _custom(row, design)
    told = {name: sentence(row.get(name)) for name in design.show}
    done, left = (
        (cell.direction, "immoral") if cell.direction == "moral" else (cell.direction, "moral")
    )
    norm = sentence(row["norm"])
    action, other = sentence(row[f"{done}_action"]), sentence(row[f"{left}_action"])
    if _same(action, other):
        return f"options_alike: {action!r}"
    if cell.form == "choose_action":
        return _case(cell, f"{done}_action", action, [other], norm, told)
    if cell.form == "judge_action":
        right, wrong = _worded(cell.form, cell.direction, design)
        return _case(cell, cell.direction, right, wrong, norm, {**told, "action": action})
    if cell.form == "choose_norm":
        wrong = _other_norms(" ".join(sentence(row.get(n)) for n in _STORY), design)
        if len(wrong) < design.norm_options - 1:
            return f"too_few_norms: {len(wrong)} share no word with the story"
        told = {name: text for name, text in told.items() if name != "norm"}
        return _case(cell, "norm", norm, wrong, norm, {**told, "action": action})
    outcome = sentence(row[f"{done}_consequence"])
    other_outcome = sentence(row[f"{left}_consequence"])
    if _same(outcome, other_outcome):
        return f"options_alike: {outcome!r}"
    if cell.form == "choose_outcome":
        shown = {**told, "action": action}
        return _case(cell, f"{done}_consequence", outcome, [other_outcome], norm, shown)
    return _case(cell, f"{done}_action", action, [other], norm, {**told, "outcome": outcome})


def sentence(value: object) -> str:
    """A cell as a sentence: one line, unquoted, with a capital and a full stop; empty for none.

    Some files keep the quotes of a CSV cell: `"He said ""no""."` is read as `He said "no".`
    """
    text = " ".join(str(value or "").split())
    if '""' in text and text.startswith('"') and text.endswith('"'):
        text = text[1:-1].replace('""', '"').strip()
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text[-1] in ".!?\"'”’" else ".")


_STORY = ("norm", "situation", "intention", "moral_action", "immoral_action")


def _filled(value: object) -> bool:
    return value is not None and bool(str(value).strip())


def _same(first: str, second: str) -> bool:
    return first.casefold().strip(" .") == second.casefold().strip(" .")


def _case(
    cell: Cell,
    label: str,
    right: str,
    wrong: Sequence[str],
    norm: str,
    shown: Mapping[str, str],
) -> Case:
    return Case(
        form=cell.form,
        direction=cell.direction,
        label=label,
        right=right,
        wrong=tuple(wrong),
        norm=norm,
        shown=shown,
    )


def _worded(form: str, label: str, design: Design) -> tuple[str, list[str]]:
    """The words of the right option and of the others, from one of the form's wordings."""
    wordings = design.wordings[form]
    words = wordings[design.draw("wording", form) % len(wordings)]
    return words[label], [text for name, text in words.items() if name != label]


def _custom(row: Mapping[str, Any], design: Design) -> Case | str:
    """How people judge an action of everyday life, from -2 (very bad) to 2 (very good)."""
    value, agreed = _number(row[_JUDGEMENT]), _number(row.get("action-agree"))
    if value is None:
        return f"no_judgement: {row[_JUDGEMENT]!r}"
    if str(row.get("rot-bad") or "0").startswith("1"):
        return "marked_bad: an annotator marked the row as unfit"
    if agreed is None or agreed < design.min_agreement:
        shown = "unknown" if agreed is None else f"{agreed:g}"
        return f"disputed: agreement {shown}, below {design.min_agreement:g}"
    label = "good" if value > 0 else "bad" if value < 0 else "okay"
    directions: dict[str, Direction] = {"good": "moral", "okay": "neutral", "bad": "immoral"}
    right, wrong = _worded("judge_custom", label, design)
    return Case(
        form="judge_custom",
        direction=directions[label],
        label=label,
        right=right,
        wrong=tuple(wrong),
        norm=sentence(row.get("rot")),
        shown={"action": sentence(row["action"])},
    )


def _number(value: object) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _other_norms(story: str, design: Design) -> list[str]:
    """Norms that have no word in common with a story, so that its own norm fits best."""
    taken = content_stems(story)
    apart = [norm for norm in design.norms if not content_stems(norm) & taken]
    apart.sort(key=lambda norm: design.draw("norm", norm))
    return [sentence(norm) for norm in apart[: design.norm_options - 1]]


def content_stems(text: str) -> set[str]:
    """The beginnings of the words that say what a text is about."""
    words = re.findall(r"[^\W\d_]{4,}", text.casefold())
    return {word[:_STEM_CHARACTERS] for word in words if word not in _COMMON}

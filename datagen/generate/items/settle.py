"""From what a model wrote to a finished item, as far as a program can see; nobody is asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from datagen.generate.items.blind import Item
from datagen.generate.items.checks import (
    Limits,
    answer_problem,
    closest,
    copy_problem,
    runs_in,
    wording_problem,
)
from datagen.generate.items.normalise import LETTERS
from datagen.generate.items.options import options_problem, placed, without_label
from datagen.generate.items.programs import function_name, program_problem
from datagen.generate.items.steps import Solution, Step, solve, wrong_results
from datagen.generate.items.written import Written

_POINTS_AT_OPTIONS = re.compile(
    r"\b(?:of|from|among|between) (?:these|those)\b|\bthe following\b"
    r"|\b(?:which|what|these|the|best|correct|right) (?:options?|choices?)\b|\blisted below\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a new example is to be: form, fields, options, and where the right one stands.

    `given` are the only answers there are; `turn` orders the slips that wrong results come from.
    """

    form: str
    fields: Sequence[str]
    options: int
    place: int
    turn: int
    given: tuple[str, ...]
    limits: Limits
    verify: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Settled:
    """An example with its item, or with the problem that it has; `metadata` is known either way."""

    written: Written
    item: Item | None = None
    problem: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def settle(new: Written, example: Written, wanted: Wanted) -> Settled:
    """Check a new example beside the one that was shown; if it stands, it becomes an item."""
    settled = Settled(written=new)
    settled.problem = _problem(settled, example, wanted)
    return settled


def _problem(settled: Settled, example: Written, wanted: Wanted) -> str | None:
    new, limits = settled.written, wanted.limits
    if lacking := new.lacks(wanted.fields):
        return f"write_incomplete: no {' and no '.join(lacking)}"
    found = closest(new, example)
    settled.metadata = {
        "question": new.question.strip(),
        "context": new.passage.strip(),
        "overlap_span_words": found.span_words,
        "overlap_share": round(found.ngram_share, 4),
    }
    problem = copy_problem(found, limits)
    problem = problem or wording_problem(new, example, limits, passage="passage" in wanted.fields)
    if problem is not None:
        return problem
    if wanted.form == "completion" and (pointing := _POINTS_AT_OPTIONS.search(new.question)):
        return f"question_needs_options: {pointing[0]!r}"
    if "steps" in wanted.fields:
        return _compute(settled, wanted)
    if "code" in wanted.fields:
        return _program(settled)
    return _stated(settled, example, wanted)


def _compute(settled: Settled, wanted: Wanted) -> str | None:
    """The answer from the steps, and wrong options from slips in them."""
    new = settled.written
    steps = [Step(find=step.find, compute=step.compute) for step in new.steps]
    solution = solve(new.question, steps, max_steps=wanted.limits.steps)
    if not isinstance(solution, Solution):
        return solution
    settled.metadata |= {"steps": len(steps), "solution": "\n".join(solution.lines)}
    slips = wrong_results(solution, new.question, draw=wanted.turn)
    return _place(settled, solution.answer, slips[: wanted.options - 1], wanted)


def _program(settled: Settled) -> str | None:
    new = settled.written
    settled.metadata |= {"answer": new.code, "tests": list(new.tests)}
    problem = program_problem(new.code, new.tests)
    if problem is None:
        settled.item = Item(question=new.question.strip(), answer=function_name(new.code) or "")
    return problem


def _stated(settled: Settled, example: Written, wanted: Wanted) -> str | None:
    """The answer and the wrong options as the model states them, or as they are given."""
    new = settled.written
    if wanted.given:
        others = [answer for answer in wanted.given if answer != new.answer]
        return _place(settled, new.answer, others, wanted)
    wrong = [without_label(option) for option in new.wrong]
    new = new.model_copy(update={"answer": without_label(new.answer), "wrong": wrong})
    problem = answer_problem(new, example, wanted.limits, wanted.verify)
    return problem or _place(settled, new.answer, wrong, wanted)


def _place(settled: Settled, answer: str, wrong: Sequence[str], wanted: Wanted) -> str | None:
    """Put the options in place: the example is an item from here on."""
    new, limits = settled.written, wanted.limits
    settled.metadata["answer"] = answer
    options: list[str] = []
    letter = ""
    if wanted.form != "generative":
        settled.metadata["options"] = [answer, *wrong]
        problem = options_problem(
            answer,
            wrong,
            count=wanted.options,
            max_ratio=limits.option_ratio,
            allow_of_the_above=limits.of_the_above,
        )
        if problem is not None:
            return problem
        for option in (answer, *wrong) if limits.options_in_question else ():
            if not runs_in(option, new.question):
                return f"option_not_in_question: {option[:60]!r}"
        options, letter = placed(answer, wrong, wanted.place), LETTERS[wanted.place]
        settled.metadata |= {"options": options, "answer_letter": letter}
    settled.item = Item(
        question=new.question.strip(),
        answer=answer,
        passage=new.passage.strip(),
        options=tuple(options),
        letter=letter,
        given=() if options else wanted.given,
    )
    return None

"""Worked solutions that a program computes: steps of expressions, the answer that they come to.

A model writes a problem and what to compute for it; the values are never its own. A step may use
numbers that the problem says (in digits, words, or by a unit: a week has 7 days) and results of
steps before it, so that the wording holds every operand.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from datagen.generate.items.arithmetic import NotArithmetic, evaluate, operands, plain, tidy
from datagen.generate.items.normalise import plain_words

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_SAYS: dict[str, tuple[int, ...]] = {
    **{word: (number,) for number, word in enumerate(_UNITS)},
    **{word: (10 * number,) for number, word in enumerate(_TENS, 2)},
    "hundred": (100,), "thousand": (1000,), "million": (1_000_000,),
    "half": (2,), "halves": (2,), "halved": (2,), "third": (3,), "thirds": (3,),
    "quarter": (4,), "quarters": (4,), "fourth": (4,), "fourths": (4,), "fifth": (5,),
    "fifths": (5,), "sixth": (6,), "eighth": (8,), "tenth": (10,), "once": (1,), "twice": (2,),
    "double": (2,), "doubled": (2,), "doubles": (2,), "pair": (2,), "pairs": (2,),
    "couple": (2,), "both": (2,), "triple": (3,), "tripled": (3,), "thrice": (3,),
    "dozen": (12,), "dozens": (12,), "score": (20,),
    "day": (24, 7), "days": (24, 7), "daily": (7,), "week": (7, 52), "weeks": (7, 52),
    "weekly": (7, 52), "weekend": (2,), "month": (12, 30, 4), "months": (12, 30, 4),
    "monthly": (12,), "year": (12, 52, 365), "years": (12, 52, 365), "yearly": (12, 52, 365),
    "hour": (60, 24), "hours": (60, 24), "hourly": (24,), "minute": (60,), "minutes": (60,),
    "second": (60,), "seconds": (60,), "cent": (100,), "cents": (100,), "dollar": (100,),
    "dollars": (100,), "percent": (100,), "foot": (12, 3), "feet": (12, 3), "inch": (12,),
    "inches": (12,), "yard": (3,), "yards": (3,), "metre": (100, 1000), "meter": (100, 1000),
    "metres": (100, 1000), "meters": (100, 1000), "kilometre": (1000,), "kilometer": (1000,),
    "kilometres": (1000,), "kilometers": (1000,), "kilogram": (1000,), "kilograms": (1000,),
    "gram": (1000,), "grams": (1000,), "litre": (1000,), "liter": (1000,), "litres": (1000,),
    "liters": (1000,), "pound": (16,), "pounds": (16,), "square": (4, 2), "rectangle": (2,),
    "rectangular": (2,), "triangle": (3, 2), "triangular": (3, 2), "perimeter": (2,),
    "quarterly": (4,), "biweekly": (2,), "quadruple": (4,),
}  # fmt: skip
_IN_DIGITS = re.compile(r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<!\d)\.\d+")
_OPERATOR = re.compile(r"(?<=[\d)%]) ([-+*/]) (?=[\d(.])")
_OTHER = {"+": "-", "-": "+", "*": "/", "/": "*"}
_ANNOTATED = re.compile(r"<<([^<>=]+)=[^<>]*>>\s*\$?[\d.,/]*\d\s*%?")
_MOST_EXAMPLE_WORDS = 8
_LOOSE_ENDS = frozenset("and because for is of or so that the this to was which with".split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a step finds, and the expression that finds it."""

    find: str
    compute: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """Steps with their values; the last value is the answer, in the form of `plain`."""

    steps: tuple[Step, ...]
    values: tuple[Fraction, ...]
    answer: str

    @property
    def lines(self) -> list[str]:
        """The worked solution, a line a step: `Clips in May: 48 / 2 = 24`."""
        return [
            f"{step.find[:1].upper()}{step.find[1:]}: {tidy(step.compute)} = {plain(value)}"
            for step, value in zip(self.steps, self.values, strict=True)
        ]


def solve(question: str, steps: Sequence[Step], *, max_steps: int = 8) -> Solution | str:
    """Compute the steps and hold them against the question; the solution, or what is wrong.

    Every operand stands in the question or was computed before; every number in digits that the
    question says is used; every result but the last is used by a later step.
    """
    if not 1 <= len(steps) <= max_steps:
        return f"steps_count: {len(steps)} steps, 1 to {max_steps} wanted"
    said = numbers_said(question)
    used: set[Fraction] = set()
    values: list[Fraction] = []
    for step in steps:
        try:
            value = evaluate(step.compute)
            mine = operands(step.compute)
        except NotArithmetic as error:
            return f"bad_expression: {step.compute[:60]!r}: {error}"
        if len(mine) < 2:
            return f"bad_expression: {step.compute[:60]!r} computes nothing"
        strange = [number for number in mine if number not in said and number not in values]
        if strange:
            return f"number_from_nowhere: {float(strange[0]):g} in {step.compute[:60]!r}"
        problem = _step_problem(step, value, said | set(values) | {value})
        if problem is not None:
            return problem
        used |= set(mine)
        values.append(value)
    wasted = [value for value in values[:-1] if value not in used]
    if wasted:
        return f"unused_step: {float(wasted[0]):g} is computed and not used"
    # "1 box" is seldom multiplied out.
    needed = [number for number in numbers_in(question) if number != 1]
    idle = [number for number in needed if used.isdisjoint(_forms(number, question))]
    if idle:
        return f"unused_number: {float(idle[0]):g} stands in the question and is not used"
    return Solution(steps=tuple(steps), values=tuple(values), answer=plain(values[-1]) or "")


def _step_problem(step: Step, value: Fraction, known: set[Fraction]) -> str | None:
    if value <= 0:
        return f"value_not_positive: {step.compute[:60]!r} is {float(value):g}"
    if plain(value) is None:
        return f"value_not_plain: {step.compute[:60]!r} is {float(value):.6g}"
    if not step.find.strip() or "=" in step.find or "\n" in step.find:
        return f"step_unnamed: {step.find[:60]!r}"
    other = [number for number in numbers_in(step.find) if number not in known]
    return f"number_from_nowhere: {float(other[0]):g} in {step.find[:60]!r}" if other else None


def numbers_in(text: str) -> list[Fraction]:
    """The numbers that a text says in digits, in order."""
    return [Fraction(match[0].replace(",", "")) for match in _IN_DIGITS.finditer(text)]


def numbers_said(text: str) -> set[Fraction]:
    """Every number that a text gives: in digits, in words, by a unit, as a share or its rest."""
    found: set[Fraction] = set()
    for number in numbers_in(text):
        found |= _forms(number, text)
    words = [part for word in plain_words(text) for part in word.split("-")]
    for word, following in zip(words, [*words[1:], ""], strict=True):
        found |= {Fraction(number) for number in _SAYS.get(word, ())}
        if word in _TENS and following in _UNITS[1:10]:
            found.add(Fraction(_SAYS[word][0] + _SAYS[following][0]))
        if word in _UNITS[1:] and following in ("hundred", "thousand", "million"):
            found.add(Fraction(_SAYS[word][0] * _SAYS[following][0]))
    if {"half", "third", "quarter", "thirds", "quarters", "fifth"} & set(words) or "/" in text:
        found.add(Fraction(1))
    for top, bottom in re.findall(r"(\d+)/(\d+)", text):
        if int(bottom):
            found |= {Fraction(int(top), int(bottom)), 1 - Fraction(int(top), int(bottom))}
    if {"half", "halved"} & set(words):
        found.add(Fraction(1, 2))
    if {"quarter", "fourth"} & set(words):
        found |= {Fraction(1, 4), Fraction(3, 4)}
    if {"average", "mean"} & set(words):
        found |= {Fraction(n) for n in range(2, len(numbers_in(text)) + 1)}
    if _has_percent(text):
        found |= {Fraction(100), Fraction(1)}
    if "$" in text:
        found.add(Fraction(100))
    return found


def _has_percent(text: str) -> bool:
    return "%" in text or "percent" in text.casefold()


def _forms(number: Fraction, text: str) -> set[Fraction]:
    """A number as an expression may hold it: 20 per cent also as 0.2, 0.8, 1.2, 80 and 120."""
    if not _has_percent(text):
        return {number}
    share = number / 100
    return {number, share, 1 - share, 1 + share, 100 - number, 100 + number}


def wrong_results(solution: Solution, question: str, *, draw: int) -> list[str]:
    """Answers that a slip would give, the likely slips first: never the right one, none twice.

    A slip stops early, takes the opposite operator or another number of the question in the last
    step; then come near numbers. `draw` orders the slips among themselves.
    """
    last = tidy(solution.steps[-1].compute)
    right = solution.values[-1]
    slips = list(solution.values[:-1])
    for match in _OPERATOR.finditer(last):
        slips += _computed(last[: match.start(1)] + _OTHER[match[1]] + last[match.end(1) :])
    for number in operands(last):
        for other in (*numbers_in(question), *solution.values[:-1]):
            slips += _computed(last.replace(str(plain(number)), str(plain(other)), 1))
    slips = sorted(set(slips))
    turn = draw % len(slips) if slips else 0
    near = [right + n for n in (1, -1, 2, 10, -2, -10, 5, -5)] + [right * 2, right / 2, right * 10]
    found: dict[str, None] = {}
    for value in (*slips[turn:], *slips[:turn], *near):
        text = plain(value)
        whole = value.denominator == 1 or right.denominator != 1
        if text is not None and value > 0 and whole and value != right:
            found.setdefault(text)
    return list(found)


def _computed(expression: str) -> list[Fraction]:
    try:
        return [evaluate(expression)]
    except NotArithmetic:
        return []


def annotated_steps(solution: str) -> list[Step]:
    """The steps of a worked solution that marks its calculations as `<<48/2=24>>24`.

    What a step finds is taken from the words behind its result, or before it: enough for an
    example of the form. Empty where nothing is marked.
    """
    found = []
    for line in solution.splitlines():
        for match in _ANNOTATED.finditer(line):
            behind = re.split(r"[.<;=]", line[match.end() :])[0].split()
            before = re.split(r"[.;,:]", re.sub(r"<<[^<>]*>>", "", line[: match.start()]))[-1]
            named = [word for word in before.split() if not re.search(r"[\d=*+/$%-]", word)]
            words = [word for word in (behind if len(behind) >= 2 else named) if len(word) > 1]
            while words and words[-1].casefold() in _LOOSE_ENDS:
                words.pop()
            name = " ".join(words[:_MOST_EXAMPLE_WORDS]) or "result"
            try:
                found.append(Step(find=name, compute=tidy(match[1])))
                evaluate(match[1])
            except NotArithmetic:
                return []
    return found

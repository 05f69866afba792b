"""Sums that a model wrote: computed again, found in text, and held against the wording."""

from __future__ import annotations

import ast
import contextlib
import os
import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.generate.items.arithmetic import (
    NotArithmetic,
    equations,
    evaluate,
    last_value,
    operands,
    plain,
    tidy,
    wrong_equation,
)
from datagen.generate.items.steps import (
    Solution,
    Step,
    annotated_steps,
    numbers_said,
    solve,
    wrong_results,
)

# --- expressions ---------------------------------------------------------------------------------

NUMBERS = st.integers(0, 9999).map(str) | st.decimals(0, 999, places=2).map(lambda d: f"{d:f}")
EXPRESSIONS = st.recursive(
    NUMBERS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(" ".join),
        inner.map(lambda text: f"({text})"),
        inner.map(lambda text: f"-({text})"),
    ),
    max_leaves=8,
)


def slow_value(expression: str) -> Fraction:
    """The value by Python's own grammar, in fractions."""

    def value(node: ast.expr) -> Fraction:
        if isinstance(node, ast.Constant):
            return Fraction(ast.get_source_segment(expression, node) or "")
        if isinstance(node, ast.UnaryOp):
            return -value(node.operand)
        assert isinstance(node, ast.BinOp)
        left, right = value(node.left), value(node.right)
        kinds = {ast.Add: left.__add__, ast.Sub: left.__sub__, ast.Mult: left.__mul__}
        return left / right if isinstance(node.op, ast.Div) else kinds[type(node.op)](right)

    # Python reads no integer with zeros before it.
    expression = re.sub(r"(?<![\d.])0+(?=\d)", "", expression)
    return value(ast.parse(expression, mode="eval").body)


@given(EXPRESSIONS)
def test_values_are_those_of_pythons_grammar(expression: str) -> None:
    try:
        expected = slow_value(expression)
    except ZeroDivisionError:
        with pytest.raises(NotArithmetic, match="division by zero"):
            evaluate(expression)
        return
    try:
        assert evaluate(expression) == expected
    except NotArithmetic as error:
        assert "10**15" in str(error) or "characters" in str(error)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1,000 × 3", 3000),
        ("$12 ÷ 4", 3),
        ("20% * 50", 10),
        ("(10 + 10)% * 50", 10),
        ("4 x $5", 20),
        ("2 ** 3 - 2^2", 4),
        ("½ * 8", 4),
        (".5 * 4", 2),
        ("- 3 + 5", 2),
    ],
)
def test_expressions_in_other_dress(expression: str, value: int) -> None:
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    "expression",
    ["", "1 +", "(1", "1)", "1 2", "x + 1", "1 / 0", "2 ** 99", "9 ** 12 ** 12", "1e5",
     "__import__('os')", "9" * 250, "0 ** -1", "3 = 3", "1_000", "1 // 2"],
)  # fmt: skip
def test_what_is_no_arithmetic_is_refused(expression: str) -> None:
    with pytest.raises(NotArithmetic):
        evaluate(expression)


@given(st.text(max_size=40))
def test_any_text_is_computed_or_refused(text: str) -> None:
    with contextlib.suppress(NotArithmetic):
        assert isinstance(evaluate(text), Fraction)
    assert all(equation.left and equation.right for equation in equations(text))


@given(st.fractions(-(10**6), 10**6, max_denominator=10**4))
def test_plain_is_exact_or_nothing(value: Fraction) -> None:
    text = plain(value)
    assert (text is None) == (10**4 % value.denominator != 0)
    assert text is None or Fraction(text) == value


# --- equations in text ---------------------------------------------------------------------------

OPERAND = st.integers(1, 500)


@given(OPERAND, st.sampled_from("+-*"), OPERAND, st.integers(-9, 9), st.integers(0, 4))
def test_a_wrong_sum_is_found_wherever_it_stands(
    left: int, operator: str, right: int, off: int, frame: int
) -> None:
    value = int(evaluate(f"{left}{operator}{right}"))
    frames = [
        "{}",
        "So she pays {}, which is a lot.",
        "First: {}. Then nothing.",
        "In 3 weeks that makes, at 2 a day, {} apples",
        "Answer A has\n{}\nin it",
    ]
    text = frames[frame].format(f"{left} {operator} {right} = {value + off}")
    assert (wrong_equation(text) is None) == (off == 0)
    assert len(equations(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "She has 12 apples * 3 boxes = 36 apples.",
        "$4.50 x 2 = $9.00",
        "25% of 80 is 0.25 * 80 = 20",
        "5 / 20 = 25%",
        "10 / 3 = 3.33",
        "10 / 3 ≈ 3",
        "2 * 3 = 5 + 1 = 6",
        "x + 3 = 12, so 2x = 18",
        "1 1/2 = 1.5 and 24(1/3)=8",
        "f(3) = 12, a[2] = 7",
        "In 2020 = the year",
        "1,200 + 300 = 1,500",
        "the drive took 3 hours - 20 minutes = 160 minutes",
        "14 hours = 14 * 60 = 840 minutes",
        "1/3 = 0.3 and 2/3 = 0.7",
        "sqrt(16) + 2 = 6",
        "2 * sqrt(9) + 1 = 7",
        "√16 + 2 = 6",
        "max(3, 4) + 1 = 5",
        "half of 12 + 3 = 9",
        "half of the 12 + 3 = 9",
        "20 percent of 50 + 10 = 20",
        "17 / 5 = 3 remainder 2",
        "17 / 5 = 3 with remainder 2",
        "10 mod 4 + 4 = 6",
        "3 squared + 4 = 13",
        "3² + 4 = 13",
        "10 / 20 = 50 percent",
        "10 + 5 = 25% of 60",
        "3 * 5 = 0.015 thousand",
        "5 cm² * 2 = 10 cm²",
        "",
    ],
)
def test_text_that_cannot_be_blamed(text: str) -> None:
    assert wrong_equation(text) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2 * 3 = 6 + 1 = 8", "2 * 3 = 6 + 1, which is 6"),
        ("48/2 = <b>", None),
        ("10 / 3 = 3", "10 / 3 = 3, which is 3.33333"),
        ("2/3 = 0.6", "2 / 3 = 0.6, which is 0.666667"),
        ("3² + 4 = 36", "3 ** 2 + 4 = 36, which is 13"),
        ("3 * 12 = 35 pieces of cake", "3 * 12 = 35, which is 36"),
        ("half of 50 is 50/2 = $24.", "50 / 2 = 24, which is 25"),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str | None) -> None:
    assert wrong_equation(text) == said


def test_the_end_of_a_solution() -> None:
    assert last_value("48 / 2 = 24, so 24 + 1 = 25 clips") == 25
    assert last_value("nothing") is None


# --- steps ---------------------------------------------------------------------------------------

QUESTION = "A bakery bakes 4 trays of a dozen rolls. It sells 39 of them. How many are left?"
STEPS = [Step(find="rolls in all", compute="4 * 12"), Step(find="left", compute="48 - 39")]


def solved(question: str, *steps: tuple[str, str]) -> Solution | str:
    return solve(question, [Step(find=find, compute=compute) for find, compute in steps])


def test_the_program_computes_the_answer() -> None:
    found = solve(QUESTION, STEPS)
    assert isinstance(found, Solution)
    assert found.answer == "9"
    assert found.lines == ["Rolls in all: 4 * 12 = 48", "Left: 48 - 39 = 9"]
    assert all(wrong_equation(line) is None for line in found.lines)


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([], "steps_count"),
        ([("all", "4 * 12 +")], "bad_expression"),
        ([("all", "48")], "bad_expression"),
        ([("all", "4 * 13")], "number_from_nowhere"),
        ([("all 77 rolls", "4 * 12"), ("left", "48 - 39")], "number_from_nowhere"),
        ([("all", "4 * 12"), ("left", "39 - 4")], "unused_step"),
        ([("all", "4 * 12")], "unused_number"),
        ([("all", "4 * 12"), ("left", "39 - 48")], "value_not_positive"),
        ([("share", "4 / 39 / 12")], "value_not_plain"),
        ([("48 = all", "4 * 12"), ("left", "48 - 39")], "step_unnamed"),
    ],
)
def test_each_fault_of_a_solution_has_its_name(
    steps: Sequence[tuple[str, str]], reason: str
) -> None:
    found = solved(QUESTION, *steps)
    assert isinstance(found, str) and found.partition(":")[0] == reason


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("twenty-five of three hundred", {25, 300}),
        ("half a dozen", {2, 12, Fraction(1, 2), 1}),
        ("20% off", {20, Fraction(1, 5), Fraction(4, 5), 80, 120, 100}),
        ("2/3 of it", {2, 3, Fraction(2, 3), Fraction(1, 3)}),
        ("1,500 a week", {1500, 7, 52}),
        ("the average of 4, 5 and 9", {3}),
    ],
)
def test_numbers_are_read_from_words_units_and_shares(text: str, numbers: set[int]) -> None:
    assert {Fraction(number) for number in numbers} <= numbers_said(text)


def test_a_percentage_counts_as_used_through_its_forms() -> None:
    question = "A coat of $80 is sold at 25% off. What does it cost in dollars?"
    for compute in ("80 * 0.75", "80 * 75%", "80 - 80 * 25 / 100", "80 * (1 - 0.25)"):
        found = solved(question, ("price", compute))
        assert isinstance(found, Solution) and found.answer == "60", compute


@given(st.integers(0, 2**64 - 1))
def test_slips_are_wrong_distinct_and_enough(draw: int) -> None:
    found = solve(QUESTION, STEPS)
    assert isinstance(found, Solution)
    wrong = wrong_results(found, QUESTION, draw=draw)
    assert len(wrong) >= 5 and len(set(wrong)) == len(wrong)
    assert found.answer not in wrong
    assert all(number.isdecimal() and int(number) > 0 for number in wrong)


def test_marked_solutions_are_read_as_steps() -> None:
    text = "She sold 48/2 = <<48/2=24>>24 clips in May.\nIn all 48+24 = <<48+24=72>>72 clips."
    assert annotated_steps(text) == [
        Step(find="clips in May", compute="48 / 2"),
        Step(find="In all", compute="48 + 24"),
    ]
    assert annotated_steps("no marks here") == []
    assert annotated_steps("odd <<4//2=2>>2") == []


def test_tidy_says_the_same() -> None:
    assert tidy("48×(2+1)/ 3%") == "48 * (2 + 1) / 3%"
    assert operands("48 * (2 + 1)") == [48, 2, 1]


def test_most_published_solutions_compute() -> None:
    """GSM8K's train split: nearly every equation holds, and most solutions pass every rule."""
    if not (folder := os.environ.get("DATAGEN_DATA")):
        pytest.skip("DATAGEN_DATA names no folder of public data")
    import gzip
    import json

    path = Path(folder) / "bench" / "gsm8k_train.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in islice(lines, 400)]
    said = [re.sub(r"<<.*?>>", "", row["answer"]) for row in rows]
    wrong = sum(not equation.holds for text in said for equation in equations(text))
    assert wrong <= 0.01 * sum(len(equations(text)) for text in said)
    passed = agreed = 0
    for row in rows:
        found = solve(row["question"], annotated_steps(row["answer"]))
        if isinstance(found, Solution):
            passed += 1
            agreed += found.answer == row["answer"].rpartition("#### ")[2].replace(",", "")
    assert passed >= 0.6 * len(rows)
    assert agreed >= 0.97 * passed

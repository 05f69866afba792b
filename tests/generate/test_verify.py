"""Verifiers: equal answers in any spelling pass, anything else does not, and specs are checked."""

from __future__ import annotations

import asyncio
import json
import time
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.errors import DataError
from datagen.generate.verify.exact import final_answer, read_letter
from datagen.generate.verify.json_schema import schema_problem, value_problem
from datagen.generate.verify.same import agrees, normal, read_number
from datagen.generate.verify.verdict import Verdict, find_code, spec_problem, verify
from tests.agent.needs import needs_sandbox


def checked(kind: Any, answer: str, spec: dict[str, Any]) -> Verdict:
    """What a verifier says."""
    return asyncio.run(verify(kind, answer, spec))


def number(answer: str, right: Any, **spec: Any) -> bool:
    """Whether an answer is the right number."""
    return checked("exact", answer, {"answer": right, "form": "number", **spec}).passed


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("72", "72"),
        ("72 clips", 72),
        ("$1,234.50", "1234.5"),
        ("It is 7.", "7"),
        ("x = 7", "7"),
        ("3 + 4 = 7", "7"),
        ("\\boxed{\\frac{3}{4}}", "0.75"),
        ("$\\dfrac{3}{4}$", "3/4"),
        ("3/4", "0.75"),
        ("1 1/2", "1.5"),
        ("-\\frac{1}{2}", "-0.5"),
        ("\u22125", "-5"),
        ("1.5 \\times 10^{3}", "1500"),
        ("1.5e3", "1500"),
        ("5 million", "5000000"),
        ("50%", "0.5"),
        ("50 percent", "50"),
        ("10\\%", "10%"),
        ("0.1", "10%"),
        ("Step 1: 3 and 4.\nStep 2: 12.\n#### 12", "12"),
        ("We get 9 and 8.\n**Answer:** 72 km", "72"),
        ("So \\boxed{5}, no: \\boxed{6}", "6"),
        ("I think 5.</think>\nAnswer: 6", "6"),
        ("The final answer is $18.00", "18"),
    ],
)
def test_the_right_number_in_any_spelling(said: str, right: Any) -> None:
    assert number(said, right)


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("71", "72"),
        ("3 or 4", "3"),
        ("3,5", "3.5"),
        ("1,23", "123"),
        ("seven", "7"),
        ("", "7"),
        ("0.5%", "0.5"),
        ("1%", "1"),
        ("50", "0.5"),
        ("12:30", "12"),
        ("1/0", "1"),
        ("We get 72.\nThat was hard.", "72"),
        ("#### 72 or 73", "72"),
        ("Answer: 72</think>", "72"),
        ("-72", "72"),
        ("72" + "0" * 400, "72"),
    ],
)
def test_another_number_and_no_clear_number(said: str, right: Any) -> None:
    assert not number(said, right)


def test_units_tolerance_marks_and_several_right_answers() -> None:
    assert number("60 km", "60", units=["km", "kilometers"]) and number("60", "60", units=["km"])
    assert not number("60 miles", "60", units=["km"])
    assert number("3.14", "3.14159", tolerance=0.01)
    assert not number("3.2", "3.14159", tolerance=0.01) and not number("3.14", "3.14159")
    assert number("7", "7") and not number("7", "7", marked=True)
    assert number("#### 7", "7", marked=True)
    assert number("4", ["3", "4"]) and not number("5", ["3", "4"])


@given(st.integers(-(10**9), 10**9), st.integers(1, 999))
def test_a_fraction_is_read_as_it_is_written(top: int, bottom: int) -> None:
    value = Fraction(top, bottom)
    sign, size = ("-" if top < 0 else ""), abs(top)
    for text in (f"{sign}{size}/{bottom}", f"{sign}\\frac{{{size}}}{{{bottom}}}"):
        found = read_number(text)
        assert found is not None and found.value == value


@given(st.text(max_size=60))
def test_reading_any_text_ends(text: str) -> None:
    read_number(text)
    final_answer(text)
    assert read_letter(text, ("one", "two")) in (None, "A", "B")


def test_letters() -> None:
    spec = {"answer": "B", "form": "letter", "options": ["a red fox", "A blue whale", "an owl"]}
    for said in ["B", "(B)", "b.", "B) a blue whale", "\\boxed{\\text{B}}", "The answer is (B)."]:
        assert checked("exact", said, spec).passed, said
    assert checked("exact", "Answer: Blue whale", spec).passed
    for said in ["A", "B) an owl", "D", "whale", "B or C", "Both", ""]:
        assert not checked("exact", said, spec).passed, said


def test_texts() -> None:
    spec = {"answer": ["The Danube", "Donau"]}
    assert checked("exact", "danube.", spec).passed and checked("exact", "DONAU", spec).passed
    assert not checked("exact", "the Danube river", spec).passed
    assert not checked("exact", "It may be the Danube.\nOr not.", spec).passed


@pytest.mark.parametrize(
    ("said", "right"),
    [("3x", "-3x"), ("(-inf,2]", "(inf,2)"), ("a/b", "ab"), ("[1,2]", "(1,2)"), ("5x", "5y")],
)
def test_signs_operators_and_brackets_count(said: str, right: str) -> None:
    assert normal(said) != normal(right) and not agrees(said, right)
    assert not checked("exact", said, {"answer": right}).passed
    assert checked("exact", right, {"answer": right}).passed


def test_a_formula_is_no_number() -> None:
    for text in (r"3\sqrt5", r"2\pi", "5x", "x-3", r"(3,\pi/4)", r"x\le3", "1/2x", "5 m"):
        assert read_number(text) is None, text
    assert number("5 m", "5", units=["m"]) and number(r"5\ \mathrm{m}", "5")


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "pattern": "^[A-Z]"},
        "age": {"type": "integer", "minimum": 0, "exclusiveMaximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b", 1]}, "uniqueItems": True},
        "parent": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/person"}]},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
    "$defs": {"person": {"type": "object", "required": ["name"]}},
}


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ({"name": "Ida", "age": 3}, True),
        ({"name": "Ida", "age": 3.0, "tags": ["a", 1], "parent": {"name": "Bo"}}, True),
        ({"name": "Ida", "age": 3, "parent": None}, True),
        ({"name": "Ida"}, False),
        ({"name": "ida", "age": 3}, False),
        ({"name": "", "age": 3}, False),
        ({"name": "Ida", "age": True}, False),
        ({"name": "Ida", "age": "3"}, False),
        ({"name": "Ida", "age": 150}, False),
        ({"name": "Ida", "age": -1}, False),
        ({"name": "Ida", "age": 3, "tags": ["a", "a"]}, False),
        ({"name": "Ida", "age": 3, "tags": [True]}, False),
        ({"name": "Ida", "age": 3, "tags": "a"}, False),
        ({"name": "Ida", "age": 3, "other": 1}, False),
        ({"name": "Ida", "age": 3, "parent": {"age": 3}}, False),
        ([], False),
    ],
)
def test_json_follows_its_schema(value: Any, good: bool) -> None:
    assert schema_problem(SCHEMA) is None
    for text in (json.dumps(value), f"```json\n{json.dumps(value, indent=1)}\n```"):
        assert checked("json", text, {"schema": SCHEMA}).passed is good


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"const": 1}, "1.0", "true"),
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "1.5", "1"),
        ({"allOf": [{"minimum": 1}, {"maximum": 3}]}, "2", "4"),
        ({"not": {"type": "string"}}, "1", '"1"'),
        ({"prefixItems": [{"const": 1}], "items": False}, "[1]", "[1, 2]"),
        ({"multipleOf": 0.1}, "0.3", "0.35"),
        ({"type": "object", "minProperties": 1, "maxProperties": 1}, '{"a": 1}', "{}"),
        ({"type": ["string", "null"]}, "null", "1"),
        ({"type": "array", "minItems": 2, "maxItems": 2}, "[1, 2]", "[1]"),
        ({"additionalProperties": {"type": "integer"}}, '{"a": 1}', '{"a": "1"}'),
    ],
)
def test_each_keyword_decides(schema: Any, good: str, bad: str) -> None:
    assert checked("json", good, {"schema": schema}).passed
    assert not checked("json", bad, {"schema": schema}).passed


@pytest.mark.parametrize(
    "text", ["", "{", "Here: {}", "{} {}", "NaN", '{"a": 1, "a": 1}', "```\n{}\n``` done"]
)
def test_what_is_no_json(text: str) -> None:
    assert checked("json", text, {"schema": True}).detail.startswith("no JSON")


def test_a_pattern_that_explodes_elsewhere_is_linear() -> None:
    begin = time.monotonic()
    found = value_problem("a" * 50_000, {"pattern": "^(a|aa)+$b"}, {})
    assert found is not None and time.monotonic() - begin < 2


RULES: list[tuple[dict[str, Any], str, str]] = [
    ({"rule": "words", "at_most": 3}, "one two three", "one two three four"),
    ({"rule": "words", "exactly": 2}, "one two", "one"),
    ({"rule": "sentences", "exactly": 2}, 'He said "No." It is 3.5 m!', "One sentence of 3.5 m."),
    ({"rule": "paragraphs", "exactly": 2}, "a\nb\n\nc", "a\nb\nc"),
    ({"rule": "lines", "at_least": 2}, "a\n\nb", "a"),
    ({"rule": "bullets", "exactly": 2}, "- a\n* b", "- a\nb"),
    ({"rule": "headings", "exactly": 1}, "## A\nb", "A\nb"),
    ({"rule": "numbered", "exactly": 2}, "1. a\n2) b", "1. a\n3. b"),
    ({"rule": "contains", "text": "cat"}, "A Cat.", "category"),
    ({"rule": "contains", "text": "cat", "times": 2}, "cat, cat", "cat"),
    ({"rule": "lacks", "text": "Rain"}, "sun", "a rainy day"),
    ({"rule": "begins", "text": "On"}, "On top", "on top"),
    ({"rule": "ends", "text": "bye"}, "so bye", "so bye."),
    ({"rule": "each_line_begins", "text": "- "}, "- a\n- b", "- a\nb"),
    ({"rule": "pattern", "text": "[0-9]{2}"}, "42", "4"),
    ({"rule": "upper_case"}, "STOP 1!", "Stop"),
    ({"rule": "lower_case"}, "stop", "Stop"),
    ({"rule": "json"}, "[1]", "[1] so"),
]


@pytest.mark.parametrize(("rule", "good", "bad"), RULES, ids=lambda one: str(one)[:30])
def test_each_rule_of_form(rule: dict[str, Any], good: str, bad: str) -> None:
    assert checked("form", good, {"rules": [rule]}).passed
    refused = checked("form", bad, {"rules": [rule]})
    assert not refused.passed and refused.detail.startswith(rule["rule"])
    assert not checked("form", "<think>" + good + "</think>", {"rules": [rule]}).passed


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("exact", {"answer": "many", "form": "number"}),
        ("exact", {"answer": ""}),
        ("exact", {"answer": []}),
        ("exact", {"answer": "Both", "form": "letter"}),
        ("exact", {"answer": "1", "fomr": "number"}),
        ("code", {"tests": []}),
        ("code", {"tests": ["", " "]}),
        ("code", {"tests": "assert f()"}),
        ("json", {}),
        ("json", {"schema": "a string"}),
        ("json", {"schema": {"typ": "string"}}),
        ("json", {"schema": {"type": "text"}}),
        ("json", {"schema": {"items": {"$ref": "#/$defs/none"}}}),
        ("json", {"schema": {"pattern": "(?<=a)b"}}),
        ("json", {"schema": {"enum": []}}),
        ("form", {"rules": []}),
        ("form", {"rules": [{"rule": "rhymes"}]}),
        ("form", {"rules": [{"rule": "words"}]}),
        ("form", {"rules": [{"rule": "words", "at_least": 3, "at_most": 2}]}),
        ("form", {"rules": [{"rule": "pattern", "text": "("}]}),
        ("form", {"rules": [{"rule": "lacks", "text": "a", "times": 2}]}),
    ],
)
def test_a_spec_that_nothing_can_be_held_against(kind: Any, spec: dict[str, Any]) -> None:
    assert spec_problem(kind, spec)
    with pytest.raises(DataError):
        checked(kind, "1", spec)


def test_code_is_found_in_an_answer() -> None:
    assert find_code("First:\n```python\na = 1\n```\nthen\n```py\nb = 2\n```") == "b = 2\n"
    assert find_code("x</think>def f(): ...") == "def f(): ..."
    assert find_code("```sh\nls\n```") is None
    assert find_code("  ") is None


@needs_sandbox()
def test_code_is_run() -> None:
    spec = {"tests": ["assert one() == 1"]}
    assert checked("code", "```python\ndef one():\n    return 1\n```", spec).passed
    refused = checked("code", "```python\ndef one():\n    return 2\n```", spec)
    assert refused.detail.startswith("test_failed: test 1")
    assert checked("code", "```sh\nls\n```", spec).detail == "no code"

"""An example of a task: what a seed row holds, and what a model writes in its form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Number
from typing import Any, Literal

from pydantic import BaseModel, Field

from datagen.errors import DataError
from datagen.generate.items.normalise import LETTERS, plain_words
from datagen.generate.items.steps import annotated_steps
from datagen.record import Seed
from datagen.workspace.specs import Spec

TextField = Literal["passage", "question", "answer"]
_EXPRESSION = r"^[0-9(][0-9+*/(). %-]{1,60}$"


class WrittenStep(BaseModel):
    """One step of a worked solution: what it finds, and the expression to compute."""

    find: str
    compute: str


class Written(BaseModel):
    """An example: of these fields it has those that its form calls for."""

    passage: str = ""
    question: str = ""
    steps: list[WrittenStep] = []
    code: str = ""
    tests: list[str] = []
    answer: str = ""
    wrong: list[str] = []

    def shown(self, fields: Sequence[str]) -> str:
        """The example as one line of JSON with these fields, in this order."""
        whole = self.model_dump()
        return json.dumps({name: whole[name] for name in fields}, ensure_ascii=False)

    def lacks(self, fields: Sequence[str]) -> list[str]:
        """Those of the fields that are empty."""
        return [name for name in fields if not getattr(self, name)]


class Columns(Spec):
    """Where a seed row holds what: column names, and how an answer is read.

    `choices` is a column with a list, one with `{text: [...], label: [...]}`, or several columns
    with a choice each. `answer_index` holds the place of the right choice, counted from
    `first_index`, or its label: a letter, or what `label` says. `answer_after` is what the answer
    stands behind in its column; `answer_words` maps values to answers (`true` to `yes`).
    """

    question: str | None = None
    choices: str | tuple[str, ...] | None = None
    answer: str | None = None
    answer_index: str | None = None
    first_index: int = 0
    answer_after: str | None = None
    answer_words: dict[str, str] = Field(default_factory=dict)
    passage: str | None = None
    code: str | None = None
    tests: str | None = None


def read_seed(seed: Seed, columns: Columns) -> Written | str:
    """The example that a row holds, or why it cannot be read; `DataError` for a missing column."""
    found_choices = _choices(seed, columns)
    if isinstance(found_choices, str):
        return f"seed_unreadable: {found_choices}"
    choices, labels = found_choices
    for column in (columns.question, columns.passage, columns.code, columns.answer):
        if column is not None and _text(cell(seed, column)) is None:
            return f"seed_unreadable: no text in {column!r}"
    wrong: list[str] = []
    answer = ""
    steps: list[WrittenStep] = []
    if columns.answer is not None:
        said = cell(seed, columns.answer)
        answer = str(said).strip()
        if columns.answer_after is not None:
            worked, mark, answer = answer.rpartition(columns.answer_after)
            if not mark:
                return f"seed_unreadable: no {columns.answer_after!r} in {columns.answer!r}"
            answer = answer.strip()
            found = annotated_steps(worked)
            steps = [WrittenStep(find=step.find, compute=step.compute) for step in found]
        answer = columns.answer_words.get(answer.casefold(), answer)
    if columns.answer_index is not None:
        place = _place(cell(seed, columns.answer_index), columns.first_index, labels)
        if place is None or not 0 <= place < len(choices):
            said = seed.row[columns.answer_index]
            return f"seed_unreadable: {said!r} is no place among {len(choices)} choices"
        answer = choices[place]
        wrong = [choice for other, choice in enumerate(choices) if other != place]
    texts = {name: getattr(columns, name) for name in ("question", "passage", "code")}
    cells = {name: _text(cell(seed, column)) or "" for name, column in texts.items() if column}
    tests = _listed(cell(seed, columns.tests)) if columns.tests else []
    if tests is None:
        return f"seed_unreadable: {columns.tests!r} is no list of texts"
    read = Written(
        question=_one_line(cells.get("question", "")),
        passage=cells.get("passage", "").strip(),
        code=cells.get("code", "").replace("\r\n", "\n").strip(),
        tests=tests,
        answer=answer,
        wrong=wrong,
        steps=steps,
    )
    if columns.question is not None and not read.question:
        return "seed_unreadable: no question"
    return read


def fields_of(form: str, solution: str, *, passage: bool, given: bool) -> list[str]:
    """The fields that a model writes, in order: the answer after what it rests on."""
    fields = ["passage", "question"] if passage else ["question"]
    if solution == "steps":
        return [*fields, "steps"]
    if solution == "code":
        return [*fields, "code", "tests"]
    if given:
        return fields
    return [*fields, "answer"] if form == "generative" else [*fields, "answer", "wrong"]


def written_schema(
    fields: Sequence[str], *, options: int, steps: int, patterns: Mapping[TextField, str]
) -> dict[str, Any]:
    """The JSON schema of an example with these fields; `patterns` hold for whole texts."""
    text = {"type": "string", "minLength": 1}
    expression = {"type": "string", "pattern": _EXPRESSION}
    kinds: dict[str, dict[str, Any]] = {
        "steps": _list(_object({"find": text, "compute": expression}), 1, steps),
        "tests": _list(text, 3, 3),
        "wrong": _list(text, options - 1, options - 1),
        **{
            name: {"type": "string", "pattern": f"^{pattern}$"}
            for name, pattern in patterns.items()
        },
    }
    return _object({name: kinds.get(name, text) for name in fields})


def text_problem(text: str, *, max_words: int) -> str | None:
    """Why a question or passage is not whole: too short, too long, or with marks of a template."""
    words = len(plain_words(text))
    if words < 2:
        return f"too_short: {text.strip()[:60]!r}"
    if words > max_words:
        return f"too_long: {words} words, {max_words} at most"
    marks = re.search(r"\{\{|\}\}|<\||\[\[", text)
    return f"markup: {marks[0]!r}" if marks else None


def _list(items: dict[str, Any], low: int, high: int) -> dict[str, Any]:
    return {"type": "array", "minItems": low, "maxItems": high, "items": items}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _choices(seed: Seed, columns: Columns) -> tuple[list[str], list[str] | None] | str:
    """The choices, and their labels where the row gives some; or why there are none."""
    if columns.choices is None:
        return [], None
    labels: Any = None
    if isinstance(columns.choices, str):
        values = cell(seed, columns.choices)
        if isinstance(values, Mapping):
            if set(values) != {"text", "label"}:
                return f"choices are a mapping of {', '.join(map(str, values))}"
            values, labels = values["text"], _listed(values["label"])
            if labels is None:
                return "the labels of the choices are no list of texts"
    else:
        values = [cell(seed, column) for column in columns.choices]
    choices = _listed(values)
    if choices is None:
        return f"choices are no list of texts: {str(values)[:60]!r}"
    if labels is not None and not len(choices) == len(labels) == len(set(labels)):
        return f"{len(labels)} labels for {len(choices)} choices, or one twice"
    return choices, labels


def _listed(values: Any) -> list[str] | None:
    """A list of texts with each in its place; None for anything else, or where one is empty."""
    # Parquet gives arrays, which are no sequences.
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        return None
    found = [_text(value) for value in values]
    return [text for text in found if text] if all(found) else None


def _text(value: Any) -> str | None:
    """A cell as text; None where it holds nothing, or no text, number or truth value."""
    if isinstance(value, str | Number) and value == value:
        return str(value).strip()
    return None


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _place(value: Any, first: int, labels: Sequence[str] | None) -> int | None:
    """The place that a key names: a number counts from `first`, a text is a label where it can be.

    Without labels a text of digits is a number, and a letter counts from A.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, Number):
        number = float(str(value))
        return int(number) - first if number.is_integer() else None
    text = str(value).strip().upper()
    if labels is not None:
        folded = [label.upper() for label in labels]
        return folded.index(text) if text in folded else None
    if text.isdecimal():
        return int(text) - first
    return LETTERS.index(text) if len(text) == 1 and text in LETTERS else None


def read_strings(seed: Seed, column: str) -> list[str]:
    """The texts of a column that holds a list, or a single one; empty ones fall away."""
    value = cell(seed, column)
    values = value if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    return [text for text in map(_text, values) if text]


def cell(seed: Seed, column: str) -> Any:
    """A value of the row; DataError where it has no such column."""
    if column not in seed.row:
        raise DataError(
            f"no column {column!r}",
            where=f"{seed.source} row {seed.row_key}",
            fix=f"name one of the row's columns in 'columns': {', '.join(seed.row)}",
        )
    return seed.row[column]

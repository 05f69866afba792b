"""Cells of a source row: a missing column is an error, a value of no use rejects the row."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from datagen.errors import DataError
from datagen.llm.ask import AnswerRejected
from datagen.record import Seed


class RowUnusable(AnswerRejected):
    """A value of the row from which nothing can be made: uncaught, the engine rejects the seed."""

    def __init__(self, detail: str) -> None:
        super().__init__("row_unusable", detail)


def cell(seed: Seed, column: str) -> Any:
    """A column of the row; DataError where the row has none of that name."""
    if column not in seed.row:
        raise DataError(
            f"no column {column!r}",
            where=f"{seed.source} row {seed.row_key}",
            fix=f"name one of: {', '.join(seed.row)}",
        )
    return seed.row[column]


def text_cell(seed: Seed, column: str) -> str:
    """A column as text without space around it; an empty cell is the empty text.

    RowUnusable where it holds a list or a table.
    """
    value = cell(seed, column)
    if value is not None and not isinstance(value, str | int | float):
        raise RowUnusable(f"column {column!r} is no text")
    return "" if value is None else str(value).strip()


def rows_cell(seed: Seed, column: str) -> list[Mapping[str, Any]]:
    """A column as a list of tables, RowUnusable where it is none; null is the empty list."""
    value = cell(seed, column)
    if value is None:
        return []
    if not isinstance(value, Sequence) or not all(isinstance(item, Mapping) for item in value):
        raise RowUnusable(f"column {column!r} is no list of tables")
    return list(value)


def table_cell(seed: Seed, column: str) -> Mapping[str, Any]:
    """A column as a table by key, RowUnusable where it is none."""
    value = cell(seed, column)
    if not isinstance(value, Mapping):
        raise RowUnusable(f"column {column!r} is no table")
    return value


def on_one_line(text: str) -> str:
    """A text with every run of white space as one space."""
    return re.sub(r"\s+", " ", text).strip()

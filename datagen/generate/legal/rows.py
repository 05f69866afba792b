"""Cells of a source row, with an error that names the row."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from datagen.errors import DataError
from datagen.record import Seed


def cell(seed: Seed, column: str) -> Any:
    """A column of the row; DataError where the row has none of that name."""
    if column not in seed.row:
        raise wrong(seed, f"no column {column!r}", f"name one of: {', '.join(seed.row)}")
    return seed.row[column]


def text_cell(seed: Seed, column: str) -> str:
    """A column as text without space around it; an empty cell is the empty text."""
    value = cell(seed, column)
    if value is not None and not isinstance(value, str | int | float):
        raise wrong(seed, f"column {column!r} is no text", "name a column of text")
    return "" if value is None else str(value).strip()


def rows_cell(seed: Seed, column: str) -> list[Mapping[str, Any]]:
    """A column as a list of tables; null is the empty list."""
    value = cell(seed, column)
    if value is None:
        return []
    if not isinstance(value, Sequence) or not all(isinstance(item, Mapping) for item in value):
        raise wrong(seed, f"column {column!r} is no list of tables", "name the column that is one")
    return list(value)


def wrong(seed: Seed, message: str, fix: str) -> DataError:
    """The error of a row that does not have the columns or the values that a recipe names."""
    return DataError(message, where=f"{seed.source} row {seed.row_key}", fix=fix)


def on_one_line(text: str) -> str:
    """A text with every run of white space as one space."""
    return re.sub(r"\s+", " ", text).strip()

"""What a source's row says that an answer is held against."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from datagen.errors import DataError, WorkspaceError
from datagen.generate.verify.verdict import KINDS, Kind
from datagen.record import Seed

_SPEC_KEY: dict[Kind, str] = {"exact": "answer", "code": "tests", "json": "schema", "form": "rules"}


def column(seed: Seed, name: str) -> Any:
    """A cell of the row; DataError where it has no column of that name."""
    if name not in seed.row:
        raise DataError(
            f"no column {name!r}",
            where=f"{seed.source} row {seed.row_key}",
            fix=f"name one of the columns in the recipe's arguments: {', '.join(seed.row)}",
        )
    return seed.row[name]


def row_spec(
    seed: Seed,
    kind: Kind,
    *,
    expected: str,
    expected_after: str | None = None,
    setup: str | None = None,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The spec for a row: `more`, and what the column `expected` holds.

    That is an answer (after the last `expected_after`, where one is named), tests, a JSON Schema
    or rules; JSON text is read. `setup` names a column with code that runs before each test.
    """
    if kind not in KINDS:
        fix = f"verifier: one of {', '.join(KINDS)}"
        raise WorkspaceError(f"no verifier {kind!r}", where=f"recipe on {seed.source}", fix=fix)
    held = column(seed, expected)
    if expected_after is not None:
        _, mark, held = str(held or "").rpartition(expected_after)
        held = held.strip() if mark else ""
    if kind == "exact":
        held = held if isinstance(held, list | int | float) else str(held or "")
    elif isinstance(held, str):
        held = _read(held)
    spec = {**(more or {}), _SPEC_KEY[kind]: held}
    if setup is not None:
        spec["setup"] = str(column(seed, setup) or "")
    return spec


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text

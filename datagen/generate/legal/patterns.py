"""Regular expressions that a recipe brings."""

from __future__ import annotations

import re

from datagen.errors import WorkspaceError


def compiled(pattern: str) -> re.Pattern[str]:
    """A recipe's pattern, blind to case; WorkspaceError where it is none."""
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise WorkspaceError(
            f"{pattern!r} is no pattern: {error}",
            where="arguments",
            fix="write a regular expression of Python's",
        ) from None

"""Filters on source code: minified, generated or data in disguise (thresholds: StarCoder)."""

from __future__ import annotations

import re

from datagen.curate.words import record_text
from datagen.record import Record

_GENERATED = re.compile(
    r"auto-?generated|generated (?:by|from)\b|do not (?:edit|modify)\b|@generated", re.IGNORECASE
)
_HEAD_LINES = 5


def long_lines(
    record: Record, *, max_characters: int = 1000, max_mean_characters: int = 100
) -> str | None:
    """Refuse minified code and data: one very long line, or long lines on the whole."""
    lengths = [len(line) for line in record_text(record).splitlines()] or [0]
    if max(lengths) > max_characters:
        return f"a line of {max(lengths)} characters"
    mean = sum(lengths) / len(lengths)
    return f"mean line {mean:.0f} characters" if mean > max_mean_characters else None


def few_letters(record: Record, *, min_share: float = 0.25) -> str | None:
    """Refuse files in which too few characters are letters or digits."""
    text = record_text(record)
    share = sum(character.isalnum() for character in text) / max(len(text), 1)
    return f"{share:.0%} letters and digits" if share < min_share else None


def generated(record: Record) -> str | None:
    """Refuse files that say in their first lines that a program wrote them."""
    head = "\n".join(record_text(record).splitlines()[:_HEAD_LINES])
    found = _GENERATED.search(head)
    return found.group() if found else None

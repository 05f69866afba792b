"""A page's Markdown cut at its headings: sections that can be read alone."""

from __future__ import annotations

import re
from dataclasses import dataclass

_HEADING = re.compile(r"(#{1,6}) (.+)")
_NOTE = re.compile(r"(\[\^[^\]\s]+\]): ")
_MARK = re.compile(r"\[\^[^\]\s]+\](?!:)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section's own heading (empty before the first), and its text under all its headings."""

    heading: str
    text: str


def sections(text: str, *, level: int) -> list[Section]:
    """Cut at headings down to a level: each piece has the headings above it, and its footnotes.

    A heading with nothing below it but further headings makes no section of its own.
    """
    notes, lines = _take_notes(text)
    found: list[Section] = []
    path: list[str] = []
    body: list[str] = []
    fenced = False
    for line in [*lines, "# end"]:
        fenced ^= line.strip() == "```"
        heading = None if fenced else _HEADING.fullmatch(line)
        if heading is None or len(heading[1]) > level:
            body.append(line)
            continue
        own = "\n".join(body).strip("\n")
        if own.strip():
            cited = dict.fromkeys(mark for mark in _MARK.findall(own) if mark in notes)
            parts = [*path, own, "\n".join(notes[mark] for mark in cited)]
            name = _HEADING.fullmatch(path[-1]) if path else None
            whole = "\n\n".join(part for part in parts if part) + "\n"
            found.append(Section(heading=name[2] if name else "", text=whole))
        path = [above for above in path if above.index(" ") < len(heading[1])] + [line]
        body = []
    return found


def _take_notes(text: str) -> tuple[dict[str, str], list[str]]:
    notes: dict[str, str] = {}
    lines: list[str] = []
    for line in text.split("\n"):
        note = _NOTE.match(line)
        if note is not None:
            notes.setdefault(note[1], line)
        else:
            lines.append(line)
    return notes, lines

"""Running text of a block: white space as a browser has it, marks of notes, raised and lowered."""

from __future__ import annotations

import re
import textwrap
from itertools import pairwise

BREAK = "\x1e"
"""Stands for `<br>` until a block is finished."""

_IGNORED = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff\x00-\x08\x0b\x0c\x0e-\x1d\x1f]")
_BLANK_LINE = re.compile(r"[ \t\r]*\n[ \t\r]*(?:\n[ \t\r]*)+")
_BULLET_LINE = re.compile(r"[ \t\r]*\n[ \t]*(?=[-–•] \S)")
_WRAPPED = re.compile(r"\S[ \t\r]*\n[ \t\r]*\n\s*\S")
_SPACE = re.compile(r"[^\S\x1e]+")
# Pretty-printed HTML puts a line break before the point that follows a link. A browser shows it;
# no author meant it. Dots in a row are blanks to fill in.
_BEFORE_POINT = re.compile(r"(?<=[^\s.\x1e])\s*\n\s*([,;:)\]]|\.(?!\s*\.))")
_AFTER_OPENING = re.compile(r"([(\[])\s*\n\s*")
_NOTE_BRACKETS = re.compile(r"\s*\(\s*(\[\^[^\]\s]+\])\s*\)")
_SPACE_BEFORE_NOTE = re.compile(r"\s+(?=\[\^[^\]\s]+\](?!:))")
_SECTION_SIGN = re.compile(r"(\d\s?[a-z]?\s?§)(?=[^\W\d])")
_ALIGNED = re.compile(r"^ {2,}\S|\S {3,}\S", re.MULTILINE)
_ORDINAL = re.compile(r"(?i)(st|nd|rd|th|o|a|er|e|ème|os|as)")
_FULL = 0.75
"""A wrapped line's least length, as a share of the longest."""
_PLAIN_RAISED = re.compile(r"[\w+\-−]+")


def paragraphs(pieces: list[str], *, one: bool = False) -> list[str]:
    """Finish a block of HTML text: its paragraphs, line breaks of `<br>` as line ends.

    Text that is wrapped and set apart by blank lines was written to be shown as it is: there, a
    blank line ends a paragraph, unless the element is `one` paragraph by its nature. Two `<br>` in
    a row do so anywhere.
    """
    wrapped = not one and any(_WRAPPED.search(piece) for piece in pieces)
    text = _IGNORED.sub("", "".join(pieces))
    if wrapped:
        text = _BULLET_LINE.sub(BREAK, _BLANK_LINE.sub(BREAK * 2, text))
    text = _AFTER_OPENING.sub(r"\1", _BEFORE_POINT.sub(r"\1", text))
    text = _SPACE.sub(" ", text)
    text = _SECTION_SIGN.sub(r"\1 ", text)
    text = _SPACE_BEFORE_NOTE.sub("", _NOTE_BRACKETS.sub(r"\1", text))
    return _broken(text)


def _broken(text: str) -> list[str]:
    found: list[str] = []
    lines: list[str] = []
    for line in text.split(BREAK):
        if line.strip():
            lines.append(line.strip())
        elif lines:
            found.append("\n".join(lines))
            lines = []
    if lines:
        found.append("\n".join(lines))
    return found


def preformatted(pieces: list[str]) -> list[tuple[str, bool]]:
    """Finish a block inside `<pre>`: its paragraphs, and whether each keeps its lines.

    Prose that was wrapped by hand is joined; what is set in columns or indented stays as it is.
    """
    text = "".join(pieces).replace(BREAK, "\n").expandtabs().replace("\u00a0", " ")
    found = []
    for part in re.split(r"\n[ \t]*(?:\n[ \t]*)+", _IGNORED.sub("", text)):
        part = textwrap.dedent(part.strip("\n").rstrip())
        if not part.strip():
            continue
        if _ALIGNED.search(part):
            found.append((part, True))
        else:
            found.append((_joined(part.split("\n")), False))
    return found


def _joined(lines: list[str]) -> str:
    """Lines as prose; a break stays where the next word would have fitted: its author meant it."""
    room = _FULL * max(map(len, lines))
    text = lines[0]
    for before, line in pairwise(lines):
        word = line.strip().partition(" ")[0]
        meant = len(before.rstrip()) + 1 + len(word) <= room
        text += ("\n" if meant else " ") + line.strip()
    return "\n".join(_SPACE.sub(" ", line).strip() for line in text.split("\n"))


def raised(text: str, before: str) -> str:
    """A superscript: `10^6`, `x^(a, b)`; an ordinal's ending and a note's mark stay as they are."""
    text = " ".join(text.split())
    if not text or text.startswith("[^") or text.endswith("]"):
        return text
    if _ORDINAL.fullmatch(text) and before[-1:].isdigit():
        return text
    return f"^{text}" if _PLAIN_RAISED.fullmatch(text) else f"^({text})"

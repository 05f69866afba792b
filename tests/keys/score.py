"""The scoring rule of README.md in this folder: a Markdown page against its entry in the key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

KEY = Path(__file__).with_name("legal_html.yaml")
HELD_OUT = Path(__file__).with_name("legal_html_held_out.yaml")
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_LEAD = r"^[ \t>]*"
_BULLETS = r"[-–—•*+]"


def read_key(path: Path = KEY) -> list[dict[str, Any]]:
    """The entries of a key, one a page."""
    entries: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return entries


def plain(text: str) -> str:
    """Drop what the rule does not look at: emphasis, link targets, blanks before punctuation."""
    text = text.replace("\u00a0", " ").replace("\\|", "¦")
    text = re.sub(r"\\([\\`*_{}\[\]()#+.!<>~-])", r"\1", text)
    text = re.sub(r"!?\[([^\]^][^\]]*)\]\([^()\s]*(?:\([^()]*\)[^()]*)*\)", r"\1", text)
    text = re.sub(r"</?(?:b|i|em|strong|u|sub)>", "", text)
    text = re.sub(r"<br ?/?>", " ", text)
    text = re.sub(r"<sup>(.*?)</sup>", r"^\1", text)
    text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda m: "^" + m[0].translate(_RAISED), text)
    text = re.sub(r"(?<!\[)\^[({]([^(){}\n]*)[)}]", r"^\1", text)
    text = re.sub(r"\*\*|__|(?<!\w)[*_](?=\S)|(?<=\S)[*_](?!\w)|`", "", text)
    text = re.sub(r"[ \t]+", " ", text)
    return re.sub(r"(?<=[^\s|]) +(?=[.,;:)\]])|(?<=[(\[]) +", "", text)


def misses(markdown: str, entry: Mapping[str, Any]) -> list[str]:
    """What of an entry a page gets wrong; a page without a miss is right."""
    text = plain(markdown)
    found: list[str] = []
    place = 0
    for fact in entry["order"]:
        ((kind, value),) = fact.items()
        match = re.compile(_pattern(kind, value), re.MULTILINE).search(text, place)
        if match is None:
            found.append(f"not there, or out of order: {kind}: {value}")
        else:
            place = match.end() if kind != "row" else match.end(1)
    flat = " ".join(text.split())
    headings = len(re.findall(r"^#{1,6} ", text, re.MULTILINE))
    if headings != entry.get("headings", headings):
        found.append(f"{headings} headings, not {entry['headings']}")
    for once in entry.get("once", ()):
        count = flat.count(" ".join(plain(once).split()))
        if count != 1:
            found.append(f"{count} times, not once: {once}")
    found += [f"must not be there: {s}" for s in entry.get("absent", ()) if s in flat]
    return found


def _words(text: str) -> str:
    return r"\s+(?:> ?)*".join(re.escape(word) for word in plain(text).split())


def _mark(mark: str) -> str:
    core = mark.strip("().[]")
    return _BULLETS if core == "-" else rf"[\[(]?{re.escape(core)}[.)\]]+"


def _note_mark(mark: str) -> str:
    core = re.escape(mark)
    return rf"(?:[(\[]\s*\^?\s*{core}\s*[)\]]|\(\s*\[\^{core}\]\s*\)|\^{core}(?!\d))"


def _pattern(kind: str, value: Any) -> str:
    if kind in ("h1", "h2", "h3", "h4", "h5", "h6"):
        return rf"^#{{{kind[1]}}} {_words(value)}\s*$"
    if kind == "h":
        return rf"^#{{1,6}} {_words(value)}\s*$"
    if kind == "line":
        return rf"{_LEAD}(?:#{{1,6}} |{_BULLETS} )?{_words(value)}[ \t]*$"
    if kind == "start":
        return rf"{_LEAD}(?:#{{1,6}} |{_BULLETS} )?{_words(value)}"
    if kind == "item":
        return rf"{_LEAD}(?:#{{1,6}} )?{_mark(value[0])}\s+{_words(value[1])}"
    if kind == "quote":
        return rf"^[ \t]*> *(?:[> ]*){_words(value)}"
    if kind == "row":
        cells = (r"[^|\n]*" if cell == "*" else rf" *{_words(cell)} *" for cell in value)
        return rf"^[ \t>]*\|{'[|]'.join(cells)}(\|)[ \t]*$"
    if kind == "mark":
        return rf"{_words(value[0])}\s*{_note_mark(value[1])}"
    if kind == "note":
        return rf"{_LEAD}{_note_mark(value[0])}:?\s*{_words(value[1])}"
    if kind == "text":
        return _words(value)
    raise ValueError(f"the key knows no fact {kind!r}")

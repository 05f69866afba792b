"""Sentences and paragraphs of legal prose, each a verbatim span of the text."""

from __future__ import annotations

import re
from collections.abc import Sequence

_END = re.compile(r"[.?!][\"”’')\]]*(?=\s+[\"“‘'(\[]*[A-Z0-9§])")
_BREAK = re.compile(r"\n\s*\n")
# What a full stop after it does not end: reporters, courts, parties, titles, sections, months.
_ABBREVIATED = re.compile(
    r"(?:^|[\s(\[“\"])(?:[A-Z]|v|vs|no|nos|art|arts|sec|secs|ss|s|subs|para|paras|cl|ch|pt|vol|"
    r"ed|eds|p|pp|id|ibid|supra|infra|cf|e\.g|i\.e|viz|al|et|rev|stat|ann|app|supp|cir|ct|dist|"
    r"div|mr|mrs|ms|dr|hon|jr|sr|st|inc|ltd|llc|co|corp|bros|ass'n|dep't|gov't|int'l|nat'l|"
    r"jan|feb|mar|apr|jun|jul|aug|sept|sep|oct|nov|dec|fed|cal|mich|tex|fla|mass|minn|wis|pa|va|"
    r"(?:[A-Z]\.)+[A-Za-z]{1,4}|F|U\.S\.C|C\.F\.R|R\.S\.C|S\.C\.R|O\.R)\.$",
    re.IGNORECASE,
)
# A capitalised word before a number cites: 212 Fern. 340.
_REPORTER = re.compile(r"\b[A-Z][\w'’]*\.$")


def paragraphs(text: str) -> list[str]:
    """The blocks between blank lines, in order, without space around them."""
    return [block.strip() for block in _BREAK.split(text) if block.strip()]


def sentences(text: str) -> list[str]:
    """The sentences of a text in order, each as it stands; a blank line always ends one."""
    found: list[str] = []
    for block in paragraphs(text):
        start = 0
        for end in _END.finditer(block):
            piece = block[start : end.end()]
            said = block[start : end.start() + 1]
            follows = block[end.end() :].lstrip()[0]
            if _ABBREVIATED.search(said) or (follows.isdigit() and _REPORTER.search(said)):
                continue
            found.append(piece.strip())
            start = end.end()
        if rest := block[start:].strip():
            found.append(rest)
    return found


def windows(items: Sequence[str], size: int) -> list[tuple[int, int]]:
    """Half-open runs that cut `items` into pieces of `size`; a short rest joins the last one."""
    starts = list(range(0, max(len(items) - size + 1, 1), size)) if items else []
    return [
        (start, start + size if place + 1 < len(starts) else len(items))
        for place, start in enumerate(starts)
    ]

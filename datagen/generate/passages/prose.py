"""Prose out of an encyclopedia page: paragraphs without markup, cut into sentences and windows."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_NOT_PROSE = frozenset(
    re.findall(
        r"\S+",
        "awards bibliography citations discography filmography footnotes gallery literature "
        "notes publications references sources works",
    )
) | {"external links", "further reading", "see also", "selected works"}
_HEADING = re.compile(r"(#+)\s*(.*?)\s*#*$")
_LIST_OR_TABLE = re.compile(
    r"^\s*(?:[-*|+:>{]|\d+[.)]\s|!\[|```)|\S\s{3,}\S|-{4,}|\|", re.MULTILINE
)
_REFERENCE = re.compile(
    r"\[(?:\d+|[a-z]|(?:note|nb|n)\s*\d+|citation needed|[^\[\]]{0,30}\?)\]", re.I
)
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()]*\)")
_EMPHASIS = re.compile(r"(?<![A-Za-z0-9])([_*]{1,3})([^_*\n]+?)\1(?![A-Za-z0-9])")
_FILE_NAME = re.compile(r"^\S+\.(?:jpe?g|png|svg|gif)\s+", re.MULTILINE | re.IGNORECASE)
_HOLLOW = re.compile(r"\s*\((?:[\s;,:–-]|\bor\b)*\)")
_HOLLOW_START = re.compile(r"\(\s*[;,:]\s*(?:[;,:]\s*)*")
_ENDS = re.compile(r"[.!?][\"”’')]*$")
_ABBREVIATED = re.compile(
    r"(?:\b[A-Z]|\b(?:c|ca|cf|Sgt|Mr|Mrs|Ms|Dr|St|Mt|No|vs|Jr|Sr|Sc|Ph\.D|approx|Rev|Lt|Col|Gen|Capt"
    r"|Prof|Inc|Co|Ltd|Bros|Hon|ul|op|vol|pp|Fr|Msgr|Maj|Adm|Gov|Sen|Rep|B\.Sc|M\.Sc|e\.g|i\.e))\.$"
)
_MIN_PARAGRAPH_CHARACTERS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A run of sentences under one heading, as the page has them."""

    heading: str | None
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """The sentences as one paragraph."""
        return " ".join(self.sentences)


def name_of(title: str) -> str:
    """The subject's plain name: the title without a qualifier in parentheses."""
    return re.sub(r"\s*\([^()]*\)\s*$", "", title.replace("_", " ")).strip()


def tidy(text: str) -> str:
    """Take reference marks, links, emphasis and hollow parentheses out; quotes become curly."""
    text = _LINK.sub(r"\1", _REFERENCE.sub("", _FILE_NAME.sub("", text)))
    text = _EMPHASIS.sub(r"\2", text)
    text = re.sub(r"\\(\W)", r"\1", text).replace("\\", " ")
    text = _HOLLOW_START.sub("(", _HOLLOW.sub("", text))
    text = re.sub(r'"([^"]*)"', r"“\1”", text).replace('"', "")
    text = re.sub(r"\s+([,.;:])", r"\1", text)
    text = re.sub(r"\.\.(?=\s|$)", ".", text)
    return re.sub(r"\s+", " ", text).strip()


def split_sentences(text: str) -> tuple[str, ...]:
    """Cut prose at sentence ends, but not after initials and common abbreviations."""
    found: list[str] = []
    for span in _splitter()(text).sents:
        sentence = span.text.strip()
        if not sentence:
            continue
        begins = re.match(r"[\"“‘'(A-ZÀ-Þ0-9]", sentence)
        if found and (not begins or _ABBREVIATED.search(found[-1])):
            found[-1] += f" {sentence}"
        else:
            found.append(sentence)
    return tuple(found)


@functools.cache
def _splitter() -> Any:
    import spacy

    pipeline = spacy.blank("en")
    pipeline.add_pipe("sentencizer")
    return pipeline


def paragraphs(text: str, title: str) -> list[Passage]:
    """The page's prose paragraphs in order; lists, tables and closing sections are left out."""
    found: list[Passage] = []
    heading: str | None = None
    skipping = False
    for block in re.split(r"\n\s*\n", text):
        prose = block.strip()
        while match := _HEADING.match(prose.partition("\n")[0]):
            heading = tidy(match[2])
            if len(match[1]) <= 2:
                skipping = heading.casefold() in _NOT_PROSE
            prose = prose.partition("\n")[2].strip()
        if skipping or not prose or _LIST_OR_TABLE.search(prose):
            continue
        prose = tidy(prose)
        if not found:
            prose = _lead(prose, title)
        if len(prose) >= _MIN_PARAGRAPH_CHARACTERS and _ENDS.search(prose):
            found.append(Passage(heading=heading, sentences=split_sentences(prose)))
    return found


def _lead(prose: str, title: str) -> str:
    """The lead in the title's spelling: bold arrives in capitals, or its name is lost."""
    name = name_of(title)
    if re.match(r"(?:is|was|are|were) [a-z]", prose):
        return f"{name} {prose}"
    match = re.match(
        r"((?:(?:The|An?) )?)((?:[^a-z\s(]*[A-ZÀ-Þ]{2}[^a-z\s(]*,?(?:\s+|(?=\()|$))+)", prose
    )
    if match is None:
        return prose
    bold = match[2].rstrip(" ,")
    if bold.casefold() == name.casefold():
        spelled = name
    else:
        known = {word.casefold(): word for word in name.split()}
        words = (known.get(word.casefold(), word.capitalize()) for word in bold.split())
        spelled = " ".join(words)
    return match[1] + spelled + prose[match.start(2) + len(bold) :]


def windows(passages: Sequence[Passage], words: int) -> list[Passage]:
    """Join neighbours under one heading and cut long ones, at sentence ends, to about `words`."""
    found: list[Passage] = []
    for passage in passages:
        for sentence in passage.sentences:
            last = found[-1] if found else None
            if (
                last is not None
                and last.heading == passage.heading
                and len(f"{last.text} {sentence}".split()) <= words
            ):
                found[-1] = Passage(heading=last.heading, sentences=(*last.sentences, sentence))
            else:
                found.append(Passage(heading=passage.heading, sentences=(sentence,)))
    return found

"""A page of law as Markdown: the whole way from its bytes or text to headings, lists and notes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from datagen.generate.html.blocks import Block, Walk
from datagen.generate.html.chrome import site_parts
from datagen.generate.html.encoding import decode, mend, unpack
from datagen.generate.html.links import read_links
from datagen.generate.html.tree import BadPage, Node, parse, squeeze

_INDENT = "   "
# A line that names a division, on a page that has no headings of its own.
_DIVISION = re.compile(
    r"(?P<kind>PART|TITLE|ANNEX|CHAPTER|SECTION|ARTICLE|Part|Title|Annex|Chapter|Section|Article)"
    r"(\s(\d{1,4}[a-z]{0,2}|[IVXLC]{1,7}|[A-Z]))?(\s?[.:—–-]?\s\S.{0,80})?"
)
_DIVISION_LEVEL = {"part": 1, "title": 1, "annex": 1, "chapter": 2, "section": 3, "article": 3}
_FEW_HEADINGS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What was read off a page: its Markdown, its title, and counts that a filter can ask for."""

    text: str
    title: str
    encoding: str
    headings: int
    tables: int
    notes: int
    pictures: int


def read_page(source: bytes | str, *, most_bytes: int) -> Page:
    """Read a page. BadPage with the reason; TooLarge for a packed page beyond `most_bytes`."""
    if isinstance(source, bytes):
        text, encoding = decode(unpack(source, most=most_bytes))
    else:
        text, encoding = source, "text"
    root = parse(mend(text))
    out = site_parts(root)
    walk = Walk(links=read_links(root, out), out=out)
    blocks = _divided(walk.read(root))
    return Page(
        text=markdown(blocks),
        title=_title(root),
        encoding=encoding,
        headings=sum(block.kind == "heading" for block in blocks),
        tables=sum(block.kind == "table" for block in blocks),
        notes=sum(block.kind == "note" for block in blocks),
        pictures=walk.pictures,
    )


def _title(root: Node) -> str:
    for node in root.elements():
        if node.tag == "title":
            return squeeze("".join(part for part in node.children if isinstance(part, str)))
    return ""


def _divided(blocks: list[Block]) -> list[Block]:
    """Make headings of lines that name a division, where a page marks no headings."""
    if sum(block.kind == "heading" for block in blocks) >= _FEW_HEADINGS:
        return blocks
    found = []
    for block in blocks:
        level = _division_level(block)
        found.append(Block(kind="heading", text=block.text, level=level) if level else block)
    return found


def _division_level(block: Block) -> int:
    """The heading level of a line that names a division: `Article 7`, `CHAPTER I DEFINITIONS`."""
    named = _DIVISION.fullmatch(block.text)
    if named is None or block.kind != "text" or block.depth or block.quote:
        return 0
    number, name = named[2], (named[4] or "").strip(" .:—–-")
    if number is None and named["kind"].lower() != "annex":
        return 0
    if name and not name[0].isupper():
        return 0
    return _DIVISION_LEVEL[named["kind"].lower()]


def markdown(blocks: list[Block]) -> str:
    """Blocks as Markdown text, one blank line between them, none between items of a list."""
    lines: list[str] = []
    before: Block | None = None
    for block in blocks:
        if before is not None:
            together = block.kind == before.kind == "item" or block.kind == before.kind == "note"
            together = together or (block.kind == "definition" and before.kind == "text")
            if not (together and block.quote == before.quote):
                lines.append(("> " * block.quote if block.quote == before.quote else "").rstrip())
        lines.extend(_lines(block))
        before = block
    return "\n".join(lines).strip("\n") + "\n" if lines else ""


def _lines(block: Block) -> list[str]:
    lead = "> " * block.quote + _INDENT * block.depth
    if block.kind == "heading":
        return [f"{lead}{'#' * block.level} {block.text}"]
    if block.kind == "pre":
        return [f"{lead}```", *(f"{lead}{line}" for line in block.text.split("\n")), f"{lead}```"]
    if block.kind == "definition":
        return [f"{lead}  {line}" for line in block.text.split("\n")]
    return [f"{lead}{line}" for line in block.text.split("\n")]


__all__ = ["BadPage", "Page", "read_page"]

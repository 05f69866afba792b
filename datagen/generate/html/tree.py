"""A page as a tree of our own, from HTML (Lexbor) or from the XML of the eCFR bulk data (expat).

Every pass over the tree is a loop, never a recursion: a page may be as deep as it likes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

BLOCKS = frozenset(
    "address article aside blockquote body caption center dd details dialog dir div dl dt fieldset"
    " figcaption figure footer form h1 h2 h3 h4 h5 h6 header hr html label legend li main menu nav"
    " ol optgroup p pre section summary table tbody td tfoot th thead tr ul".split()
)
HEADINGS = {f"h{level}": level for level in range(1, 7)}
_FEED = re.compile(
    r"\s*<\?xml[^>]*>\s*(?:<!--.*?-->\s*|<\?[^>]*>\s*)*<(?:rss|feed|urlset)\b", re.DOTALL
)
_FEED_WITHIN = 4096
_SPACE = re.compile(r"\s+")


class BadPage(ValueError):
    """A page that is refused before it is read; the message begins with the reason."""


@dataclass(slots=True, eq=False)
class Node:
    """An element: `letters` counts the letters and digits below it, `linked` those in links."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Node | str] = field(default_factory=list)
    parent: Node | None = None
    letters: int = 0
    linked: int = 0

    def get(self, name: str) -> str:
        """An attribute's value, empty where there is none."""
        return self.attributes.get(name, "")

    def elements(self) -> Iterator[Node]:
        """The element itself and every one below it, in document order."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(c for c in reversed(node.children) if isinstance(c, Node))

    def above(self) -> Iterator[Node]:
        """The element itself and those around it, innermost first."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent

    def first_text(self, most: int) -> str:
        """The first `most` letters and digits below, case folded."""
        found: list[str] = []
        size = 0
        waiting: list[Node | str] = [self]
        while waiting and size < most:
            part = waiting.pop()
            if isinstance(part, Node):
                waiting.extend(reversed(part.children))
            else:
                letters = "".join(c for c in part if c.isalnum())
                found.append(letters)
                size += len(letters)
        return "".join(found)[:most].casefold()


def parse(text: str) -> Node:
    """The root of a page, its letters counted; BadPage where an XML page cannot be trusted."""
    from datagen.generate.html.ecfr import is_ecfr_xml, parse_ecfr

    if _FEED.match(text[:_FEED_WITHIN]):
        raise BadPage("html_no_page: a feed, not a page")
    root = parse_ecfr(text) if is_ecfr_xml(text) else _parse_html(text)
    _count(root)
    return root


def _parse_html(text: str) -> Node:
    from selectolax.lexbor import LexborHTMLParser, SelectolaxError

    try:
        source = LexborHTMLParser(text).root
    except SelectolaxError as error:
        # The parser takes any text; it fails only where it gets no memory.
        raise MemoryError from error
    root = Node("html")
    if source is None:
        return root
    at, node = source.child, root
    above = []
    while at is not None:
        tag = at.tag or ""
        inside = None
        if tag == "-text":
            node.children.append(at.text_content or "")
        elif tag[:1] not in "-!_":
            child = Node(tag, {k: v or "" for k, v in at.attributes.items()}, parent=node)
            node.children.append(child)
            inside = at.child
        if inside is not None:
            above.append(at)
            at, node = inside, child
            continue
        while at.next is None and above:
            at = above.pop()
            assert node.parent is not None
            node = node.parent
        at = at.next
    return root


def _count(root: Node) -> None:
    order = list(root.elements())
    for node in order:
        node.letters = sum(
            sum(map(str.isalnum, part)) for part in node.children if isinstance(part, str)
        )
    for node in reversed(order):
        if node.tag == "a" and "href" in node.attributes:
            node.linked = node.letters
        if node.tag in ("script", "style", "noscript", "template"):
            node.letters = node.linked = 0
        if node.parent is not None:
            node.parent.letters += node.letters
            node.parent.linked += node.linked


def squeeze(text: str) -> str:
    """One blank for any run of white space."""
    return _SPACE.sub(" ", text).strip()

"""What links inside a page say: which blocks are footnotes, and which only repeat a heading."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from datagen.generate.html.tree import BLOCKS, HEADINGS, Node, squeeze

_MARK = re.compile(
    r"[\[(]?\s*((?:FN|fn|n|note)?\s?\d{1,3}[a-z]?|[a-z]|[*†‡§¶]{1,3}|[ivx]{1,5})\s*[\])]?"
)
_SHORTEST_ENTRY = 6
_READ = 600
_NO_OWN_BLOCK = frozenset(["label", "dt", "caption"])


@dataclass(slots=True)
class Links:
    """Footnote marks by their element, footnotes by their block, entries of tables of contents."""

    marks: dict[int, str] = field(default_factory=dict)
    notes: dict[int, str] = field(default_factory=dict)
    contents: set[int] = field(default_factory=set)


def read_links(root: Node, out: set[int]) -> Links:
    """Read the links of a page that lead into it; `out` names elements that are left out."""
    targets, order = _targets(root)
    found = Links()
    taken: set[str] = set()
    for node in _kept(root, out):
        href = node.get("href")
        if node.tag != "a" or len(href) < 2 or href[0] != "#":
            continue
        target = targets.get(href[1:])
        # Footnotes stand below their marks, and sections below their table of contents.
        if target is None or order[id(target)] <= order[id(node)]:
            continue
        here, there = _block(node), _block(target)
        if here is there:
            continue
        mark = _MARK.fullmatch(_own_text(node))
        if mark is not None:
            _note(found, taken, node, mark[1].replace(" ", ""), there, root)
        elif _repeats(node, here, there):
            found.contents.add(id(here))
    return found


def _kept(root: Node, out: set[int]) -> Iterator[Node]:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in out:
            continue
        yield node
        waiting.extend(c for c in reversed(node.children) if isinstance(c, Node))


def _targets(root: Node) -> tuple[dict[str, Node], dict[int, int]]:
    targets: dict[str, Node] = {}
    order: dict[int, int] = {}
    for place, node in enumerate(root.elements()):
        order[id(node)] = place
        for name in (node.get("id"), node.get("name") if node.tag == "a" else ""):
            if name:
                targets.setdefault(name, node)
    return targets, order


def _block(node: Node) -> Node:
    for around in node.above():
        if around.tag in BLOCKS and around.tag not in _NO_OWN_BLOCK:
            return around
    return node


def _own_text(node: Node) -> str:
    if node.letters > _SHORTEST_ENTRY:
        return ""
    return squeeze("".join(p for n in node.elements() for p in n.children if isinstance(p, str)))


def _note(found: Links, taken: set[str], node: Node, mark: str, there: Node, root: Node) -> None:
    """A mark whose link ends at a block that begins with the mark: that block is its footnote."""
    begins = "".join(filter(str.isalnum, mark)).casefold()
    if not there.first_text(_READ).startswith(begins) and not _numbered(there, mark):
        return
    if there.letters > root.letters / 2:
        return
    label = found.notes.get(id(there))
    if label is None:
        label, again = mark, 2
        while label in taken:
            label, again = f"{mark}-{again}", again + 1
        taken.add(label)
        found.notes[id(there)] = label
    found.marks[id(node)] = label


def _numbered(block: Node, mark: str) -> bool:
    """Whether a block is the list item whose number is the mark."""
    if block.tag != "li" or block.parent is None or not mark.isdigit():
        return False
    items = [c for c in block.parent.children if isinstance(c, Node) and c.tag == "li"]
    return items.index(block) + 1 == int(mark)


def _repeats(node: Node, here: Node, there: Node) -> bool:
    """Whether a block begins with a link, and says what stands at the link's end and no more."""
    if not _SHORTEST_ENTRY <= here.letters <= _READ or here.tag in (*HEADINGS, "td", "th", "body"):
        return False
    said = here.first_text(_READ)
    return said.startswith(node.first_text(_READ)) and there.first_text(_READ).startswith(said)

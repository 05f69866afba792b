"""The walk over a page: headings, paragraphs, items, quotes, tables and notes, in reading order."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from datagen.generate.html import tables
from datagen.generate.html.inline import BREAK, paragraphs, preformatted, raised
from datagen.generate.html.links import Links
from datagen.generate.html.publishers import (
    HEADING_CLASSES,
    LONGEST_HEADING,
    is_menu_line,
    is_site_phrase,
)
from datagen.generate.html.tree import BLOCKS, HEADINGS, Node, squeeze

_NOT_ITEM = re.compile(r"(?i)list-style(-type)?\s*:\s*none")
_OWN_MARK = re.compile(rf"(?:{tables.ITEM_MARK.pattern})(?=\s|$)")
_ONE_PARAGRAPH = frozenset([*HEADINGS, "p", "li", "dt", "dd", "label", "th", "caption"])
_ROMAN = ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"),
          (40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A finished block. `kind`: heading, text, item, note, pre, table, definition."""

    kind: str
    text: str
    level: int = 0
    depth: int = 0
    quote: int = 0


@dataclass(slots=True)
class _List:
    kind: str
    number: int
    step: int


@dataclass(slots=True)
class _Mark:
    """A number or label that stands in a block of its own, and waits for its text."""

    text: str
    row: Node
    is_item: bool


@dataclass(slots=True)
class Walk:
    """What is open while a page is read; `blocks` is the result."""

    links: Links
    out: set[int]
    blocks: list[Block] = field(default_factory=list)
    pictures: int = 0
    _line: list[str] = field(default_factory=list)
    _scripts: list[tuple[str, int]] = field(default_factory=list)
    _lists: list[_List] = field(default_factory=list)
    _rows: list[Node] = field(default_factory=list)
    _mark: _Mark | None = None
    _quote: int = 0
    _pre: int = 0
    _defined: int = 0
    _heading: int = 0
    _note: str | None = None
    _links: int = 0
    _linked: int = 0

    def read(self, root: Node) -> list[Block]:
        """All blocks below an element."""
        waiting: list[tuple[Node | str, bool]] = [(root, True)]
        while waiting:
            part, entering = waiting.pop()
            if isinstance(part, str):
                self._line.append(part)
                if self._links:
                    self._linked += sum(map(str.isalnum, part))
            elif not entering:
                self._leave(part)
            elif self._enter(part):
                waiting.append((part, False))
                waiting.extend((child, True) for child in reversed(part.children))
        self._flush(root)
        return self.blocks

    def _enter(self, node: Node) -> bool:
        """Open an element; False where there is nothing more to read in it."""
        if id(node) in self.out or id(node) in self.links.contents:
            return False
        tag = node.tag
        if tag == "br":
            self._line.append("\n" if self._pre else BREAK)
            return False
        if tag == "img":
            self.pictures += 1
            return False
        if tag == "a":
            label = self.links.marks.get(id(node))
            if label is not None:
                self._line.append(f"[^{label}]")
            if label is not None or is_site_phrase(self._plain(node)):
                return False
            self._links += 1
        if tag in ("sup", "sub") or "superscript" in node.get("class").split():
            self._scripts.append(("".join(self._line[-3:]), len(self._line)))
        elif tag in BLOCKS:
            self._flush(node.parent or node)
            return self._open(node)
        return True

    def _open(self, node: Node) -> bool:
        tag = node.tag
        level = HEADINGS.get(tag) or _styled_level(node)
        if level:
            self._heading = level
        elif tag in ("ol", "ul", "dir", "menu"):
            kind = _kind(node) if tag == "ol" else "bullet"
            if _NOT_ITEM.search(node.get("style")):
                kind = "none"
            start = _whole(node.get("start"), 1)
            step = -1 if "reversed" in node.attributes else 1
            self._lists.append(_List(kind, start, step))
        elif tag == "li":
            self._item(node)
        elif tag == "table":
            rows = tables.rows_of(node, self.out)
            if tables.holds_data(node, rows):
                self._table(node, rows)
                return False
        elif tag == "blockquote":
            self._quote += 1
        elif tag in ("pre", "listing", "xmp"):
            self._pre += 1
        elif tag == "dd":
            self._defined += 1
        if id(node) in self.links.notes:
            self._note = self.links.notes[id(node)]
        return True

    def _leave(self, node: Node) -> None:
        tag = node.tag
        if tag in ("sup", "sub") or "superscript" in node.get("class").split():
            before, place = self._scripts.pop()
            text = "".join(self._line[place:])
            del self._line[place:]
            self._line.append(text if tag == "sub" else raised(text, before))
            return
        if tag == "a":
            self._links -= 1
        if tag not in BLOCKS:
            return
        self._flush(node)
        if HEADINGS.get(tag) or _styled_level(node):
            self._heading = 0
        elif tag in ("ol", "ul", "dir", "menu"):
            self._lists.pop()
        elif tag == "blockquote":
            self._quote -= 1
        elif tag in ("pre", "listing", "xmp"):
            self._pre -= 1
        elif tag == "dd":
            self._defined -= 1
        if self._mark is not None and self._mark.row is node:
            self._unmark()
        while self._rows and self._rows[-1] is node:
            self._rows.pop()
        if id(node) in self.links.notes:
            self._note = None

    def _item(self, node: Node) -> None:
        """Number an item by its list; one that states its own number keeps that alone."""
        if not self._lists:
            self._lists.append(_List("bullet", 1, 1))
        at = self._lists[-1]
        at.number = _whole(node.get("value"), at.number)
        mark = numbered(at.number, at.kind)
        at.number += at.step
        if not node.letters or id(node) in self.links.notes:
            return
        self._unmark()
        self._mark = _Mark(mark, node, True)
        self._rows.append(node)

    def _flush(self, owner: Node) -> None:
        """End the block that is being read; `owner` is the element whose text it is."""
        pieces, self._line = self._line, []
        linked, self._linked = self._linked, 0
        if self._pre:
            parts = preformatted(pieces)
        else:
            one = owner.tag in _ONE_PARAGRAPH
            parts = [(text, False) for text in paragraphs(pieces, one=one)]
        for text, aligned in parts:
            if aligned:
                self._unmark()
                self._add("pre", text)
            elif not is_site_phrase(text) and not is_menu_line(text, linked):
                self._paragraph(text, owner)

    def _paragraph(self, text: str, owner: Node) -> None:
        if self._heading:
            self._unmark(numbered=False)
            self._head(squeeze(text), owner)
            return
        if self._note is not None:
            label, self._note = self._note, None
            said = re.escape(label.partition("-")[0])
            text = re.sub(rf"^[\[(]?\s*\^?{said}\s*[\])]?\s*[.:]?\s*", "", text)
            self._add("note", f"[^{label}]: {text}")
            return
        label_only = owner.tag == "label" and len(text) < 60 and text.endswith(":")
        if tables.ITEM_MARK.fullmatch(text) or label_only:
            row = _row(owner, text)
            if row is not None:
                self._unmark()
                self._mark = _Mark(text, row, not label_only)
                if not label_only:
                    self._rows.append(row)
                return
        mark = self._mark
        self._mark = None
        if mark is None:
            self._add("definition" if self._defined else "text", text)
        elif not mark.is_item:
            self._add("text", f"{mark.text} {text}")
        elif mark.text in ("-", "") and (mark.text == "" or _OWN_MARK.match(text)):
            self._add("item", text)
        else:
            self._add("item", f"{mark.text} {text}")

    def _head(self, text: str, owner: Node) -> None:
        """Add a heading; a title that a publisher sets in several paragraphs becomes one."""
        before = self.blocks[-1] if self.blocks else None
        self._rows.clear()
        styled = owner.tag not in HEADINGS and self._heading == 1
        if styled and before is not None and (before.kind, before.level) == ("heading", 1):
            self.blocks.pop()
            text = f"{before.text} {text}"
        self._add("heading", text, level=self._heading)

    def _unmark(self, *, numbered: bool = True) -> None:
        """Set a number or label that found no text as a line of its own.

        Not `numbered`: a number that only the list gave is dropped, as before a heading or table.
        """
        mark, self._mark = self._mark, None
        if mark is None or (not numbered and mark.row.tag == "li"):
            return
        if mark.text not in ("-", ""):
            self._add("item" if mark.is_item else "text", mark.text)

    def _add(self, kind: str, text: str, *, level: int = 0) -> None:
        depth = len(self._rows)
        if kind == "item":
            depth -= 1
        if kind in ("heading", "note", "table", "pre"):
            depth = 0
        self.blocks.append(
            Block(kind=kind, text=text, level=level, depth=max(depth, 0), quote=self._quote)
        )

    def _table(self, node: Node, rows: list[list[Node]]) -> None:
        for child in node.children:
            if isinstance(child, Node) and child.tag == "caption" and id(child) not in self.out:
                self._line.append(self._plain(child))
                self._flush(child)
        self._unmark(numbered=False)
        text = "\n".join(tables.lines(rows, self._plain))
        if text:
            self._add("table", text)

    def _plain(self, node: Node) -> str:
        """The text of a cell or link on one line, read as blocks of its own."""
        if not node.letters and not any(isinstance(c, str) for c in node.children):
            return ""
        inner = Walk(links=self.links, out=self.out)
        waiting: list[tuple[Node | str, bool]] = [(c, True) for c in reversed(node.children)]
        while waiting:
            part, entering = waiting.pop()
            if isinstance(part, str):
                inner._line.append(part)
            elif not entering:
                inner._close_inline(part)
            elif inner._enter_inline(part):
                waiting.append((part, False))
                waiting.extend((child, True) for child in reversed(part.children))
        self.pictures += inner.pictures
        return squeeze(" ".join(paragraphs(inner._line, one=True)))

    def _enter_inline(self, node: Node) -> bool:
        if node.tag in BLOCKS and id(node) not in self.out:
            self._line.append(BREAK)
            return True
        if node.tag == "a" and id(node) in self.links.marks:
            self._line.append(f"[^{self.links.marks[id(node)]}]")
            return False
        if id(node) in self.out or node.tag in ("br", "img"):
            self.pictures += node.tag == "img"
            self._line.append(BREAK)
            return False
        if node.tag in ("sup", "sub") or "superscript" in node.get("class").split():
            self._scripts.append(("".join(self._line[-3:]), len(self._line)))
        return True

    def _close_inline(self, node: Node) -> None:
        if node.tag in BLOCKS:
            self._line.append(BREAK)
        elif node.tag in ("sup", "sub") or "superscript" in node.get("class").split():
            self._leave(node)


def _row(owner: Node, text: str) -> Node | None:
    """The element around a number and the text it numbers; None where no text follows."""
    letters = sum(map(str.isalnum, text))
    at: Node | None = owner
    while at is not None and at.letters <= letters:
        at = at.parent
    return at if at is not None and at.tag not in ("body", "html", "main") else None


def _styled_level(node: Node) -> int:
    """The heading level of a paragraph that a publisher's class makes a heading."""
    if node.tag not in ("p", "div") or not node.get("class") or node.letters > LONGEST_HEADING:
        return 0
    if any(around.tag in ("td", "th", "li") for around in node.above()):
        return 0
    return next(
        (HEADING_CLASSES[c] for c in node.get("class").lower().split() if c in HEADING_CLASSES), 0
    )


def _kind(node: Node) -> str:
    style = re.search(r"(?i)list-style(?:-type)?\s*:[^;]*?(lower|upper)-(alpha|latin|roman)",
                      node.get("style"))  # fmt: skip
    if style is not None:
        letter = "i" if style[2].lower() == "roman" else "a"
        return letter.upper() if style[1].lower() == "upper" else letter
    return node.get("type") if node.get("type") in ("a", "A", "i", "I") else "1"


def _whole(value: str, default: int) -> int:
    return int(value) if re.fullmatch(r"-?\d{1,6}", value.strip()) else default


def numbered(number: int, kind: str) -> str:
    """An item's number as a browser writes it: `3.`, `c.`, `III.`; `-` for a bullet."""
    if kind in ("bullet", "none"):
        return "-" if kind == "bullet" else ""
    if kind in ("a", "A") and number > 0:
        letters = ""
        while number > 0:
            number, place = divmod(number - 1, 26)
            letters = chr(ord("a") + place) + letters
        return f"{letters.upper() if kind == 'A' else letters}."
    if kind in ("i", "I") and 0 < number < 4000:
        text = ""
        for value, roman in _ROMAN:
            text, number = text + roman * (number // value), number % value
        return f"{text.upper() if kind == 'I' else text}."
    return f"{number}."

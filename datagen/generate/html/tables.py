"""Tables: which hold data and which only place things, and rows as Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from datagen.generate.html.tree import HEADINGS, Node

_SPANNED_MOST = 1000
_REPEATED_MOST = 80
"""Characters of a cell over several rows that each of them repeats, so that a row reads alone."""
_CELLS_MOST = 400_000
_LONG_CELL = 1500
"""Letters of a cell beyond which a table without a head is a layout of the page."""
_BOLD = re.compile(r"(?i)font-weight\s*:\s*(bold|[6-9]00)")
ITEM_MARK = re.compile(
    r"\((?:\d{1,3}|[a-zA-Z]{1,2}|[ivxlIVXL]{1,7})\)|(?:\d{1,3}|[a-zA-Z]|[ivxl]{1,6}|[IVX]{1,5})[.)]"
    r"|[-–—•·▪◦]"
)
"""What may stand for an item's number or bullet, as the whole of a cell or block."""


def rows_of(table: Node, out: set[int]) -> list[list[Node]]:
    """The cells of a table's own rows, in document order; rows of tables inside are theirs."""
    rows: list[list[Node]] = []
    waiting: list[Node] = [table]
    while waiting:
        node = waiting.pop()
        parts = [c for c in node.children if isinstance(c, Node) and id(c) not in out]
        if node.tag == "tr":
            rows.append([c for c in parts if c.tag in ("td", "th")])
        else:
            waiting.extend(c for c in reversed(parts) if c.tag in ("tr", "thead", "tbody", "tfoot"))
    return rows


def holds_data(table: Node, rows: list[list[Node]]) -> bool:
    """Whether a table's rows and columns mean something, rather than place parts of the page."""
    if table.get("role") in ("presentation", "none") or max(map(len, rows), default=0) < 2:
        return False
    cells = [cell for row in rows for cell in row]
    if any(cell.tag == "th" for cell in cells) or _has_own(table, ("caption", "thead")):
        return sum(bool(cell.letters) for cell in cells) > 1
    if any(node.tag in _PLACED for cell in cells for node in cell.elements()):
        return False
    if max(cell.letters for cell in cells) > _LONG_CELL or _is_list(rows):
        return False
    if table.get("border").strip() not in ("", "0"):
        return True
    if any(_has_paragraphs(cell) for cell in cells):
        return False
    return sum(sum(bool(cell.letters) for cell in row) > 1 for row in rows) > 1


def _has_paragraphs(cell: Node) -> bool:
    """Whether a cell is a text of its own, of several paragraphs or with a list."""
    blocks = [n for n in cell.elements() if n.tag in ("p", "li", "blockquote") and n.letters]
    return len(blocks) > 1


_PLACED = frozenset([*HEADINGS, "form", "pre", "table", "article", "section", "iframe"])


def _has_own(table: Node, tags: tuple[str, ...]) -> bool:
    return any(isinstance(c, Node) and c.tag in tags and c.letters for c in table.children)


def _is_list(rows: list[list[Node]]) -> bool:
    """Whether the first cells are nothing but numbers of items, and the second their text."""
    marks = [row for row in rows if len(row) == 2 and row[0].letters < _SHORT]
    return len(marks) == len(rows) and all(ITEM_MARK.fullmatch(_text(row[0])) for row in marks)


_SHORT = 8
_PAGER = re.compile(r"(?:[\d.…<>«»]+\s){2,}[\d.…<>«»]+")


def _text(cell: Node) -> str:
    parts = [p for node in cell.elements() for p in node.children if isinstance(p, str)]
    return "".join("".join(parts).split())


def lines(rows: list[list[Node]], text: Callable[[Node], str]) -> Iterator[str]:
    """A table as pipe rows, one a line; below a row of heads, the line that Markdown asks for.

    A cell over several columns fills the first of them. One over several rows is repeated in each
    where it is short.
    """
    grid = _grid(rows, text)
    for place, row in enumerate(grid):
        said = [cell for cell in row if cell]
        if not said or (len(said) == 1 and _PAGER.fullmatch(said[0])):
            continue
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
        if place == 0 and len(grid) > 1 and all(_is_head(c) for c in rows[0] if c.letters):
            yield "|" + " --- |" * len(row)


def _grid(rows: list[list[Node]], text: Callable[[Node], str]) -> list[list[str]]:
    grid: list[list[str]] = []
    hanging: dict[int, tuple[int, str]] = {}
    size = 0
    for cells in rows:
        row: list[str] = []
        waiting = list(reversed(cells))
        while waiting or any(column >= len(row) for column in hanging):
            column = len(row)
            if column in hanging:
                left, said = hanging.pop(column)
                row.append(said)
                if left > 1:
                    hanging[column] = (left - 1, said)
            elif waiting:
                cell = waiting.pop()
                said = text(cell)
                wide = _span(cell, "colspan")
                high = min(_span(cell, "rowspan"), len(rows) - len(grid))
                for place in range(wide):
                    here = said if place == 0 else ""
                    row.append(here)
                    if high > 1:
                        again = here if len(here) <= _REPEATED_MOST else ""
                        hanging[column + place] = (high - 1, again)
            else:
                row.append("")
            if len(row) > _SPANNED_MOST:
                break
        size += len(row)
        if size > _CELLS_MOST:
            break
        grid.append(row)
    width = max(map(len, grid), default=0)
    for row in grid:
        row.extend([""] * (width - len(row)) if width * len(grid) <= _CELLS_MOST else [])
    return grid


def _span(cell: Node, name: str) -> int:
    value = cell.get(name).strip()
    return min(max(int(value), 1), _SPANNED_MOST) if value.isascii() and value.isdigit() else 1


def _is_head(cell: Node) -> bool:
    """Whether a cell is `th`, stands in `thead`, or is all in bold."""
    if cell.tag == "th" or _BOLD.search(cell.get("style")):
        return True
    row = cell.parent
    if row is not None and row.parent is not None and row.parent.tag == "thead":
        return True
    bold = [n for n in cell.elements() if n.tag in ("b", "strong")]
    return bool(bold) and sum(node.letters for node in bold) >= cell.letters

"""Which parts of a page belong to the site: menus, banners, footers, hidden elements, notices."""

from __future__ import annotations

import re
from collections.abc import Iterator

from datagen.generate.html.publishers import HIDDEN_NAMES, is_site_name
from datagen.generate.html.tree import BLOCKS, HEADINGS, Node

_NEVER = frozenset(
    "head script style noscript template iframe object embed svg canvas audio video map input"
    " select textarea dialog datalist progress meter title option nav-bar".split()
)
_FIELDS = frozenset(["input", "select", "textarea"])
_SITE_TAGS = frozenset("nav header footer aside menu search".split())
_SITE_ROLES = frozenset(
    "navigation banner contentinfo search menu menubar toolbar dialog alertdialog complementary"
    " tablist tooltip".split()
)
_HIDDEN = re.compile(r"(?i)(display\s*:\s*none|visibility\s*:\s*hidden|mso-hide\s*:\s*all)")
_WHITE = re.compile(r"(?i)(?<![\w-])color\s*:\s*(white|#fff(fff)?)\b")
_COLOURED = re.compile(r"(?i)background(-color)?\s*:(?!\s*(white|#fff(fff)?|transparent|none)\b)")
_MAIN_SHARE = 0.4
"""Of a page's letters, how many `main` must hold for the rest to count as the site."""
_MOST_SHARE = 0.3
_LINK_SHARE = 0.5
"""An element that is called a menu, yet holds much of the page in few links, is none."""


def site_parts(root: Node) -> set[int]:
    """The ids (`id(node)`) of elements to leave out, each with all that is below it.

    A title that stands alone in a menu or above `main` is kept, with the text that follows it.
    """
    body = next((node for node in root.elements() if node.tag == "body"), root)
    titles = [node for node in body.elements() if node.tag == "h1" and node.letters]
    title = titles[0] if len(titles) == 1 else None
    keep = {id(node) for node in title.above()} if title is not None else set()
    out = {id(node) for node in root.elements() if node.tag in _NEVER} | set(_form_labels(body))
    main = _main(body)
    if main is not None:
        _leave_around(main, keep, out)
    waiting = [body]
    while waiting:
        node = waiting.pop()
        for child in node.children:
            if not isinstance(child, Node) or id(child) in out:
                continue
            if _hidden(child):
                out.add(id(child))
            elif _site(child, body, main):
                if id(child) in keep and child is not title:
                    out.update(_beside_title(child, keep, title))
                    continue
                out.add(id(child))
            else:
                waiting.append(child)
    return out


def _main(body: Node) -> Node | None:
    """The one element that says it holds the content, where it holds enough of the page."""
    found = [n for n in body.elements() if n.tag == "main" or n.get("role") == "main"]
    found = [node for node in found if node.letters >= _MAIN_SHARE * (body.letters - body.linked)]
    return found[0] if len(found) == 1 else None


def _form_labels(body: Node) -> Iterator[int]:
    """Labels of fields to fill in; a label of a value that the page states stays."""
    fields = {n.get("id") for n in body.elements() if n.tag in _FIELDS and n.get("id")}
    for node in body.elements():
        if node.tag == "label" and (
            node.get("for") in fields or any(inner.tag in _FIELDS for inner in node.elements())
        ):
            yield id(node)


def _leave_around(main: Node, keep: set[int], out: set[int]) -> None:
    inside = main
    for node in main.above():
        if node is main:
            continue
        for child in node.children:
            if isinstance(child, Node) and child is not inside and id(child) not in keep:
                out.add(id(child))
        inside = node


def _beside_title(site: Node, keep: set[int], title: Node | None) -> Iterator[int]:
    """What of a menu goes although the page's title stands in it: all but text below the title."""
    assert title is not None
    waiting = [site]
    while waiting:
        node = waiting.pop()
        below = False
        for child in node.children:
            if not isinstance(child, Node):
                continue
            if id(child) in keep:
                below = True
                if child is not title:
                    waiting.append(child)
            elif not (below and child.tag in (*HEADINGS, "p") and child.linked < child.letters):
                yield id(child)


def _hidden(node: Node) -> bool:
    if "hidden" in node.attributes or node.get("aria-hidden") == "true":
        return True
    style = node.get("style")
    if style and (_HIDDEN.search(style) or _white_on_white(node, style)):
        return True
    return not HIDDEN_NAMES.isdisjoint(node.get("class").lower().split())


def _white_on_white(node: Node, style: str) -> bool:
    if not _WHITE.search(style):
        return False
    return not any(
        _COLOURED.search(around.get("style"))
        or around.tag in ("td", "th")
        or (around.get("bgcolor") and around.tag != "body")
        for around in node.above()
    )


def _site(node: Node, body: Node, main: Node | None) -> bool:
    named = f"{node.get('class')} {node.get('id')}"
    by_tag = node.tag in _SITE_TAGS or node.get("role") in _SITE_ROLES
    if node.tag in ("header", "footer", "aside") and by_tag:
        by_tag = not any(n is main or n.tag == "article" for n in node.above())
    if node.tag == "button":
        return not any(around.tag == "th" for around in node.above())
    if by_tag:
        return True
    if named.isspace() or not is_site_name(named) or node.tag in ("body", "main", "article"):
        return False
    if main is not None and any(inner is main for inner in main.above() if inner is node):
        return False
    if not any(isinstance(child, Node) and child.tag in BLOCKS for child in node.children):
        return True
    few_links = node.linked < _LINK_SHARE * node.letters
    return not (few_links and node.letters > _MOST_SHARE * body.letters)

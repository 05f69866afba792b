"""The XML of the Code of Federal Regulations (govinfo bulk data) as if it were HTML.

DIV1 to DIV9 are title, subtitle, chapter, subchapter, part, subpart, subject group, section and
appendix, each with a HEAD. Levels count from the topmost division that a page has.
"""

from __future__ import annotations

import re
from xml.parsers import expat

from datagen.generate.html.tree import BadPage, Node

_ROOTS = r"(?:ECFR|DLPSTEXTCLASS|CFRGRANULE|CFRDOC|DIV[1-9])\b"
_DOCTYPE = r"<!DOCTYPE[^>\[]*(?:\[[^\]]*\]\s*)?>\s*"
_LEAD = re.compile(
    rf"\s*(?:<\?[^>]*>\s*|<!--.*?-->\s*)*(?:{_DOCTYPE})?(?:<!--.*?-->\s*)*<{_ROOTS}", re.DOTALL
)
_LEAD_WITHIN = 1 << 16
_TAGS = {
    "fp": "p", "fp-1": "p", "fp-2": "p", "fp1-2": "p", "fp2-2": "p", "psec": "p", "cita": "p",
    "secauth": "p", "auth": "p", "source": "p", "xref": "p", "appro": "p", "ftnt": "p",
    "extract": "blockquote", "su": "sup", "fr": "span", "note": "div", "ednote": "div",
    "subject": "h6", "hd1": "h6", "hd2": "h6", "hd3": "h6",
    "header": "template", "amddate": "template", "ac": "template", "gpotable": "table",
    "row": "tr", "ent": "td", "ched": "th", "boxhd": "tr", "ttitle": "caption",
}  # fmt: skip
_EMPHASIS = {"51": "sup", "52": "sub", "8145": "sup"}
_INLINE_IN_P = ("p", "hed", "pspace")


def is_ecfr_xml(text: str) -> bool:
    """Whether a page is a document or a division of the bulk data."""
    return _LEAD.match(text[:_LEAD_WITHIN]) is not None


def parse_ecfr(text: str) -> Node:
    """The tree under HTML's names; BadPage for broken XML and for entities of its own."""
    root = Node("html")
    root.children.append(body := Node("body", parent=root))
    node = body

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal node
        name = name.lower()
        tag = _TAGS.get(name, name)
        if name == "e":
            tag = _EMPHASIS.get(attributes.get("T", ""), "em")
        if node.tag == "p" and name in _INLINE_IN_P:
            tag = "span"
        if name == "head" and re.fullmatch(r"div[1-9]", node.tag):
            tag = f"head{node.tag[3]}"
        child = Node(tag, {key.lower(): value for key, value in attributes.items()}, parent=node)
        if name == "ftnt":
            child.attributes["footnote"] = ""
        node.children.append(child)
        node = child

    def end(name: str) -> None:
        nonlocal node
        assert node.parent is not None
        if name == "HED":
            node.children.append(" ")
        node = node.parent

    def entity(*_declared: object) -> None:
        raise BadPage("html_entities: the page declares entities of its own")

    reader = expat.ParserCreate()
    reader.buffer_text = True
    reader.StartElementHandler = start
    reader.EndElementHandler = end
    reader.CharacterDataHandler = lambda data: node.children.append(data)
    reader.EntityDeclHandler = entity
    try:
        reader.Parse(re.sub(r"^\s*<\?xml[^>]*>", "", text, count=1).encode(), True)
    except expat.ExpatError as error:
        raise BadPage(f"html_broken_xml: {error}") from None
    _name_levels(body)
    _link_notes(body)
    return root


def _name_levels(body: Node) -> None:
    """Give each HEAD the heading level of its division, and divisions a plain name."""
    heads = [n for n in body.elements() if re.fullmatch(r"head[1-9]", n.tag)]
    kinds = sorted({node.tag[4] for node in heads})
    for node in heads:
        node.tag = f"h{min(1 + kinds.index(node.tag[4]), 6)}"
    for node in body.elements():
        if re.fullmatch(r"div[1-9]", node.tag):
            node.tag = "div"


def _link_notes(body: Node) -> None:
    """Make a link of each raised mark whose footnote follows: the nearest one above it."""
    marks: dict[str, Node] = {}
    for place, node in enumerate(list(body.elements())):
        if node.tag != "sup":
            continue
        text = "".join(part for part in node.children if isinstance(part, str)).strip()
        note = next((around for around in node.above() if "footnote" in around.attributes), None)
        if note is None:
            marks[text] = node
        elif text in marks and "id" not in note.attributes:
            note.attributes["id"] = f"footnote-{place}"
            mark = marks.pop(text)
            mark.tag = "a"
            mark.attributes["href"] = f"#footnote-{place}"

"""What a page says is kept in its order with its numbers, and what its site says is not."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.generate.html.blocks import numbered
from datagen.generate.html.encoding import TooLarge, decode, mend, unpack
from datagen.generate.html.extract import Page, read_page
from datagen.generate.html.split import sections
from datagen.generate.html.tree import BadPage
from tests.keys.score import HELD_OUT, KEY, misses, read_key

MOST = 1 << 24


def read(source: str | bytes) -> Page:
    return read_page(source, most_bytes=MOST)


def text(body: str) -> str:
    return read(f"<!doctype html><html><body>{body}</body></html>").text


@pytest.mark.parametrize(
    ("markup", "marks"),
    [
        ("<ol><li>x<li>y</ol>", ["1.", "2."]),
        ("<ol type=a start=3><li>x<li>y</ol>", ["c.", "d."]),
        ("<ol type=I><li>x<li value=9>y</ol>", ["I.", "IX."]),
        ("<ol reversed start=2><li>x<li>y</ol>", ["2.", "1."]),
        ("<ol style='list-style: lower-roman'><li>x<li>y</ol>", ["i.", "ii."]),
        ("<ul><li>x<li>y</ul>", ["-", "-"]),
        ("<ul><li>(a) x<li>(b) y</ul>", ["(a)", "(b)"]),
        ("<ul style='list-style-type:none'><li>x<li>y</ul>", ["x", "y"]),
        ("<table><tr><td>(a)<td>x<tr><td>(b)<td>y</table>", ["(a)", "(b)"]),
        ("<div><div><span>1.</span></div><p>x</p></div><div><b>2.</b><p>y</p></div>", ["1.", "2."]),
    ],
)
def test_items_keep_their_own_numbers(markup: str, marks: list[str]) -> None:
    assert [line.split()[0] for line in text(markup).splitlines()] == marks


def test_lists_nest_and_a_number_alone_stands_on_its_line() -> None:
    markup = "<ol type=a><li>x<ol><li>y<ol type=i><li>z</ol></ol><li><ol><li>w</ol></ol>"
    assert text(markup) == "a. x\n   1. y\n      i. z\nb.\n   1. w\n"


@given(st.integers(1, 3999), st.sampled_from("1aAiI"))
def test_numbers_differ(number: int, kind: str) -> None:
    assert numbered(number, kind) != numbered(number + 1, kind)
    assert numbered(number, kind).endswith(".")


def test_headings_and_titles_that_stand_in_menus() -> None:
    page = text(
        "<nav><p>Release 7</p><h1>Title 4</h1><ul><li><a href=#a>Chapter 1</a></ul>"
        "<p>See also Title 9.</p></nav><main><h2 id=a>Chapter 1</h2><p>Text of it.</p></main>"
    )
    assert page == "# Title 4\n\nSee also Title 9.\n\n## Chapter 1\n\nText of it.\n"


def test_a_table_of_contents_goes_and_a_cross_reference_stays() -> None:
    page = text(
        "<ul><li><a href=#s1>§ 1. Short title</a><li><a href=#s2>§ 2. Scope</a></ul>"
        "<h3 id=s1>§ 1. Short title</h3><p>The act. <a href=#s2>Section 2</a> limits it.</p>"
        "<h3 id=s2>§ 2. Scope</h3><p><a href=#s1>Short title</a> aside, it applies.</p>"
    )
    assert page == (
        "### § 1. Short title\n\nThe act. Section 2 limits it.\n\n"
        "### § 2. Scope\n\nShort title aside, it applies.\n"
    )


def test_links_up_and_down_between_headings_leave_both_texts() -> None:
    """A heading that links back to its entry is the heading still."""
    page = text(
        "<p><a id=t href=#h>Penalties</a></p><h2 id=h><a href=#t>Penalties</a></h2><p>x</p>"
    )
    assert page == "## Penalties\n\nx\n"


@pytest.mark.parametrize(
    "note",
    [
        "<p id=n1><a href=#r1>1</a> Read it.</p>",
        "<p><a name=n1></a>[1] Read it.</p>",
        "<p id=n1><sup>1</sup>Read it.</p>",
        "<ol><li id=n1>Read it. <a href=#r1>↩</a></ol>",
    ],
)
def test_footnotes_are_linked(note: str) -> None:
    page = text(f"<p>A rule (<a id=r1 href=#n1><sup>1</sup></a>), and more.</p><hr>{note}")
    assert page.startswith("A rule[^1], and more.\n\n[^1]: Read it.")


def test_equal_marks_of_two_sections_stay_apart() -> None:
    once = "<p>x<a href=#{0}>1</a></p><p id={0}>1 note {0}</p>"
    page = text(once.format("a") + once.format("b"))
    assert page == "x[^1]\n\n[^1]: note a\n\nx[^1-2]\n\n[^1-2]: note b\n"


def test_raised_and_lowered() -> None:
    page = text("<p>CO<sub>2</sub> 10<sup>6</sup> 5<sup>th</sup> y<sup>a b</sup></p>")
    assert page == "CO2 10^6 5th y^(a b)\n"


def test_tables_with_spans_and_layouts() -> None:
    data = (
        "<table><tr><th>Fuel<th>Use<th>MJ</tr><tr><td>oil<td rowspan=2>heat<td>5</tr>"
        "<tr><td>gas | air<td>6</tr><tr><td colspan=2>all<td>11</tr><tr><td><td><td></tr></table>"
    )
    assert text(data).splitlines() == [
        "| Fuel | Use | MJ |",
        "| --- | --- | --- |",
        "| oil | heat | 5 |",
        "| gas \\| air | heat | 6 |",
        "| all |  | 11 |",
    ]
    layout = "<table><tr><td><p>One.</p><p>Two.</p><td>Three.</table>"
    assert text(layout) == "One.\n\nTwo.\n\nThree.\n"


def test_quotes_definitions_and_preformatted() -> None:
    page = text(
        "<blockquote><p>a</p><p>b</p></blockquote><dl><dt>T<dd>d</dl>"
        "<pre>Prose that was wrapped by the hand of\nan author goes on.\n\nA    1\nB    2</pre>"
    )
    assert page == (
        "> a\n>\n> b\n\nT\n  d\n\nProse that was wrapped by the hand of an author goes on.\n\n"
        "```\nA    1\nB    2\n```\n"
    )


def test_blank_lines_in_plain_text_are_paragraphs() -> None:
    page = text("<div>(a) One that is\nwrapped.\n\n    (1) Two <a href=x>here</a>\n\nThree</div>")
    assert page == "(a) One that is wrapped.\n\n(1) Two here\n\nThree\n"
    assert text("<p>One\n\n  two</p>") == "One two\n"


@pytest.mark.parametrize(
    "site",
    [
        "<nav>Menu of it</nav>",
        "<div class='site-header'>Menu of it</div>",
        "<div id=breadcrumbs>Menu of it</div>",
        "<div class=cookieBanner>Menu of it</div>",
        "<p style='display:none'>Menu of it</p>",
        "<p style='color:white'>Menu of it</p>",
        "<div role=search>Menu of it</div>",
        "<p hidden>Menu of it</p>",
        "<script>Menu of it</script>",
        "<form><label for=q>Menu of it</label><input id=q></form>",
        "<footer>Menu of it</footer>",
        "<p>Back to top</p>",
        "<p><a href=/a>Menu of it</a> | <a href=/b>More</a> | <a href=/c>Most</a></p>",
    ],
)
def test_what_the_site_says_goes(site: str) -> None:
    assert text(f"{site}<p>The law stays.</p>{site}") == "The law stays.\n"


def test_content_inside_a_breadcrumb_that_is_never_closed_stays() -> None:
    page = text("<div id=breadcrumb><a href=/>Home</a><p>" + "The rule of the case. " * 20)
    assert "The rule of the case." in page and "Home" not in page


def test_white_text_on_a_coloured_ground_is_seen() -> None:
    shown = "<p style='background:#036'><span style='color:#fff'>Notice of rule</span></p>"
    assert text(shown) == "Notice of rule\n"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("<p>é".encode(), "é"),
        ("<p>é’".encode("cp1252"), "é’"),
        ("<meta charset=iso-8859-1><p>é’".encode("cp1252"), "é’"),
        ("<meta charset=gbk><p>法".encode("gb18030"), "法"),
        ("<meta charset=no-such><p>é".encode(), "é"),
        ("\ufeff<p>é".encode("utf-16"), "é"),
        (gzip.compress("<p>é".encode()), "é"),
    ],
)
def test_character_sets(data: bytes, said: str) -> None:
    assert read(data).text == f"{said}\n"


def test_a_wrong_decoding_is_undone() -> None:
    wrong = "a – b’s é".encode().decode("latin-1")
    assert mend(wrong) == "a – b’s é"
    assert mend("Ã© stays, nothing shows it is wrong") == "Ã© stays, nothing shows it is wrong"


def test_packed_pages_are_bounded() -> None:
    with pytest.raises(TooLarge):
        unpack(gzip.compress(bytes(1 << 20)), most=1 << 10)


def test_the_federal_regulations_as_xml() -> None:
    page = read(
        "<?xml version='1.0'?><ECFR><DIV1><HEAD>Title 9</HEAD><DIV5><HEAD>PART 7</HEAD>"
        "<AUTH><HED>Authority:</HED><PSPACE>9 U.S.C. 1.</PSPACE></AUTH>"
        "<DIV8><HEAD>§ 7.1 Use.</HEAD><P>(a) H<E T='52'>2</E>O.<SU>1</SU></P>"
        "<FTNT><P><SU>1</SU> Water.</P></FTNT></DIV8></DIV5></DIV1></ECFR>"
    )
    assert page.text == (
        "# Title 9\n\n## PART 7\n\nAuthority: 9 U.S.C. 1.\n\n### § 7.1 Use.\n\n(a) H2O.[^1]\n\n"
        "[^1]: Water.\n"
    )


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("<!DOCTYPE ECFR [<!ENTITY a 'x'>]><ECFR><P>&a;</P></ECFR>", "html_entities"),
        ("<ECFR><P>no end", "html_broken_xml"),
        ("<?xml version='1.0'?><rss><channel/></rss>", "html_no_page"),
    ],
)
def test_pages_that_are_refused(page: str, reason: str) -> None:
    with pytest.raises(BadPage, match=f"^{reason}: "):
        read(page)


def test_sections_stand_under_their_headings_with_their_notes() -> None:
    page = (
        "# T\n\nlead\n\n## A\n\n### 1\n\nx[^1]\n\n### 2\n\n```\n# no heading\n```\n\n"
        "## B\n\ny\n\n[^1]: n\n"
    )
    found = sections(page, level=3)
    assert [section.heading for section in found] == ["T", "1", "2", "B"]
    assert found[1].text == "# T\n\n## A\n\n### 1\n\nx[^1]\n\n[^1]: n\n"
    assert "# no heading" in found[2].text and "[^1]" not in found[3].text


TAGS = "p div table tr td ol li ul pre sup a h2 blockquote nav dl dt dd label".split()
TREES = st.recursive(
    st.text(max_size=8),
    lambda inside: st.tuples(st.sampled_from(TAGS), st.lists(inside, max_size=4)),
    max_leaves=24,
)


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_any_tree_is_read_and_read_alike(tree: Any) -> None:
    def markup(part: Any) -> str:
        if isinstance(part, str):
            return part.replace("<", "").replace("&", "")
        return f"<{part[0]}>{''.join(map(markup, part[1]))}</{part[0]}>"

    page = text(markup(tree))
    assert page == text(markup(tree)) and page in ("", page.strip("\n") + "\n")


def test_depth_costs_no_recursion() -> None:
    assert text("<div>" * 3000 + "<p>deep</p>") == "deep\n"


@pytest.mark.skipif("DATAGEN_DATA" not in os.environ, reason="DATAGEN_DATA names no real pages")
@pytest.mark.parametrize(("key", "size", "most_wrong"), [(KEY, 30, 3), (HELD_OUT, 8, 1)])
def test_keyed_pages_are_right(key: Path, size: int, most_wrong: int) -> None:
    path = Path(os.environ["DATAGEN_DATA"]) / "legal" / "legal_html.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        pages = {row["id"]: row["html"] for row in map(json.loads, file)}
    entries = read_key(key)
    for entry in entries:
        assert hashlib.sha256(pages[entry["id"]].encode()).hexdigest() == entry["sha256"]
    wrong = {e["id"]: m for e in entries if (m := misses(read(pages[e["id"]]).text, e))}
    assert len(entries) == size and len(wrong) <= most_wrong, wrong


def test_decode_names_what_it_read() -> None:
    assert decode(b"<p>x")[1] == "utf-8" and decode(b"<p>\x92")[1] == "cp1252"

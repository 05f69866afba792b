"""Markup goes, prose stays; sentences and windows keep every word."""

from __future__ import annotations

import pytest

from datagen.generate.passages.prose import (
    Passage,
    name_of,
    paragraphs,
    split_sentences,
    tidy,
    windows,
)

PAGE = """# Alder Bridge

THE ALDER BRIDGE (; ) is a stone bridge in _Otterby_.[1] It was opened in 1871 by Mayor J.
Brand.[2][a]

## Design

| a | b |
|---|---|
| 1 | 2 |

-   fourteen arches
-   two towers

The bridge was [designed](https://example.org/d) by John Brandfield. He called
it "the long walk" once.

## References

Brandfield, John. A bridge of my own, and other stories about stone. Otterby Press.
"""


def test_a_page_becomes_its_prose_paragraphs() -> None:
    found = paragraphs(PAGE, "Alder Bridge")
    assert [passage.heading for passage in found] == ["Alder Bridge", "Design"]
    assert found[0].sentences == (
        "The Alder Bridge is a stone bridge in Otterby.",
        "It was opened in 1871 by Mayor J. Brand.",
    )
    assert found[1].text.startswith("The bridge was designed by John Brandfield. He called it “the")


def test_a_lead_that_lost_its_name_gets_it_back() -> None:
    text = "is a Japanese footballer who plays for Otterby on loan from Selby."
    assert paragraphs(text, "Ken Arai (footballer)")[0].text.startswith("Ken Arai is a Japanese")


def test_lists_and_tables_are_no_prose() -> None:
    assert (
        paragraphs("-   1923 – Otterby is founded by a party of miners from Selby.", "1923") == []
    )
    assert paragraphs("MARY may refer to:\n\n-   Mary (name)", "Mary") == []
    assert paragraphs("", "Nothing") == []


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("a[12] b[note 3] c[citation needed].", "a b c."),
        ("_Night Mail_ and **Selby**", "Night Mail and Selby"),
        ("snake_case_name stays", "snake_case_name stays"),
        ("Otto (, ) and Ida (; born 1901)", "Otto and Ida (born 1901)"),
        ('She said "yes" .', "She said “yes”."),
        ("Otterby.jpg Otterby is a town.", "Otterby is a town."),
    ],
)
def test_tidy(raw: str, clean: str) -> None:
    assert tidy(raw) == clean


def test_initials_and_titles_do_not_end_a_sentence() -> None:
    text = "Dr. Ida B. Hase lived in St. Alban. She met Sgt. Brand there. They left."
    assert split_sentences(text) == (
        "Dr. Ida B. Hase lived in St. Alban.",
        "She met Sgt. Brand there.",
        "They left.",
    )


def test_windows_hold_every_sentence_once_and_keep_headings_apart() -> None:
    passages = [
        Passage(heading=heading, sentences=tuple(f"{heading} {i} a b c." for i in range(5)))
        for heading in ("X", "Y")
    ]
    found = windows(passages, 12)
    assert [s for w in found for s in w.sentences] == [s for p in passages for s in p.sentences]
    assert all(len(window.text.split()) <= 12 for window in found)
    assert [window.heading for window in found] == ["X"] * 3 + ["Y"] * 3


def test_a_qualifier_is_no_part_of_the_name() -> None:
    assert name_of("Toi (programming language)") == "Toi"
    assert name_of("Springfield, Ohio") == "Springfield, Ohio"

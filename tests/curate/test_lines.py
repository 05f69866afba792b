from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.curate.exact import exact_keys, normalise
from datagen.curate.lines import cut, first_prompt, passages, shared
from tests.curate.support import chat, record

texts = st.lists(st.text(st.sampled_from("ab .é\n\n界"), max_size=30), max_size=6)


@settings(deadline=None)
@given(texts, st.integers(0, 4))
def test_lines_are_keyed_by_their_normalised_form(texts: list[str], least: int) -> None:
    found = passages(texts, "line", least)
    for number, text in enumerate(texts):
        lines = [line for line in text.split("\n") if len(line) >= max(least, 1)]
        part = found.of(number)
        assert found.keys[part].tolist() == exact_keys(lines)[:, 0].tolist()
        data = text.encode()
        assert [data[a:b].decode().strip("\n") for a, b in found.bounds[part]] == lines


@settings(deadline=None)
@given(texts)
def test_paragraphs_lie_between_blank_lines(texts: list[str]) -> None:
    import re

    found = passages(texts, "paragraph")
    for number, text in enumerate(texts):
        wanted = [normalise(p) for p in re.split(r"\n{2,}", text) if p.strip("\n")]
        data = text.encode()
        part = [data[a:b].decode() for a, b in found.bounds[found.of(number)]]
        assert [normalise(p) for p in part] == wanted


def test_of_a_shared_line_only_the_best_record_keeps_it() -> None:
    line = "All rights reserved by the harbour office."
    pages = [f"Page {n} says this.\n{line if n else line.upper()}\nMore of {n}." for n in range(6)]
    found = passages(pages, "line", 20)
    owners = np.repeat(np.arange(6), np.diff(found.texts))
    ranks = np.array([3, 2, 0, 1, 4, 5])
    keys, first, documents = shared(found.keys, owners, ranks, 6)
    assert (first.tolist(), documents.tolist()) == ([2], [6])
    assert not len(shared(found.keys, owners, ranks, 7)[0])
    part = found.of(0)
    gone = found.bounds[part][np.isin(found.keys[part], keys)]
    assert cut(pages[0], gone) == "Page 0 says this.\nMore of 0."


def test_a_line_twice_in_one_record_counts_once() -> None:
    keys = np.array([7, 7, 7, 9, 9], np.uint64)
    owners = np.array([0, 0, 1, 1, 0])
    found, first, documents = shared(keys, owners, np.array([1, 0]), 2)
    assert found.tolist() == [7, 9] and first.tolist() == [1, 1] and documents.tolist() == [2, 2]
    assert not len(shared(keys[:0], owners[:0], np.zeros(0, np.int64), 1)[0])


def test_a_cut_leaves_one_blank_line() -> None:
    text = "Öne.\n\nTwo two.\n\nThree."
    found = passages([text], "paragraph")
    assert cut(text, found.bounds[1:2]) == "Öne.\n\nThree."
    assert cut(text, found.bounds) == ""
    lines = passages([text], "line", 5)
    assert cut(text, lines.bounds[:1]) == "Öne.\n\nThree."


def test_first_prompt() -> None:
    assert first_prompt(chat(("system", "Be brief."), ("user", "Why?"), ("user", "How?"))) == "Why?"
    assert first_prompt(chat(("assistant", "Hm."))) is None
    assert first_prompt(record("text")) is None

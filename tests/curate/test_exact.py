from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.curate.exact import exact_keys, first_of_each, first_rows, normalise

TEXTS = st.text(st.characters(exclude_categories=()), max_size=60)


@given(TEXTS)
def test_normalising_is_idempotent(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


def test_layout_is_forgiven_and_meaning_is_not() -> None:
    assert normalise("  “Hello,\n WORLD!” ") == normalise("hello world")
    distinct = ["3 - 4", "3 + 4", "3 4", "x = -1", "x = 1", "(a+b)*c", "a+(b*c)", "1.5", "15"]
    assert len({normalise(text) for text in distinct}) == len(distinct)


EDGY = "a\u00ad\u200dB.,'“ \n\x1c\u00a0\u0085…½ß´é\u0301İ。漢-+\U0001f600\U000e0101"


@settings(deadline=None, max_examples=400)
@given(st.text(EDGY, max_size=14) | TEXTS)
def test_a_key_is_that_of_the_normalised_text(text: str) -> None:
    assert exact_keys([text]).tolist() == exact_keys([normalise(text)]).tolist()


def test_every_character_counts_as_it_is_folded() -> None:
    every = [
        chr(code) for code in (*range(0xD800), *range(0xE000, 0x20000), *range(0xE0000, 0xE0200))
    ]
    forms = [normalise(f"a{one}b {one} c{one}") for one in every]
    keys = [(a, b) for a, b in exact_keys([f"a{one}b {one} c{one}" for one in every]).tolist()]
    assert keys == [(a, b) for a, b in exact_keys(forms).tolist()]
    assert len(set(keys)) == len(set(forms))


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=20))
def test_keys_are_equal_just_where_normalised_texts_are(texts: list[str]) -> None:
    keys = [tuple(key) for key in exact_keys(texts).tolist()]
    forms = [normalise(text) for text in texts]
    assert len(keys) == len(texts)
    for i in range(len(texts)):
        assert [k == keys[i] for k in keys] == [f == forms[i] for f in forms]


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 2)), max_size=30), st.randoms())
def test_one_of_each_is_kept_whatever_the_order(
    rows: list[tuple[str, int]], rng: random.Random
) -> None:
    numbered = [(text, priority, f"id{i:03d}") for i, (text, priority) in enumerate(rows)]

    def kept(order: list[tuple[str, int, str]]) -> set[str]:
        keys = exact_keys([text for text, _, _ in order])
        mask = first_of_each(keys, priority=[p for _, p, _ in order], ids=[i for _, _, i in order])
        return {row[2] for row, keep in zip(order, mask, strict=True) if keep}

    shuffled = numbered.copy()
    rng.shuffle(shuffled)
    result = kept(numbered)
    assert result == kept(shuffled)
    best = {text: min((-p, i) for t, p, i in numbered if t == text)[1] for text, _, _ in numbered}
    assert result == set(best.values())


def test_without_ids_the_first_row_stands_for_the_others() -> None:
    keys = exact_keys(["b", "a", "B!", "a", "c"])
    assert first_rows(keys).tolist() == [0, 1, 0, 1, 4]
    assert first_of_each(keys).tolist() == [True, True, False, False, True]
    assert first_of_each(exact_keys([])).tolist() == []
    assert exact_keys([]).dtype == np.uint64

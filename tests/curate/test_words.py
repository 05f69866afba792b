from __future__ import annotations

import unicodedata

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.curate import words
from datagen.curate.words import (
    fold,
    ngram_hashes,
    ngram_ladder,
    word_form,
    word_hashes,
    word_hashes_arrow,
    word_spans,
)

TEXTS = st.text(st.characters(exclude_categories=()), max_size=60)
ALPHABET = "ab Z9_-.é漢ไ\u0301＝½ﬁ…\n İß"


@given(TEXTS)
def test_folding_and_word_form_are_idempotent(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert word_form(word_form(text)) == word_form(text)


@given(TEXTS)
def test_unicode_form_and_case_do_not_matter(text: str) -> None:
    assert word_form(unicodedata.normalize("NFD", text)) == word_form(text)
    assert word_form(unicodedata.normalize("NFC", text)) == word_form(text)


def test_what_a_word_is() -> None:
    assert word_form("Don't  PANIC_now, says “ＡＢＣ”: 3.5%") == "don t panic now says abc 3 5"
    assert word_form("हिन्दी में") == "हिन्दी में"
    assert word_form("港は3つ") == "港 は 3 つ"
    assert word_form("\ud800 lone") == "lone"
    assert word_form("co\u00adop\u200der\ufeffate") == "cooperate"


@settings(deadline=None)
@given(st.lists(st.text(ALPHABET, max_size=30), max_size=8))
def test_equal_words_and_only_they_have_equal_hashes(texts: list[str]) -> None:
    hashes, offsets = word_hashes(texts)
    found = [word for text in texts for word in word_form(text).split()]
    assert np.diff(offsets).tolist() == [len(word_form(text).split()) for text in texts]
    assert len(hashes) == len(found)
    names = dict(zip(hashes.tolist(), found, strict=True))
    assert [names[key] for key in hashes.tolist()] == found
    assert len(names) == len(set(found))


def test_hashes_do_not_depend_on_neighbours() -> None:
    text = " ".join(f"word{i} été{i % 7}" for i in range(400)) + " " + "x" * 700
    alone, _ = word_hashes([text])
    beside, offsets = word_hashes(["before", "e\u0301\u0323", text, "after"])
    assert np.array_equal(beside[offsets[2] : offsets[3]], alone)


EVERY = [chr(code) for code in (*range(0xD800), *range(0xE000, 0x20000), *range(0xE0000, 0xE0200))]


def test_every_character_is_read_as_it_is_folded() -> None:
    texts = [f"a{character}b" for character in EVERY]
    hashes, offsets = word_hashes(texts)
    forms = [word_form(text).split() for text in texts]
    assert np.diff(offsets).tolist() == list(map(len, forms))
    names: dict[int, str] = {}
    for key, word in zip(hashes.tolist(), (w for form in forms for w in form), strict=True):
        assert names.setdefault(key, word) == word


MARKS = "a\u00ad\u200dé\u0301\u0323\u0327\u05b0ิ้ก็ක්\u1161\u11a8가한ß½№ŉﷺ㌀㋀İ\U000e0101 .漢"


@settings(deadline=None)
@given(st.text(MARKS, max_size=12))
def test_marks_in_any_order_are_read_as_they_are_folded(text: str) -> None:
    hashes, _ = word_hashes([text])
    one_by_one = [int(word_hashes([word])[0][0]) for word in word_form(text).split()]
    assert hashes.tolist() == one_by_one


@settings(deadline=None)
@given(st.lists(st.text(ALPHABET, max_size=30) | st.none(), max_size=8), st.integers(0, 3))
def test_arrow_is_read_where_it_lies(texts: list[str | None], skip: int) -> None:
    for kind in (pa.string(), pa.large_string()):
        array = pa.array(texts, kind)[skip:]
        hashes, offsets = word_hashes_arrow(array)
        again, places = word_hashes([text or "" for text in texts[skip:]])
        assert np.array_equal(hashes, again)
        assert np.array_equal(offsets, places)


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_bytes_that_are_no_text_separate(content: bytes) -> None:
    array = pa.array([content, b"after"], pa.binary())
    hashes, offsets = word_hashes_arrow(array)
    again, places = word_hashes([content.decode(errors="replace"), "after"])
    assert np.array_equal(offsets, places)
    assert np.array_equal(hashes, again)


def test_the_stored_hash_is_fixed() -> None:
    # Signatures are kept on disk: a change of this value must come with a new step version.
    assert word_hashes(["datagen"])[0].tolist() == [17198643257856199188]


def test_ladder_and_windows_agree() -> None:
    hashes, _ = word_hashes(["a b c d e f g"])
    for length, keys in ngram_ladder(hashes, (1, 3, 7, 9)):
        assert len(keys) == max(7 - length + 1, 0)
        assert np.array_equal(words.mix64(keys), ngram_hashes(hashes, length))
    twice, _ = word_hashes(["a b c d a b c"])
    grams = ngram_hashes(twice, 3)
    assert grams[0] == grams[4]
    assert len(np.unique(grams)) == 4


@given(st.text("ab Z9_-.é漢ไ＝½ﬁ…\n İß", max_size=60))
def test_spans_lie_where_the_words_are(text: str) -> None:
    spans = word_spans(text)
    found = word_form(text).split()
    assert len(spans) == len(found)
    for (start, end), word in zip(spans, found, strict=True):
        assert word in word_form(text[start:end])

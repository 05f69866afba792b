from __future__ import annotations

import unicodedata

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datagen.curate import words
from datagen.curate.words import (
    fold,
    ngram_hashes,
    ngram_ladder,
    word_form,
    word_hashes,
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


@given(st.lists(st.text(ALPHABET, max_size=30), max_size=8))
def test_equal_words_and_only_they_have_equal_hashes(texts: list[str]) -> None:
    hashes, offsets = word_hashes(texts)
    found = [word for text in texts for word in word_form(text).split()]
    assert np.diff(offsets).tolist() == [len(word_form(text).split()) for text in texts]
    assert len(hashes) == len(found)
    names = dict(zip(hashes.tolist(), found, strict=True))
    assert [names[key] for key in hashes.tolist()] == found
    assert len(names) == len(set(found))


def test_hashes_do_not_depend_on_neighbours_or_on_pieces(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    text = " ".join(f"word{i} été{i % 7}" for i in range(400)) + " " + "x" * 700
    alone, _ = word_hashes([text])
    beside, offsets = word_hashes(["before", "", text, "after"])
    assert np.array_equal(beside[offsets[2] : offsets[3]], alone)
    for size in (64, 333):
        monkeypatch.setattr(words, "_PIECE_BYTES", size)
        assert np.array_equal(word_hashes([text])[0], alone)


def test_the_stored_hash_is_fixed() -> None:
    # Signatures are kept on disk: a change of this value must come with a new step version.
    assert word_hashes(["datagen"])[0].tolist() == [12051152882261064409]


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

"""How much of a text another one repeats: the longest run of words, and the share of n-grams."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from datagen.generate.items.normalise import plain_words

NGRAM_WORDS = 3
# Of a few words with their names alike, too little is left to compare.
_FEWEST_WORDS = 8
_NUMBER = re.compile(r"\d[\d,.]*\d|\d")
_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """What a new text has in common with the one that it was modelled on.

    `span_words` is the longest run of words that stands in both, `ngram_share` the share of the
    new text's distinct 3-grams that the other one has (of its words, where it is shorter).
    """

    span_words: int
    ngram_share: float


def overlap(new: str, old: str) -> Overlap:
    """Measure how much of `old` stands in `new`; symmetric in the span, not in the share.

    A copy with other names and numbers is a copy: both measures are taken as the texts stand and
    with all names and numbers alike, and the larger counts.
    """
    words = [(plain_words(new), plain_words(old))]
    if len(words[0][0]) >= _FEWEST_WORDS:
        words.append((plain_words(_masked(new)), plain_words(_masked(old))))
    return Overlap(
        span_words=max(longest_common_span(*pair) for pair in words),
        ngram_share=max(ngram_share(*pair) for pair in words),
    )


def _masked(text: str) -> str:
    """A text in which every number is 0 and every capitalised word the same name."""
    named = _WORD.sub(lambda found: "Name" if found[0].istitle() else found[0], text)
    return _NUMBER.sub("0", named)


def longest_common_span(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest run of words that stands in both.

    A common run of n words holds one of n - 1, so the length is found by halving: O(n log n).
    """
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if _ngrams(left, middle).isdisjoint(_ngrams(right, middle)):
            high = middle - 1
        else:
            low = middle
    return low


def ngram_share(new: Sequence[str], old: Sequence[str], *, n: int = NGRAM_WORDS) -> float:
    """Share of the distinct n-grams of `new` that stand in `old`, 0 to 1."""
    n = min(n, len(new))
    if n == 0:
        return 0.0
    grams = _ngrams(new, n)
    return len(grams & _ngrams(old, n)) / len(grams)


def _ngrams(words: Sequence[str], n: int) -> set[tuple[str, ...]]:
    return {tuple(words[start : start + n]) for start in range(len(words) - n + 1)}

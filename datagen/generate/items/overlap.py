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
# How questions begin, whatever they are about; and words that carry a sentence and say nothing.
_STEM = frozenset(
    "which what of the these those following is are was were would best most likely describes "
    "describe explains explain example statement statements an a does do".split()
)
_STOP = frozenset(
    "a an the of to in on at by for with from and or is are was were be it its that this as does "
    "do did how".split()
)
_FEWEST_STEM_WORDS = 3


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
    with all names and numbers alike, and the larger counts. Stems such as `Which of the
    following best describes` are nobody's: they lengthen no run, and an n-gram of nothing but
    them, or of nothing but words such as `of the`, is not counted.
    """
    words = [(plain_words(new), plain_words(old))]
    if len(words[0][0]) >= _FEWEST_WORDS:
        words.append((plain_words(_masked(new)), plain_words(_masked(old))))
    return Overlap(
        span_words=max(
            longest_common_span(_without_stems(left), _without_stems(right))
            for left, right in words
        ),
        ngram_share=max(ngram_share(*pair) for pair in words),
    )


def _masked(text: str) -> str:
    """A text in which every number is 0 and every capitalised word the same name."""

    def named(found: re.Match[str]) -> str:
        name = found[0].istitle() and found[0].casefold() not in _STEM | _STOP
        return "Name" if name else found[0]

    return _NUMBER.sub("0", _WORD.sub(named, text))


def _without_stems(words: Sequence[str]) -> list[str]:
    """The words without runs of stem words that begin with `which` or `what`."""
    left: list[str] = []
    place = 0
    while place < len(words):
        end = place
        if words[place] in ("which", "what"):
            while end < len(words) and words[end] in _STEM:
                end += 1
        if end - place < _FEWEST_STEM_WORDS:
            end = place + 1
            left.append(words[place])
        place = end
    return left


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
    """Share of the distinct n-grams of `new` that stand in `old`, 0 to 1.

    Those of stem words or stop words alone do not count, unless there are no others.
    """
    n = min(n, len(new))
    if n == 0:
        return 0.0
    grams = _ngrams(new, n)
    grams = {
        gram for gram in grams if not (_STEM.issuperset(gram) or _STOP.issuperset(gram))
    } or grams
    return len(grams & _ngrams(old, n)) / len(grams)


def _ngrams(words: Sequence[str], n: int) -> set[tuple[str, ...]]:
    return {tuple(words[start : start + n]) for start in range(len(words) - n + 1)}

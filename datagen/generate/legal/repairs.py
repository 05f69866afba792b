"""Words that a cleaned text mends, against words that it adds or leaves out."""

from __future__ import annotations

import difflib
import itertools

from datagen.generate.passages.words import STOP_WORDS, stem, words

_CLOSE = 0.75


def unmended(new: str, source: str) -> tuple[list[str], list[str]]:
    """The content words that `new` adds, and those of `source` that it leaves out.

    A word counts as mended, and as neither, where it closely resembles one on the other side that
    would be missing too, or joins two neighbours of the source: `act ion`, `convict1on`.
    """
    said, known = words(new), words(source)
    joins = {left + right: (left, right) for left, right in itertools.pairwise(known)}
    joined = {join for join in joins if join in said}
    pieces = {piece for join in joined for piece in joins[join]}
    here, there = {stem(word) for word in said}, {stem(word) for word in known}
    fresh = [word for word in said if _carries(word) and stem(word) not in there]
    lost = [word for word in known if _carries(word) and stem(word) not in here]
    fresh = [word for word in dict.fromkeys(fresh) if word not in joined]
    lost = [word for word in dict.fromkeys(lost) if word not in pieces]
    return (
        [word for word in fresh if not _near(word, lost)],
        [word for word in lost if not _near(word, fresh)],
    )


def _carries(word: str) -> bool:
    """Whether a word carries meaning: no stop word, and more than a stray mark."""
    return word not in STOP_WORDS and any(map(str.isalpha, word)) and len(word) > 1


def _near(word: str, others: list[str]) -> bool:
    """Whether a word is one of the others, misread: a digit for a letter, or a letter or two."""
    return any(
        _same_but_digits(word, other)
        or (
            abs(len(word) - len(other)) <= 1
            and difflib.SequenceMatcher(None, word, other, autojunk=False).ratio() >= _CLOSE
        )
        for other in others
    )


def _same_but_digits(word: str, other: str) -> bool:
    """Whether two words differ only where one has a digit for a letter."""
    return len(word) == len(other) and all(
        a == b or a.isdigit() or b.isdigit() for a, b in zip(word, other, strict=True)
    )

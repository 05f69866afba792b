"""One notion of text and of a word for the whole room, and their hashes.

A word is a run of letters, marks and digits (Unicode L, M, N) of the folded text; everything else
separates. In scripts that are written without spaces every character is a word, so that word
n-grams become character n-grams there. Hashes depend on nothing but the text: they may be stored.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from datagen.record import Record

Hashes = npt.NDArray[np.uint64]
Offsets = npt.NDArray[np.int64]

_SPACELESS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),
    (0x3040, 0x30FF),  # kana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
_NON_ASCII = re.compile(r"[^\x00-\x7f]+")
_PIECE_BYTES = 1 << 16
_SPACE = 0x20
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_BASE = 0xD6E8FEB86659FD93
_NGRAM_BASE = np.uint64(0xA0761D6478BD642F)


def record_text(record: Record) -> str:
    """What a filter reads: the text, or the contents of the messages, one paragraph each."""
    if record.text is not None:
        return record.text
    return "\n\n".join(message.content for message in record.messages or ())


def fold(text: str) -> str:
    """Remove differences of case and of Unicode form: NFKC, casefold, NFKC; idempotent."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


class _WordTable(dict[int, str]):
    """What a folded character becomes inside a word sequence, filled in as characters appear."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if unicodedata.category(character)[0] not in "LMN":
            form = " "
        elif any(low <= code <= high for low, high in _SPACELESS):
            form = f" {character} "
        else:
            form = character
        self[code] = form
        return form


_TABLE = _WordTable()
_BYTE_TABLE = bytes(
    code if code >= 0x80 or chr(code).isalnum() else _SPACE
    for code in (ord(chr(c).lower()) if c < 0x80 else c for c in range(256))
)


def _word_bytes(text: str) -> bytes:
    """The words as UTF-8 with at least one space between two."""
    if not text.isascii():
        text = _NON_ASCII.sub(lambda run: run.group().translate(_TABLE), fold(text))
    return text.encode().translate(_BYTE_TABLE)


def word_form(text: str) -> str:
    """The words of a text joined by single spaces; idempotent."""
    return b" ".join(_word_bytes(text).split()).decode()


def mix64(values: Hashes) -> Hashes:
    """Spread every input bit over all 64 output bits (the finaliser of splitmix64), as a copy."""
    mixed = values ^ (values >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def random_words(seed: int, count: int) -> Hashes:
    """`count` fixed 64-bit words of a seed, the same on every platform and numpy version."""
    start = mix64(np.array([seed], np.uint64) * _GOLDEN)
    return mix64(start + np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN)


_BYTE_WORDS = random_words(0, 256)


@lru_cache(maxsize=2)
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """Powers of the base and of its inverse modulo 2**64, from the zeroth on."""
    tables = []
    for base in (_BASE, pow(_BASE, -1, 1 << 64)):
        table = np.full(count, base, np.uint64)
        table[0] = 1
        tables.append(np.cumprod(table, out=table))
    return tables[0], tables[1]


def _piece_hashes(piece: npt.NDArray[np.uint8]) -> tuple[Offsets, Hashes]:
    """Where each word of a piece starts, and its hash.

    A word's hash is a difference of two prefix sums of byte words times powers of a base, times
    the inverse power at its start: some six passes over the bytes, none per word in Python.
    """
    filled = np.zeros(len(piece) + 2, np.bool_)
    np.not_equal(piece, _SPACE, out=filled[1:-1])
    edges = np.flatnonzero(filled[1:] != filled[:-1])
    starts, ends = edges[0::2], edges[1::2]
    rounded = -(-(len(piece) + 1) // _PIECE_BYTES) * _PIECE_BYTES
    powers, inverses = _powers(rounded)
    sums = np.zeros(len(piece) + 1, np.uint64)
    terms = _BYTE_WORDS[piece]
    terms *= powers[: len(piece)]
    np.cumsum(terms, out=sums[1:])
    return starts, mix64((sums[ends] - sums[starts]) * inverses[starts])


def word_hashes(texts: Sequence[str]) -> tuple[Hashes, Offsets]:
    """Hash every word of every text: hashes (W,), and where each text's words begin (n + 1,)."""
    parts = [_word_bytes(text) for text in texts]
    lengths = np.fromiter((len(part) + 1 for part in parts), np.int64, len(parts))
    joined = b" ".join(parts)
    buffer = np.frombuffer(joined, np.uint8)
    starts, hashes = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
    low = 0
    while low < len(joined):
        high = low + _PIECE_BYTES - 1
        if high < len(joined):
            cut = joined.rfind(b" ", low + 1, high)
            cut = cut if cut >= 0 else joined.find(b" ", high)
            high = cut if cut >= 0 else len(joined)
        piece_starts, piece_hashes = _piece_hashes(buffer[low : min(high, len(joined))])
        starts.append(piece_starts + low)
        hashes.append(piece_hashes)
        low = high
    text_starts = np.concatenate(([0], np.cumsum(lengths)))
    offsets = np.searchsorted(np.concatenate(starts), text_starts).astype(np.int64)
    return np.concatenate(hashes), offsets


def ngram_ladder(hashes: Hashes, lengths: Iterable[int]) -> Iterator[tuple[int, Hashes]]:
    """Roll word hashes into n-gram keys for each of several lengths, the shortest first.

    Yields (n, keys of shape (W - n + 1,)); the keys are overwritten by the next step. The work is
    that of the longest length alone.
    """
    rolled, length = hashes.copy(), 1
    for wanted in sorted(set(lengths)):
        while length < wanted:
            rolled = rolled[: max(len(rolled) - 1, 0)]
            rolled *= _NGRAM_BASE
            rolled += hashes[length : length + len(rolled)]
            length += 1
        yield wanted, rolled


def ngram_hashes(hashes: Hashes, n: int) -> Hashes:
    """Hash every window of n word hashes: shape (W - n + 1,), empty where there is none."""
    return mix64(next(ngram_ladder(hashes, (n,)))[1])


@lru_cache(maxsize=65536)
def _character_form(character: str) -> str:
    return fold(character).translate(_TABLE)


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where each word lies in the text as given: character offsets, end exclusive.

    Parallel to `word_hashes`, but for rare sequences in which a mark joins a symbol; there the
    list has another length. About 0.3 us a character: for the few texts with a hit.
    """
    forms = [_character_form(character) for character in text]
    owner = np.repeat(np.arange(len(forms)), [len(form) for form in forms])
    return [
        (int(owner[word.start()]), int(owner[word.end() - 1]) + 1)
        for word in re.finditer(r"[^ ]+", "".join(forms))
    ]

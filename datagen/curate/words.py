"""One notion of text and of a word for the whole room, and their hashes.

A word is a run of letters, marks and digits (Unicode L, M, N) of the folded text; everything else
separates. In scripts that are written without spaces every character is a word, so that word
n-grams become character n-grams there. Hashes depend on nothing but the text: they may be stored.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from datagen.record import Record

if TYPE_CHECKING:
    import pyarrow as pa

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
_UNSEEN = re.compile("[\u00ad\u200c\u200d\u2060\ufeff]")
_SPACE = 0x20
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_NGRAM_BASE = np.uint64(0xA0761D6478BD642F)


def record_text(record: Record) -> str:
    """What a filter reads: the text, or the contents of the messages, one paragraph each."""
    if record.text is not None:
        return record.text
    return "\n\n".join(message.content for message in record.messages or ())


def fold(text: str) -> str:
    """Remove differences of case and of Unicode form: NFKC, casefold, NFKC; idempotent.

    Marks that nobody sees inside a word go too: soft hyphens, joiners, byte order marks.
    """
    if text.isascii():
        return text.lower()
    text = _UNSEEN.sub("", text)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class CodePoints:
    """What folding makes of each code point below a bound: its form, and `flags` beside it.

    `forms` (n,) is the folded code point or, with EXPANDS, a row of `longer`, whose code points are
    folded and end with zeros: none where nobody sees it. Code points with DEPENDS stand for
    themselves in folded text.
    """

    forms: npt.NDArray[np.uint32]
    flags: npt.NDArray[np.uint8]
    longer: npt.NDArray[np.uint32]


WORD, ALONE, SPACE, EDGE, EXPANDS, MARK, DEPENDS = 1, 2, 4, 8, 16, 32, 64
"""Flags of a code point: part of a word; a word by itself; white space; punctuation at a word's
edge; several in its place; a mark whose place beside another mark is not settled; one that may join
its neighbours, so that the text is folded as a whole."""
EDGES = ".,;:!?\"'`…‘’“”«»¿¡。、！？；：，"
_LONGEST = 3


def code_points(below: int) -> CodePoints:
    """Tabulate the code points below a bound."""
    codes = [code for code in range(below) if not 0xD800 <= code < 0xE000]
    characters = list(map(chr, codes))
    # A line's end composes with nothing, so that one call folds each character for itself.
    folded = fold("\n".join(characters)).split("\n")
    # Between the two empty halves of the line's end itself.
    folded[10:12] = ["\n"]
    halves = _second_halves(characters)
    forms, flags = np.zeros(below, np.uint32), np.zeros(below, np.uint8)
    longer: list[tuple[int, ...]] = []
    for code, character, form in zip(codes, characters, folded, strict=True):
        joins = not halves.isdisjoint((character, *form)) or len(form) > _LONGEST
        if joins or (form != character and any(map(unicodedata.combining, form))):
            forms[code], flags[code] = code, DEPENDS | _flags(character)
        elif len(form) != 1:
            forms[code], flags[code] = len(longer), EXPANDS
            longer.append(tuple(map(ord, form.ljust(_LONGEST, "\0"))))
        else:
            forms[code], flags[code] = ord(form), _flags(form)
            flags[code] |= MARK if unicodedata.combining(form) else 0
    return CodePoints(forms=forms, flags=flags, longer=np.array(longer, np.uint32))


def _flags(character: str) -> int:
    """What a folded character is, beside its neighbours."""
    kind = _TABLE[ord(character)]
    word = 0 if kind == " " else WORD if len(kind) == 1 else WORD | ALONE
    return word | (SPACE if character.isspace() else 0) | (EDGE if character in EDGES else 0)


def _second_halves(characters: Sequence[str]) -> set[str]:
    """Characters that may become one with the character before them."""
    jamo = {chr(code) for code in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}
    pairs = (unicodedata.decomposition(character).split() for character in characters)
    return jamo | {chr(int(p[1], 16)) for p in pairs if len(p) == 2 and not p[0].startswith("<")}


def word_hashes(texts: Sequence[str]) -> tuple[Hashes, Offsets]:
    """Hash every word of every text: hashes (W,), and where each text's words begin (n + 1,)."""
    return _read(*text_bytes(texts))


def word_hashes_arrow(texts: pa.Array) -> tuple[Hashes, Offsets]:
    """The same for an Arrow array of strings, read where it lies; bytes that are no UTF-8 separate.

    About 0.7 GB/s a core on English; 8 bytes a word.
    """
    return _read(*arrow_bytes(texts))


def text_bytes(texts: Sequence[str]) -> tuple[npt.NDArray[np.uint8], Offsets]:
    """The UTF-8 of texts, and where each begins (n + 1,); halves of surrogates become `?`."""
    parts = [text.encode(errors="replace") for text in texts]
    offsets = np.concatenate(([0], np.cumsum([len(part) for part in parts], dtype=np.int64)))
    return np.frombuffer(b"".join(parts), np.uint8), offsets


def arrow_bytes(texts: pa.Array) -> tuple[npt.NDArray[np.uint8], Offsets]:
    """An Arrow string or binary array's bytes, and where each value begins (n + 1,).

    A null is empty, as Arrow stores it; nothing is copied but the offsets.
    """
    import pyarrow as pa

    wide = pa.types.is_large_string(texts.type) or pa.types.is_large_binary(texts.type)
    _, offsets, content = texts.buffers()
    if not len(texts) or offsets is None:
        return np.zeros(0, np.uint8), np.zeros(len(texts) + 1, np.int64)
    places = np.frombuffer(offsets, np.int64 if wide else np.int32)
    data = np.zeros(0, np.uint8) if content is None else np.frombuffer(content, np.uint8)
    return data, places[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)


def in_turn(
    data: npt.NDArray[np.uint8],
    offsets: Offsets,
    read: Callable[[npt.NDArray[np.uint8], Offsets, int, bool], int],
) -> None:
    """Have a kernel read all texts, and fold for it those that it stops before.

    `read(data, offsets, first, folded)` reads from the text `first` on and says where it stopped. A
    folded text comes alone, with offsets (n + 1,) that are true for it alone.
    """
    number = 0
    alone = np.zeros(0, np.int64)
    while (number := read(data, offsets, number, False)) < len(offsets) - 1:
        content = data[offsets[number] : offsets[number + 1]].tobytes()
        folded = fold(content.decode(errors="replace")).encode(errors="replace")
        alone = alone if len(alone) else np.zeros(len(offsets), np.int64)
        alone[number : number + 2] = 0, len(folded)
        read(np.frombuffer(folded, np.uint8), alone[: number + 2], number, True)
        number += 1


class Room(threading.local):
    """Arrays that a thread uses again and again: fresh memory would cost more than the work."""

    def __init__(self) -> None:
        """Nothing is held yet."""
        self._held: dict[str, npt.NDArray[Any]] = {}

    def take(
        self, name: str, count: int, kind: type[np.generic], keep: int = 0
    ) -> npt.NDArray[Any]:
        """An array of at least `count`, of which the first `keep` are as they were left."""
        held = self._held.get(name)
        if held is None or len(held) < count:
            room = np.empty(count + count // 8, kind)
            if held is not None:
                room[:keep] = held[:keep]
            held = self._held[name] = room
        return held


_ROOM = Room()


def _read(data: npt.NDArray[np.uint8], offsets: Offsets) -> tuple[Hashes, Offsets]:
    from datagen.curate.kernels.words import read_texts, tables

    begins = np.zeros(len(offsets), np.int64)

    def read(data: npt.NDArray[np.uint8], offsets: Offsets, first: int, folded: bool) -> int:
        done = int(begins[first])
        room = done + int(offsets[-1] - offsets[first]) + len(offsets) - first + 1
        out = _ROOM.take("words", room, np.uint64, done)
        stopped: int = read_texts(data, offsets, first, folded, tables(), out, begins)
        return stopped

    in_turn(data, offsets, read)
    return _ROOM.take("words", 0, np.uint64)[: begins[-1]].copy(), begins


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

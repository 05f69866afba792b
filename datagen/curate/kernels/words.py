"""Read the words of UTF-8 text: one hash a word, in one pass over the bytes.

A table of code points says what each character becomes in a word (see `code_points`); ASCII runs
through a loop without branches. Text whose Unicode form depends on neighbouring characters is
handed back, to be folded first.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from datagen.curate.kernels import compiled
from datagen.curate.words import ALONE, DEPENDS, EXPANDS, MARK, WORD, code_points, random_words

Hashes = npt.NDArray[np.uint64]

PLANES = 0x40000
"""Forms are tabled below this code point; above it only variation selectors are word characters."""


class Tables(NamedTuple):
    """What the kernels look up: the hash of each folded ASCII byte (128,), 0 where it separates,
    and the forms of code points (see `words.CodePoints`)."""

    bytes: Hashes
    forms: npt.NDArray[np.uint32]
    flags: npt.NDArray[np.uint8]
    longer: npt.NDArray[np.uint32]


@numba.njit(inline="always")
def _mix(value: Any) -> Any:
    """Spread a word's sum over all bits: one multiplication between two shifts."""
    value ^= value >> np.uint64(32)
    value *= np.uint64(0xD6E8FEB86659FD93)
    return value ^ (value >> np.uint64(32))


@numba.njit(inline="always")
def _code_hash(code: Any) -> Any:
    """The random word of a code point beyond ASCII."""
    return _mix((np.uint64(code) + np.uint64(0x9E37)) * np.uint64(0x9E3779B97F4A7C15))


@numba.njit(nogil=True)
def decode(data: Any, place: Any, end: Any) -> Any:
    """The code point at a byte of 128 or more, and its length in bytes.

    Overlong forms, surrogates and cut sequences are no UTF-8: each of their bytes is U+FFFD.
    """
    lead = np.uint32(data[place])
    size = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    if lead < 0xC2 or lead > 0xF4 or place + size > end:
        return np.uint32(0xFFFD), 1
    code = lead & np.uint32((1 << (7 - size)) - 1)
    for at in range(place + 1, place + size):
        byte = np.uint32(data[at])
        if byte & np.uint32(0xC0) != np.uint32(0x80):
            return np.uint32(0xFFFD), 1
        code = code << np.uint32(6) | byte & np.uint32(0x3F)
    least = 0x80 if size == 2 else 0x800 if size == 3 else 0x10000
    if code < least or code > 0x10FFFF or 0xD800 <= code < 0xE000:
        return np.uint32(0xFFFD), 1
    return code, size


@numba.njit(nogil=True)
def look_up(code: Any, tables: Any) -> Any:
    """A code point's form and flags; beyond the tables it stands for itself."""
    if code < PLANES:
        return tables.forms[code], tables.flags[code]
    if 0xE0100 <= code < 0xE01F0:
        return code, np.uint8(WORD | DEPENDS)
    return code, np.uint8(0)


@numba.njit(nogil=True)
def _add(point: Any, flag: Any, state: Any, tables: Any, out: Any) -> Any:
    """Add a folded code point to the state (hash of the word so far, inside one, place)."""
    hashed, inside, place = state
    if flag & WORD and not flag & ALONE:
        value = tables.bytes[point] if point < 128 else _code_hash(point)
        hashed = (hashed << np.uint64(5) | hashed >> np.uint64(59)) + value
        return hashed, np.int64(1), place
    out[place] = hashed
    place += inside
    if flag & ALONE:
        out[place] = _code_hash(point)
        place += 1
    return np.uint64(0), np.int64(0), place


@numba.njit(inline="always")
def _read_ascii(data: Any, at: Any, end: Any, letters: Any, out: Any, state: Any) -> Any:
    """Read a run of ASCII: where it ends, and the state there.

    All in unsigned numbers, since with signed ones numba asks of every index whether it counts from
    the end.
    """
    hashed, within, after = state
    inside, place = np.uint64(within), np.uint64(after)
    while at < end:
        byte = data[np.uint64(at)]
        if byte >= 128:
            break
        value = letters[byte]
        word = np.uint64(value != 0)
        out[place] = hashed
        place += inside & (word ^ np.uint64(1))
        hashed = (hashed << np.uint64(5) | hashed >> np.uint64(59)) + value
        hashed &= np.uint64(0) - word
        inside = word
        at += 1
    return at, (hashed, np.int64(inside), np.int64(place))


@numba.njit(nogil=True)
def read_text(
    data: Any, start: Any, end: Any, folded: Any, tables: Any, out: Any, first: Any
) -> Any:
    """Hash the words of data[start:end] into out[first:]; the place after the last one.

    -1 where the text has to be folded before it is read (never with `folded`). `out` needs room
    for a word a byte and two more.
    """
    state = np.uint64(0), np.int64(0), first
    at = start
    after_mark = start - 1
    while at < end:
        if data[at] < 128:
            at, state = _read_ascii(data, at, end, tables.bytes, out, state)
            continue
        code, size = decode(data, at, end)
        point, flag = look_up(code, tables)
        if folded:
            state = _add(code, flag, state, tables, out)
        elif flag & DEPENDS or (flag & MARK and after_mark == at):
            return np.int64(-1)
        elif flag & EXPANDS:
            for letter in tables.longer[point]:
                if letter != 0:
                    state = _add(letter, look_up(letter, tables)[1], state, tables, out)
        else:
            state = _add(point, flag, state, tables, out)
        # What nobody sees between two marks does not part them.
        unseen = flag & EXPANDS and tables.longer[point, 0] == 0
        if flag & MARK or (unseen and after_mark == at):
            after_mark = at + size
        at += size
    hashed, inside, place = state
    out[place] = hashed
    place += inside
    for number in range(first, place):
        out[number] = _mix(out[number])
    return place


@compiled
def read_texts(
    data: Any, offsets: Any, first: Any, folded: Any, tables: Any, out: Any, begins: Any
) -> Any:
    """Hash the words of the texts from `first` on: out[begins[i]:begins[i + 1]].

    Returns the number of the text it stopped at, before one that has to be folded; begins[first]
    says where to go on.
    """
    for number in range(first, len(offsets) - 1):
        after = read_text(
            data, offsets[number], offsets[number + 1], folded, tables, out, begins[number]
        )
        if after < 0:
            return number
        begins[number + 1] = after
    return len(offsets) - 1


@cache
def tables() -> Tables:
    """The tables, made once a process in about 0.3 s."""
    found = code_points(PLANES)
    byte_hashes = np.zeros(128, np.uint64)
    letters = random_words(0, 128) | np.uint64(1)
    word = found.flags[:128] & WORD != 0
    byte_hashes[word] = letters[found.forms[:128][word]]
    return Tables(bytes=byte_hashes, forms=found.forms, flags=found.flags, longer=found.longer)

"""Cut a text into the tokens of spaCy's English rules, chunk by chunk (see `curate.tokens`).

Text is an array of code points. A chunk is a run without white space. Most chunks are a word or a
number with punctuation around it, whose tokens follow from the rules; the tokens of the others
are looked up by the chunk's hash, and those never met before are handed back.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from datagen.curate.kernels import compiled

SPACE, LETTER, LOWER, DIGIT, OPEN, CLOSE, ALPHA, SYMBOL = 1, 2, 4, 8, 16, 32, 64, 128
"""Flags of a code point. LETTER: no affix rule knows it; LOWER: a full stop after it is a token;
OPEN, CLOSE: always a token at a chunk's edge; SYMBOL: in datatrove's set of punctuation."""

_HYPHEN, _APOSTROPHE, _QUOTE, _STOP, _COMMA = 0x2D, 0x27, 0x2019, 0x2E, 0x2C
_EN_DASH, _EM_DASH, _COLON, _SLASH = 0x2013, 0x2014, 0x3A, 0x2F
_PIECES = 5
LONGEST_CASE = 16
"""No special case is longer, in code points."""


@numba.njit(inline="always")
def _mixed(value: Any) -> Any:
    value ^= value >> np.uint64(32)
    value *= np.uint64(0xD6E8FEB86659FD93)
    return value ^ (value >> np.uint64(29))


@compiled
def hash_codes(codes: Any, start: Any, end: Any) -> Any:
    """A 64-bit hash of codes[start:end], never 0."""
    value = np.uint64(end - start) * np.uint64(0x9E3779B97F4A7C15)
    for place in range(start, end):
        value = (value ^ np.uint64(codes[place])) * np.uint64(0xA0761D6478BD642F)
        value ^= value >> np.uint64(31)
    return _mixed(value) | np.uint64(1)


@numba.njit(nogil=True)
def _find(keys: Any, key: Any) -> Any:
    """The slot of a key in an open table, or the free slot where it belongs."""
    mask = np.uint64(len(keys) - 1)
    slot = (key >> np.uint64(7)) & mask
    while keys[slot] != 0 and keys[slot] != key:
        slot = (slot + np.uint64(1)) & mask
    return slot


@compiled
def put(keys: Any, places: Any, key: Any, place: Any) -> None:
    """Set a key's place in an open table that has room for it."""
    slot = _find(keys, key)
    places[slot] = place
    keys[slot] = key


@numba.njit(nogil=True)
def _special(codes: Any, specials: Any, start: Any, end: Any) -> Any:
    if end - start > LONGEST_CASE:
        return False
    key = hash_codes(codes, start, end)
    return specials[_find(specials, key)] == key


@numba.njit(nogil=True)
def _is_word(codes: Any, kinds: Any, specials: Any, start: Any, end: Any) -> Any:
    """Whether a chunk is letters, and no special case."""
    for place in range(start, end):
        if not kinds[codes[place]] & LETTER:
            return False
    return not _special(codes, specials, start, end)


@numba.njit(nogil=True)
def _is_core(codes: Any, kinds: Any, start: Any, end: Any) -> Any:
    """Whether it is letters with hyphens or dashes between them, or digits with marks between them.

    Digits may have hyphens, or marks of an address (`:` and `/`), but not both.
    """
    if start >= end:
        return False
    digits = kinds[codes[start]] & DIGIT
    wanted = DIGIT if digits else LETTER
    joined, hyphens, address = False, False, False
    for place in range(start, end):
        code = codes[place]
        if kinds[code] & wanted:
            joined = False
            continue
        hyphens |= code == _HYPHEN
        if digits:
            address |= code in (_COLON, _SLASH)
            joins = code in (_HYPHEN, _STOP, _COMMA, _EN_DASH, _COLON, _SLASH)
        else:
            joins = code in (_HYPHEN, _EN_DASH, _EM_DASH)
        if joined or place == start or not joins:
            return False
        joined = True
    return not (joined or (hyphens and address))


@numba.njit(inline="always")
def _splits(code: Any, digits: Any) -> Any:
    """Whether a mark inside a core is a token."""
    return code == _HYPHEN or (not digits and code in (_EN_DASH, _EM_DASH))


@numba.njit(nogil=True)
def _pieces(codes: Any, kinds: Any, specials: Any, start: Any, end: Any, cuts: Any) -> Any:
    """Cut a chunk of a common form into its pieces: how many, 0 where it has another form.

    `cuts` (6,) gets the pieces' bounds; at most one of them is a core. Any run of pieces that
    spaCy lists as a special case makes it another form.
    """
    count, last, closers = 1, end, 0
    first = start + (kinds[codes[start]] & OPEN != 0)
    while last > first and closers < 2 and kinds[codes[last - 1]] & CLOSE:
        last -= 1
        closers += 1
    inner = last
    if (
        last - first > 2
        and codes[last - 1] in (0x73, 0x53)
        and codes[last - 2] in (_APOSTROPHE, _QUOTE)
    ):
        inner = last - 2
    if not _is_core(codes, kinds, first, inner):
        return 0, first, inner
    if closers and codes[last] == _STOP and not kinds[codes[last - 1]] & (LOWER | DIGIT):
        # After capitals a full stop is a token from the second one on.
        capitals = inner - first > 1 and inner == last
        for place in range(max(last - 2, first), last):
            capitals &= 0x41 <= codes[place] <= 0x5A
        if not capitals:
            return 0, first, inner
    if closers == 2 and codes[last] == _STOP and codes[last + 1] == _STOP:
        return 0, first, inner
    cuts[0] = start
    if first > start:
        cuts[count] = first
        count += 1
    for bound in (inner, last, last + 1):
        if bound > cuts[count - 1] and bound <= end and bound > first:
            cuts[count] = bound
            count += 1
    if cuts[count - 1] < end:
        cuts[count] = end
        count += 1
    count -= 1
    if count > 1 and _joins(codes, kinds, specials, cuts, count, first, inner):
        return 0, first, inner
    for left in range(count):
        for right in range(left + 1, count + 1):
            single = cuts[right] - cuts[left] == 1 and right == left + 1
            # A mark, and the genitive's, are themselves where they are special cases.
            if single and not kinds[codes[cuts[left]]] & (LETTER | DIGIT):
                continue
            if cuts[left] == inner and cuts[right] == last:
                continue
            if _special(codes, specials, cuts[left], cuts[right]):
                return 0, first, inner
    return count, first, inner


@numba.njit(nogil=True)
def _joins(
    codes: Any, kinds: Any, specials: Any, cuts: Any, count: Any, first: Any, inner: Any
) -> Any:
    """Whether a part of a hyphened core and its neighbours are a special case."""
    low, high = inner, first
    digits = kinds[codes[first]] & DIGIT
    for place in range(first, inner):
        if _splits(codes[place], digits):
            low = min(low, place)
            high = max(high, place + 1)
    if low == inner:
        return False
    for piece in range(count + 1):
        bound = cuts[piece]
        if bound > inner and _special(codes, specials, high, bound):
            return True
        if bound < first and _special(codes, specials, bound, low):
            return True
    return False


@numba.njit(nogil=True)
def _compete(codes: Any, left: Any, right: Any, pairs: Any) -> Any:
    """Whether the last token of a chunk and the first of the next may be of one special case.

    A side is (start, end, whether a special case was put together in its chunk): there only the
    character at the edge is known.
    """
    pair = np.uint64(codes[left[1] - 1]) << np.uint64(32) | np.uint64(codes[right[0]])
    if pairs[0][_find(pairs[0], pair)] != pair:
        return False
    if not left[2]:
        key = hash_codes(codes, left[0], left[1])
        if pairs[1][_find(pairs[1], key)] != key:
            return False
    if not right[2]:
        key = hash_codes(codes, right[0], right[1])
        if pairs[2][_find(pairs[2], key)] != key:
            return False
    return True


@numba.njit(nogil=True)
def _emit_core(
    codes: Any, kinds: Any, start: Any, end: Any, starts: Any, ends: Any, count: Any
) -> Any:
    """Write a core's tokens: hyphens are tokens, points in numbers are none."""
    begin = start
    digits = kinds[codes[start]] & DIGIT
    for place in range(start, end):
        if _splits(codes[place], digits):
            starts[count], ends[count] = begin, place
            starts[count + 1], ends[count + 1] = place, place + 1
            count += 2
            begin = place + 1
    starts[count], ends[count] = begin, end
    return count + 1


@compiled
def cut(
    codes: Any, kinds: Any, specials: Any, memo: Any, pairs: Any, starts: Any, ends: Any, new: Any
) -> Any:
    """Write the tokens' bounds: (tokens, chunks handed back, whether chunks may interact).

    `memo` is (keys, places, lengths): lengths[place] is twice the number of tokens, and 1 if a
    special case was put together from them; their lengths follow. `pairs` are the characters on
    both sides of a cut inside a special case, the tokens left of one, and those right of one.
    `new` (2 n,) gets the bounds of chunks that nobody knows: then the tokens are worthless.
    """
    keys, places, lengths = memo
    cuts = np.zeros(_PIECES + 2, np.int64)
    count, unknown, odd = 0, 0, False
    end, size = 0, len(codes)
    before = (-2, -2, False)
    while True:
        start = end
        while start < size and kinds[codes[start]] & SPACE:
            start += 1
        if start >= size:
            return count, unknown, odd
        end = start + 1
        while end < size and not kinds[codes[end]] & SPACE:
            end += 1
        made, begin = False, count
        if _is_word(codes, kinds, specials, start, end):
            starts[count], ends[count] = start, end
            count += 1
            if before[2] and start == before[1] + 1 and codes[before[1]] == 0x20:
                odd |= _compete(codes, before, (start, end, False), pairs)
            before = (start, end, False)
            continue
        pieces, first, inner = _pieces(codes, kinds, specials, start, end, cuts)
        if pieces:
            for piece in range(pieces):
                low, high = cuts[piece], cuts[piece + 1]
                if low == first and high == inner:
                    count = _emit_core(codes, kinds, low, high, starts, ends, count)
                else:
                    starts[count], ends[count] = low, high
                    count += 1
        else:
            key = hash_codes(codes, start, end)
            slot = _find(keys, key)
            if keys[slot] != key:
                new[2 * unknown], new[2 * unknown + 1] = start, end
                unknown += 1
            else:
                place = places[slot]
                made = lengths[place] & 1 == 1
                low = start
                for at in range(place + 1, place + 1 + (lengths[place] >> 1)):
                    starts[count], ends[count] = low, low + lengths[at]
                    low += lengths[at]
                    count += 1
        if count == begin:
            continue
        if (made or before[2]) and start == before[1] + 1 and codes[before[1]] == 0x20:
            odd |= _compete(codes, before, (starts[begin], ends[begin], made), pairs)
        before = (starts[count - 1], end, made)

"""Keys of normalised texts, without writing the normalised texts down anywhere."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from datagen.curate.kernels import compiled
from datagen.curate.kernels.words import decode, look_up
from datagen.curate.words import DEPENDS, EDGE, EXPANDS, MARK, SPACE


@numba.njit(inline="always")
def _put(point: Any, flag: Any, state: Any, out: Any) -> Any:
    """Append a folded code point to the state (place, the open word's begin, its end so far)."""
    place, begin, end = state
    if flag & SPACE:
        # What follows the word's last character that is no edge is dropped, and so is an empty one.
        if end == begin:
            return end, end, end
        out[end] = 0
        return end + 1, end + 1, end + 1
    if flag & EDGE:
        if place == begin:
            return state
        out[place] = point
        return place + 1, begin, end
    out[place] = point
    return place + 1, begin, place + 1


@numba.njit(nogil=True)
def _normalise(data: Any, start: Any, stop: Any, folded: Any, tables: Any, out: Any) -> Any:
    """Write the code points of a text's words, a 0 between two; how many, or -1 to fold first."""
    place = np.int64(0)
    state = place, place, place
    after_mark = start - 1
    at = start
    while at < stop:
        code, size = np.uint32(data[at]), 1
        if code >= 128:
            code, size = decode(data, at, stop)
        point, flag = look_up(code, tables)
        if folded:
            state = _put(code, flag, state, out)
        elif flag & DEPENDS or (flag & MARK and after_mark == at):
            return np.int64(-1)
        elif flag & EXPANDS:
            for letter in tables.longer[point]:
                if letter != 0:
                    state = _put(letter, look_up(letter, tables)[1], state, out)
        else:
            state = _put(point, flag, state, out)
        # What nobody sees between two marks does not part them.
        unseen = flag & EXPANDS and tables.longer[point, 0] == 0
        if flag & MARK or (unseen and after_mark == at):
            after_mark = at + size
        at += size
    _, begin, end = state
    return max(end - 1, 0) if end == begin else end


@numba.njit(nogil=True)
def _digest(points: Any, count: Any) -> Any:
    """Two independent 64-bit hashes of a run of code points and its length."""
    first = np.uint64(count) * np.uint64(0x9E3779B97F4A7C15)
    second = ~first
    for at in range(count):
        point = np.uint64(points[at]) + np.uint64(1)
        first = (first ^ point) * np.uint64(0xBF58476D1CE4E5B9)
        first ^= first >> np.uint64(29)
        second = (second + point) * np.uint64(0x94D049BB133111EB)
        second ^= second >> np.uint64(31)
    return first, second


@compiled
def normalised_keys(
    data: Any, offsets: Any, first: Any, folded: Any, tables: Any, scratch: Any, keys: Any
) -> Any:
    """Two hashes of every text as normalised, from `first` on: keys (n, 2).

    Returns the number of the text it stopped at, before one that has to be folded. `scratch`
    (uint32) has room for a code point a byte of the longest text, and two more.
    """
    for number in range(first, len(offsets) - 1):
        count = _normalise(data, offsets[number], offsets[number + 1], folded, tables, scratch)
        if count < 0:
            return number
        keys[number, 0], keys[number, 1] = _digest(scratch, count)
    return len(offsets) - 1

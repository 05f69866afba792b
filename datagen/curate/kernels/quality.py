"""Count what the Gopher, C4 and FineWeb rules look at: tokens, lines, repeated stretches.

Text is an array of code points; equal stretches are those with equal 64-bit hashes.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from datagen.curate.kernels import compiled
from datagen.curate.kernels.tokens import ALPHA, SPACE, SYMBOL, hash_codes

_NEWLINE, _RETURN, _BULLET, _DASH, _STOP, _ELLIPSIS = 0x0A, 0x0D, 0x2022, 0x2D, 0x2E, 0x2026
_BASE = np.uint64(0x9FB21C651E98DF25)
_ROLL = np.uint64(0xA0761D6478BD642F)


@numba.njit(nogil=True)
def _seen(table: Any, key: Any) -> Any:
    """Whether an open table holds a key; it does afterwards. Keys are not 0."""
    mask = np.uint64(len(table) - 1)
    slot = (key >> np.uint64(9)) & mask
    while table[slot] != 0:
        if table[slot] == key:
            return True
        slot = (slot + np.uint64(1)) & mask
    table[slot] = key
    return False


@numba.njit(nogil=True)
def _table_size(count: Any) -> Any:
    size = 16
    while size < 2 * count:
        size *= 2
    return size


@compiled
def count_tokens(codes: Any, starts: Any, ends: Any, kinds: Any, stops: Any, longest: Any) -> Any:
    """(tokens not all symbols, their code points, tokens with a letter, stop words that occur).

    `stops` are the hashes of the stop words (`hash_codes`), each once, `longest` the length of the
    longest one.
    """
    worded, length, lettered = 0, 0, 0
    met = np.zeros(len(stops), np.bool_)
    for token in range(len(starts)):
        start, end = starts[token], ends[token]
        letter = symbols = False
        for place in range(start, end):
            kind = kinds[codes[place]]
            letter |= kind & ALPHA != 0
            symbols |= kind & SYMBOL == 0
        worded += symbols
        lettered += letter
        length += (end - start) * symbols
        if end - start <= longest:
            key = hash_codes(codes, start, end)
            for number in range(len(stops)):
                met[number] |= stops[number] == key
    return worded, length, lettered, met.sum()


@numba.njit(nogil=True)
def _ends_line(code: Any) -> Any:
    """Whether `str.splitlines` ends a line there."""
    if code > 0x1E:
        return code == 0x85 or code == 0x2028 or code == 0x2029
    return 0x0A <= code <= 0x0D or code >= 0x1C


@compiled
def split_lines(codes: Any, kinds: Any, out: Any) -> Any:
    """Write a row a line of `str.splitlines`, without the white space around it; how many.

    A row is (start, end, words by white space, the longest word); out (lines, 4) needs a row for
    each code point and may be longer.
    """
    count, start, size = 0, 0, len(codes)
    while start < size:
        end = start
        first, last = -1, start
        words, longest, word = 0, 0, 0
        while end < size and not _ends_line(codes[end]):
            if kinds[codes[end]] & SPACE:
                word = 0
            else:
                first = end if first < 0 else first
                last = end + 1
                words += word == 0
                word += 1
                longest = max(longest, word)
            end += 1
        out[count, 0], out[count, 1] = (first, last) if first >= 0 else (start, start)
        out[count, 2], out[count, 3] = words, longest
        count += 1
        start = end + 1
        if end + 1 < size and codes[end] == _RETURN and codes[end + 1] == _NEWLINE:
            start = end + 2
    return count


@compiled
def count_marked_lines(codes: Any, lines: Any) -> Any:
    """(lines that begin with a bullet or a dash, lines that end with an ellipsis)."""
    bullets, cut = 0, 0
    for number in range(len(lines)):
        start, end = lines[number, 0], lines[number, 1]
        if start == end:
            continue
        bullets += codes[start] == _BULLET or codes[start] == _DASH
        if codes[end - 1] == _ELLIPSIS:
            cut += 1
        elif end - start > 2 and codes[end - 1] == _STOP:
            cut += codes[end - 2] == _STOP and codes[end - 3] == _STOP
    return bullets, cut


@compiled
def count_written_lines(codes: Any, kinds: Any, stops: Any, short: Any) -> Any:
    """Of the lines between line feeds that are not blank: (all, those that end with one of
    `stops`, those of at most `short` code points, the code points of those seen before)."""
    size = len(codes)
    ends = 1
    for place in range(size):
        ends += codes[place] == _NEWLINE
    table = np.zeros(_table_size(ends), np.uint64)
    lines, stopped, shorter, repeated = 0, 0, 0, 0
    start = 0
    while start <= size:
        end = start
        blank = True
        while end < size and codes[end] != _NEWLINE:
            blank &= kinds[codes[end]] & SPACE != 0
            end += 1
        if not blank:
            lines += 1
            shorter += end - start <= short
            for stop in stops:
                stopped += codes[end - 1] == stop
            if _seen(table, hash_codes(codes, start, end)):
                repeated += end - start
        start = end + 1
    return lines, stopped, shorter, repeated


@compiled
def count_parts(codes: Any, low: Any, high: Any, feeds: Any) -> Any:
    """Parts of codes[low:high] between runs of at least `feeds` line feeds: (all, those seen
    before, the code points of those)."""
    ends = 1
    for place in range(low, high):
        ends += codes[place] == _NEWLINE
    table = np.zeros(_table_size(ends + 1), np.uint64)
    parts, again, repeated = 0, 0, 0
    start = place = low
    while place <= high:
        run = 0
        while place + run < high and codes[place + run] == _NEWLINE:
            run += 1
        if run >= feeds or place == high:
            parts += 1
            if _seen(table, hash_codes(codes, start, place)):
                again += 1
                repeated += place - start
            if place == high:
                return parts, again, repeated
            start = place + run
            place = start
        else:
            place += max(run, 1)
    return parts, again, repeated


@compiled
def hash_tokens(codes: Any, starts: Any, ends: Any, hashes: Any, sums: Any, powers: Any) -> None:
    """For each token its hash, and the polynomial sum and power that hash what tokens spell.

    Tokens that together spell the same have the same sum, wherever they are cut.
    """
    for token in range(len(starts)):
        value, power = np.uint64(0), np.uint64(1)
        for place in range(starts[token], ends[token]):
            code = (np.uint64(codes[place]) + np.uint64(1)) * np.uint64(0xD6E8FEB86659FD93)
            value = value * _BASE + (code ^ code >> np.uint64(32))
            power *= _BASE
        sums[token], powers[token] = value, power
        hashes[token] = value ^ np.uint64(ends[token] - starts[token]) * _ROLL


@numba.njit(nogil=True)
def _spread(value: Any) -> Any:
    value ^= value >> np.uint64(32)
    value *= np.uint64(0xD6E8FEB86659FD93)
    return (value ^ value >> np.uint64(32)) | np.uint64(1)


@compiled
def roll(rolled: Any, hashes: Any, done: Any, wanted: Any) -> None:
    """Hashes of `done` tokens in a row to hashes of `wanted`, in place."""
    for extra in range(done, wanted):
        for place in range(len(hashes) - extra):
            rolled[place] = rolled[place] * _ROLL + hashes[place + extra]


@compiled
def roll_sums(rolled: Any, sums: Any, powers: Any, done: Any, wanted: Any) -> None:
    """Sums of what `done` tokens in a row spell to sums of what `wanted` do, in place."""
    for extra in range(done, wanted):
        for place in range(len(sums) - extra):
            rolled[place] = rolled[place] * powers[place + extra] + sums[place + extra]


@compiled
def commonest(rolled: Any, grams: Any) -> Any:
    """(place, count) of the n-gram that is most common; of several the one that comes first."""
    size = _table_size(grams)
    keys, first = np.zeros(size, np.uint64), np.zeros(size, np.int64)
    counts = np.zeros(size, np.int64)
    mask = np.uint64(size - 1)
    most = 0
    for place in range(grams):
        key = _spread(rolled[place])
        slot = (key >> np.uint64(9)) & mask
        while keys[slot] != 0 and keys[slot] != key:
            slot = (slot + np.uint64(1)) & mask
        if keys[slot] == 0:
            keys[slot], first[slot] = key, place
        counts[slot] += 1
        most = max(most, counts[slot])
    best = grams
    for slot in range(size):
        if counts[slot] == most and keys[slot] != 0:
            best = min(best, first[slot])
    return best, most


@compiled
def count_repeated(rolled: Any, starts: Any, ends: Any, n: Any) -> Any:
    """The code points in runs of n tokens that spell what an earlier run does, taken greedily."""
    grams = len(starts) - n + 1
    table = np.zeros(_table_size(grams), np.uint64)
    repeated, place = 0, 0
    while place < grams:
        if _seen(table, _spread(rolled[place])):
            for token in range(place, place + n):
                repeated += ends[token] - starts[token]
            place += n
        else:
            place += 1
    return repeated

"""Sketch texts for fuzzy dedup: from bytes to the keys of every band, one text at a time.

A sketch holds, for each of its bins, the least hash among the shingles that fall into the bin.
Rounds with fresh hashes go on until no bin is empty, so that a short text is sketched as well as a
long one: the estimate is as sharp as that of MinHash with one hash a bin, at the cost of one
(Fast Similarity Sketching, Dahlgaard, Knudsen, Thorup 2017).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from datagen.curate.kernels import compiled
from datagen.curate.kernels.words import read_text

_ROUND = 0x9E3779B97F4A7C15


@numba.njit(inline="always")
def _spread(value: Any) -> Any:
    """Spread every input bit over all 64 output bits (the finaliser of splitmix64)."""
    value ^= value >> np.uint64(30)
    value *= np.uint64(0xBF58476D1CE4E5B9)
    value ^= value >> np.uint64(27)
    value *= np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@numba.njit(nogil=True)
def _shingle(words: Any, count: Any, n: Any, base: Any, out: Any) -> Any:
    """Overwrite out[:m] with the hashes of all windows of n words; one for fewer; m.

    `out` may be `words`: a window is written where its first word stood.
    """
    length = min(count, n)
    if length == 0:
        return 0
    leading = np.uint64(1)
    rolled = np.uint64(0)
    for number in range(length):
        rolled = rolled * base + words[number]
        leading *= base
    for number in range(length, count):
        gone = words[number - length]
        out[number - length] = _spread(rolled)
        rolled = rolled * base + words[number] - gone * leading
    out[count - length] = _spread(rolled)
    return count - length + 1


@numba.njit(nogil=True)
def _fill(shingles: Any, count: Any, sketch: Any) -> None:
    """Fill a sketch from `count` > 0 shingles: high halves are values, low halves choose bins."""
    bins = np.uint64(len(sketch))
    low = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    sketch[:] = low
    empty = len(sketch)
    for number in range(count):
        hashed = shingles[number]
        place = ((hashed & low) * bins) >> half
        value = hashed >> half
        if value < sketch[place]:
            empty -= sketch[place] == low
            sketch[place] = value
    turn = np.uint64(1)
    while empty:
        last = empty
        # The shingles are spread already: their products' high bits choose, those below compare.
        factor = _spread(turn * np.uint64(_ROUND)) | np.uint64(1)
        for number in range(count):
            hashed = shingles[number] * factor
            # After one round a bin without luck, every shingle is offered to one bin a round.
            place = ((hashed >> half) * bins) >> half if turn < bins else turn % bins
            # Values of this round stay apart from those of earlier ones by the bit above.
            value = ((hashed >> np.uint64(8)) & low) | (np.uint64(1) << half)
            if sketch[place] == low or (sketch[place] > low and value < sketch[place]):
                empty -= sketch[place] == low
                sketch[place] = value
        if last != empty:
            for place in range(len(sketch)):
                if sketch[place] > low:
                    sketch[place] &= low
        turn += np.uint64(1)


@compiled
def sketch_texts(
    data: Any,
    offsets: Any,
    first: Any,
    folded: Any,
    tables: Any,
    n: Any,
    base: Any,
    rows: Any,
    scratch: Any,
    keys: Any,
    shingles: Any,
    begins: Any,
) -> Any:
    """Band keys and shingles of the texts from `first` on; the number of the text it stopped at.

    It stops before a text that has to be folded. keys (n, bands) uint64, odd, 0 where a text has no
    word; shingles[begins[i]:begins[i + 1]] are the high halves of its shingles' hashes, repeats
    included; begins[first] says where to go on. `scratch` holds a word a byte of the longest text,
    and two more.
    """
    bands = keys.shape[1]
    sketch = np.empty(bands * rows, np.uint64)
    for number in range(first, len(offsets) - 1):
        place = begins[number]
        count = read_text(
            data, offsets[number], offsets[number + 1], folded, tables, scratch, np.int64(0)
        )
        if count < 0:
            return number
        keys[number] = 0
        begins[number + 1] = place
        if count == 0:
            continue
        count = _shingle(scratch, count, n, base, scratch)
        _fill(scratch, count, sketch)
        for at in range(count):
            shingles[place + at] = np.uint32(scratch[at] >> np.uint64(32))
        begins[number + 1] = place + count
        for band in range(bands):
            key = np.uint64(band)
            for row in range(rows):
                key = key * base + sketch[band * rows + row]
            keys[number, band] = _spread(key) | np.uint64(1)
    return len(offsets) - 1

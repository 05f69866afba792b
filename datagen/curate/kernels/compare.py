"""Compare sets of hashed shingles pair by pair, through a small table of one of the two."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from datagen.curate.kernels import compiled


@compiled
def compare_pairs(
    pairs: Any, shingles: Any, begins: Any, containment: Any, places: Any, out: Any
) -> None:
    """Write the Jaccard index of each pair (m, 2) of rows to out[places[i]].

    With `containment` the share of the smaller set that lies in the other. Pairs that follow one
    another with the same left row share its table.
    """
    longest = 0
    for row in range(len(begins) - 1):
        longest = max(longest, begins[row + 1] - begins[row])
    room = 4
    while room < 2 * longest:
        room *= 2
    table = np.zeros(room, np.uint32)
    owner = np.zeros(room, np.int64)
    seen = np.zeros(room, np.int64)
    stamp = np.int64(0)
    other = np.int64(0)
    before = np.int64(-1)
    left_size = 0
    mask = np.int64(room - 1)
    for number in range(len(pairs)):
        left, right = pairs[number, 0], pairs[number, 1]
        if left != before:
            before = left
            stamp += 1
            left_size = 0
            mask = np.int64(3)
            while mask + 1 < 2 * (begins[left + 1] - begins[left]):
                mask = mask * 2 + 1
            for at in range(begins[left], begins[left + 1]):
                value = shingles[at]
                slot = np.int64(value) & mask
                while owner[slot] == stamp and table[slot] != value:
                    slot = (slot + 1) & mask
                if owner[slot] != stamp:
                    owner[slot] = stamp
                    table[slot] = value
                    seen[slot] = 0
                    left_size += 1
        other += 1
        common = 0
        for at in range(begins[right], begins[right + 1]):
            value = shingles[at]
            slot = np.int64(value) & mask
            while owner[slot] == stamp and table[slot] != value:
                slot = (slot + 1) & mask
            if owner[slot] == stamp and seen[slot] != other:
                seen[slot] = other
                common += 1
        right_size = _distinct(shingles, begins[right], begins[right + 1])
        whole = min(left_size, right_size) if containment else left_size + right_size - common
        out[places[number]] = common / whole if whole else 0.0


@numba.njit(nogil=True)
def _distinct(shingles: Any, begin: Any, end: Any) -> Any:
    """How many different shingles lie between two places."""
    room = 4
    while room < 2 * (end - begin):
        room *= 2
    table = np.zeros(room, np.uint32)
    zero = False
    count = 0
    for at in range(begin, end):
        value = shingles[at]
        if value == 0:
            count += not zero
            zero = True
            continue
        slot = np.int64(value) & np.int64(room - 1)
        while table[slot] != 0 and table[slot] != value:
            slot = (slot + 1) & np.int64(room - 1)
        count += table[slot] == 0
        table[slot] = value
    return count

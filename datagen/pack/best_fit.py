"""Exact best-fit-decreasing packing in the time of a counting sort.

The longest piece first, each into the fullest row that still has room. Equal lengths are placed
together: best fit keeps refilling the tightest row until nothing of that length fits, so a whole
run of equally full rows takes `space // length` pieces each in one step. The cost follows the
number of distinct (length, space) pairs, not the number of pieces; numpy does the rest.
"""

from __future__ import annotations

import bisect
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datagen.errors import DataError

Ints = NDArray[np.int64]

_WORD_BITS = 9
_WORD_MASK = (1 << _WORD_BITS) - 1
_ENDLESS = 1 << 62
_DIGIT_BITS = 16


class Placement(NamedTuple):
    """Which row each piece went to, shape (pieces,), and how many rows there are."""

    row_of: Ints
    rows: int


def by_length_descending(lengths: Ints, capacity: int) -> Ints:
    """Order pieces by falling length; equal lengths keep their order. Shape (pieces,)."""
    key = capacity - lengths
    # numpy sorts 16-bit integers by radix: two passes beat one comparison sort of wider ones
    order = np.argsort(key.astype(np.uint16), kind="stable")
    for shift in range(_DIGIT_BITS, capacity.bit_length(), _DIGIT_BITS):
        digit = (key >> shift).astype(np.uint16)
        order = order[np.argsort(digit[order], kind="stable")]
    return order


def _place(values: list[int], counts: list[int], capacity: int) -> tuple[int, Ints]:
    """Place `counts[i]` pieces of length `values[i]`, values falling.

    Returns the number of rows and the steps in order, shape (steps, 3): first row, number of
    rows, pieces that each of those rows takes. Rows of equal space lie in stacks of runs
    (first row, number of rows); two levels of bit words find the smallest space that fits. The
    empty rows are one endless run at space `capacity`.
    """
    smallest = values[-1]
    words = [0] * ((capacity >> _WORD_BITS) + 1)
    words[capacity >> _WORD_BITS] = 1 << (capacity & _WORD_MASK)
    summary = 1 << (capacity >> _WORD_BITS)
    stacks: dict[int, list[tuple[int, int]]] = {capacity: [(0, _ENDLESS)]}
    steps: list[int] = []
    for length, count in zip(values, counts, strict=True):
        while count:
            word = length >> _WORD_BITS
            bits = words[word] >> (length & _WORD_MASK)
            if bits:
                space = length + (bits & -bits).bit_length() - 1
                word = space >> _WORD_BITS
            else:
                above = summary >> (word + 1)
                word += (above & -above).bit_length()
                bits = words[word]
                space = (word << _WORD_BITS) + (bits & -bits).bit_length() - 1
            stack = stacks[space]
            first, rows = stack.pop()
            each = space // length
            full, rest = divmod(count, each)
            if full < rows:
                used = full + 1 if rest else full
                if used < rows:
                    stack.append((first + used, rows - used))
                count = 0
            else:
                full, rest = rows, 0
                count -= rows * each
            if not stack:
                words[word] ^= 1 << (space & _WORD_MASK)
                if not words[word]:
                    summary ^= 1 << word
            taken, run = (each, full) if full else (rest, 1)
            while True:
                steps += (first, run, taken)
                left = space - taken * length
                if left >= smallest:
                    if stacks.get(left):
                        stacks[left].append((first, run))
                    else:
                        stacks[left] = [(first, run)]
                        words[left >> _WORD_BITS] |= 1 << (left & _WORD_MASK)
                        summary |= 1 << (left >> _WORD_BITS)
                if not rest or taken == rest:
                    break
                first, run, taken = first + full, 1, rest
    return stacks[capacity][0][0], np.array(steps, dtype=np.int64).reshape(-1, 3)


def best_fit(lengths: Ints, capacity: int) -> Placement:
    """Pack pieces into rows of `capacity` tokens by exact best-fit-decreasing.

    `lengths`: shape (pieces,), each in 1..capacity. The rows' fills are those of the textbook
    algorithm over all pieces at once; the same input gives the same rows.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    if not len(lengths):
        return Placement(np.zeros(0, dtype=np.int64), 0)
    if lengths.min() < 1 or lengths.max() > capacity:
        raise DataError(
            f"piece lengths {lengths.min()}..{lengths.max()} do not fit rows of {capacity}",
            fix="split long texts and reject long conversations first (pack.arrange.cut)",
        )
    counts = np.bincount(lengths)
    values = np.flatnonzero(counts)[::-1]
    rows, steps = _place(values.tolist(), counts[values].tolist(), capacity)
    first, run, taken = steps.T
    # each step's rows one after another, then each row as often as it took a piece
    base = np.repeat(first - (np.cumsum(run) - run), run) + np.arange(run.sum())
    row_of = np.empty(len(lengths), dtype=np.int64)
    row_of[by_length_descending(lengths, capacity)] = np.repeat(base, np.repeat(taken, run))
    return Placement(row_of, rows)


def _repeated(prompts: Ints, row_of: Ints) -> Ints:
    """Pieces whose prompt already stands in their row at a smaller index, ascending."""
    order = np.argsort(prompts, kind="stable")
    ordered = prompts[order]
    same = ordered[1:] == ordered[:-1]
    many = np.flatnonzero(np.r_[False, same] | np.r_[same, False])
    if not len(many):
        return many
    pieces = order[many]
    pieces = pieces[np.lexsort((pieces, row_of[pieces], prompts[pieces]))]
    again = (prompts[pieces[1:]] == prompts[pieces[:-1]]) & (
        row_of[pieces[1:]] == row_of[pieces[:-1]]
    )
    return np.sort(pieces[1:][again])


def keep_apart(placement: Placement, lengths: Ints, prompts: Ints, capacity: int) -> Placement:
    """Move pieces so that no row holds the same prompt twice.

    Of equal prompts in a row the first piece (lowest index) stays. The others leave their rows
    and, longest first, go to the fullest row that has room and lacks the prompt, else to a new
    row. Deterministic, and always succeeds. `prompts`: a hash per piece, shape (pieces,).
    """
    moved = _repeated(prompts, placement.row_of)
    if not len(moved):
        return placement
    row_of = placement.row_of.copy()
    moved = moved[np.argsort(-lengths[moved], kind="stable")]
    fills = np.bincount(row_of, weights=lengths, minlength=placement.rows).astype(np.int64)
    np.subtract.at(fills, row_of[moved], lengths[moved])
    stays = np.isin(prompts, prompts[moved])
    stays[moved] = False
    holding: dict[int, set[int]] = {}
    for prompt, row in zip(prompts[stays].tolist(), row_of[stays].tolist(), strict=True):
        holding.setdefault(prompt, set()).add(row)
    spaces = capacity - fills
    roomy = np.flatnonzero(spaces >= lengths[moved].min())
    free = sorted(zip(spaces[roomy].tolist(), roomy.tolist(), strict=True))
    rows = placement.rows
    for piece in moved.tolist():
        length, taken = int(lengths[piece]), holding[int(prompts[piece])]
        at = bisect.bisect_left(free, (length, -1))
        while at < len(free) and free[at][1] in taken:
            at += 1
        if at < len(free):
            space, row = free.pop(at)
        else:
            space, row, rows = capacity, rows, rows + 1
        bisect.insort(free, (space - length, row))
        taken.add(row)
        row_of[piece] = row
    return Placement(row_of, rows)

"""Look for benchmark questions in texts, in one pass over their bytes.

Every place of a text is looked up by three words for whole short questions, and by six for long
ones, of which every third six words are known: any eight of their words in a row hold such six. The
look-up is of two bits in a table that a cache holds; what passes it is compared word by word.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from datagen.curate.kernels import compiled
from datagen.curate.kernels.words import read_text, tables
from datagen.curate.words import Room, in_turn

Hashes = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int32]

SHORT_WORDS, SEED_WORDS, RUN_WORDS, STRIDE = 3, 6, 8, 3
"""Words of the two look-ups, the shortest run that counts, and how far apart known sixes lie."""

_BITS_PER_KEY = 16
# One question is looked at in one text this often at most; a text of one repeated phrase ends.
_LOOKS = 256
_FIRST_RUNS = 1 << 12
_RECENT = 256
_ROOM = Room()


class Seeds(NamedTuple):
    """Keys of word n-grams, and the questions and offsets that hold each.

    `bits` is a table with two bits a key in one word; `slots` finds the number of a key, from 1;
    its entries are firsts[number - 1] up to firsts[number] of `questions` and `offsets`.
    """

    bits: Hashes
    shift: np.uint64
    slots: Numbers
    keys: Hashes
    firsts: npt.NDArray[np.int64]
    questions: Numbers
    offsets: Numbers


class Questions(NamedTuple):
    """All that the scan looks for: words[begins[i]:begins[i + 1]] are those of question i."""

    words: Hashes
    begins: npt.NDArray[np.int64]
    short: Seeds
    long: Seeds
    base: np.uint64


def make_seeds(
    keys: Hashes, questions: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64]
) -> Seeds:
    """Tables of n-gram keys and the question and offset of each; all (m,)."""
    order = np.lexsort((offsets, questions, keys))
    distinct, firsts = np.unique(keys[order], return_index=True)
    size = max(10, (len(distinct) * _BITS_PER_KEY).bit_length())
    shift = np.uint64(64 - size + 6)
    bits = np.zeros(1 << (size - 6), np.uint64)
    one, low = np.uint64(1), np.uint64(63)
    pattern = one << (distinct & low) | one << (distinct >> np.uint64(6) & low)
    np.bitwise_or.at(bits, distinct >> shift, pattern)
    slots = np.zeros(1 << max(4, (2 * len(distinct)).bit_length()), np.int32)
    _fill_slots(distinct, slots)
    return Seeds(
        bits=bits,
        shift=shift,
        slots=slots,
        keys=distinct,
        firsts=np.append(firsts, len(keys)).astype(np.int64),
        questions=questions[order].astype(np.int32),
        offsets=offsets[order].astype(np.int32),
    )


@compiled
def _fill_slots(keys: Any, slots: Any) -> None:
    last = np.uint64(len(slots) - 1)
    for number in range(len(keys)):
        slot = keys[number] & last
        while slots[slot]:
            slot = (slot + np.uint64(1)) & last
        slots[slot] = number + 1


@numba.njit(inline="always")
def _has_both(bits: Any, key: Any) -> Any:
    """Whether the two bits that a key chooses are set in a word of the table."""
    low = np.uint64(63)
    return (bits >> (key & low)) & (bits >> (key >> np.uint64(6) & low)) & np.uint64(1)


@numba.njit(nogil=True)
def _number(seeds: Any, key: Any) -> Any:
    """The number of a key, from 1; 0 where it is none."""
    last = np.uint64(len(seeds.slots) - 1)
    slot = key & last
    while seeds.slots[slot]:
        if seeds.keys[seeds.slots[slot] - 1] == key:
            return seeds.slots[slot]
        slot = (slot + np.uint64(1)) & last
    return 0


@numba.njit(nogil=True)
def _emit(
    text: Any, question: Any, offset: Any, place: Any, length: Any, out: Any, found: Any
) -> Any:
    if found < len(out):
        row = out[found]
        row[0], row[1], row[2], row[3], row[4] = text, question, offset, place, length
    return found + 1


@numba.njit(nogil=True)
def _try_short(
    key: Any,
    at: Any,
    text: Any,
    words: Any,
    count: Any,
    find: Any,
    looks: Any,
    out: Any,
    found: Any,
) -> Any:
    """Emit the questions that stand whole around the three words at a place."""
    number = _number(find.short, key)
    if number == 0:
        return found
    for entry in range(find.short.firsts[number - 1], find.short.firsts[number]):
        question = find.short.questions[entry]
        begin, end = find.begins[question], find.begins[question + 1]
        start = at - find.short.offsets[entry]
        if start < 0 or start + end - begin > count:
            continue
        same = 0
        while same < end - begin and words[start + same] == find.words[begin + same]:
            same += 1
        if same < end - begin:
            continue
        if looks[question, 0] != text:
            looks[question, 0], looks[question, 1], looks[question, 2] = text, 0, 0
        looks[question, 1] += 1
        if looks[question, 1] <= _LOOKS:
            found = _emit(text, question, 0, start, same, out, found)
    return found


@numba.njit(nogil=True)
def _try_long(
    key: Any,
    at: Any,
    text: Any,
    words: Any,
    count: Any,
    find: Any,
    looks: Any,
    recent: Any,
    out: Any,
    found: Any,
) -> Any:
    """Emit the longest runs of equal words around the six words at a place."""
    number = _number(find.long, key)
    if number == 0:
        return found
    for entry in range(find.long.firsts[number - 1], find.long.firsts[number]):
        question = find.long.questions[entry]
        begin, end = find.begins[question], find.begins[question + 1]
        low = begin + find.long.offsets[entry]
        diagonal = at - low
        cell = recent[question % _RECENT]
        if cell[0] == question and cell[1] == diagonal and at < cell[2]:
            continue
        high = low
        start = at
        while low > begin and start > 0 and words[start - 1] == find.words[low - 1]:
            low -= 1
            start -= 1
        while high < end and high + diagonal < count and words[high + diagonal] == find.words[high]:
            high += 1
        cell[0], cell[1], cell[2] = question, diagonal, high + diagonal
        if high - low < RUN_WORDS:
            continue
        if looks[question, 0] != text:
            looks[question, 0], looks[question, 1], looks[question, 2] = text, 0, 0
        looks[question, 1] += 1
        # A longer run than any before is looked at all the same: it may be the whole question.
        if looks[question, 1] <= _LOOKS or high - low > looks[question, 2]:
            looks[question, 2] = max(looks[question, 2], high - low)
            found = _emit(text, question, low - begin, start, high - low, out, found)
    return found


@numba.njit(nogil=True)
def _scan(
    text: Any,
    words: Any,
    count: Any,
    find: Any,
    looks: Any,
    recent: Any,
    threes: Any,
    marked: Any,
    out: Any,
    found: Any,
) -> Any:
    """Emit the runs of one text's words.

    Places that pass the tables are marked first, without a branch, so that many look-ups wait for
    memory at once.
    """
    base = find.base
    square = base * base
    leap = square * base
    bits, shift = find.short.bits, find.short.shift
    marks = np.int64(0)
    for at in range(count - 2):
        key = words[at] * square + (words[at + 1] * base + words[at + 2])
        threes[at] = key
        marked[marks] = at
        marks += np.int64(_has_both(bits[key >> shift], key))
    for mark in range(marks):
        at = marked[mark]
        found = _try_short(threes[at], at, text, words, count, find, looks, out, found)
    bits, shift = find.long.bits, find.long.shift
    marks = np.int64(0)
    for at in range(count - 5):
        key = threes[at] * leap + threes[at + 3]
        marked[marks] = at
        marks += np.int64(_has_both(bits[key >> shift], key))
    recent[:, 0] = -1
    for mark in range(marks):
        at = marked[mark]
        key = threes[at] * leap + threes[at + 3]
        found = _try_long(key, at, text, words, count, find, looks, recent, out, found)
    return found


@compiled
def scan_texts(
    data: Any,
    offsets: Any,
    first: Any,
    folded: Any,
    forms: Any,
    find: Any,
    scratch: Any,
    looks: Any,
    out: Any,
    counts: Any,
    found: Any,
) -> Any:
    """Find runs of questions in the texts from `first` on; the number of the text it stopped at.

    It stops before a text that has to be folded. out (m, 5) int32: text, question, offset in its
    words, place in the text's words, length; found (1,) counts them, also those that `out` has no
    room for. counts (n,) int64 are the words of each text. `scratch` holds a word a byte of the
    longest text, and two more; `looks` (questions, 3) int32 begins at -1.
    """
    recent = np.empty((_RECENT, 3), np.int64)
    threes = np.empty(len(scratch), np.uint64)
    marked = np.empty(len(scratch), np.int32)
    for text in range(first, len(offsets) - 1):
        count = read_text(
            data, offsets[text], offsets[text + 1], folded, forms, scratch, np.int64(0)
        )
        if count < 0:
            return text
        counts[text] = count
        found[0] = _scan(text, scratch, count, find, looks, recent, threes, marked, out, found[0])
    return len(offsets) - 1


def find_runs(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], find: Questions
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Runs (m, 5) of questions in texts, as `scan_texts` gives them, and the words of each text."""
    counts = np.empty(len(offsets) - 1, np.int64)
    room = _FIRST_RUNS
    while True:
        out = _ROOM.take("runs", 5 * room, np.int32)[: 5 * room].reshape(room, 5)
        looks = _ROOM.take("looks", 3 * len(find.begins), np.int32)[: 3 * len(find.begins)]
        looks[:] = -1
        looks = looks.reshape(-1, 3)
        found = np.zeros(1, np.int64)

        def read(
            data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], first: int, folded: bool
        ) -> int:
            longest = int(np.diff(offsets[first:]).max(initial=0))
            scratch = _ROOM.take("words", longest + 2, np.uint64)
            stopped: int = scan_texts(
                data,
                offsets,
                first,
                folded,
                tables(),
                find,
                scratch,
                looks,  # noqa: B023 - called in this turn of the loop alone
                out,  # noqa: B023
                counts,
                found,  # noqa: B023
            )
            return stopped

        in_turn(data, offsets, read)
        if found[0] <= room:
            return out[: found[0]].astype(np.int64), counts
        room = int(found[0])


@compiled
def align(part: Any, words: Any, matched: Any) -> Any:
    """Mark the words of `part` in a longest common subsequence with `words`.

    matched (len(part),) int32 becomes the place in `words`, or -1; how many there are. Costs the
    product of both lengths in time and, in two bytes each, in memory.
    """
    lengths = np.zeros((len(part) + 1, len(words) + 1), np.uint16)
    for i in range(len(part) - 1, -1, -1):
        for j in range(len(words) - 1, -1, -1):
            if part[i] == words[j]:
                lengths[i, j] = lengths[i + 1, j + 1] + 1
            else:
                lengths[i, j] = max(lengths[i + 1, j], lengths[i, j + 1])
    matched[:] = -1
    i = j = 0
    while i < len(part) and j < len(words):
        if part[i] == words[j]:
            matched[i] = j
            i += 1
            j += 1
        elif lengths[i + 1, j] >= lengths[i, j + 1]:
            i += 1
        else:
            j += 1
    return lengths[0, 0]

"""Hashed n-grams of words as sparse rows, and the products that a linear model needs of them.

A row holds the distinct buckets of a text's words and word pairs; each counts 1 / sqrt(their
number), so that rows have length 1 and long texts weigh as much as short ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from datagen.curate.kernels import compiled

_PAIR = np.uint64(0xA0761D6478BD642F)


@compiled
def bucket_rows(hashes: Any, offsets: Any, buckets: Any, max_words: Any, out: Any) -> Any:
    """Write the distinct buckets of every text one after the other; where each begins (n + 1,).

    `hashes` are those of the words, `offsets` where each text's words begin; `buckets` is a power
    of two; `out` needs room for twice the words.
    """
    seen = np.full(buckets, -1, np.int32)
    begins = np.zeros(len(offsets), np.int64)
    mask = np.uint64(buckets - 1)
    count = 0
    for text in range(len(offsets) - 1):
        start = offsets[text]
        end = min(offsets[text + 1], start + max_words)
        for place in range(start, end):
            for both in range(2):
                key = hashes[place]
                if both:
                    if place + 1 == end:
                        continue
                    key = key * _PAIR + hashes[place + 1]
                    key ^= key >> np.uint64(32)
                bucket = np.int64((key ^ key >> np.uint64(29)) & mask)
                if seen[bucket] != text:
                    seen[bucket] = text
                    out[count] = bucket
                    count += 1
        begins[text + 1] = count
    return begins


@compiled
def multiply(rows: Any, begins: Any, weights: Any, out: Any) -> None:
    """out = X w, shape (n,)."""
    for text in range(len(begins) - 1):
        total = 0.0
        for place in range(begins[text], begins[text + 1]):
            total += weights[rows[place]]
        out[text] = total / np.sqrt(max(begins[text + 1] - begins[text], 1))


@compiled
def multiply_transposed(rows: Any, begins: Any, values: Any, out: Any) -> None:
    """out = X' v, shape (buckets,)."""
    out[:] = 0.0
    for text in range(len(begins) - 1):
        value = values[text] / np.sqrt(max(begins[text + 1] - begins[text], 1))
        for place in range(begins[text], begins[text + 1]):
            out[rows[place]] += value

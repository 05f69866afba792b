"""Fuzzy dedup by MinHash and banded LSH, in parts that a plan can spread over shards.

signatures (per shard) -> band_buckets (per shard and band) -> candidate_pairs (per band)
-> clusters (once). Nothing here depends on the order of shards or the number of workers.

Cost: signatures run at about 15 MB/s a core and hold 4 bytes x bands x rows a record (448 by
default; a memory-mapped array will do). A band holds 8 bytes a record while its pairs are found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from datagen.curate.exact import Rows, preference
from datagen.curate.words import (
    Hashes,
    Offsets,
    mix64,
    ngram_hashes,
    random_words,
    word_hashes,
)
from datagen.workspace.specs import MinhashSpec

Signatures = npt.NDArray[np.uint32]

_EMPTY = np.uint32(0xFFFFFFFF)
_TILE = 1 << 14
_BATCH_CHARACTERS = 1 << 22
_VERIFY_PAIRS = 1 << 14
_ALL_PAIRS_MEMBERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """What fuzzy dedup decided, one value a record.

    `cluster` (n,) is the row kept for the record, its own where it is kept; `kept` (n,) bool;
    `similarity` (n,) float32 is the estimated Jaccard index with the row kept, 1 for itself.
    """

    cluster: Rows
    kept: npt.NDArray[np.bool_]
    similarity: npt.NDArray[np.float32]


def _shingles(texts: Sequence[str], n: int) -> tuple[Hashes, Offsets]:
    """The hashed word n-grams of each text, and where each text's begin (len(texts) + 1,).

    A text of fewer words is one shingle as a whole; a text without words has none.
    """
    hashes, words = word_hashes(texts)
    counts = np.diff(words)
    grams = ngram_hashes(hashes, n)
    inside = np.repeat(words[1:], counts)[: len(grams)] - np.arange(len(grams)) >= n
    offsets = np.concatenate(([0], np.cumsum(np.maximum(counts - n + 1, 0))))
    short = np.flatnonzero((counts > 0) & (counts < n))
    if not len(short):
        return grams[inside], offsets
    whole = [ngram_hashes(hashes[words[i] : words[i + 1]], int(counts[i]))[0] for i in short]
    shingles = np.insert(grams[inside], offsets[short], np.array(whole, np.uint64))
    offsets = np.concatenate(
        ([0], np.cumsum(np.diff(offsets) + np.isin(np.arange(len(texts)), short)))
    )
    return shingles, offsets


def _fill(shingles: Hashes, offsets: Offsets, spec: MinhashSpec, out: Signatures) -> None:
    """Lower `out` (n, hashes) to the minima of multiply-add-shift hashes of each text's shingles.

    Tiles fit the cache; a text that spans tiles is met once in each.
    """
    hashes = spec.bands * spec.rows
    factors = random_words(2 * spec.seed, hashes) | np.uint64(1)
    shifts = random_words(2 * spec.seed + 1, hashes)
    for low in range(0, len(shingles), _TILE):
        tile = shingles[low : low + _TILE]
        high = low + len(tile)
        first = int(np.searchsorted(offsets, low, side="right")) - 1
        last = int(np.searchsorted(offsets, high))
        texts = np.arange(first, last)[np.diff(offsets[first : last + 1]) > 0]
        starts = np.maximum(offsets[texts] - low, 0)
        hashed = np.empty(len(tile), np.uint64)
        minima = np.empty((len(texts), hashes), np.uint32)
        for k in range(hashes):
            np.multiply(tile, factors[k], out=hashed)
            np.add(hashed, shifts[k], out=hashed)
            minima[:, k] = np.minimum.reduceat(hashed, starts) >> np.uint64(32)
        out[texts] = np.minimum(out[texts], minima)


def signatures(texts: Sequence[str], spec: MinhashSpec) -> Signatures:
    """MinHash signatures, shape (n, bands x rows); all ones where a text has no word."""
    out = np.full((len(texts), spec.bands * spec.rows), _EMPTY, np.uint32)
    low = 0
    while low < len(texts):
        high, size = low, 0
        while high < len(texts) and (high == low or size + len(texts[high]) <= _BATCH_CHARACTERS):
            size += len(texts[high])
            high += 1
        shingles, offsets = _shingles(texts[low:high], spec.shingle_words)
        _fill(shingles, offsets, spec, out[low:high])
        low = high
    return out


def band_buckets(signature: Signatures, band: int, spec: MinhashSpec) -> Hashes:
    """The bucket of each record in one band, shape (n,); 0 where the text has no word."""
    columns = signature[:, band * spec.rows : (band + 1) * spec.rows]
    factors = random_words(spec.seed + 7, spec.rows) | np.uint64(1)
    bucket = mix64((columns.astype(np.uint64) * factors).sum(axis=1, dtype=np.uint64)) | np.uint64(
        1
    )
    bucket[(columns == _EMPTY).all(axis=1)] = 0
    return bucket


def candidate_pairs(
    buckets: Hashes,
    *,
    priority: npt.ArrayLike | None = None,
    ids: Sequence[str] | None = None,
) -> Rows:
    """Pairs of rows that share a bucket, shape (m, 2), from the buckets of one band.

    A small bucket gives every pair; in a larger one each member is paired with the most
    preferred and with its neighbour in preference, so that the cost stays linear.
    """
    order = np.lexsort((preference(len(buckets), priority, ids), buckets))
    order = order[buckets[order] != 0]
    ordered = buckets[order]
    begins = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))[: len(order)])
    sizes = np.diff(np.append(begins, len(order)))
    place = np.arange(len(order)) - np.repeat(begins, sizes)
    size = np.repeat(sizes, sizes)
    pairs = [np.zeros((0, 2), np.int64)]
    for distance in range(1, _ALL_PAIRS_MEMBERS):
        later = np.flatnonzero(
            (place >= distance) & ((size <= _ALL_PAIRS_MEMBERS) | (distance == 1))
        )
        pairs.append(np.stack((order[later - distance], order[later]), axis=1))
    later = np.flatnonzero((place >= 2) & (size > _ALL_PAIRS_MEMBERS))
    pairs.append(np.stack((order[later - place[later]], order[later]), axis=1))
    return np.concatenate(pairs)


def _estimates(signature: Signatures, pairs: Rows) -> npt.NDArray[np.float32]:
    """Share of equal signature columns for each pair of rows."""
    shares = np.empty(len(pairs), np.float32)
    for low in range(0, len(pairs), _VERIFY_PAIRS):
        part = pairs[low : low + _VERIFY_PAIRS]
        equal = signature[part[:, 0]] == signature[part[:, 1]]
        shares[low : low + len(part)] = equal.mean(axis=1)
    return shares


def clusters(
    signature: Signatures,
    pairs: Rows,
    spec: MinhashSpec,
    *,
    priority: npt.ArrayLike | None = None,
    ids: Sequence[str] | None = None,
) -> Clusters:
    """Join the pairs whose estimated Jaccard index reaches the threshold; keep one a cluster.

    `pairs` (m, 2) are those of all bands in any order, repeats allowed. Kept is the row with the
    highest priority, then the smallest id (or the earliest row without ids).
    """
    count = len(signature)
    distinct = np.unique(np.sort(pairs, axis=1), axis=0)
    joined = distinct[_estimates(signature, distinct) >= spec.threshold]
    ranks = preference(count, priority, ids)
    row_of = np.empty(count, np.int64)
    row_of[ranks] = np.arange(count)
    left, right = ranks[joined[:, 0]], ranks[joined[:, 1]]
    best = np.arange(count)
    while True:
        # Labels are ranks and only fall, so that each cluster ends with its most preferred row.
        before = best.copy()
        lower = np.minimum(best[left], best[right])
        for side in (left, right):
            np.minimum.at(best, best[side], lower)
            np.minimum.at(best, side, lower)
        best = best[best]
        if np.array_equal(best, before):
            break
    cluster = row_of[best[ranks]]
    similarity = _estimates(signature, np.stack((np.arange(count), cluster), axis=1))
    return Clusters(cluster=cluster, kept=cluster == np.arange(count), similarity=similarity)

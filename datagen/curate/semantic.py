"""Semantic dedup: texts that mean the same, by the cosine of vectors within k-means clusters.

The order of work is SemDeDup's (Abbas et al. 2023): cluster the vectors, compare inside a cluster.
Two like texts in different clusters are not compared. Vectors are stored as half floats, and are
compared as single ones; cosines are right to about 0.001.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from datagen.curate.words import word_hashes

Vectors = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]

DIMENSIONS = 2048
_BLOCK = 1024


def hashed_tfidf(texts: Sequence[str]) -> Vectors:
    """Hashed counts of words, an encoder without a model: (n, 2048), 1 + log(count) a word.

    A word falls into one dimension with a sign. The weight of a dimension by the records that have
    it (`document_weights`) is put on later, when all records are known. It sees words, not meaning.
    """
    hashes, begins = word_hashes(texts)
    owners = np.repeat(np.arange(len(texts)), np.diff(begins))
    words, numbers = np.unique(hashes, return_inverse=True)
    pairs, counts = np.unique(owners * max(len(words), 1) + numbers, return_counts=True)
    vectors = np.zeros((len(texts), DIMENSIONS), np.float32)
    if len(words):
        row, word = pairs // len(words), words[pairs % len(words)]
        sign = np.where(word >> np.uint64(63), 1.0, -1.0)
        place = (word % np.uint64(DIMENSIONS)).astype(np.int64)
        np.add.at(vectors, (row, place), (sign * (1 + np.log(counts))).astype(np.float32))
    return vectors


def document_weights(present: Places, records: int) -> Vectors:
    """The weight of each dimension by how many of the records have it: log((1 + n) / (1 + df))."""
    weights: Vectors = np.log((1 + records) / (1 + present)).astype(np.float32)
    return weights


def unit(vectors: npt.NDArray[np.floating], weights: Vectors | None = None) -> Vectors:
    """Weighted vectors of length 1; those of length 0 stay so, and are like nothing."""
    single: Vectors = vectors.astype(np.float32)
    if weights is not None:
        single *= weights
    length = np.linalg.norm(single, axis=1, keepdims=True)
    single /= np.where(length > 0, length, 1)
    return single


def centroids(sample: Vectors, clusters: int, iterations: int = 20) -> Vectors:
    """Spherical k-means on unit vectors, (k, d); k is at most the number of different vectors.

    Begins with the first vector and then always the one that is farthest from all so far, so that
    no chance is in it. A cluster that loses all its vectors keeps its place.
    """
    if not len(sample):
        return np.zeros((0, sample.shape[1]), np.float32)
    chosen, near = [0], sample @ sample[0]
    while len(chosen) < min(clusters, len(sample)):
        farthest = int(np.argmin(near))
        if near[farthest] > 1 - 1e-6:
            break
        chosen.append(farthest)
        near = np.maximum(near, sample @ sample[farthest])
    found = sample[chosen].copy()
    before = np.zeros(0, np.int64)
    for _ in range(iterations):
        homes = nearest(sample, found)
        if np.array_equal(homes, before):
            break
        before = homes
        for cluster in np.unique(homes).tolist():
            found[cluster] = unit(sample[homes == cluster].sum(axis=0, dtype=np.float64)[None])[0]
    return found


def nearest(vectors: Vectors, centroids: Vectors) -> Places:
    """The cluster of each vector: the first of the nearest centroids."""
    blocks = [
        np.argmax(vectors[start : start + _BLOCK] @ centroids.T, axis=1)
        for start in range(0, len(vectors), _BLOCK)
    ]
    return np.concatenate([np.zeros(0, np.int64), *blocks])


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """For each row the row that is kept in its place (its own where it is kept), and the cosine."""

    home: Places
    similarity: npt.NDArray[np.float32]


def alike(vectors: Vectors, threshold: float) -> Alike:
    """Of vectors in the order of preference, keep those that are like none kept before them.

    A row goes to the most similar one that is kept, the earliest of equals. Costs n x kept
    products, in blocks: about 4 kB a row of the block and kept row.
    """
    count = len(vectors)
    home, similarity = np.arange(count), np.ones(count, np.float32)
    kept: list[int] = []
    for start in range(0, count, _BLOCK):
        block = vectors[start : start + _BLOCK]
        before = np.array(kept, np.int64)
        outside = block @ vectors[before].T if kept else np.full((len(block), 1), -2.0)
        nearest_place, nearest_cosine = outside.argmax(axis=1), outside.max(axis=1)
        inside = block @ block.T
        fresh: list[int] = []
        for row in range(len(block)):
            best, cosine = -1, float(nearest_cosine[row])
            if kept:
                best = int(before[nearest_place[row]])
            if fresh:
                place = int(inside[row, fresh].argmax())
                if inside[row, fresh[place]] > cosine:
                    best, cosine = start + fresh[place], float(inside[row, fresh[place]])
            if cosine >= threshold:
                home[start + row] = best
                similarity[start + row] = min(cosine, 1.0)
            else:
                fresh.append(row)
        kept += [start + row for row in fresh]
    return Alike(home=home.astype(np.int64), similarity=similarity)

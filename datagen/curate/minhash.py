"""Fuzzy dedup: banded MinHash finds candidates, their true Jaccard index decides.

sketch (per shard) -> candidate_pairs (per band) -> join (once). Nothing here depends on the order
of shards or the number of workers. A sketch keeps a text's hashed shingles beside its band keys, so
that pairs are verified, and new texts compared with old ones, without reading a text again.

Cost: sketching runs at 300 to 450 MB/s a core on texts of some kB, and holds 8 bytes a band and 4 a
word; a band sorts 8 bytes a record; verifying gathers at most `_GATHERED` shingles at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from datagen.curate.exact import Rows
from datagen.curate.words import Hashes, Offsets, Room, arrow_bytes, in_turn
from datagen.workspace.specs import MinhashSpec

Shingles = npt.NDArray[np.uint32]
Similarity = npt.NDArray[np.float32]

_BASE = 0xA0761D6478BD642F
_ALL_PAIRS_MEMBERS = 16
_GATHERED = 1 << 25
_ROOM = Room()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketches:
    """What fuzzy dedup knows of n texts.

    `keys` (n, bands): equal keys of a band make a pair a candidate; 0 where a text has no word.
    `shingles`[`begins`[i]:`begins`[i + 1]]: hashed shingles of text i, repeats included.
    """

    keys: Hashes
    shingles: Shingles
    begins: Offsets


def sketch(texts: pa.Array, spec: MinhashSpec) -> Sketches:
    """Sketch an Arrow array of strings; some 16 MB at once are a good batch."""
    from datagen.curate.kernels.sketch import sketch_texts
    from datagen.curate.kernels.words import tables

    bands, rows = spec.banding
    base = np.uint64((_BASE + 2 * spec.seed) & (2**64 - 1))
    keys = np.empty((len(texts), bands), np.uint64)
    begins = np.zeros(len(texts) + 1, np.int64)
    data, offsets = arrow_bytes(texts)
    longest = int(np.diff(offsets).max(initial=0))

    def read(data: npt.NDArray[np.uint8], offsets: Offsets, first: int, folded: bool) -> int:
        done = int(begins[first])
        room = done + int(offsets[-1] - offsets[first]) + len(offsets) - first
        shingles = _ROOM.take("shingles", room, np.uint32, done)
        scratch = _ROOM.take("words", max(longest, folded * len(data)) + 2, np.uint64)
        stopped: int = sketch_texts(
            *(data, offsets, first, folded, tables(), spec.shingle_words, base, rows),
            *(scratch, keys, shingles, begins),
        )
        return stopped

    in_turn(data, offsets, read)
    shingles = _ROOM.take("shingles", 0, np.uint32)[: begins[-1]].copy()
    return Sketches(keys=keys, shingles=shingles, begins=begins)


def candidate_pairs(keys: Hashes, ranks: Rows | None = None) -> Rows:
    """Pairs of rows that share a key of one band, shape (m, 2), the preferred row first.

    `ranks` (n,) is a permutation, 0 for the row most worth keeping; without it the rows' own order.
    A small bucket gives every pair; in a larger one each member is paired with the most
    preferred and with its neighbour in preference, so that the cost stays linear. Keys are cut to
    64 bits less those of a row number: the few pairs that meet by chance are refused when verified.
    """
    count = len(keys)
    bits = np.uint64(max(count - 1, 1).bit_length())
    order = np.arange(count, dtype=np.uint64) if ranks is None else ranks.astype(np.uint64)
    packed = (keys >> bits << bits) | order
    packed = np.sort(packed[keys != 0])
    row = (packed & np.uint64((1 << int(bits)) - 1)).astype(np.int64)
    bucket = packed >> bits
    begins = np.flatnonzero(np.concatenate(([True], bucket[1:] != bucket[:-1]))[: len(row)])
    sizes = np.diff(np.append(begins, len(row)))
    # Most buckets hold one text: look only at the others.
    many = np.repeat(sizes > 1, sizes)
    row, sizes = row[many], sizes[sizes > 1]
    place = np.arange(len(row)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    size = np.repeat(sizes, sizes)
    pairs = [np.zeros((0, 2), np.int64)]
    for distance in range(1, min(_ALL_PAIRS_MEMBERS, int(sizes.max(initial=1)))):
        later = np.flatnonzero(
            (place >= distance) & ((size <= _ALL_PAIRS_MEMBERS) | (distance == 1))
        )
        pairs.append(np.stack((row[later - distance], row[later]), axis=1))
    later = np.flatnonzero((place >= 2) & (size > _ALL_PAIRS_MEMBERS))
    pairs.append(np.stack((row[later - place[later]], row[later]), axis=1))
    found = np.concatenate(pairs)
    if ranks is None:
        return found
    rows = np.empty(count, np.int64)
    rows[ranks] = np.arange(count)
    return rows[found]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The shingles of all rows as they lie in parts; row i of part p is row `starts`[p] + i."""

    shingles: Sequence[Shingles]
    begins: Sequence[Offsets]

    @property
    def starts(self) -> Rows:
        """The number of each part's first row, and of the row after the last (parts + 1,)."""
        return np.concatenate(([0], np.cumsum([len(b) - 1 for b in self.begins], dtype=np.int64)))

    @property
    def counts(self) -> Rows:
        """How many shingles each row has, repeats included (n,)."""
        return np.concatenate([np.zeros(0, np.int64), *(np.diff(b) for b in self.begins)])

    def gather(self, rows: Rows) -> tuple[Shingles, Offsets]:
        """The shingles of some rows, one after another, and where each row's begin (m + 1,)."""
        starts = self.starts
        part = np.searchsorted(starts, rows, side="right") - 1
        pieces = []
        for one, inside in zip(part.tolist(), (rows - starts[part]).tolist(), strict=True):
            begins = self.begins[one]
            pieces.append(self.shingles[one][begins[inside] : begins[inside + 1]])
        lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
        gathered = np.concatenate(pieces) if pieces else np.zeros(0, np.uint32)
        return gathered, np.concatenate(([0], np.cumsum(lengths)))


def similarities(pairs: Rows, parts: Parts, spec: MinhashSpec) -> Similarity:
    """The true Jaccard index (or containment in the smaller set) of the shingles of each pair.

    Sets are of 32-bit hashes: of a thousand shingles one in four million falls on another.
    """
    from datagen.curate.kernels.compare import compare_pairs

    out = np.zeros(len(pairs), np.float32)
    for chosen in _groups(pairs, parts.counts):
        rows, local = np.unique(pairs[chosen], return_inverse=True)
        shingles, begins = parts.gather(rows)
        compare_pairs(
            local.reshape(-1, 2), shingles, begins, spec.measure == "containment", chosen, out
        )
    return out


def _groups(pairs: Rows, counts: Rows) -> Iterator[Rows]:
    """Split the pairs, by their left row, into groups of which so many shingles are gathered."""
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    cost = np.cumsum(counts[pairs[order]].sum(axis=1))
    begin = 0
    while begin < len(order):
        spent = cost[begin - 1] if begin else 0
        end = max(int(np.searchsorted(cost, spent + _GATHERED, side="right")), begin + 1)
        yield order[begin:end]
        begin = end


class Forest:
    """Disjoint sets of rows (union-find); the most preferred row of each is its root."""

    def __init__(self, ranks: Rows) -> None:
        """`ranks` (n,) is a permutation, 0 for the row most worth keeping."""
        self._ranks = ranks
        self._rows = np.empty(len(ranks), np.int64)
        self._rows[ranks] = np.arange(len(ranks))
        self._best = np.arange(len(ranks))

    def join(self, pairs: Rows) -> None:
        """Unite the sets of both rows of every pair, shape (m, 2)."""
        left, right = self._ranks[pairs[:, 0]], self._ranks[pairs[:, 1]]
        best = self._best
        while len(left):
            # Labels are ranks and only fall, so that each set ends with its most preferred row.
            lower = np.minimum(best[left], best[right])
            for side in (left, right):
                np.minimum.at(best, best[side], lower)
                np.minimum.at(best, side, lower)
            while not np.array_equal(best, best[best]):
                best = best[best]
            apart = best[left] != best[right]
            left, right = left[apart], right[apart]
        self._best = best

    def roots(self) -> Rows:
        """The row that stands for each row's set, shape (n,)."""
        return self._rows[self._best[self._ranks]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """What fuzzy dedup decided, one value a record.

    `cluster` (n,) is the row kept for the record, its own where it is kept; `size` (n,) how many
    records the cluster has; `similarity` (n,) that with the row kept, 1 for itself.
    """

    cluster: Rows
    size: Rows
    similarity: Similarity

    @property
    def kept(self) -> npt.NDArray[np.bool_]:
        """Which records are kept (n,)."""
        return np.equal(self.cluster, np.arange(len(self.cluster)))


def join(forest: Forest, bands: Iterable[Rows], parts: Parts, spec: MinhashSpec) -> None:
    """Unite the candidates of each band whose similarity reaches the threshold.

    Pairs that are joined already are not compared again, which changes no cluster.
    """
    for pairs in bands:
        roots = forest.roots()
        apart = pairs[roots[pairs[:, 0]] != roots[pairs[:, 1]]]
        apart = np.unique(apart, axis=0) if len(apart) else apart
        forest.join(apart[similarities(apart, parts, spec) >= spec.threshold])


def settle(home: Rows, parts: Parts, spec: MinhashSpec) -> Clusters:
    """Sizes and similarities of clusters, given the row kept for each record (n,)."""
    dropped = np.flatnonzero(home != np.arange(len(home)))
    similarity = np.ones(len(home), np.float32)
    similarity[dropped] = similarities(np.stack((home[dropped], dropped), axis=1), parts, spec)
    size = np.bincount(home, minlength=len(home))[home]
    return Clusters(cluster=home, size=size, similarity=similarity)


def clusters(bands: Iterable[Rows], parts: Parts, spec: MinhashSpec, ranks: Rows) -> Clusters:
    """Join the candidates of each band, and keep the row of the lowest rank of each cluster."""
    forest = Forest(ranks)
    join(forest, bands, parts, spec)
    return settle(forest.roots(), parts, spec)

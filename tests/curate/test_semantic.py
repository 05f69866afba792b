from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.curate.semantic import (
    alike,
    centroids,
    document_weights,
    hashed_tfidf,
    nearest,
    unit,
)
from tests.curate.support import PROSE


def vectors(seed: int, count: int, width: int = 6) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, width)))


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(0, 40), st.floats(0.1, 0.99))
def test_every_dropped_vector_is_like_a_better_one_that_is_kept(
    seed: int, count: int, threshold: float
) -> None:
    found = vectors(seed, count, 3)
    joined = alike(found, threshold)
    kept = joined.home == np.arange(count)
    cosines = found @ found.T
    for row in range(count):
        before = [other for other in range(row) if kept[other]]
        best = max((cosines[row, other] for other in before), default=-1.0)
        assert kept[row] == (best < threshold)
        if not kept[row]:
            assert kept[joined.home[row]] and joined.home[row] < row
            assert joined.similarity[row] == pytest.approx(best, abs=1e-5)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = vectors(1, 60, 3)
    whole = alike(found, 0.9)
    monkeypatch.setattr("datagen.curate.semantic._BLOCK", 7)
    assert np.array_equal(alike(found, 0.9).home, whole.home)


def test_k_means_finds_groups_that_lie_apart() -> None:
    rng = np.random.default_rng(2)
    middles = np.eye(5, 8)
    label = rng.integers(0, 5, 200)
    found = unit(middles[label] + rng.normal(scale=0.05, size=(200, 8)))
    homes = nearest(found, centroids(found, 5))
    assert len({(a, b) for a, b in zip(label.tolist(), homes.tolist(), strict=True)}) == 5
    assert len(centroids(np.repeat(found[:1], 9, axis=0), 4)) == 1
    assert len(centroids(found[:0], 4)) == 0


def test_words_in_another_order_are_the_same_counts() -> None:
    texts = [PROSE, " ".join(reversed(PROSE.split())), "Something else is said here.", "", PROSE]
    found = hashed_tfidf(texts)
    weighted = unit(found, document_weights((found != 0).sum(axis=0), len(texts)))
    cosines = weighted @ weighted.T
    assert cosines[0, 1] == pytest.approx(1, abs=1e-3) and cosines[0, 2] < 0.2
    assert not weighted[3].any()
    one_by_one = np.concatenate([hashed_tfidf([text]) for text in texts])
    assert np.array_equal(found, one_by_one)

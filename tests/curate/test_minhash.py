from __future__ import annotations

import random

import numpy as np
import pytest

from datagen.curate import minhash
from datagen.curate.minhash import Clusters, band_buckets, candidate_pairs, clusters, signatures
from datagen.workspace.specs import MinhashSpec
from tests.curate.support import planted_pair, random_text

SPEC = MinhashSpec()


def run(
    texts: list[str], ids: list[str] | None = None, priority: list[int] | None = None
) -> Clusters:
    found = signatures(texts, SPEC)
    bands = [
        candidate_pairs(band_buckets(found, band, SPEC), priority=priority, ids=ids)
        for band in range(SPEC.bands)
    ]
    return clusters(found, np.concatenate(bands), SPEC, priority=priority, ids=ids)


def expected_recall(jaccard: float) -> float:
    """How often a pair of this index shares a band and agrees in enough columns."""
    columns = np.random.default_rng(0).random((20000, SPEC.bands, SPEC.rows)) < jaccard
    meets = columns.all(axis=2).any(axis=1)
    return float((meets & (columns.mean(axis=(1, 2)) >= SPEC.threshold)).mean())


@pytest.mark.parametrize("jaccard", [0.95, 0.85, 0.75, 0.5])
def test_recall_is_what_theory_says(jaccard: float) -> None:
    rng = random.Random(round(jaccard * 100))
    pairs = [planted_pair(rng, 150, jaccard) for _ in range(300)]
    found = run([text for pair in pairs for text in pair])
    joined = found.cluster[0::2] == found.cluster[1::2]
    theory = expected_recall(jaccard)
    spread = 3.5 * max(np.sqrt(theory * (1 - theory) / len(pairs)), 0.002)
    assert abs(joined.mean() - theory) <= spread
    # Only partners are ever joined.
    assert (found.cluster // 2 == np.arange(600) // 2).all()


def test_signature_columns_estimate_the_jaccard_index() -> None:
    rng = random.Random(5)
    pairs = [planted_pair(rng, 200, 0.6) for _ in range(200)]
    found = signatures([text for pair in pairs for text in pair], SPEC)
    assert abs((found[0::2] == found[1::2]).mean() - 0.6) < 0.01


def test_result_does_not_depend_on_shards_or_order(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    texts = [text for _ in range(60) for text in planted_pair(rng, 60, 0.9)]
    texts += [texts[0]] * 30 + ["", "one", "One!", "", " ".join(random_text(rng, 20000))]
    rows = [(text, f"id{i:03d}", i % 3) for i, text in enumerate(texts)]

    def outcome(order: list[tuple[str, str, int]]) -> dict[str, tuple[str, float]]:
        ids = [row[1] for row in order]
        found = run([row[0] for row in order], ids, [row[2] for row in order])
        kept_ids = [ids[k] for k in found.cluster]
        return dict(zip(ids, zip(kept_ids, found.similarity.tolist(), strict=True), strict=True))

    expected = outcome(rows)
    shuffled = rows.copy()
    rng.shuffle(shuffled)
    assert outcome(shuffled) == expected
    whole = signatures(texts, SPEC)
    parts = [signatures(texts[i : i + 37], SPEC) for i in range(0, len(texts), 37)]
    assert np.array_equal(np.concatenate(parts), whole)
    monkeypatch.setattr(minhash, "_TILE", 61)
    monkeypatch.setattr(minhash, "_BATCH_CHARACTERS", 1000)
    assert np.array_equal(
        signatures(texts[:40] + texts[-5:], SPEC), whole[[*range(40), *range(-5, 0)]]
    )


def test_one_of_a_cluster_is_kept_and_never_none() -> None:
    rng = random.Random(8)
    base = random_text(rng, 300)
    texts = [" ".join([*base[:290], *random_text(rng, 10)]) for _ in range(40)]
    found = run(texts, priority=[0] * 17 + [1] + [0] * 22)
    assert found.kept.sum() == 1
    assert found.kept[17]
    assert (found.cluster == 17).all()
    assert found.similarity[17] == 1
    assert (found.similarity[np.arange(40) != 17] > 0.8).all()


def test_short_texts_compare_whole_and_empty_ones_never_join() -> None:
    texts = ["", "...", "a b c", "A, b: c.", "a b d", "c b a", "港は古い", "港は古い!"]
    found = run(texts)
    assert found.cluster.tolist() == [0, 1, 2, 2, 4, 5, 6, 6]


def test_scripts_without_spaces_compare_by_characters() -> None:
    text = "港は三つの段階に分けて造られ、それぞれの壁は今でも干潮のときに見ることができる。" * 2
    other = "漁師たちは最初の壁のために漁獲の一部を支払い、二番目の壁は嵐のあとに造られたという。"
    found = run([text + other, text + other[:-3], other[::-1]])
    assert found.cluster.tolist() == [0, 0, 2]


def test_a_repeated_word_and_a_great_many_unique_ones() -> None:
    many = " ".join(map(str, range(200_000)))
    found = run(["spam " * 50_000, "spam " * 49_000, many, many + " end"])
    assert found.cluster.tolist() == [0, 0, 2, 2]

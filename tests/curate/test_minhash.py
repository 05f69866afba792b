from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.curate import minhash
from datagen.curate.minhash import (
    Clusters,
    Parts,
    Sketches,
    candidate_pairs,
    clusters,
    similarities,
    sketch,
)
from datagen.curate.words import word_form
from datagen.workspace.specs import MinhashSpec
from tests.curate.support import planted_pair, random_text

SPEC = MinhashSpec()


def run(texts: list[str], ranks: list[int] | None = None, spec: MinhashSpec = SPEC) -> Clusters:
    order = np.arange(len(texts)) if ranks is None else np.array(ranks)
    found = sketch(pa.array(texts, pa.string()), spec)
    pairs = [candidate_pairs(found.keys[:, band], order) for band in range(spec.banding[0])]
    return clusters(pairs, parts_of(found), spec, order)


def parts_of(*found: Sketches) -> Parts:
    return Parts(shingles=[one.shingles for one in found], begins=[one.begins for one in found])


def shingle_set(text: str, n: int = 5) -> set[tuple[str, ...]]:
    words = word_form(text).split()
    return {tuple(words[i : i + n]) for i in range(max(len(words) - n + 1, 1))} if words else set()


def jaccard(left: str, right: str) -> float:
    a, b = shingle_set(left), shingle_set(right)
    return len(a & b) / len(a | b) if a | b else 0.0


def test_bands_follow_from_the_threshold() -> None:
    assert SPEC.banding == (21, 6)
    assert MinhashSpec(bands=14, rows=8).banding == (14, 8)
    for threshold in (0.3, 0.5, 0.7, 0.8, 0.95):
        bands, rows = MinhashSpec(threshold=threshold).banding
        assert bands * rows <= 128
        assert 1 - (1 - threshold**rows) ** bands >= 0.9
    with pytest.raises(ValueError, match="together"):
        MinhashSpec(bands=14)


@pytest.mark.parametrize("words", [40, 150, 900])
@pytest.mark.parametrize("index", [0.95, 0.85, 0.75, 0.5])
def test_recall_is_what_theory_says(index: float, words: int) -> None:
    rng = random.Random(round(index * 100))
    pairs = [planted_pair(rng, words, index) for _ in range(300)]
    true = np.array([jaccard(*pair) for pair in pairs])
    found = run([text for pair in pairs for text in pair])
    joined = found.cluster[0::2] == found.cluster[1::2]
    bands, rows = SPEC.banding
    theory = np.where(true >= SPEC.threshold, 1 - (1 - true**rows) ** bands, 0).mean()
    # Bins of a short text are not quite independent.
    spread = 3.5 * max(np.sqrt(theory * (1 - theory) / len(pairs)), 0.004)
    assert abs(joined.mean() - theory) <= spread
    # Only partners are ever joined, and none below the threshold.
    assert (found.cluster // 2 == np.arange(600) // 2).all()
    assert (true[joined] >= SPEC.threshold).all()


@given(st.lists(st.text("ab .é漢", max_size=40), min_size=2, max_size=6))
@settings(deadline=None)
def test_similarity_is_the_true_index(texts: list[str]) -> None:
    found = sketch(pa.array(texts), SPEC)
    pairs = np.array([(i, j) for i in range(len(texts)) for j in range(len(texts))])
    ours = similarities(pairs, parts_of(found), SPEC)
    assert ours == pytest.approx([jaccard(texts[i], texts[j]) for i, j in pairs])
    within = similarities(pairs, parts_of(found), MinhashSpec(measure="containment"))
    for (i, j), share in zip(pairs, within, strict=True):
        a, b = shingle_set(texts[i]), shingle_set(texts[j])
        smaller = min(len(a), len(b))
        assert share == pytest.approx(len(a & b) / smaller if smaller else 0)


def test_result_does_not_depend_on_shards_or_order(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    texts = [text for _ in range(60) for text in planted_pair(rng, 60, 0.9)]
    texts += [texts[0]] * 30 + ["", "one", "One!", "", " ".join(random_text(rng, 20000))]
    texts += ["e\u0301te\u0301 " * 40 + "a", "été " * 40 + "b"]
    numbers = list(range(len(texts)))
    expected = run(texts)
    rng.shuffle(numbers)
    shuffled = run([texts[i] for i in numbers], ranks=numbers)
    assert [numbers[row] for row in shuffled.cluster] == expected.cluster[numbers].tolist()
    assert shuffled.similarity.tolist() == expected.similarity[numbers].tolist()
    whole = sketch(pa.array(texts), SPEC)
    cut = [sketch(pa.array(texts)[i : i + 37], SPEC) for i in range(0, len(texts), 37)]
    assert np.array_equal(np.concatenate([part.keys for part in cut]), whole.keys)
    assert np.array_equal(np.concatenate([part.shingles for part in cut]), whole.shingles)
    bands = [candidate_pairs(whole.keys[:, band]) for band in range(SPEC.banding[0])]
    monkeypatch.setattr(minhash, "_GATHERED", 500)
    small = clusters(bands[::-1], parts_of(*cut), SPEC, np.arange(len(texts)))
    assert np.array_equal(small.cluster, expected.cluster)
    assert np.array_equal(small.similarity, expected.similarity)


def test_a_chain_is_one_cluster_and_says_its_size() -> None:
    rng = random.Random(4)
    words = random_text(rng, 160)
    texts = [" ".join(words[10 * i : 10 * i + 120]) for i in range(5)] + ["another text altogether"]
    found = run(texts)
    assert found.cluster.tolist() == [0, 0, 0, 0, 0, 5]
    assert found.size.tolist() == [5, 5, 5, 5, 5, 1]
    assert found.similarity == pytest.approx([jaccard(texts[0], t) for t in texts[:5]] + [1])


def test_one_of_a_cluster_is_kept_and_never_none() -> None:
    rng = random.Random(8)
    base = random_text(rng, 300)
    texts = [" ".join([*base[:290], *random_text(rng, 10)]) for _ in range(40)]
    found = run(texts, ranks=[*range(1, 18), 0, *range(18, 40)])
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

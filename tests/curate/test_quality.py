"""The quality classifier: it learns what its labels say, gives equal bytes, and is pinned."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from datagen.curate.chain import build_chain
from datagen.curate.classifier import (
    Classifier,
    evaluate,
    load_classifier,
    part_of,
    train_classifier,
)
from datagen.curate.kernels.classifier import bucket_rows, multiply, multiply_transposed
from datagen.curate.quality import below_tier
from datagen.curate.words import word_hashes
from datagen.errors import WorkspaceError
from datagen.record import Record
from datagen.shards.parquet import write_parquet
from datagen.shards.records import record_batch
from datagen.shards.schema import RECORD_SCHEMA
from datagen.workspace.specs import ChainSpec
from tests.curate.support import ROOT, record
from tests.curate.test_chain import resolve

GOOD = "because the force acts along the lever it turns around its pivot and so carries more"
BAD = "click here buy now free shipping best price follow us on sale today subscribe win"


def labelled(count: int = 400) -> tuple[list[str], list[float]]:
    """Texts whose label is the share of words that teach, from 0 to 5, with a little noise."""
    rng = random.Random(3)
    texts, labels = [], []
    for _ in range(count):
        share = rng.random()
        words = [rng.choice((GOOD if rng.random() < share else BAD).split()) for _ in range(80)]
        texts.append(" ".join(words))
        labels.append(float(round(5 * share)))
    return texts, labels


@pytest.fixture(scope="module")
def model() -> Classifier:
    return train_classifier(*labelled(), buckets=1 << 12)


def held_out() -> tuple[list[str], list[float]]:
    texts, labels = labelled()
    chosen = [i for i, text in enumerate(texts) if part_of(text) == "held_out"]
    return [texts[i] for i in chosen], [labels[i] for i in chosen]


def test_it_learns_what_the_labels_say(model: Classifier) -> None:
    quality = evaluate(model, *held_out())
    assert quality.correlation > 0.9
    assert quality.auc is not None and quality.auc > 0.95
    assert quality.mean_error < 0.5 * quality.error_of_mean
    judged = [judged for count, _, judged in quality.tiers if count]
    assert judged == sorted(judged) and len(judged) >= 4


def test_equal_labels_give_equal_bytes_and_a_file_gives_the_model_back(
    model: Classifier, tmp_path: Path
) -> None:
    content = train_classifier(*labelled(), buckets=1 << 12).content()
    assert content == model.content()
    path = tmp_path / "m.npz"
    path.write_bytes(content)
    read = load_classifier(path, hashlib.sha256(content).hexdigest())
    texts, _ = held_out()
    assert np.array_equal(read.scores(texts), model.scores(texts))
    assert read.edges == model.edges
    with pytest.raises(WorkspaceError, match="another model"):
        load_classifier(path, "0" * 64)
    with pytest.raises(WorkspaceError, match="no model"):
        load_classifier(tmp_path / "none.npz", "0" * 64)


def test_weights_in_eight_bits_say_the_same(model: Classifier) -> None:
    texts, labels = held_out()
    coarse = replace(model, weights=(model.weights // 2 * 2).astype(np.int8))
    assert np.abs(coarse.scores(texts) - model.scores(texts)).max() < 0.5
    assert evaluate(coarse, texts, labels).correlation > 0.85


def test_odd_texts_have_a_score(model: Classifier) -> None:
    scores = model.scores(["", "word", "漢字 " * 9, "\udcff", "x " * 100_000])
    assert np.isfinite(scores).all() and scores[0] == model.bias


def test_too_few_labels_are_refused() -> None:
    with pytest.raises(WorkspaceError, match="too few"):
        train_classifier(["a", "b"], [1.0, 2.0])


def test_products_are_those_of_the_dense_matrix() -> None:
    texts = ["a b c a b", "c d", "", "e f g h a"]
    hashes, offsets = word_hashes(texts)
    out = np.empty(2 * len(hashes) + 1, np.int32)
    begins = bucket_rows(hashes, offsets, 64, 4, out)
    dense = np.zeros((len(texts), 64))
    for row in range(len(texts)):
        own = out[begins[row] : begins[row + 1]]
        assert len(set(own.tolist())) == len(own)
        dense[row, own] = 1 / np.sqrt(max(len(own), 1))
    weights, values = np.linspace(-1, 1, 64), np.array([1.0, -2.0, 3.0, 0.5])
    product, image = np.empty(len(texts)), np.empty(64)
    multiply(out, begins, weights, product)
    multiply_transposed(out, begins, values, image)
    assert np.allclose(product, dense @ weights)
    assert np.allclose(image, dense.T @ values)
    # At most four words and the pairs between them.
    assert begins[4] - begins[3] <= 7


def test_the_chain_writes_tier_and_score(model: Classifier, tmp_path: Path) -> None:
    content = model.content()
    (tmp_path / "edu.npz").write_bytes(content)
    pin = {"model": "edu.npz", "sha256": hashlib.sha256(content).hexdigest()}
    links = [
        {"use": "quality.tier", "arguments": pin},
        {"use": "quality.below_tier", "arguments": {"min_tier": 2}},
    ]
    spec = ChainSpec.model_validate({"name": "t", "title": "T", "filters": links})
    chain = build_chain(spec, resolve, root=tmp_path)
    kept = chain.sift(record(" ".join([GOOD] * 5), source_key="k"))
    assert isinstance(kept, Record)
    assert kept.metadata["quality_tier"] == 4 and kept.metadata["quality_score"] > 3
    assert kept.metadata["source_key"] == "k"
    assert chain.sift(record(" ".join([BAD] * 5))) == ("below_tier", "tier 0 of 0 to 4")
    assert below_tier(record(GOOD), min_tier=0) == "tier unknown of 0 to 4"
    for path, message in (("none.npz", "no file"), ("../edu.npz", "relative")):
        bad = ChainSpec.model_validate(
            {
                "name": "t",
                "title": "T",
                "filters": [{**links[0], "arguments": {**pin, "model": path}}],
            }
        )
        with pytest.raises(WorkspaceError, match=message):
            build_chain(bad, resolve, root=tmp_path)


def test_the_trainer_writes_model_card_and_plot(tmp_path: Path) -> None:
    texts, labels = labelled(200)
    records = [
        record(text, f"r{i}", scores={"educational": label}, judge_reason="-")
        for i, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    write_parquet(tmp_path, "shard.parquet", [record_batch(records)], RECORD_SCHEMA)
    command = [sys.executable, str(ROOT / "scripts" / "train_quality.py")]
    command += [str(tmp_path / "shard.parquet"), "--name", "edu", "--licence", "CC0-1.0"]
    command += ["--labels", "made by a test", "-o", str(tmp_path / "out"), "--buckets", "4096"]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    about = yaml.safe_load((tmp_path / "out" / "edu.yaml").read_text())
    content = (tmp_path / "out" / "edu.npz").read_bytes()
    assert about["sha256"] == hashlib.sha256(content).hexdigest()
    assert load_classifier(tmp_path / "out" / "edu.npz", about["sha256"]).max_words == 2000
    assert "made by a test" in (tmp_path / "out" / "edu.md").read_text()
    assert "<svg" in (tmp_path / "out" / "edu.svg").read_text()

"""A small linear model of a judge's scores: hashed words and word pairs, five tiers.

Trained by ridge regression (conjugate gradients, no chance in it), kept as int8 weights in a file
without pickle. Scoring costs one pass over the first words of a text.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from datagen.curate.words import word_hashes
from datagen.errors import WorkspaceError

Floats = npt.NDArray[np.float64]
TIERS = 5
_STEPS = 60
_PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """Weights of the buckets (B,) in units of `scale`, a bias, and the scores that part tiers."""

    weights: npt.NDArray[np.int8]
    scale: float
    bias: float
    edges: tuple[float, ...]
    max_words: int

    def scores(self, texts: Sequence[str]) -> Floats:
        """What the judge would say, on its own scale, shape (n,)."""
        rows, begins = _rows(texts, len(self.weights), self.max_words)
        return self.bias + self.scale * _product(rows, begins, self.weights.astype(np.float64))

    def tiers(self, scores: Floats) -> npt.NDArray[np.int64]:
        """Tiers 0 (lowest) to 4 of some scores."""
        return np.searchsorted(self.edges, scores, side="right").astype(np.int64)

    def content(self) -> bytes:
        """The model as a file: arrays alone, the same bytes for the same model."""
        out = io.BytesIO()
        numbers = np.array([self.scale, self.bias, self.max_words, *self.edges])
        np.savez_compressed(out, weights=self.weights, numbers=numbers)
        return out.getvalue()


def load_classifier(path: Path, sha256: str) -> Classifier:
    """Read a model whose bytes are the pinned ones; WorkspaceError where they are not."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WorkspaceError(
            f"no model: {error.strerror}",
            where=str(path),
            fix="train one: scripts/train_quality.py",
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise WorkspaceError(
            f"another model than the pinned one: sha256 {found}",
            where=str(path),
            fix="write its sha256 in the chain, or put the pinned file back",
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        scale, bias, max_words, *edges = arrays["numbers"].tolist()
        return Classifier(
            weights=arrays["weights"],
            scale=scale,
            bias=bias,
            edges=tuple(edges),
            max_words=int(max_words),
        )


def _rows(
    texts: Sequence[str], buckets: int, max_words: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    from datagen.curate.kernels.classifier import bucket_rows

    hashes, offsets = word_hashes(texts)
    out = np.empty(2 * len(hashes) + 1, np.int32)
    begins = bucket_rows(hashes, offsets, buckets, max_words, out)
    return out[: begins[-1]], begins


def _product(rows: Any, begins: Any, weights: Floats) -> Floats:
    from datagen.curate.kernels.classifier import multiply

    out = np.empty(len(begins) - 1)
    multiply(rows, begins, weights, out)
    return out


def part_of(text: str) -> str:
    """Which part a labelled text belongs to, by its hash: 8 of 10 train, 1 tunes, 1 is held out."""
    tenth = xxhash.xxh3_64_intdigest(text.encode(errors="surrogatepass"), 7) % 10
    return "train" if tenth < 8 else "tune" if tenth == 8 else "held_out"


def _ridge(rows: Any, begins: Any, labels: Floats, buckets: int, penalty: float) -> Floats:
    """The weights that minimise |X w - y|^2 + penalty |w|^2, by conjugate gradients."""
    from datagen.curate.kernels.classifier import multiply_transposed

    weights, residual, image = np.zeros(buckets), np.empty(buckets), np.empty(buckets)
    multiply_transposed(rows, begins, labels, residual)
    direction, size = residual.copy(), float(residual @ residual)
    for _ in range(_STEPS):
        if size < 1e-12:
            break
        multiply_transposed(rows, begins, _product(rows, begins, direction), image)
        image += penalty * direction
        step = size / float(direction @ image)
        weights += step * direction
        residual -= step * image
        before, size = size, float(residual @ residual)
        direction = residual + size / before * direction
    return weights


def train_classifier(
    texts: Sequence[str],
    labels: Sequence[float],
    *,
    buckets: int = 1 << 17,
    max_words: int = 2000,
) -> Classifier:
    """Fit the scores of the texts whose `part_of` is train; tune penalty and tiers on tune.

    A tier holds about a fifth of the tuning texts. Raises WorkspaceError where a part is too small.
    """
    parts = np.array([part_of(text) for text in texts])
    known = np.asarray(labels, np.float64)
    fit, tune = (np.flatnonzero(parts == name).tolist() for name in ("train", "tune"))
    if len(fit) < 2 * TIERS or len(tune) < TIERS:
        raise WorkspaceError(
            f"{len(texts)} labelled texts are too few for {TIERS} tiers",
            where="records",
            fix="have the judge score more texts",
        )
    rows, begins = _rows([texts[i] for i in fit], buckets, max_words)
    tuned = _rows([texts[i] for i in tune], buckets, max_words)
    bias = float(known[fit].mean())
    best: tuple[float, Floats, Floats] | None = None
    for penalty in _PENALTIES:
        weights = _ridge(rows, begins, known[fit] - bias, buckets, penalty)
        said = bias + _product(*tuned, weights)
        error = float(np.square(said - known[tune]).mean())
        if best is None or error < best[0]:
            best = error, weights, said
    assert best is not None
    _, weights, said = best
    scale = float(np.abs(weights).max()) / 127 or 1.0
    edges = np.quantile(said, np.arange(1, TIERS) / TIERS)
    return Classifier(
        weights=np.round(weights / scale).astype(np.int8),
        scale=scale,
        bias=bias,
        edges=tuple(edges.tolist()),
        max_words=max_words,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How well a model says what the judge said, on texts that it has not seen.

    `auc`: the chance that of two texts the one that the judge scores above `good` is scored
    higher; None where all are on one side. `tiers`: for each tier how many texts, the model's mean
    score and the judge's.
    """

    texts: int
    mean_error: float
    error_of_mean: float
    correlation: float
    good: float
    auc: float | None
    accuracy: float
    tiers: tuple[tuple[int, float, float], ...]


def evaluate(model: Classifier, texts: Sequence[str], labels: Sequence[float]) -> Quality:
    """Measure a model on held-out texts; a text is good from the middle of the labels' range on."""
    known = np.asarray(labels, np.float64)
    said = model.scores(texts)
    good = float((known.min() + known.max()) / 2)
    truth = known >= good
    tiers = model.tiers(said)
    constant = np.std(said) == 0 or np.std(known) == 0
    return Quality(
        texts=len(texts),
        mean_error=float(np.abs(said - known).mean()),
        error_of_mean=float(np.abs(known - known.mean()).mean()),
        correlation=0.0 if constant else float(np.corrcoef(said, known)[0, 1]),
        good=good,
        auc=_auc(said, truth),
        accuracy=float(((said >= good) == truth).mean()),
        tiers=tuple(
            (int(own.sum()), float(said[own].mean()), float(known[own].mean()))
            if (own := tiers == tier).any()
            else (0, float("nan"), float("nan"))
            for tier in range(TIERS)
        ),
    )


def _auc(scores: Floats, truth: npt.NDArray[np.bool_]) -> float | None:
    positive = int(truth.sum())
    if positive in (0, len(truth)):
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    # Of equal scores each gets the mean of their ranks.
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    above = float(ranks[truth].sum()) - positive * (positive + 1) / 2
    return above / (positive * (len(truth) - positive))

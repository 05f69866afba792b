"""How good a text is, as a small trained model says: a tier that mixtures and dedup ask for."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from datagen.curate.classifier import TIERS, Classifier, load_classifier
from datagen.curate.words import record_text
from datagen.record import Record


@lru_cache(maxsize=4)
def _model(path: Path, sha256: str) -> Classifier:
    return load_classifier(path, sha256)


def tier(record: Record, *, model: Path, sha256: str) -> Record:
    """Write `quality_tier` (0 to 4) and `quality_score` into the metadata, by a trained model."""
    found = _model(model, sha256)
    scores = found.scores([record_text(record)])
    said = {
        "quality_tier": int(found.tiers(scores)[0]),
        "quality_score": round(float(scores[0]), 4),
    }
    return replace(record, metadata={**record.metadata, **said})


def below_tier(record: Record, *, min_tier: int) -> str | None:
    """Refuse a text of a lower tier, or of none."""
    found = record.metadata.get("quality_tier")
    if isinstance(found, int) and found >= min_tier:
        return None
    return f"tier {'unknown' if found is None else found} of 0 to {TIERS - 1}"

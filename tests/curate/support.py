"""What the tests of this room share: records, the resolver, and texts with a planted overlap."""

from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from datagen.record import Lineage, Message, Record

ROOT = Path(__file__).resolve().parents[2]
LINEAGE = Lineage(
    generator="test",
    version="1",
    fingerprint="0",
    source="test",
    source_revision="0",
    row_key="0",
    licence="CC0-1.0",
)
PROSE = (
    "The harbour of the old town was built in three stages, and each of them left a wall that can "
    "still be seen at low water. Fishermen paid for the first one with a share of their catch. "
    "The second was ordered by the council after a storm had sunk eleven boats in a single night. "
    "Engineers drew the third, which is made of concrete and has carried the railway since then. "
    "Visitors who walk along it in the evening have a fine view of the lighthouse and the bay."
)


def record(text: str, id: str = "r", **metadata: Any) -> Record:
    return Record(id=id, text=text, messages=None, lineage=LINEAGE, metadata=metadata)


def chat(*turns: tuple[str, str], trained: bool = True) -> Record:
    messages = tuple(
        Message(role=role, content=content, trained=trained and role == "assistant")  # type: ignore[arg-type]
        for role, content in turns
    )
    return Record(id="c", text=None, messages=messages, lineage=LINEAGE, metadata={})


def data_rows(path: str, limit: int | None = None) -> list[dict[str, Any]]:
    """Rows of a real data file below DATAGEN_DATA; skips the test without it."""
    root = os.environ.get("DATAGEN_DATA")
    if root is None:
        pytest.skip("DATAGEN_DATA is not set")
    with gzip.open(Path(root) / path, "rt") as lines:
        rows = []
        for line in lines:
            rows.append(json.loads(line))
            if len(rows) == limit:
                break
        return rows


def sample_rows(name: str) -> list[dict[str, Any]]:
    path = ROOT / "manifests" / "samples" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def random_text(rng: random.Random, words: int) -> list[str]:
    return [f"w{rng.randrange(20000)}" for _ in range(words)]


def planted_pair(rng: random.Random, words: int, jaccard: float) -> tuple[str, str]:
    """Two texts whose sets of word 5-grams have about this Jaccard index.

    The second ends otherwise: with s shared of n 5-grams each, J = s / (2 n - s).
    """
    left = random_text(rng, words)
    grams = words - 4
    shared = round(2 * grams * jaccard / (1 + jaccard))
    return " ".join(left), " ".join(left[: shared + 4] + random_text(rng, grams - shared))

"""Grow a corpus with planted near duplicates from real texts, always the same for a seed.

    DATAGEN_DATA=... python scripts/bench/dedup_corpus.py OUT.parquet [--documents 200000]

A document is a run of sentences drawn from all the texts below DATAGEN_DATA (articles, statutes,
licences, code), so that its words are real and no two documents are alike by themselves. Each
planted pair is a document and a copy in which words were exchanged, at random places or at the end,
until the Jaccard index of their word 5-grams is the one asked for; OUT.pairs.parquet has the ids
and the true index of every pair, measured on Python sets.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

LEVELS = (0.95, 0.85, 0.75, 0.6)
SHINGLE_WORDS = 5
_SOURCES = (
    ("wiki/wikipedia_en_articles.jsonl.gz", "text"),
    ("legal/legal_html.jsonl.gz", "html"),
    ("code/code_files.jsonl.gz", "content"),
    ("dedup/license_texts_docs.jsonl.gz", "text"),
)
_SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]+")
_TAG = re.compile(r"<[^>]*>")


def sentences(data: Path) -> list[str]:
    """Every sentence of the real texts, long enough to be one."""
    found = []
    for path, column in _SOURCES:
        with gzip.open(data / path, "rt") as lines:
            for line in lines:
                text = _TAG.sub(" ", json.loads(line)[column])
                found += [s for s in _SENTENCE.findall(text) if 20 <= len(s) <= 400]
    return found


def shingles(text: str) -> set[tuple[str, ...]]:
    """The word 5-grams of a text, words as everybody's defaults have them: lower case, no signs.

    All its words where they are fewer.
    """
    words = re.findall(r"\w+", text.lower())
    return {
        tuple(words[i : i + SHINGLE_WORDS]) for i in range(max(len(words) - SHINGLE_WORDS + 1, 1))
    }


def jaccard(left: str, right: str) -> float:
    """The true Jaccard index of two texts."""
    one, two = shingles(left), shingles(right)
    return len(one & two) / len(one | two)


def document(pool: list[str], rng: random.Random) -> str:
    """Sentences up to a length drawn by a log-normal law."""
    size = min(max(rng.lognormvariate(7.35, 0.9), 400), 60_000)
    parts: list[str] = []
    while size > 0:
        part = rng.choice(pool)
        parts.append(part)
        size -= len(part)
    return "".join(parts)


def copy_at(text: str, level: float, pool: list[str], rng: random.Random) -> str:
    """A copy whose index with the text is the level, as nearly as whole words allow."""
    pieces = re.findall(r"\w+|\W+", text)
    places = [i for i, piece in enumerate(pieces) if piece[0].isalnum()]
    scattered = rng.random() < 0.5
    order = rng.sample(places, len(places)) if scattered else places[::-1]
    low, high = 1, len(order)
    best = ("", 2.0)
    while low <= high:
        middle = (low + high) // 2
        changed = pieces.copy()
        for n, place in enumerate(order[:middle]):
            changed[place] = f"{pieces[place][:2]}x{n % 97}{rng.choice('abcdefgh')}"
        found = "".join(changed)
        index = jaccard(text, found)
        if abs(index - level) < abs(best[1] - level):
            best = (found, index)
        low, high = (middle + 1, high) if index > level else (low, middle - 1)
    return best[0]


def grow(data: Path, documents: int, pairs: int, seed: int) -> tuple[list[str], list[tuple]]:
    """Texts in a random order, and (left, right, level, true index) of each planted pair."""
    rng = random.Random(seed)
    pool = sentences(data)
    texts = [document(pool, rng) for _ in range(documents - pairs * len(LEVELS))]
    origins = rng.sample(range(len(texts)), pairs * len(LEVELS))
    planted = []
    for number, origin in enumerate(origins):
        level = LEVELS[number % len(LEVELS)]
        if len(next(iter(shingles(texts[origin])))) < SHINGLE_WORDS:
            # A long row of signs almost without words: nothing of it can be exchanged.
            texts.append(document(pool, rng))
            continue
        texts.append(copy_at(texts[origin], level, pool, rng))
        planted.append((origin, len(texts) - 1, level, jaccard(texts[origin], texts[-1])))
    order = list(range(len(texts)))
    rng.shuffle(order)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return [texts[i] for i in order], [(place[a], place[b], lv, j) for a, b, lv, j in planted]


def batches(texts: list[str]) -> Iterator[pa.RecordBatch]:
    """The texts with their ids, some thousand at once."""
    for first in range(0, len(texts), 4096):
        part = texts[first : first + 4096]
        ids = [f"d{first + n:07}" for n in range(len(part))]
        yield pa.RecordBatch.from_pydict({"id": ids, "text": part})


def main() -> None:
    """Write the corpus and its pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--pairs", type=int, default=1000, help="of each level")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    data = Path(os.environ["DATAGEN_DATA"])
    texts, planted = grow(data, options.documents, options.pairs, options.seed)
    schema = pa.schema([("id", pa.string()), ("text", pa.string())])
    with pq.ParquetWriter(options.out, schema, use_dictionary=False) as writer:
        for batch in batches(texts):
            writer.write_batch(batch)
    left, right, level, index = zip(*planted, strict=True)
    table = {
        "left": [f"d{n:07}" for n in left],
        "right": [f"d{n:07}" for n in right],
        "level": list(level),
        "jaccard": list(index),
    }
    pq.write_table(pa.table(table), options.out.with_suffix(".pairs.parquet"))
    size = sum(len(text.encode()) for text in texts)
    print(f"{len(texts):,} documents, {size / 1e6:.1f} MB, {len(planted):,} planted pairs")


if __name__ == "__main__":
    main()

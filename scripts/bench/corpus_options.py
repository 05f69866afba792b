"""Shared passages and same meanings on real texts: what is found, and MB a CPU second of one core.

Passages: a footer is put under every tenth article, so that recall is known. Meanings: of every
tenth long article a copy with its sentences in another order and one with every seventh word
dropped; the house's encoder is asked for both.

DATAGEN_DATA=... python scripts/bench/corpus_options.py [--articles 3000]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datagen.curate.lines import cut, passages, shared
from datagen.curate.semantic import alike, centroids, document_weights, hashed_tfidf, nearest, unit

FOOTER = "This page may be copied by anybody who asks the harbour office first."
CLUSTERS = 64


def timed(name: str, megabytes: float, work: Callable[[], Any]) -> Any:
    begin = time.process_time()
    found = work()
    seconds = time.process_time() - begin
    print(f"{name:28} {megabytes / seconds:8.1f} MB/s  {seconds:6.2f} s", flush=True)
    return found


def size_of(texts: list[str]) -> float:
    return sum(len(text.encode()) for text in texts) / 1e6


def repeats(articles: list[str]) -> None:
    texts = [
        f"{text}\n\n{FOOTER}" if number % 10 == 0 else text for number, text in enumerate(articles)
    ]
    size = size_of(texts)
    found = timed("line keys", size, lambda: passages(texts, "line", 25))
    timed("paragraph keys", size, lambda: passages(texts, "paragraph", 25))
    owners = np.repeat(np.arange(len(texts)), np.diff(found.texts))
    ranks = np.arange(len(texts))
    keys, first, counts = timed(
        "lines shared by 6 or more", size, lambda: shared(found.keys, owners, ranks, 6)
    )

    def cut_all() -> list[str]:
        known = np.isin(found.keys, keys)
        keeper = first[np.searchsorted(keys, found.keys).clip(max=max(len(keys) - 1, 0))]
        left = []
        for number, text in enumerate(texts):
            part = found.of(number)
            gone = known[part] & (keeper[part] != number)
            left.append(cut(text, found.bounds[part][gone]) if gone.any() else text)
        return left

    left = timed("cut", size, cut_all)
    print(
        f"{len(found.keys)} lines, {len(keys)} shared, by up to {counts.max(initial=0)} articles; "
        f"footers left {sum(FOOTER in text for text in left)} of {len(texts[::10])}; "
        f"{size - size_of(left):.3f} MB cut"
    )


def reordered(text: str, rng: random.Random) -> str:
    sentences = text.split(". ")
    rng.shuffle(sentences)
    return ". ".join(sentences)


def thinned(text: str) -> str:
    return " ".join(word for number, word in enumerate(text.split()) if number % 7 != 6)


def likes(vectors: npt.NDArray[np.float32], threshold: float) -> npt.NDArray[np.int64]:
    weights = document_weights((vectors != 0).sum(axis=0), len(vectors))
    whole = unit(vectors, weights)
    cluster = nearest(whole, centroids(whole[: CLUSTERS * 256], CLUSTERS))
    home = np.arange(len(whole))
    for one in range(cluster.max() + 1):
        members = np.flatnonzero(cluster == one)
        home[members] = members[alike(whole[members], threshold).home]
    return home


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--articles", type=int, default=3000)
    data = Path(os.environ["DATAGEN_DATA"])
    with gzip.open(data / "wiki" / "wikipedia_en_articles.jsonl.gz", "rt") as lines:
        articles = [json.loads(line)["text"] for line in lines][: parser.parse_args().articles]
    passages(articles, "line")
    hashed_tfidf(["warm up"])
    repeats(articles)

    rng = random.Random(1)
    long = [text for text in articles if len(text) > 1000]
    planted = {
        "sentences in another order": [reordered(text, rng) for text in long[::10]],
        "every seventh word dropped": [thinned(text) for text in long[::10]],
    }
    texts = [*long, *(text for made in planted.values() for text in made)]
    vectors = timed("hashed TF-IDF", size_of(texts), lambda: hashed_tfidf(texts))
    for threshold in (0.95, 0.9, 0.85):
        home = timed(f"likes at {threshold}", size_of(texts), lambda t=threshold: likes(vectors, t))
        place = len(long)
        for name, made in planted.items():
            own = np.arange(len(made)) * 10
            found = (home[place : place + len(made)] == home[own]).mean()
            print(f"  {name:28} found {found:6.1%}")
            place += len(made)
        wrong = (home[: len(long)] != np.arange(len(long))).sum()
        print(f"  articles taken for another    {wrong} of {len(long)}")


if __name__ == "__main__":
    main()

"""Curation beside datatrove on the same texts in one run: MB a CPU second of one core.

DATAGEN_DATA=... python scripts/bench/curate.py [--megabytes 6]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import xxhash
from datatrove.data import Document
from datatrove.pipeline.decont import NGramsDecontConfig, NGramsDecontFilter, NGramsDecontIndexer
from datatrove.utils.logging import logger
from datatrove.utils.word_tokenizers import load_word_tokenizer

from datagen.curate.decontaminate import find_hits
from datagen.curate.questions import BenchmarkIndex, load_benchmarks
from datagen.shards.sources import SourceFile
from datagen.workspace.specs import BenchmarkSpec, DecontaminateSpec

BENCHMARKS = {
    "gsm8k_test": "question",
    "arc_challenge_test": "question",
    "arc_easy_test": "question",
    "openbookqa_test": "question",
    "mmlu_test": "question",
    "hellaswag_validation": "ctx",
    "humaneval_test": "prompt",
    "mbpp_all": "text",
}


def hash_text(text: str) -> int:
    """datatrove's hash, on bytes: its own call passes text, which xxhash refuses since 4.0."""
    return xxhash.xxh64_intdigest(text.encode())


def rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt") as lines:
        yield from map(json.loads, lines)


def measure(name: str, megabytes: float, work: Callable[[], object]) -> None:
    begin = time.process_time()
    result = work()
    seconds = time.process_time() - begin
    print(f"{name:46} {megabytes / seconds:7.2f} MB/s  {seconds:6.2f} s  {result}", flush=True)


def ours_index(bench: Path) -> BenchmarkIndex:
    pairs = []
    for name, column in BENCHMARKS.items():
        spec = {"name": name, "licence": "-", "files": ["-"], "fields": {"question": column}}
        file = SourceFile(name, bench / f"{name}.jsonl.gz")
        pairs.append((BenchmarkSpec.model_validate(spec), [file]))
    return load_benchmarks(pairs, DecontaminateSpec())


def datatrove_filter(bench: Path, folder: str, tokenizer: Any) -> NGramsDecontFilter:
    config = NGramsDecontConfig(n_grams=13)
    # The indexer itself asks for an evaluation harness; its arithmetic does not.
    indexer = SimpleNamespace(
        config=config,
        tokenizer=tokenizer or load_word_tokenizer("eng"),
        hash_func=hash_text,
    )
    for name, column in BENCHMARKS.items():
        hashes: set[int] = set()
        for row in rows(bench / f"{name}.jsonl.gz"):
            hashes.update(NGramsDecontIndexer.compute_hashes(indexer, row[column]))
        np.array(list(hashes), np.uint64).tofile(Path(folder) / f"{name}.index.hashes")
    block = NGramsDecontFilter(folder, config)
    block.tokenizer = indexer.tokenizer
    block.hash_func = hash_text
    block.load_index_hashes()
    return block


def dropped(block: NGramsDecontFilter, texts: Sequence[str]) -> str:
    verdicts = [block.filter(Document(text=text, id="")) for text in texts]
    return f"{sum(verdict is not True for verdict in verdicts)} dropped"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=6)
    limit = parser.parse_args().megabytes
    data = Path(os.environ["DATAGEN_DATA"])
    logger.remove()
    texts: list[str] = []
    size = 0.0
    for row in rows(data / "wiki" / "wikipedia_en_articles.jsonl.gz"):
        if size >= limit:
            break
        texts.append(row["text"])
        size += len(row["text"].encode()) / 1e6
    print(f"{len(texts)} articles, {size:.1f} MB, one core, CPU seconds")
    load_word_tokenizer("eng").word_tokenize("warm up")
    space = SimpleNamespace(word_tokenize=str.split)

    index = ours_index(data / "bench")
    measure(
        "decontamination, short items too",
        size,
        lambda: f"{sum(map(bool, find_hits(texts, index)))} dropped",
    )
    for name, tokenizer in (("words by spaces", space), ("its own words", None)):
        with tempfile.TemporaryDirectory() as folder:
            block = datatrove_filter(data / "bench", folder, tokenizer)
            measure(
                f"datatrove decontamination, {name}",
                size,
                lambda block=block: dropped(block, texts),
            )  # type: ignore[misc]


if __name__ == "__main__":
    main()

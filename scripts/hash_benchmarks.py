#!/usr/bin/env python
"""Write the hashes of evaluation items that the split audit looks up: facts, no item's text.

    DATAGEN_DATA=/path/to/data python scripts/hash_benchmarks.py

Reads each set of manifests/benchmarks/ and the further ones below from the files that DATAGEN_DATA
holds, writes manifests/benchmarks/items.parquet, and pins it in manifests/evaluation_only.yaml.
Equal files give equal bytes.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from datagen.curate.evaluation import ITEM_SCHEMA, Item, hash_items
from datagen.shards.parquet import file_sha256, write_parquet

ROOT = Path(__file__).resolve().parents[1]
ITEMS = "manifests/benchmarks/items.parquet"
LIST = ROOT / "manifests" / "evaluation_only.yaml"

Row = dict[str, Any]


def choice(row: Row) -> Iterator[Item]:
    """A question with its options."""
    yield Item(row["question"], tuple(row["choices"]))


def column(name: str) -> Callable[[Row], Iterator[Item]]:
    """A question without options, in a column."""

    def read(row: Row) -> Iterator[Item]:
        yield Item(row[name])

    return read


def ending(row: Row) -> Iterator[Item]:
    """A context with its endings."""
    yield Item(row["ctx"], tuple(row["endings"]))


def task(row: Row) -> Iterator[Item]:
    """A programming task that is not of the train split."""
    if row["split"] != "train":
        yield Item(row["text"])


def passage(row: Row) -> Iterator[Item]:
    """A passage, and every question on it."""
    yield Item(row["context"])
    for question in row["qas"]:
        yield Item(question["question"])


BENCHMARKS: dict[str, tuple[Callable[[Row], Iterator[Item]], tuple[str, ...]]] = {
    "arc_challenge": (choice, ("bench/arc_challenge_test.jsonl.gz",)),
    "arc_easy": (choice, ("bench/arc_easy_test.jsonl.gz",)),
    "gsm8k": (column("question"), ("bench/gsm8k_test.jsonl.gz",)),
    "hellaswag": (ending, ("bench/hellaswag_validation.jsonl.gz",)),
    "humaneval": (column("prompt"), ("bench/humaneval_test.jsonl.gz",)),
    "mbpp": (task, ("bench/mbpp_all.jsonl.gz",)),
    "mmlu": (choice, ("bench/mmlu_test.jsonl.gz", "bench/mmlu_dev_validation.jsonl.gz")),
    "openbookqa": (choice, ("bench/openbookqa_test.jsonl.gz",)),
    "swe_bench": (column("problem_statement"), ("agent/swebench_lite.jsonl.gz",)),
    "xquad": (passage, ("wiki/xquad_paragraphs.jsonl.gz",)),
}


def read_items(
    folder: Path, files: Sequence[str], read: Callable[[Row], Iterator[Item]]
) -> Iterator[Item]:
    """The items of some files of gzipped JSON lines."""
    for file in files:
        with gzip.open(folder / file, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield from read(json.loads(line))


def main() -> None:
    """Hash every benchmark, write the file, pin it."""
    folder = os.environ.get("DATAGEN_DATA")
    if not folder:
        sys.exit("set DATAGEN_DATA to the folder of the benchmark files")
    tables = []
    for name, (read, files) in BENCHMARKS.items():
        table = hash_items(name, read_items(Path(folder), files, read))
        print(f"{name:14} {table.num_rows:6,} entries")
        tables.append(table)
    merged = pa.concat_tables(tables).sort_by([("anchor", "ascending"), ("key", "ascending")])
    batches = merged.combine_chunks().to_batches()
    entry = write_parquet(ROOT, ITEMS, batches, ITEM_SCHEMA)
    digest = file_sha256(ROOT / ITEMS)
    pinned = re.sub(r"(items\.parquet: )[0-9a-f]{64}", rf"\g<1>{digest}", LIST.read_text("utf-8"))
    LIST.write_text(pinned, encoding="utf-8")
    print(f"{ITEMS}: {entry.rows:,} entries, {entry.bytes:,} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()

"""One peer's fuzzy dedup of a Parquet file, run by `dedup.py` in a process of its own.

python dedup_peers.py NAME CORPUS.parquet OUT.json

OUT.json has `pairs` of row numbers that the peer joins (each dropped row with a row kept, or what
the peer's index answers), or `flags`, the rows it calls duplicates, where it names no partner;
`version`; and `uncounted_s`, CPU seconds of putting the rows into a form that the peer can read.
"""

from __future__ import annotations

import gzip
import json
import re
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq

THRESHOLD = 0.7
WORDS = 5
BANDS, ROWS = 14, 8
"""datatrove's own banding; rensa wants a power of two, 16 bands."""
POWER_OF_TWO = 128
_WORD = re.compile(r"\w+")


def batches(corpus: Path) -> Iterator[list[str]]:
    """The texts in the order of their rows, some thousand at once."""
    with pq.ParquetFile(corpus) as file:
        for batch in file.iter_batches(batch_size=4096, columns=["text"], use_threads=False):
            yield batch.column(0).to_pylist()


def shingles(text: str) -> list[str]:
    """The word 5-grams, for libraries that take tokens."""
    words = _WORD.findall(text.lower())
    return [" ".join(words[i : i + WORDS]) for i in range(max(len(words) - WORDS + 1, 1))]


def gaoya(corpus: Path) -> dict[str, Any]:
    """Words, shingles, hashes and the check of a pair by its signatures: all of it in Rust."""
    from gaoya.minhash import MinHashStringIndex

    index = MinHashStringIndex(
        32, THRESHOLD, BANDS, ROWS, None, "word", True, (WORDS, WORDS), "vec"
    )
    pairs, row = [], 0
    for texts in batches(corpus):
        for text in texts:
            pairs += [(other, row) for other in index.query(text)]
            index.insert_document(row, text)
            row += 1
    return {"pairs": pairs, "version": version("gaoya")}


def rensa(corpus: Path) -> dict[str, Any]:
    """Its deduplicator, which checks a pair by its signatures and can name the partners."""
    from rensa import RMinHash, RMinHashDeduplicator

    bands = POWER_OF_TWO // ROWS
    index = RMinHashDeduplicator(THRESHOLD, POWER_OF_TWO, True, bands, 1)
    pairs, row = [], 0
    for texts in batches(corpus):
        for one in RMinHash.from_token_sets(map(shingles, texts), POWER_OF_TWO, 1):
            if not index.add(str(row), one):
                pairs += [(int(other), row) for other in index.get_duplicates(one)]
            row += 1
    return {"pairs": pairs, "version": version("rensa")}


def rensa_matrix(corpus: Path) -> dict[str, Any]:
    """Its fastest way over whole batches: flags, of both rows of a pair inside one batch."""
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(THRESHOLD, POWER_OF_TWO, POWER_OF_TWO // ROWS)
    flags: list[int] = []
    row = 0
    for texts in batches(corpus):
        sets = map(shingles, texts)
        matrix = RMinHash.digest_matrix_from_token_sets(sets, POWER_OF_TWO, 1)
        found = index.insert_matrix_and_query_duplicate_flags(matrix, row)
        flags += [row + place for place, flag in enumerate(found) if flag]
        row += len(texts)
    return {"flags": flags, "version": version("rensa")}


def datasketch(corpus: Path) -> dict[str, Any]:
    """MinHash and its LSH index, whose answers are candidates."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    pairs, row = [], 0
    for texts in batches(corpus):
        sets = ([shingle.encode() for shingle in shingles(text)] for text in texts)
        for one in MinHash.generator(sets, num_perm=BANDS * ROWS):
            pairs += [(other, row) for other in index.query(one)]
            index.insert(row, one)
            row += 1
    return {"pairs": pairs, "version": version("datasketch")}


def text_dedup(corpus: Path) -> dict[str, Any]:
    """Its command, with the clusters that it leaves in its module."""
    from text_dedup import minhash

    with tempfile.TemporaryDirectory() as folder:
        options = {
            "path": "parquet",
            "data_files": str(corpus),
            "split": "train",
            "cache_dir": f"{folder}/cache",
            "output": f"{folder}/out",
            "column": "text",
            "ngram": str(WORDS),
            "num_perm": str(BANDS * ROWS),
            "b": str(BANDS),
            "r": str(ROWS),
            "threshold": str(THRESHOLD),
            "hash_func": "xxh3",
            "num_proc": "1",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        minhash.main.main(words, standalone_mode=False)
    found = minhash.uf
    joined = [(found.find(row), row) for row in list(found.parent)]
    return {
        "pairs": [(one, other) for one, other in joined if one != other],
        "version": version("text-dedup"),
    }


def dolma(corpus: Path) -> dict[str, Any]:
    """A Bloom filter of all 5-grams seen: a document is flagged when 70 % of its own are in it."""
    from dolma import deduper

    with tempfile.TemporaryDirectory() as folder:
        begin = time.process_time()
        documents = Path(folder) / "documents"
        documents.mkdir()
        row = size = 0
        with gzip.open(documents / "all.jsonl.gz", "wt", compresslevel=1) as lines:
            for texts in batches(corpus):
                for text in texts:
                    lines.write(json.dumps({"id": str(row), "text": text, "source": "a"}) + "\n")
                    row += 1
                    size += len(text)
        uncounted_s = time.process_time() - begin
        ngrams = {
            "ngram_length": WORDS,
            "stride": 0,
            "overlap_threshold": THRESHOLD,
            "skip_short_paragraphs": False,
        }
        # The separator stands in no text, so that a document is one paragraph.
        paragraphs = {
            "attribute_name": "seen",
            "by_ngram": ngrams,
            "paragraph_separator": "\x1e",
        }
        settings = {
            "name": "seen",
            "paragraphs": paragraphs,
            "skip_empty": False,
            "min_length": 0,
            "min_words": 0,
            "num_partitions": 1,
            "partition_index": 0,
            "file_partition": False,
            "document_dir": "documents",
        }
        bloom = {
            "file": f"{folder}/bloom",
            "read_only": False,
            "size_in_bytes": 0,
            "estimated_doc_count": size // 4,
            "desired_false_positive_rate": 1e-4,
        }
        for name in ("in", "out"):
            (Path(folder) / name).mkdir()
        deduper(
            {
                "dedupe": settings,
                "bloom_filter": bloom,
                "documents": [f"{documents}/*.jsonl.gz"],
                "work_dir": {"input": f"{folder}/in", "output": f"{folder}/out"},
                "processes": 1,
                "compression": {"input": None, "output": None},
                "is_s3_volume": False,
            }
        )
        with gzip.open(Path(folder) / "attributes/seen/all.jsonl.gz", "rt") as lines:
            found = [json.loads(line) for line in lines]
    flags = [int(one["id"]) for one in found if one["attributes"].get("seen")]
    return {"flags": flags, "version": version("dolma"), "uncounted_s": uncounted_s}


def datatrove(corpus: Path, *, by_spaces: bool = False) -> dict[str, Any]:
    """Its three MinHash steps in their default form, on its own reader."""
    import xxhash
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.utils.logging import logger

    logger.remove()
    with tempfile.TemporaryDirectory() as folder:
        steps = [f"{folder}/{name}" for name in ("signatures", "buckets", "clusters")]
        reader = ParquetReader(str(corpus.parent), glob_pattern=corpus.name)
        sign = MinhashDedupSignature(steps[0])
        if by_spaces:
            # Its own WhitespaceTokenizer is spaCy, as slow as its default.
            vars(sign)["word_tokenizer"] = SimpleNamespace(word_tokenize=str.split)
        # Its own call passes text, which xxhash refuses since 4.0.
        sign._hash_func = lambda text: xxhash.xxh64_intdigest(text.encode())
        sign.run(reader.run(rank=0, world_size=1), 0, 1)
        for bucket in range(BANDS):
            MinhashDedupBuckets(steps[0], steps[1]).run(None, bucket, BANDS)
        MinhashDedupCluster(steps[1], steps[2], save_cluster_id=True).run(None, 0, 1)
        removed = Path(steps[2], "000000.remove").read_bytes()
        clusters = Path(steps[2], "000000.clusters").read_bytes()
    gone = {row for (row,) in struct.iter_unpack("<I", removed)}
    rows = list(struct.iter_unpack("<2I", clusters))
    kept = {cluster: row for row, cluster in rows if row not in gone}
    pairs = [(kept[cluster], row) for row, cluster in rows if row in gone]
    return {"pairs": pairs, "version": version("datatrove")}


def datatrove_spaces(corpus: Path) -> dict[str, Any]:
    """The same with words cut at spaces."""
    return datatrove(corpus, by_spaces=True)


JOBS = {
    job.__name__: job
    for job in (
        gaoya,
        rensa,
        rensa_matrix,
        datasketch,
        text_dedup,
        dolma,
        datatrove,
        datatrove_spaces,
    )
}

if __name__ == "__main__":
    answer = JOBS[sys.argv[1]](Path(sys.argv[2]).resolve())
    Path(sys.argv[3]).write_text(json.dumps(answer))

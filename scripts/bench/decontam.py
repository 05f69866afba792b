"""Decontamination beside its peers in one run: recall by kind of plant, false flags, MB/s, memory.

DATAGEN_DATA=... python scripts/bench/decontam.py [--megabytes 118] [--only recall,speed]

Peers: datatrove's 13-grams (words by spaces), 13-grams in polars, a plain Python set; one that is
not installed is left out. Each runs in a process of its own; times are CPU seconds of one core.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import multiprocessing
import os
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datagen.curate.decontaminate import Hit, find_hits, find_hits_arrow, formulas, without
from datagen.curate.questions import BenchmarkIndex, load_benchmarks
from datagen.curate.words import arrow_bytes, word_form
from datagen.shards.sources import SourceFile
from datagen.shards.tables import find_tables, read_table
from datagen.workspace.specs import BenchmarkSpec, DecontaminateSpec

CHOICE = {"question": "question", "choices": "choices", "answer": "answer_index"}
BENCHMARKS: dict[str, dict[str, Any]] = {
    "gsm8k_test": {"question": "question", "answer": "answer"},
    "arc_challenge_test": CHOICE,
    "arc_easy_test": CHOICE,
    "openbookqa_test": CHOICE,
    "mmlu_test": CHOICE,
    "hellaswag_validation": {"question": "ctx", "choices": "endings", "answer": "label"},
    "humaneval_test": {"question": "prompt", "answer": "canonical_solution"},
    "mbpp_all": {"question": "text", "answer": "code"},
}
LEAKS = {
    "openbookqa": (("openbookqa_test",), ("openbookqa_train",)),
    "arc": (("arc_challenge_test", "arc_easy_test"), ("arc_challenge_train", "arc_easy_train")),
    "mmlu": (("mmlu_test",), ("mmlu_dev_validation",)),
}
SYNONYMS = {
    "shows": "displays",
    "large": "big",
    "begins": "starts",
    "buys": "purchases",
    "many": "lots of",
    "most": "more",
    "after": "following",
    "before": "prior to",
    "because": "since",
    "best": "most fittingly",
    "each": "every",
    "likely": "probably",
    "would": "will",
    "people": "persons",
}
N = 13
Flags = Callable[[Sequence[str]], list[bool]]


def data() -> Path:
    return Path(os.environ["DATAGEN_DATA"])


def rows(name: str) -> Iterator[dict[str, Any]]:
    with gzip.open(data() / f"{name}.jsonl.gz", "rt") as lines:
        yield from map(json.loads, lines)


def language_files(folder: Path) -> dict[str, Path]:
    """XQuAD as one benchmark a language."""
    found: dict[str, list[str]] = {}
    for row in rows("wiki/xquad_paragraphs"):
        for qa in row["qas"]:
            line = json.dumps({"question": qa["question"]}, ensure_ascii=False)
            found.setdefault(row["language"], []).append(line)
    for language, lines in found.items():
        (folder / f"xquad_{language}.jsonl").write_text("\n".join(lines) + "\n")
    return {f"xquad_{one}": folder / f"xquad_{one}.jsonl" for one in sorted(found)}


def index_of(names: Sequence[str], languages: dict[str, Path]) -> BenchmarkIndex:
    pairs = []
    for name in names:
        fields = BENCHMARKS.get(name, {"question": "question"})
        values = {"name": name, "licence": "-", "files": ["-"], "fields": fields}
        path = languages.get(name) or data() / "bench" / f"{name}.jsonl.gz"
        pairs.append((BenchmarkSpec.model_validate(values), [SourceFile(name, path)]))
    return load_benchmarks(pairs, DecontaminateSpec())


# --- the peers -----------------------------------------------------------------------------------


def ours(questions: Sequence[str]) -> Flags:
    with tempfile.TemporaryDirectory() as folder:
        index = index_of([*BENCHMARKS, *language_files(Path(folder))], language_files(Path(folder)))
    return lambda texts: [bool(hits) for hits in find_hits(texts, index)]


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def plain_set(questions: Sequence[str]) -> Flags:
    grams = {tuple(w[i : i + N]) for w in map(words_of, questions) for i in range(len(w) - N + 1)}

    def flags(texts: Sequence[str]) -> list[bool]:
        found = []
        for text in texts:
            words = words_of(text)
            found.append(not grams.isdisjoint(zip(*(words[i:] for i in range(N)), strict=False)))
        return found

    return flags


def in_polars(questions: Sequence[str]) -> Flags:
    import polars as pl

    def grams(texts: Sequence[str]) -> Any:
        words = (
            pl.LazyFrame({"text": list(texts)})
            .with_row_index("row")
            .with_columns(pl.col("text").str.to_lowercase().str.extract_all(r"\w+"))
            .explode("text")
            .with_columns(pl.col("text").hash(7))
        )
        mixed = pl.sum_horizontal(
            pl.col("text").shift(-i) * (2 * i + 1) % (1 << 60) for i in range(N)
        )
        whole = pl.col("row") == pl.col("row").shift(1 - N)
        return words.with_columns(gram=mixed, whole=whole).filter("whole")

    held = grams(questions).select("gram").unique().collect()["gram"]

    def flags(texts: Sequence[str]) -> list[bool]:
        hit = grams(texts).filter(pl.col("gram").is_in(held.implode())).select("row").unique()
        flagged = set(hit.collect()["row"].to_list())
        return [number in flagged for number in range(len(texts))]

    return flags


def in_datatrove(questions: Sequence[str]) -> Flags:
    import xxhash
    from datatrove.data import Document
    from datatrove.pipeline.decont import (
        NGramsDecontConfig,
        NGramsDecontFilter,
        NGramsDecontIndexer,
    )
    from datatrove.utils.logging import logger

    logger.remove()
    config = NGramsDecontConfig(n_grams=N)

    def digest(text: str) -> int:
        return xxhash.xxh64_intdigest(text.encode())

    # The indexer itself asks for an evaluation harness; its arithmetic does not.
    tokenizer = SimpleNamespace(word_tokenize=str.split)
    indexer = SimpleNamespace(config=config, tokenizer=tokenizer, hash_func=digest)
    hashes: set[int] = set()
    for question in questions:
        hashes.update(NGramsDecontIndexer.compute_hashes(indexer, question))
    with tempfile.TemporaryDirectory() as folder:
        np.array(list(hashes), np.uint64).tofile(Path(folder) / "all.index.hashes")
        block = NGramsDecontFilter(folder, config)
        block.tokenizer = tokenizer
        block.hash_func = digest
        block.load_index_hashes()
    return lambda texts: [block.filter(Document(text=t, id="")) is not True for t in texts]


PEERS: dict[str, Callable[[Sequence[str]], Flags]] = {
    "datagen": ours,
    "plain set, 13 words": plain_set,
    "polars, 13 words": in_polars,
    "datatrove, 13 words by spaces": in_datatrove,
}


def installed() -> list[str]:
    return [
        name
        for name in PEERS
        if (package := name.split(",")[0]) in ("datagen", "plain set")
        or importlib.util.find_spec(package)
    ]


def questions() -> list[str]:
    found = [
        str(row[fields["question"]])
        for name, fields in BENCHMARKS.items()
        for row in rows(f"bench/{name}")
    ]
    return found + [qa["question"] for row in rows("wiki/xquad_paragraphs") for qa in row["qas"]]


# --- recall and precision ------------------------------------------------------------------------


def plants(rng: random.Random, each: int) -> Iterator[tuple[str, bool, str]]:
    """(kind, whether it should be found, text) of questions made over, and of what is none."""
    choice = [row for row in rows("bench/mmlu_test") if 6 <= len(row["question"].split()) <= 80]
    story = list(rows("bench/gsm8k_test"))
    for row in rng.sample(story, each):
        question, answer = row["question"], row["answer"]
        words = question.split()
        share = int(0.7 * len(words))
        changed = [SYNONYMS.get(word, word) for word in words]
        while changed == words or len(changed) < len(words):
            place = rng.randrange(len(words) - 1)
            changed = [*words[:place], words[place + 1], words[place], *words[place + 2 :]]
        yield "exact", True, question
        yield "exact, with answer", True, f"{question}\n{answer}"
        yield "first 70 % of it", True, " ".join(words[:share])
        yield "last 70 % of it", True, " ".join(words[-share:])
        yield (
            "other case, marks and lines",
            True,
            re.sub(r"[.,?]", "", question.upper()).replace(" ", "\n", 5),
        )
        yield "some words changed by rule", True, " ".join(changed)
        yield "answer alone", False, answer
    for row in rng.sample(choice, each):
        options = row["choices"][:]
        rng.shuffle(options)
        listed = "\n".join(f"{'ABCD'[i]}. {one}" for i, one in enumerate(options))
        yield "options in another order", True, f"Question: {row['question']}\n{listed}"
        yield "options alone", False, listed
    short = [row for row in rows("bench/openbookqa_test") if 4 <= len(row["question"].split()) < 8]
    for row in rng.sample(short, min(each, len(short))):
        answer = row["choices"][row["answer_index"]]
        yield "short, with answer", True, f"{row['question']} {answer}."
        yield "short, alone", True, row["question"]
    by_place: dict[tuple[str, int], dict[str, Any]] = {}
    for row in rows("wiki/xquad_paragraphs"):
        by_place.setdefault((row["title"], row["paragraph_index"]), {})[row["language"]] = row
    for languages in rng.sample(sorted(by_place.values(), key=str), min(each, len(by_place))):
        for language in ("en", "zh", "ar", "de"):
            yield f"question in {language}", True, languages[language]["qas"][0]["question"]
        yield "page that a question is about (en)", False, languages["en"]["context"]


def planted(seed: int = 4, each: int = 200) -> tuple[list[tuple[str, bool]], list[str]]:
    rng = random.Random(seed)
    pages = [row["text"][:4000] for row in rows("wiki/wikipedia_en_articles")]
    kinds, texts = [], []
    for kind, found, text in plants(rng, each):
        page = rng.choice(pages)
        cut = page.find("\n\n", len(page) // 3)
        texts.append(f"{page[:cut]}\n\n{text}\n\n{page[cut:]}")
        kinds.append((kind, found))
    return kinds + [("page with nothing in it", False)] * len(pages), texts + pages


def recall() -> None:
    kinds, texts = planted()
    asked = questions()
    flagged = {name: PEERS[name](asked)(texts) for name in installed()}
    print(f"\n{'share flagged':40} {'texts':>6} " + " ".join(f"{n[:18]:>18}" for n in flagged))
    for kind, found in dict.fromkeys(kinds):
        where = [i for i, one in enumerate(kinds) if one == (kind, found)]
        shares = [sum(flags[i] for i in where) / len(where) for flags in flagged.values()]
        label = kind if found else f"none: {kind}"
        print(f"{label:40} {len(where):6} " + " ".join(f"{share:18.1%}" for share in shares))
    right = [
        sum(f for f, k in zip(flags, kinds, strict=True) if k[1]) for flags in flagged.values()
    ]
    shares = [r / max(sum(f), 1) for r, f in zip(right, flagged.values(), strict=True)]
    print(f"{'precision':47} " + " ".join(f"{share:18.1%}" for share in shares))


# --- speed ---------------------------------------------------------------------------------------


def corpus(megabytes: float, path: Path) -> None:
    """Paragraphs of real pages, acts and programs in a seeded order, as Parquet."""
    rng = random.Random(1)
    sources = (("wiki/wikipedia_en_articles", "text"), ("dedup/eu_law_versions_docs", "text"))
    sources += (("code/code_files", "content"), ("search/passage_corpus_2wiki", "text"))
    parts = [
        part
        for name, column in sources
        for row in rows(name)
        for part in row[column].split("\n\n")
        if len(part) > 40
    ]
    texts, size = [], 0
    while size < megabytes * 1e6:
        texts.append("\n\n".join(rng.choices(parts, k=rng.choice([2, 4, 8, 16]))))
        size += len(texts[-1].encode())
    table = pa.table({"id": [str(i) for i in range(len(texts))], "text": texts})
    pq.write_table(table, path, compression="zstd")


def timed(name: str, path: Path, limit: float, answer: Any) -> None:
    """Scan with the read included; the index is made before. Sends megabytes, seconds, RSS."""
    if name == "datagen":
        with tempfile.TemporaryDirectory() as folder:
            languages = language_files(Path(folder))
            index = index_of([*BENCHMARKS, *languages], languages)
        (table,) = find_tables([path], id_field="id", text_field="text")

        def scan() -> tuple[float, int]:
            size = found = 0
            for batch in read_table(table, whole=False):
                found += len(find_hits_arrow(batch.texts, index))
                size += arrow_bytes(batch.texts)[1][-1]
            return size / 1e6, found

        scan()
    else:
        flags = PEERS[name](questions())

        def scan() -> tuple[float, int]:
            size, texts = 0.0, []
            for batch in pq.ParquetFile(path).iter_batches(4096, columns=["text"]):
                for text in batch.column(0).to_pylist():
                    if size < limit:
                        texts.append(text)
                        size += len(text.encode()) / 1e6
            return size, sum(flags(texts))

    begin = time.process_time()
    size, found = scan()
    seconds = time.process_time() - begin
    # The peak that getrusage tells is that of the parent too.
    (line,) = re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    answer.put((size, seconds, int(line) / 1024, found))


def speed(megabytes: float) -> None:
    context = multiprocessing.get_context("spawn")
    print(f"\n{'scan, read included':32} {'MB':>7} {'MB/s':>8} {'peak MB':>8} {'flagged':>8}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corpus.parquet"
        corpus(megabytes, path)
        for name in installed():
            # Two that are slow read less of it, which does not make them slower.
            limit = 6 if name.startswith("datatrove") else megabytes
            answer = context.Queue()
            process = context.Process(target=timed, args=(name, path, limit, answer))
            process.start()
            size, seconds, peak, found = answer.get()
            process.join()
            print(f"{name:32} {size:7.1f} {size / seconds:8.1f} {peak:8.0f} {found:8}", flush=True)


# --- what stands in real data --------------------------------------------------------------------


def leaks() -> None:
    print(
        "\nquestions of a test set in the train set: equal in words, of those found; others found"
    )
    for name, (tests, trains) in LEAKS.items():
        index = index_of(tests, {})
        held = {word_form(row["question"]) for test in tests for row in rows(f"bench/{test}")}
        texts = [row["question"] for train in trains for row in rows(f"bench/{train}")]
        known = [word_form(text) in held for text in texts]
        found = [bool(hits) for hits in find_hits(texts, index)]
        both = sum(k and f for k, f in zip(known, found, strict=True))
        print(f"{name:12} {sum(known):4} {both:4} {sum(found) - both:4}")


def flags() -> None:
    from selectolax.lexbor import LexborHTMLParser

    with tempfile.TemporaryDirectory() as folder:
        languages = language_files(Path(folder))
        index = index_of([*BENCHMARKS, *languages], languages)
    pages = [LexborHTMLParser(row["html"]).body for row in rows("legal/legal_html")]
    sets = {
        "legal pages": [page.text(separator="\n") if page else "" for page in pages],
        "EU acts": [row["text"] for row in rows("dedup/eu_law_versions_docs")],
        "Wikipedia articles": [row["text"] for row in rows("wiki/wikipedia_en_articles")],
        "Wikipedia wikitext": [row["text"] for row in rows("wiki/wikipedia_en_wikitext")],
        "XQuAD's own pages": [row["context"] for row in rows("wiki/xquad_paragraphs")],
    }
    print("\nflags on real pages")
    for name, texts in sets.items():
        found = find_hits(texts, index)
        forms = formulas(found, len(texts), index.spec)
        kept: list[list[Hit]] = [without(hits, forms) for hits in found]
        tiers = Counter(hit.tier for hits in kept for hit in hits)
        share = sum(map(bool, kept)) / len(texts)
        print(f"{name:20} {len(texts):5} texts, {share:.2%} flagged {dict(tiers) or ''}")
        if name.startswith("XQuAD"):
            continue
        for text, hits in zip(texts, kept, strict=True):
            for hit in hits:
                print(f"    {hit}: {text[hit.start : hit.end]!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=118)
    parser.add_argument("--only", default="recall,speed,leaks,flags")
    chosen = parser.parse_args()
    for part in chosen.only.split(","):
        if part == "speed":
            speed(chosen.megabytes)
        else:
            {"recall": recall, "leaks": leaks, "flags": flags}[part]()


if __name__ == "__main__":
    main()

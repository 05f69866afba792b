"""The Gopher, C4 and FineWeb rules beside datatrove's blocks on real texts: speed and verdicts.

DATAGEN_DATA=... python scripts/bench/quality.py [--every 10]

Both judge the same documents in one run on one core, each rule by itself; a verdict differs when
one keeps what the other refuses, or refuses it for another reason. `first` is the first pass over
the texts, in which unknown chunks are learned from the tokenizer; `again` is a second one.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline import filters
from datatrove.utils.logging import logger
from datatrove.utils.word_tokenizers import load_word_tokenizer

from datagen.curate import rules
from datagen.curate.tokens import read_words

FILES = {
    "wiki/wikipedia_en_articles": "text",
    "wiki/wikipedia_en_wikitext": "text",
    "wiki/xquad_paragraphs": "context",
    "legal/legal_html": "html",
    "code/code_files": "content",
    "dedup/eu_law_versions_docs": "text",
    "dedup/license_texts_docs": "text",
}
RULES: Sequence[tuple[Callable[..., rules.Rule], str, dict[str, Any]]] = (
    (rules.gopher_quality, "GopherQualityFilter", {}),
    (rules.gopher_repetition, "GopherRepetitionFilter", {}),
    (rules.fineweb_quality, "FineWebQualityFilter", {}),
    (rules.c4_quality, "C4QualityFilter", {}),
    (rules.c4_quality, "C4QualityFilter", {"filter_no_terminal_punct": False}),
    (rules.c4_paragraph, "C4ParagraphFilter", {}),
)


def read(every: int) -> list[str]:
    found = []
    for name, column in FILES.items():
        path = Path(os.environ["DATAGEN_DATA"]) / f"{name}.jsonl.gz"
        with gzip.open(path, "rt") as lines:
            found += [json.loads(line)[column] for line in lines]
    return found[::every]


def of_block(name: str, arguments: dict[str, Any]) -> rules.Rule:
    block = getattr(filters, name)(**arguments)

    def rule(text: str) -> str | None:
        verdict = block.filter(Document(text=text, id=""))
        kept, why = verdict if isinstance(verdict, tuple) else (verdict, "")
        return None if kept else why

    return rule


def judged(rule: Callable[[str], str | None], texts: Sequence[str]) -> tuple[float, list[Any]]:
    read_words.cache_clear()
    begin = time.process_time()
    verdicts = [rule(text) for text in texts]
    return time.process_time() - begin, verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=10, help="take each n-th document")
    texts = read(parser.parse_args().every)
    logger.remove()
    size = sum(len(text.encode()) for text in texts) / 1e6
    print(f"{len(texts)} documents, {size:.1f} MB, one core, MB a CPU second")
    # What loads and compiles once a process stays out of the figures.
    load_word_tokenizer("eng").word_tokenize("Warm up.")
    for make, _, arguments in RULES:
        make(**arguments)("Warm up.\n" * 9)
    begin = time.process_time()
    for text in texts:
        read_words(text)
    first = time.process_time() - begin
    again, _ = judged(lambda text: str(len(read_words(text).starts)), texts)
    print(f"{'words':32} first {size / first:6.1f}  again {size / again:6.1f}")
    for make, block, arguments in RULES:
        ours, found = judged(make(**arguments), texts)
        theirs, expected = judged(of_block(block, arguments), texts)
        differ = sum(a != b for a, b in zip(found, expected, strict=True))
        refused = sum(verdict is not None for verdict in found)
        shown = f"{make.__name__} {'without terminal marks' if arguments else ''}"
        print(
            f"{shown:42} {size / ours:7.1f}  datatrove {size / theirs:6.2f}  {theirs / ours:5.0f} x"
            f"  {refused} refused, {differ} verdicts differ",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""Personal data found beside datatrove's PIIFormatter: MB a CPU second on real texts, and recall.

Recall is of planted data, each in a real sentence; false finds are counted by eye: with --show they
are printed. DATAGEN_DATA=... python scripts/bench/pii.py [--show]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from datatrove.pipeline.formatters.pii import PIIFormatter

from datagen.curate.pii import Kind, find_personal_data

FILES = {
    "wiki/wikipedia_en_articles": "text",
    "legal/legal_html": "html",
    "code/code_files": "content",
    "dedup/license_texts_docs": "text",
}


def luhn_digit(digits: str) -> str:
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[::-2])
    return str(-(sum(map(int, digits[-2::-2])) + sum(doubled)) % 10)


def made(kind: str, rng: random.Random) -> str:
    """One piece of made-up personal data."""

    def digits(count: int) -> str:
        return "".join(rng.choices("0123456789", k=count))

    if kind == "email":
        name = "".join(rng.choices("abcdefghij.", k=6)).strip(".") or "a"
        return f"{name.replace('..', '.')}{digits(2)}@{rng.choice(['mail', 'a-b'])}.example.org"
    if kind == "ip":
        return f"{rng.choice([41, 62, 151, 203])}.{rng.randint(1, 99)}.{rng.randint(1, 254)}.9"
    if kind == "phone":
        form = rng.choice(["+49 30 {a} {b}", "({c}) {c}-{b}", "{c}-{c}-{b}", "+1 {c} {c} {b}"])
        area = str(rng.randint(200, 999))
        return form.format(a=str(rng.randint(100, 999)), b=digits(4), c=area)
    if kind == "card":
        start = "4" + digits(14)
        whole = start + luhn_digit(start)
        sign = rng.choice(["", " ", "-"])
        return sign.join(whole[i : i + 4] for i in range(0, 16, 4))
    account = digits(18)
    check = 98 - int(account + "131400") % 97
    return f"DE{check:02}{account}"


def measure(name: str, texts: Sequence[str], work: Callable[[str], object]) -> list[object]:
    begin = time.process_time()
    found = [work(text) for text in texts]
    seconds = time.process_time() - begin
    size = sum(len(text.encode()) for text in texts) / 1e6
    print(f"{name:24} {size / seconds:7.1f} MB/s")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--show", action="store_true", help="print what is found in real texts")
    show = parser.parse_args().show
    texts = []
    for name, column in FILES.items():
        with gzip.open(Path(os.environ["DATAGEN_DATA"]) / f"{name}.jsonl.gz", "rt") as lines:
            texts += [json.loads(line)[column] for line in lines]
    peer = PIIFormatter()
    ours = measure("ours, five kinds", texts, find_personal_data)
    theirs = measure("datatrove, two kinds", texts, peer.format)
    changed = sum(a != b for a, b in zip(texts, theirs, strict=True))
    kinds = Counter(span.kind for found in ours for span in found)  # type: ignore[attr-defined]
    print(f"{len(texts)} documents: {dict(kinds)}; datatrove changes {changed} documents")
    if show:
        for text, found in zip(texts, ours, strict=True):
            for span in found:  # type: ignore[attr-defined]
                print(span.kind, repr(text[max(span.start - 30, 0) : span.end + 20]))
    rng = random.Random(1)
    for kind in get_args(Kind):
        planted = [made(kind, rng) for _ in range(1000)]
        whole = gone = 0
        for one in planted:
            text = f"The harbour office answers {one}, or not at all (see {one})."
            places = find_personal_data(text)
            whole += [text[s.start : s.end] for s in places if s.kind == kind] == [one, one]
            gone += one not in peer.format(text)
        print(f"{kind:6} found whole {whole / 10:5.1f} %   datatrove {gone / 10:5.1f} %")


if __name__ == "__main__":
    main()

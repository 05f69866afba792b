"""Legal pages to Markdown beside trafilatura: pages right by the key, and what all pages cost.

DATAGEN_DATA=... python scripts/bench/legal_html.py [--pages]

Prints, for the pages of the keys in tests/keys, what each extractor gets wrong (trafilatura
is scored where it is installed: pip install trafilatura), then reads all pages in limited processes
and lists the ones refused, the ones that look odd, and the slowest.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.metadata
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from datagen.generate.html.extract import Page, read_page
from datagen.generate.html.limits import Limits, Refusal
from datagen.generate.html.pool import PagePool
from datagen.generate.html.tree import parse
from datagen.generate.html_document import html_document
from tests.keys.score import HELD_OUT, KEY, misses, read_key

MIB = 1 << 20
FEW_LETTERS = 100
LEAST_SHARE = 0.5
"""Of a page's letters, below which its text is looked at: most of such pages are menus."""
MOST_SHARE = 1.2


def trafilatura_markdown() -> Callable[[str], str] | None:
    """Trafilatura at its most thorough, as Markdown; None where it is not installed."""
    try:
        from trafilatura import extract
    except ImportError:
        return None

    def read(html: str) -> str:
        found = extract(
            html,
            output_format="markdown",
            include_tables=True,
            include_formatting=True,
            favor_recall=True,
            deduplicate=False,
        )
        return found or ""

    return read


def ours(html: str) -> str:
    """This project's extractor, in this process: the pages of the key are known to be tame."""
    return read_page(html, most_bytes=16 * MIB).text


def score(pages: dict[str, dict[str, Any]], path: Path, show: bool) -> None:
    """Print how many pages of a key each extractor gets right, and what it misses."""
    print(f"{path.name}:")
    readers: dict[str, Callable[[str], str]] = {html_document.__name__: ours}
    other = trafilatura_markdown()
    if other is None:
        print("trafilatura is not installed: it is left out")
    else:
        readers[f"trafilatura {importlib.metadata.version('trafilatura')}"] = other
    key = read_key(path)
    for name, reader in readers.items():
        start = time.process_time()
        wrong = {e["id"]: misses(reader(pages[e["id"]]["html"]), e) for e in key}
        took = time.process_time() - start
        facts = sum(
            len(e["order"]) + len(e.get("once", ())) + len(e.get("absent", ())) for e in key
        )
        missed = sum(map(len, wrong.values()))
        right = sum(not found for found in wrong.values())
        said = f"{right} of {len(key)} pages right; {missed} of {facts} facts missed; {took:.1f} s"
        print(f"{name}: {said}")
        for page, found in wrong.items():
            if found and (show or right > len(key) / 2):
                print(f"  {page}: {len(found)} missed")
                for line in found[: None if show else 3]:
                    print(f"    {line[:150]}")


def oddity(html: str, page: Page) -> str | None:
    """Why a page's text deserves a look: little of its letters, more than it has, lost pictures."""
    whole = next((n.letters for n in parse(html).elements() if n.tag == "body"), 0)
    got = sum(map(str.isalnum, page.text))
    if got < FEW_LETTERS:
        return f"{got} letters in all"
    if got < LEAST_SHARE * whole:
        return f"{got / whole:.0%} of its {whole} letters are kept"
    if got > MOST_SHARE * whole:
        return f"{got / whole:.0%} of its {whole} letters: cells over several rows are repeated"
    if "data:image" in html:
        return f"{page.pictures} pictures in it, perhaps formulas, are lost"
    return None


def read_all(pages: dict[str, dict[str, Any]]) -> None:
    """Read every page in a limited process, one at a time, and print what stands out."""
    pool = PagePool(Limits(), workers=1)
    pool.read_now("<p>warm")
    took: list[tuple[float, str]] = []
    refused, odd = [], []
    for name, row in pages.items():
        start = time.perf_counter()
        found = pool.read_now(row["html"])
        took.append((time.perf_counter() - start, name))
        if isinstance(found, Refusal):
            refused.append(f"{name} {row['jurisdiction']} {found.reason}: {found.detail}")
        elif (why := oddity(row["html"], found)) is not None:
            odd.append(f"{name} {row['jurisdiction']} {Path(row['source_path']).name}: {why}")
    pool.close()
    seconds = [second for second, _ in took]
    print(f"{len(pages)} pages: {len(refused)} refused, {len(odd)} to look at")
    for line in refused:
        print(f"  refused {line}")
    for line in odd:
        print(f"  look at {line}")
    slowest = max(took)
    print(f"slowest {slowest[0] * 1e3:.0f} ms ({slowest[1]})")
    print(f"median {statistics.median(seconds) * 1e3:.1f} ms, {sum(seconds):.1f} s in all")


def main() -> None:
    """Score the key, then read all pages."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pages", action="store_true", help="show every miss of every page")
    show = parser.parse_args().pages
    data = Path(os.environ["DATAGEN_DATA"]) / "legal" / "legal_html.jsonl.gz"
    with gzip.open(data, "rt", encoding="utf-8") as file:
        pages = {row["id"]: row for row in map(json.loads, file)}
    for path in (KEY, HELD_OUT):
        score(pages, path, show)
    read_all(pages)


if __name__ == "__main__":
    main()

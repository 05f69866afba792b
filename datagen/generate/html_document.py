"""An HTML page as records of its text: headings, numbered items, tables and notes as Markdown.

A page is untrusted. It is parsed in a process of its own kind, limited in time and memory, and a
page that breaks it ends as a rejected draft with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from datagen.errors import DataError
from datagen.generate.html.extract import Page
from datagen.generate.html.limits import MIB, Limits, Refusal
from datagen.generate.html.pool import shared_pool
from datagen.generate.html.split import sections
from datagen.llm.ask import Ask
from datagen.record import Draft, Seed


async def html_document(
    seed: Seed,
    ask: Ask,
    *,
    html: str = "html",
    split_at: int | None = None,
    min_words: int = 1,
    metadata: Sequence[str] = (),
    timeout_s: float = 5.0,
    memory_mib: int = 512,
    page_mib: int = 16,
) -> list[Draft]:
    """Draft the text of the page in column `html` (text or bytes); nobody is asked.

    `split_at` makes a draft of every section at headings down to that level (1 to 6), under the
    headings above it. A draft with fewer than `min_words` words is rejected. `metadata` names
    columns to carry along. A page takes `timeout_s` seconds at most, of CPU and by the clock.
    """
    source = _page_of(seed, html)
    limits = Limits(
        cpu_s=timeout_s,
        wall_s=timeout_s,
        memory_bytes=memory_mib * MIB,
        page_bytes=page_mib * MIB,
        answer_bytes=4 * page_mib * MIB,
    )
    carried = {name: seed.row[name] for name in metadata if seed.row.get(name) is not None}
    if not source:
        return [Draft(metadata=carried, rejected="html_nothing: an empty column")]
    page = await shared_pool(limits).read(source)
    if isinstance(page, Refusal):
        place = f"{seed.source} row {seed.row_key}"
        said = f"{page.reason}: {page.detail} ({place})"
        return [Draft(metadata=carried, rejected=said)]
    return list(_drafts(page, carried, split_at, min_words))


def _page_of(seed: Seed, column: str) -> bytes | str:
    source = seed.row.get(column, "")
    if column not in seed.row or not isinstance(source, bytes | str | None):
        kind = type(source).__name__ if column in seed.row else "missing"
        raise DataError(
            f"column {column!r} is {kind}, not HTML as text or bytes",
            where=f"{seed.source} row {seed.row_key}",
            fix=f"name the column of the HTML: one of {', '.join(seed.row)}",
        )
    return source or ""


def _drafts(
    page: Page, carried: Mapping[str, Any], split_at: int | None, min_words: int
) -> Iterable[Draft]:
    counts = {
        **carried,
        "page_title": page.title,
        "encoding": page.encoding,
        "headings": page.headings,
        "tables": page.tables,
        "notes": page.notes,
        "pictures": page.pictures,
    }
    if not any(map(str.isalnum, page.text)):
        yield Draft(metadata=counts, rejected="html_nothing: no text is left of the page")
        return
    if split_at is None:
        yield _draft(page.text, counts, min_words)
        return
    for section in sections(page.text, level=split_at):
        yield _draft(section.text, {**counts, "section": section.heading}, min_words)


def _draft(text: str, metadata: Mapping[str, Any], min_words: int) -> Draft:
    words = len(text.split())
    short = f"html_short: {words} words" if words < min_words else None
    return Draft(text=text, metadata=metadata, rejected=short)

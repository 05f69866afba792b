"""A hostile page ends as a reason, within limits; a good one as a record, through the recipes."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import resource
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from datagen.errors import DataError
from datagen.generate.html.limits import MIB, Limits, Refusal
from datagen.generate.html.pool import PagePool
from datagen.generate.html_document import html_document
from datagen.llm.ask import Ask
from datagen.record import Draft, Seed
from datagen.workspace.load import Workspace

ROOT = Path(__file__).resolve().parents[2]
NOBODY = cast(Ask, None)
LIMITS = Limits(cpu_s=1.0, wall_s=2.0, memory_bytes=512 * MIB)
RECIPES = ["california_code_of_regulations", "ny_judicial_ethics_opinions", "ecfr"]


@pytest.fixture(scope="module")
def pool() -> Iterator[PagePool]:
    pool = PagePool(LIMITS, workers=1)
    yield pool
    pool.close()


def drafts(row: dict[str, Any], **arguments: Any) -> list[Draft]:
    seed = Seed(source="pages", row_key="7", row=row, licence="CC0-1.0")
    return asyncio.run(html_document(seed, NOBODY, **arguments))


def billion_nothings() -> bytes:
    """A gibibyte of NUL, packed into a megabyte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(MIB)
    return b"".join([packer.compress(block) for _ in range(1024)]) + packer.flush()


def laughs() -> str:
    """Entities that stand for ten times the one before: a gibibyte in a kilobyte."""
    lines = "".join(f"<!ENTITY e{n + 1} '{f'&e{n};' * 10}'>" for n in range(8))
    return f"<!DOCTYPE ECFR [<!ENTITY e0 '{'x' * 10}'>{lines}]><ECFR><P>&e8;</P></ECFR>"


BOMBS = {
    "200,000 nested divs": ("<div>" * 200_000 + "x", {"html_timeout"}),
    "a packed gibibyte": (billion_nothings(), {"html_too_large"}),
    "entities of a gibibyte": (laughs(), {"html_entities"}),
    "elements without end": ("<b></b>" * 2_300_000, {"html_memory", "html_timeout"}),
    "attributes without end": (
        "<p " + " ".join(f"a{n}=1" for n in range(400_000)) + ">x",
        {"html_timeout", "html_memory"},
    ),
    "formatting carried on": ("<a><b><i><u>" * 20_000 + "<p>" * 20_000, {"html_timeout"}),
    "more than a page may be": ("x" * (17 * MIB), {"html_too_large"}),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end_as_reasons_and_the_next_page_is_read(pool: PagePool, name: str) -> None:
    page, reasons = BOMBS[name]
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.monotonic()
    found = pool.read_now(page)
    took = time.monotonic() - start
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - size) / 1024
    assert isinstance(found, Refusal) and found.reason in reasons
    assert took < 2 * LIMITS.wall_s + 3, "a page may be tried twice, and a worker started anew"
    assert grown_mib < 128
    after = pool.read_now("<h1>A</h1><p>b</p>")
    assert not isinstance(after, Refusal) and after.text == "# A\n\nb\n"


def test_spans_expand_to_nothing(pool: PagePool) -> None:
    """10,000 rows that each claim a thousand cells over all rows below."""
    wide = "<td rowspan=65534 colspan=1000>" + "x" * 70
    found = pool.read_now("<table>" + f"<tr>{wide}<td>y" * 10_000 + "</table>")
    assert isinstance(found, Refusal) or len(found.text) < 64 * MIB


def test_a_worker_knows_no_secret_and_writes_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-secret")
    pool = PagePool(LIMITS, workers=1)
    try:
        pool.read_now("<p>x")
        worker = pool._idle.get()
        assert worker is not None
        process = Path(f"/proc/{worker._process.pid}")
        if process.exists():
            assert b"sk-secret" not in (process / "environ").read_bytes()
            limits = (process / "limits").read_text()
            (files,) = [line for line in limits.splitlines() if line.startswith("Max file size")]
            assert files.split()[3] == "0"
        pool._idle.put(worker)
    finally:
        pool.close()


def test_a_worker_that_is_killed_is_replaced(pool: PagePool) -> None:
    pool.read_now("<p>x")
    worker = pool._idle.get()
    assert worker is not None
    worker._process.kill()
    worker._process.wait()
    pool._idle.put(worker)
    found = pool.read_now("<p>y")
    assert isinstance(found, Refusal) and found.reason == "html_crash"
    assert not isinstance(pool.read_now("<p>y"), Refusal)


def test_a_page_is_a_record_with_its_counts() -> None:
    html = "<title>T</title><h1>A</h1><p>b</p><table><tr><th>x<th>y<tr><td>1<td>2</table>"
    (draft,) = drafts({"html": html, "url": "u", "other": 1}, metadata=["url", "absent"])
    assert draft.text == "# A\n\nb\n\n| x | y |\n| --- | --- |\n| 1 | 2 |\n"
    assert draft.metadata["url"] == "u" and draft.metadata["page_title"] == "T"
    assert (draft.metadata["headings"], draft.metadata["tables"]) == (1, 1)


def test_bytes_are_read_by_their_character_set() -> None:
    (draft,) = drafts({"page": "<p>Förordning".encode("cp1252")}, html="page")
    assert draft.text == "Förordning\n" and draft.metadata["encoding"] == "cp1252"


def test_sections_are_records_of_their_own() -> None:
    html = "<h1>T</h1><h2>A</h2><p>x</p><h2>B</h2><p>y</p>"
    found = drafts({"html": html}, split_at=2)
    assert [draft.text for draft in found] == ["# T\n\n## A\n\nx\n", "# T\n\n## B\n\ny\n"]
    assert [draft.metadata["section"] for draft in found] == ["A", "B"]


@pytest.mark.parametrize(
    ("html", "reason"),
    [
        ("", "html_nothing"),
        (None, "html_nothing"),
        ("<nav>Menu</nav><script>x</script>", "html_nothing"),
        ("<p>Two words</p>", "html_short"),
        ("<?xml version='1.0'?><rss></rss>", "html_no_page"),
    ],
)
def test_bad_pages_are_rejected_with_their_reason(html: str | None, reason: str) -> None:
    (draft,) = drafts({"html": html, "url": "u"}, min_words=5, metadata=["url"])
    assert draft.rejected is not None and draft.rejected.startswith(f"{reason}: ")
    assert draft.metadata["url"] == "u"


def test_a_refusal_names_its_row() -> None:
    (draft,) = drafts({"html": "<?xml version='1.0'?><rss></rss>"})
    assert draft.rejected is not None and draft.rejected.endswith("(pages row 7)")


@pytest.mark.parametrize("row", [{"text": "<p>x"}, {"html": 7}])
def test_a_column_that_is_no_page_is_a_mistake(row: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="not HTML as text or bytes"):
        drafts(row)


@pytest.mark.parametrize("name", RECIPES)
def test_every_sample_page_is_kept_by_its_recipe(name: str) -> None:
    """The law is there with its numbers, and nothing of the site around it."""
    spec = Workspace(ROOT).recipe(f"legal/{name}").spec
    lines = (ROOT / f"manifests/samples/{name}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) >= 10
    for row in rows:
        (draft,) = drafts(row, **spec.arguments)
        assert draft.rejected is None and draft.text is not None
        for site in ("Skip to", "Home", "cookies", "Privacy", "Printer Friendly", "Search", "Next"):
            assert site not in draft.text, row["id"]
        assert draft.metadata["title"] == row["title"]
        assert row["title"].split()[-1].rstrip(".") in draft.text


@pytest.mark.parametrize("name", RECIPES)
def test_a_menu_alone_is_rejected_by_every_recipe(name: str) -> None:
    spec = Workspace(ROOT).recipe(f"legal/{name}").spec
    (menu,) = drafts({"html": "<nav>Home</nav><p>Not found.</p>"}, **spec.arguments)
    assert menu.rejected is not None and menu.rejected.startswith("html_short: ")


@pytest.mark.skipif("DATAGEN_DATA" not in os.environ, reason="DATAGEN_DATA names no real pages")
def test_real_pages_are_read_in_a_process_of_their_own(pool: PagePool) -> None:
    path = Path(os.environ["DATAGEN_DATA"]) / "legal" / "legal_html.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        pages = [json.loads(line) for line in file][:40]
    found = [pool.read_now(page["html"]) for page in pages]
    assert not [page for page in found if isinstance(page, Refusal)]

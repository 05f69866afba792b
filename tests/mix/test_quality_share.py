"""A category that asks for quality draws records of high tiers only."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import Tiny, prose

METHOD = '''
"""Rows with the quality tier that they say they have."""

from datagen.record import Draft


async def tiered(seed, ask):
    """The text, and its tier in the metadata where it has one."""
    tier = seed.row["tier"]
    return [Draft(text=seed.row["text"], metadata={} if tier is None else {"quality_tier": tier})]
'''
TIERS = (0, 1, 2, 3, 4, None)


@pytest.fixture
def tiered(tiny: Tiny) -> Tiny:
    """The tiny workspace with pages of every tier as half of the mixture `small`."""
    lines = [
        {"id": f"q{n}", "text": prose(f"q{n}", 30), "tier": TIERS[n % len(TIERS)]}
        for n in range(120)
    ]
    tiny.write("manifests/samples/crawl.jsonl", "".join(json.dumps(r) + "\n" for r in lines))
    source = {
        "name": "crawl",
        "title": "Pages",
        "licence": "CC0-1.0",
        "key": "id",
        "text": "text",
        "columns": ["id", "text", "tier"],
        "sample": {"files": ["manifests/samples/crawl.jsonl"]},
    }
    tiny.write("manifests/sources/crawl.yaml", source)
    recipe = {"name": "crawl", "title": "C", "method": "tier_ext:tiered", "sources": ["crawl"]}
    tiny.write("generators/crawl/recipe.yaml", recipe)
    tiny.write("extension/tier_ext.py", METHOD)
    tiny.change("filters/corpus/corpus.yaml", minhash=None)
    tiny.change(
        "mixtures/small.yaml",
        categories={
            "crawl": {"share": 50, "draw": {"crawl": 1}},
            "pages": {"share": 50, "draw": {"page@pages": 1}},
        },
    )
    return tiny


def drawn_tiers(tiny: Tiny) -> set[int | None]:
    """The tiers of the crawled records that a build holds."""
    build = tiny.build("--tokens", "20000")["build"]
    rows = [row for path in Path(build).glob("shards/*") for row in pq.read_table(path).to_pylist()]
    ran = tiny.run("sql", "SELECT id, metadata FROM records WHERE generator = 'crawl'", "--json")
    tier = {row["id"]: json.loads(row["metadata"]).get("quality_tier") for row in ran.json}
    return {tier[one] for row in rows for one in row["record_ids"] if one in tier}


def test_only_tiers_that_are_high_enough_are_drawn(tiered: Tiny) -> None:
    assert drawn_tiers(tiered) == {0, 1, 2, 3, 4, None}
    tiered.change("mixtures/small.yaml", categories__crawl__min_quality=3)
    assert drawn_tiers(tiered) == {3, 4}


def test_a_category_without_tiers_is_a_mistake(tiered: Tiny) -> None:
    tiered.change("mixtures/small.yaml", categories__pages__min_quality=1)
    ran = tiered.run("build", "--mixture", "small", "--tokens", "4000", "--json", "--quiet")
    assert ran.code == 2
    assert "no record of category 'pages' has a quality_tier" in ran.err

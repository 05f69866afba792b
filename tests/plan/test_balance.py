"""Equal classes over all shards of a draw, the surplus refused with its class and numbers."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.curate.balance import ClassSize, class_of, class_sizes, surplus
from tests.conftest import Tiny, forget_extension, prose

CLASSES = {"yes": 12, "no": 5, "maybe": 7}
METHOD = '''

async def labelled(seed, ask, *, text="text"):
    """A row's text, its label in the metadata."""
    label = seed.row["label"]
    return [Draft(text=seed.row[text], metadata={"label": label} if label else {})]
'''


@pytest.fixture
def shop(tiny: Tiny) -> Tiny:
    """The tiny workspace with a recipe whose 24 records are of three uneven classes."""
    labels = [label for label, count in CLASSES.items() for _ in range(count)]
    lines = [
        json.dumps({"id": f"notes-{n}", "text": prose(f"class-{n}", 30), "label": label})
        for n, label in enumerate(labels)
    ]
    tiny.write("manifests/samples/notes.jsonl", "\n".join(lines))
    tiny.change("manifests/sources/notes.yaml", columns=["id", "text", "label"])
    path = tiny.root / "extension/tiny_ext.py"
    path.write_text(path.read_text(encoding="utf-8") + METHOD, encoding="utf-8")
    recipe = {"name": "note", "title": "Labelled", "method": "tiny_ext:labelled"}
    rest = {"sources": ["notes"], "balance": {"by": ["label"]}}
    tiny.write("generators/note/recipe.yaml", {**recipe, **rest})
    forget_extension()
    return tiny


def sql(tiny: Tiny, query: str) -> Any:
    ran = tiny.run("sql", query, "--json")
    assert ran.code == 0, ran.err
    return ran.json


def kept(tiny: Tiny) -> dict[str, int]:
    rows = sql(
        tiny,
        "SELECT metadata->>'label' AS label, count(*) AS n FROM records "
        "WHERE generator = 'note' GROUP BY 1",
    )
    return {row["label"]: row["n"] for row in rows}


def test_every_class_keeps_as_many_as_the_smallest(shop: Tiny) -> None:
    """Three shards, one count: five of each; the others are rejects that say of how many."""
    shop.build()
    assert kept(shop) == {"yes": 5, "no": 5, "maybe": 5}
    rejects = sql(shop, "SELECT stage, reason, detail FROM rejects WHERE reason = 'surplus_class'")
    assert {row["stage"] for row in rejects} == {"balance/note@notes"}
    assert Counter(row["detail"] for row in rejects) == {
        "yes: 5 of 12 are kept": 7,
        "maybe: 5 of 7 are kept": 2,
    }


def test_what_is_balanced_is_what_is_packed_published_and_explained(shop: Tiny) -> None:
    """Documents, counts, figures, card and explain all speak of the balanced records."""
    shop.build()
    stray = "SELECT count(*) AS n FROM documents WHERE record_id NOT IN (SELECT id FROM records)"
    assert sql(shop, stray) == [{"n": 0}]
    counts = sql(
        shop,
        "SELECT stage, status, reason, n FROM counts WHERE generator = 'note' "
        "AND stage IN ('dedup', 'balance') ORDER BY 1, 2",
    )
    assert [(c["stage"], c["status"], c["reason"], c["n"]) for c in counts] == [
        ("balance", "kept", None, 15),
        ("balance", "rejected", "surplus_class", 9),
        ("dedup", "kept", None, 24),
    ]
    labels = sql(
        shop,
        "SELECT value, records FROM histograms WHERE generator = 'note' AND histogram = 'label'",
    )
    assert {row["value"]: row["records"] for row in labels} == {"yes": 5, "no": 5, "maybe": 5}
    (one, *_) = sql(shop, "SELECT id FROM records WHERE generator = 'note' ORDER BY id")
    story = shop.run("explain", one["id"], "--json").json
    assert [stage["kind"] for stage in story["stages"]] == [
        "generate",
        "filter",
        "dedup",
        "balance",
    ]
    assert story["record"]["step"] == "balance/note@notes" and story["places"]
    (gone, *_) = sql(shop, "SELECT record_id FROM rejects WHERE reason = 'surplus_class'")
    story = shop.run("explain", gone["record_id"], "--json").json
    assert [reject["reason"] for reject in story["rejects"]] == ["surplus_class"]
    card = (shop.out / "latest" / "small" / "README.md").read_text(encoding="utf-8")
    assert "| note@notes | balance | 15 | 9 | surplus_class 9 |" in card
    plan = shop.run("publish", "small", "--repo", "org/small", "--dry-run", "--json")
    assert plan.code == 0, plan.err
    assert "records/note@notes/00000.parquet" in plan.out


def test_tolerance_leaves_more(shop: Tiny) -> None:
    """40 % above the smallest of five is seven; nothing but this step and what follows runs."""
    shop.build()
    shop.change("generators/note/recipe.yaml", balance__tolerance=0.4)
    after = {f"{kind}/note@notes" for kind in ("balance", "diversity", "tokens")}
    assert shop.to_run() == after | {"mix", "pack"}
    shop.build()
    assert kept(shop) == {"yes": 7, "no": 5, "maybe": 7}


def test_the_kept_stay_when_shards_change(shop: Tiny) -> None:
    """Who is kept hangs on ids alone, not on how rows lie in shards."""
    query = "SELECT id FROM records WHERE generator = 'note' ORDER BY id"
    shop.build()
    before = sql(shop, query)
    shop.change("datagen.yaml", profiles__here__seeds_per_shard=5)
    shop.build()
    assert sql(shop, query) == before


def test_a_record_of_no_class_is_refused(shop: Tiny) -> None:
    """A missing value is not a class of its own that would be the smallest one."""
    shop.edit(
        "manifests/samples/notes.jsonl", '"notes-0", "text"', '"notes-0", "label_was": 1, "text"'
    )
    text = (shop.root / "manifests/samples/notes.jsonl").read_text(encoding="utf-8")
    shop.write("manifests/samples/notes.jsonl", text.replace('"label": "yes"', '"label": null', 1))
    shop.build()
    assert kept(shop) == {"yes": 5, "no": 5, "maybe": 5}
    rejects = sql(shop, "SELECT detail FROM rejects WHERE reason = 'no_class'")
    assert rejects == [{"detail": "no single value for label"}]


def test_other_recipes_have_no_such_step(unchanging: Tiny) -> None:
    assert not any(step.startswith("balance/") for step in unchanging.states())


def test_figures_reach_the_summary_the_card_and_sql(unchanging: Tiny) -> None:
    """One line a recipe and source; the same numbers wherever they are shown."""
    lines = {line["source"]: line for line in unchanging.build()["diversity"]}
    assert set(lines) == {"pages", "notes", "chats"}
    shown = sql(unchanging, "SELECT * FROM diversity WHERE source = 'notes'")
    assert shown == [lines["notes"]]
    assert (shown[0]["records"], shown[0]["opening"][:5]) == (12, "note ")
    card = (unchanging.out / "latest" / "small" / "README.md").read_text(encoding="utf-8")
    assert "## Diversity" in card and "| note@notes | 12 | 12 | 1.00 |" in card
    printed = unchanging.run("build", "--mixture", "small", "--quiet").out
    assert "least varied" in printed and "note@notes" in printed
    seeds = "SELECT source, n FROM counts WHERE stage = 'seeds' AND generator IS NULL ORDER BY 1"
    assert [row["n"] for row in sql(unchanging, seeds)] == [8, 12, 20]


# --- the arithmetic ------------------------------------------------------------------------------


def test_a_class_is_its_values() -> None:
    assert class_of({"a": "x", "b": True}, ["a", "b"]) == "x / True"
    assert class_of({"a": "x"}, ["a", "b"]) is None
    assert class_of({"a": ["x"]}, ["a"]) is None
    assert class_of({"a": None}, ["a"]) is None


def test_tolerance_is_exact() -> None:
    """15 % above 100 is 115, whatever a float says."""
    sizes = class_sizes(["a"] * 100 + ["b"] * 200, 0.15)
    assert sizes == {"a": ClassSize(found=100, kept=100), "b": ClassSize(found=200, kept=115)}
    assert class_sizes([], 0.0) == {}


@given(
    st.lists(st.sampled_from("abc"), max_size=60),
    st.sampled_from([0.0, 0.1, 0.5, 2.0]),
    st.integers(0, 5),
)
def test_nothing_is_above_the_limit_and_nothing_below_it_goes(
    classes: list[str], tolerance: float, seed: int
) -> None:
    """Each class keeps all of its own up to the limit; order changes nothing."""
    ids = [f"id-{n}" for n in range(len(classes))]
    sizes = class_sizes(classes, tolerance)
    gone = surplus(ids, classes, sizes, seed)
    left = Counter(c for one, c in zip(ids, classes, strict=True) if one not in gone)
    smallest = min(Counter(classes).values(), default=0)
    for name, count in Counter(classes).items():
        assert left[name] == sizes[name].kept == min(count, int(smallest * (1 + tolerance) + 1e-9))
    assert gone == surplus(ids[::-1], classes[::-1], sizes, seed)


def test_a_rare_class_does_not_starve_the_others() -> None:
    """It keeps all it has; without the rule it would hold each of the others to its own size."""
    classes = ["a"] * 4000 + ["b"] * 6000 + ["c"] * 3000 + ["d"] * 2
    kept = {name: size.kept for name, size in class_sizes(classes, 0.0, 0.1).items()}
    assert kept == {"a": 3000, "b": 3000, "c": 3000, "d": 2}
    assert {size.kept for size in class_sizes(classes, 0.0).values()} == {2}

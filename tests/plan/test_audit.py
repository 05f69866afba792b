"""No seed comes from an evaluation set: refused by name before a run, by content in it."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from datagen.curate.evaluation import ITEM_SCHEMA, Item, hash_items
from datagen.plan.audit import audit_arguments, audit_rows, item_index
from datagen.plan.pins import pin_source
from datagen.shards.parquet import write_parquet
from datagen.workspace.load import Workspace
from tests.conftest import ROOT, Tiny, prose

NOTES = "manifests/sources/notes.yaml"
SAMPLE = "manifests/samples/notes.jsonl"
RULES = "manifests/evaluation_only.yaml"
ITEMS = "manifests/benchmarks/items.parquet"
SETS = [{"name": "gpqa", "reason": "its authors ask for it"}, {"name": "ifeval", "reason": "so"}]

NAMED: dict[str, tuple[Mapping[str, Any], str]] = {
    "hub id": ({"hub": {"id": "Idavidrein/gpqa"}}, "its authors ask for it"),
    "hub id, other spelling": ({"hub": {"id": "google/IFEval"}}, "names ifeval: so"),
    "hub configuration": ({"hub": {"id": "org/all", "config": "gpqa_main"}}, "names gpqa"),
    "hub split": ({"hub": {"id": "org/notes", "split": "test"}}, "hub split 'test' says 'test'"),
    "hub file": ({"hub": {"id": "o/n", "files": ["data/validation-*.parquet"]}}, "'validation'"),
    "condition": ({"where": {"id": "dev"}}, "condition 'dev' says 'dev'"),
}


def refusal(tiny: Tiny) -> str:
    """What `build` and `check` say: both refuse it, with exit code 2 and the same words."""
    built = tiny.run("build", "--mixture", "small", "--quiet")
    checked = tiny.run("check")
    assert (built.code, checked.code) == (2, 2), built.err + checked.out
    (line,) = [line for line in built.err.splitlines() if "may not give seeds" in line]
    assert "may not give seeds" in checked.out
    assert "train split" in built.err
    return line


@pytest.mark.parametrize("case", NAMED)
def test_a_source_is_refused_by_name(tiny: Tiny, case: str) -> None:
    """Nothing runs; the message has the name, what it says, and the reason."""
    tiny.write(RULES, {"sets": SETS})
    values, said = NAMED[case]
    tiny.change(NOTES, **values)
    assert said in refusal(tiny)
    assert not tiny.out.exists()


def test_a_file_of_a_test_split_is_refused(tiny: Tiny) -> None:
    """Also where no list of sets is at hand, and under a source's innocent name."""
    text = (tiny.root / SAMPLE).read_text(encoding="utf-8")
    tiny.write("manifests/samples/quiz_test.jsonl", text)
    tiny.change(NOTES, sample__files=["manifests/samples/quiz_test.jsonl"])
    assert "file 'manifests/samples/quiz_test.jsonl' says 'test'" in refusal(tiny)


def test_a_source_called_test_is_refused(tiny: Tiny) -> None:
    source = (tiny.root / NOTES).read_text(encoding="utf-8")
    tiny.write(
        "manifests/sources/notes_test.yaml", source.replace("name: notes", "name: notes_test")
    )
    tiny.edit("mixtures/small.yaml", "page@pages", "page@notes_test")
    assert "'notes_test' may not give seeds: its name 'notes_test' says 'test'" in refusal(tiny)


def test_an_exception_needs_a_reason_and_excuses_one_word(tiny: Tiny) -> None:
    """A word excused for a source passes there; another word of it does not."""
    tiny.change(NOTES, hub={"id": "org/notes", "split": "dev"})
    excuse = {"source": "notes", "says": "dev", "reason": "named after devotion"}
    tiny.write(RULES, {"exceptions": [excuse]})
    tiny.build()
    tiny.change(NOTES, hub__split="test")
    assert "'test'" in refusal(tiny)
    tiny.write(RULES, {"exceptions": [{"source": "notes", "says": "test"}]})
    ran = tiny.run("check")
    assert ran.code == 2 and "reason" in ran.out


def hashed(tiny: Tiny, questions: list[str], **limits: float) -> None:
    """Ship hashes of a benchmark `quiz` with the workspace, and nothing else of it."""
    table = hash_items("quiz", [Item(question) for question in questions])
    write_parquet(tiny.root, ITEMS, table.combine_chunks().to_batches(), ITEM_SCHEMA)
    tiny.write(RULES, {"items": {"files": [ITEMS]}, **limits})


def notes(tiny: Tiny) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tiny.root / SAMPLE).read_text().splitlines()]


def rejects(tiny: Tiny) -> Any:
    asked = (
        "SELECT stage, reason, detail, row_key FROM rejects WHERE stage LIKE 'seeds/%' ORDER BY 4"
    )
    return tiny.run("sql", asked, "--json").json


def test_single_items_are_refused_as_rows(tiny: Tiny) -> None:
    """Two of twelve notes are items: rejects with the benchmark's name; the others pass."""
    texts = [row["text"] for row in notes(tiny)]
    hashed(tiny, [texts[3].upper(), texts[7], prose("elsewhere", 30)])
    tiny.build()
    assert rejects(tiny) == [
        {
            "stage": "seeds/notes",
            "reason": "evaluation_item",
            "detail": "quiz",
            "row_key": f"notes-{n}",
        }
        for n in (3, 7)
    ]
    kept = tiny.run("sql", "SELECT count(*) AS n FROM sources WHERE source = 'notes'", "--json")
    assert kept.json == [{"n": 10}]
    card = (tiny.out / "latest" / "small" / "README.md").read_text(encoding="utf-8")
    assert "evaluation_item 2" in card
    assert tiny.to_run() == set()


def test_a_renamed_copy_is_refused_by_content(tiny: Tiny) -> None:
    """Half of the rows are items, each in other words around it: the source is the benchmark."""
    rows = notes(tiny)
    hashed(tiny, [row["text"] for row in rows[:6]])
    lines = [json.dumps({**row, "text": f"Task: {row['text']}\nAnswer:"}) for row in rows]
    tiny.write(SAMPLE, "\n".join(lines))
    ran = tiny.run("build", "--mixture", "small", "--quiet")
    assert ran.code == 4
    assert "6 of 12 seeds (50%) are evaluation items, 6 of them of quiz" in ran.err
    assert "train split" in ran.err
    checked = tiny.run("check")
    assert checked.code == 2 and "6 of them of quiz" in checked.out


def test_the_limits_are_the_workspaces_own(tiny: Tiny) -> None:
    """A share that is allowed passes as leaks; `check` says how many."""
    hashed(tiny, [row["text"] for row in notes(tiny)[:6]], max_share=0.6)
    tiny.build()
    assert len(rejects(tiny)) == 6
    assert "refused as seeds: 6 of quiz" in tiny.run("check").out


def test_a_benchmark_at_hand_is_looked_for(tiny: Tiny) -> None:
    """A manifest with items needs no hashes; rows of its train split are nobody's items."""
    rows = notes(tiny)
    items = [{"q": row["text"], "split": "test"} for row in rows[:1]]
    items += [{"q": row["text"], "split": "train"} for row in rows[1:]]
    tiny.write("manifests/samples/mine.jsonl", "\n".join(map(json.dumps, items)))
    spec = {"name": "mine", "licence": "CC0-1.0", "fields": {"question": "q"}}
    files = {"files": ["manifests/samples/mine.jsonl"]}
    tiny.write("manifests/benchmarks/mine.yaml", {**spec, **files})
    tiny.build()
    assert [row["row_key"] for row in rejects(tiny)] == ["notes-0"]


def test_rows_that_name_another_split_are_refused(tiny: Tiny) -> None:
    """One file with all splits gives its train rows; the others do not count as leaks."""
    rows = notes(tiny)
    hashed(tiny, [row["text"] for row in rows[:6]])
    lines = [
        json.dumps({**row, "split": "train" if n > 5 else "test"}) for n, row in enumerate(rows)
    ]
    tiny.write(SAMPLE, "\n".join(lines))
    tiny.change(NOTES, columns=["id", "text", "split"])
    tiny.build()
    assert {(row["reason"], row["detail"]) for row in rejects(tiny)} == {
        ("evaluation_split", "test")
    }
    assert len(rejects(tiny)) == 6


def test_damaged_hashes_stop_the_build(tiny: Tiny) -> None:
    """A file of hashes that is none, or not the pinned one, is an error and not an empty list."""
    hashed(tiny, ["x"])
    (tiny.root / ITEMS).write_bytes(b"PAR1 no")
    ran = tiny.run("build", "--mixture", "small", "--quiet")
    assert ran.code == 4 and "no file of item hashes" in ran.err
    tiny.write(RULES, {"items": {"files": [ITEMS], "sha256": {ITEMS: "0" * 64}}})
    ran = tiny.run("build", "--mixture", "small", "--quiet")
    assert ran.code == 4 and "sha256" in ran.err


# --- real data -----------------------------------------------------------------------------------

DATA = os.environ.get("DATAGEN_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="DATAGEN_DATA names no real data")


def real_rows(name: str) -> list[dict[str, Any]]:
    with gzip.open(Path(DATA or "") / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@needs_data
def test_a_renamed_copy_of_the_gsm8k_test_split_is_refused(tiny: Tiny) -> None:
    """By the hashes that ship, under another name, in other columns, with a line around it."""
    for path in (RULES, ITEMS):
        tiny.write(path, "")
        (tiny.root / path).write_bytes((ROOT / path).read_bytes())
    rows = [
        {"id": f"notes-{n}", "text": f"Think step by step.\n{row['question']}\nSolution:"}
        for n, row in enumerate(real_rows("bench/gsm8k_test"))
    ]
    tiny.write(SAMPLE, "\n".join(map(json.dumps, rows)))
    ran = tiny.run("build", "--mixture", "small", "--quiet")
    assert ran.code == 4
    assert "1319 of 1319 seeds (100%) are evaluation items, 1319 of them of gsm8k" in ran.err


@needs_data
def test_train_splits_pass_with_their_known_leaks() -> None:
    """Of the train splits at hand none is refused; what is found is their own overlap."""
    workspace = Workspace(ROOT)
    profile = workspace.profile(str(ROOT / "tests/profiles/real_generators.yaml"))
    arguments = {**audit_arguments(workspace, profile), "benchmarks": {}}
    index = item_index(workspace, arguments)
    names = [name for name in profile.spec.override if name.endswith("_train")]
    pins = [pin_source(workspace, profile, name) for name in names]
    found = {pin.spec.name: audit_rows(pin, index, arguments).total() for pin in pins}
    leaks = {name: count for name, count in found.items() if count}
    assert leaks == {
        "arc_challenge_train": 6,
        "arc_easy_train": 10,
        "mbpp_train": 5,
        "openbookqa_train": 23,
    }

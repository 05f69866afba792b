"""Decontamination in a build: hits are a table, the card counts them, policy decides the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Tiny, prose

QUESTION = (
    "A gardener plants forty tulips in five equal rows and then adds one more row of the same "
    "length; how many tulips stand in the bed at the end of the day?"
)
PART = " ".join(QUESTION.split()[:24])


@pytest.fixture
def quiz(tiny: Tiny) -> Tiny:
    """The tiny workspace with a benchmark, its items beside the manifest, and two notes of part."""
    path = Path(tiny.root / "manifests/samples/notes.jsonl")
    notes = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for number in (0, 3):
        notes[number]["text"] = f"{prose(f'own-{number}', 40)}\n{PART}\n{prose('more', 20)}"
    tiny.write("manifests/samples/notes.jsonl", "\n".join(map(json.dumps, notes)))
    tiny.write("manifests/benchmarks/quiz.jsonl", json.dumps({"q": QUESTION}) + "\n")
    spec = {"name": "quiz", "licence": "CC0-1.0", "fields": {"question": "q"}}
    tiny.write("manifests/benchmarks/quiz.yaml", {**spec, "files": ["quiz.jsonl"]})
    return tiny


def sql(tiny: Tiny, query: str) -> Any:
    ran = tiny.run("sql", query, "--json")
    assert ran.code == 0, ran.err
    return ran.json


@pytest.mark.parametrize("policy", ["drop", "cut"])
def test_hits_are_listed_counted_and_dropped_or_cut(quiz: Tiny, policy: str) -> None:
    quiz.change("filters/corpus/corpus.yaml", decontaminate={"on_hit": policy})
    quiz.build()
    hits = sql(quiz, "FROM contamination ORDER BY record_id")
    assert len(hits) == 2
    assert {(hit["generator"], hit["source"], hit["benchmark"]) for hit in hits} == {
        ("note", "notes", "quiz")
    }
    assert {(hit["item"], hit["tier"]) for hit in hits} == {
        ("manifests/benchmarks/quiz.jsonl#0", "ngram_13")
    }
    rejects = sql(quiz, "SELECT record_id, detail FROM rejects WHERE reason = 'contaminated'")
    texts = sql(quiz, "SELECT id, text FROM records WHERE generator = 'note'")
    named = {hit["record_id"] for hit in hits}
    if policy == "drop":
        assert {row["record_id"] for row in rejects} == named
        assert all(
            "quiz manifests/benchmarks/quiz.jsonl#0: ngram_13, " in r["detail"] for r in rejects
        )
    else:
        assert rejects == []
        assert named <= {row["id"] for row in texts}
        assert not any(PART in row["text"] for row in texts)
    card = (quiz.out / "latest" / "small" / "README.md").read_text(encoding="utf-8")
    assert "| quiz | ngram_13 | 2 |" in card

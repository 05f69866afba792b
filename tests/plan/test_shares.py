"""What a mixture asks for is what lies in the rows, as far as the rows allow it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.conftest import Tiny, prose


def token_rows(build: str) -> list[dict[str, Any]]:
    """All rows of a build, in order."""
    return [
        row
        for path in sorted(Path(build).glob("shards/*"))
        for row in pq.read_table(path).to_pylist()
    ]


def test_phases_follow_one_another(built: Tiny) -> None:
    """`switch` is 75 % small, then 25 % other: never mixed in a row, each with its own shares."""
    ran = built.run("build", "--mixture", "switch", "--tokens", "8000", "--json", "--quiet")
    assert ran.code == 0, ran.err
    rows = token_rows(ran.json["build"])
    phases = [row["phase"] for row in rows]
    assert phases == sorted(phases, key=["small", "other"].index)
    first = sum(row["n_tokens"] for row in rows if row["phase"] == "small")
    total = sum(row["n_tokens"] for row in rows)
    assert total == ran.json["tokens"]
    assert abs(total - 8000) <= 512
    assert abs(first - 6000) <= 512
    shares = {(m["phase"], m["category"]): m for m in ran.json["mixture"]}
    assert shares["small", "pages"]["requested"] == pytest.approx(0.75 * 50)
    assert shares["other", "chats"]["requested"] == pytest.approx(0.25 * 80)
    assert sum(m["realised"] for m in shares.values()) == pytest.approx(100, abs=0.01)
    assert sum(m["tokens"] for m in shares.values()) == total


def test_shares_are_realised(unchanging: Tiny) -> None:
    """Each category's share of tokens is as asked, to within one document of it."""
    for line in unchanging.build()["mixture"]:
        assert abs(line["realised"] - line["requested"]) < 100 * 512 / 6000
        assert not line["capped"]


def test_chat_longer_than_a_row_is_refused(built: Tiny) -> None:
    """A conversation is never cut: one that fits no row is a reject with its length."""
    turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": prose("x", 400)}]
    path = "manifests/samples/chats.jsonl"
    before = (built.root / path).read_text(encoding="utf-8")
    built.write(path, before + json.dumps({"id": "chats-long", "messages": turns}) + "\n")
    built.build()
    query = """
        SELECT reason, detail, x.generator, x.source, r.row_key, stage
        FROM rejects x JOIN records r ON x.record_id = r.id"""
    ran = built.run("sql", query, "--json")
    assert ran.code == 0, ran.err
    (found,) = ran.json
    assert found["reason"] == "longer_than_row"
    assert found["detail"].endswith("tokens, a row holds 512")
    assert (found["generator"], found["source"], found["stage"]) == ("page", "chats", "pack")
    assert found["row_key"] == "chats-long"
    placed = "SELECT count(*) AS n FROM documents JOIN records ON id = record_id WHERE row_key = "
    assert built.run("sql", placed + "'chats-long'", "--json").json == [{"n": 0}]


@pytest.mark.parametrize("policy", ["redistribute", "shrink", "error"])
def test_epoch_caps(built: Tiny, policy: str) -> None:
    """20 % of chats at most once: others take what is left, or all shrink, or nothing is built."""
    chats = "mixtures/small.yaml"
    built.change(chats, categories__chats__max_epochs=1, when_capped=policy, max_epochs=20)
    ran = built.run("build", "--mixture", "small", "--tokens", "20000", "--json", "--quiet")
    if policy == "error":
        assert ran.code == 2
        assert "epoch caps bind: chats needs 4000 tokens" in ran.err
        assert "mixtures/small.yaml" in ran.err and "fix: fewer tokens" in ran.err
        return
    assert ran.code == 0, ran.err
    lines = {line["category"]: line for line in ran.json["mixture"]}
    assert lines["chats"]["epochs"] <= 1
    assert lines["chats"]["capped"]
    total = ran.json["tokens"]
    if policy == "redistribute":
        assert abs(total - 20000) <= 512
        assert lines["chats"]["realised"] < 10
        others = lines["pages"]["tokens"] / lines["notes"]["tokens"]
        assert others == pytest.approx(50 / 30, rel=0.1)
    else:
        assert total < 10000
        for line in lines.values():
            assert abs(line["realised"] - line["requested"]) < 100 * 512 / total


def test_everything_capped_is_a_small_build(built: Tiny) -> None:
    """With every category at its cap the build is as large as its sources, and says so."""
    built.change("mixtures/small.yaml", max_epochs=1)
    summary = built.build("--tokens", "10000000")
    assert all(line["capped"] and line["epochs"] <= 1 for line in summary["mixture"])
    assert summary["tokens"] < 20000


def test_source_without_rows_leaves_its_share(built: Tiny) -> None:
    """`without_source: redistribute`: an empty source is no error, and its card stands."""
    built.write("manifests/samples/notes.jsonl", '{"id": "n", "text": " "}\n')
    refused = built.run("build", "--mixture", "small", "--quiet")
    assert refused.code == 2 and "nothing to draw from for: notes" in refused.err
    built.change("mixtures/small.yaml", without_source="redistribute")
    summary = built.build()
    lines = {line["category"]: line for line in summary["mixture"]}
    assert lines["notes"]["tokens"] == 0
    assert lines["pages"]["tokens"] / lines["chats"]["tokens"] == pytest.approx(50 / 20, rel=0.25)


def test_what_is_drawn_twice_is_refused(tiny: Tiny) -> None:
    """One draw in two categories would escape its epoch cap: refused with its line."""
    tiny.change(
        "mixtures/small.yaml",
        categories={
            "first": {"share": 50, "draw": {"page@pages": 1}},
            "second": {"share": 50, "draw": {"page@pages": 1}},
        },
    )
    ran = tiny.run("build", "--mixture", "small", "--quiet")
    assert ran.code == 2 and "page@pages is drawn twice" in ran.err and "small.yaml:" in ran.err

"""The other commands on a finished build: one result each, as a table and as one document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datagen.plan.kinds import KINDS
from tests.conftest import Tiny


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "--mixture", "small"],
        ["build", "--mixture", "small", "--quiet"],
        ["build", "--mixture", "small", "--dry-run"],
        ["check"],
        ["list", "generators"],
        ["list", "filters"],
        ["list", "mixtures"],
        ["list", "sources"],
        ["list", "models"],
        ["list", "benchmarks"],
        ["doctor"],
        ["sql", "SELECT generator, count(*) AS n FROM records GROUP BY 1"],
        ["preview", "note", "-n", "2"],
        ["verify"],
        ["gc", "--dry-run"],
        ["publish", "--repo", "o/n", "--dry-run"],
    ],
)
def test_commands(unchanging: Tiny, arguments: list[str]) -> None:
    """Exit code 0, something for a person to read, and one JSON document with --json."""
    plain, as_json = unchanging.run(*arguments), unchanging.run(*arguments, "--json")
    assert plain.code == as_json.code == 0, plain.err + as_json.err
    assert plain.out.strip()
    assert isinstance(as_json.json, dict | list)
    assert "\x1b" not in plain.out


def test_plan_needs_no_source_size(unchanging: Tiny) -> None:
    """Without --tokens a plan is at the mixture's horizon; unknown sizes are said to be unknown."""
    ran = unchanging.run("plan", "--mixture", "switch", "--json")
    assert ran.json["tokens"] == 100000
    assert [c["tokens"] for c in ran.json["categories"]] == [37500, 22500, 15000, 2500, 2500, 20000]
    assert {c["epochs"] for c in ran.json["categories"]} == {None}
    assert "unknown" in unchanging.run("plan", "--mixture", "switch").out


def test_build_ends_with_the_contract(unchanging: Tiny) -> None:
    """The summary has the keys that scripts lean on."""
    summary = unchanging.build()
    keys = {"build", "manifest_sha256", "tokens", "rows", "model_calls", "seconds", "mixture"}
    assert set(summary) >= keys
    for line in summary["mixture"]:
        assert set(line) >= {"category", "requested", "realised", "tokens", "epochs"}
    build = Path(summary["build"])
    assert (build / "README.md").is_file() and (build / "manifest.json").is_file()
    assert list((build / "shards").glob("*.parquet"))
    assert (unchanging.out / "latest" / "small").resolve() == build


def test_explain_follows_a_record(unchanging: Tiny) -> None:
    """From a record's id back to its seed and on to its tokens."""
    query = "SELECT id, row_key FROM records WHERE generator = 'note' ORDER BY id LIMIT 1"
    (row,) = unchanging.run("sql", query, "--json").json
    ran = unchanging.run("explain", row["id"])
    assert ran.code == 0 and row["row_key"] in ran.out
    assert unchanging.run("explain", "nobody").code == 4


def test_sql_writes_nothing(unchanging: Tiny) -> None:
    """Refused SQL is a data error with one screen."""
    for query in ("DROP VIEW records", "COPY records TO 'x'", "SELECT nothing FROM records"):
        ran = unchanging.run("sql", query)
        assert ran.code == 4 and "Traceback" not in ran.err


def test_sql_as_json_loses_no_column_and_no_parser(unchanging: Tiny) -> None:
    """Equal column names gain a number; what JSON cannot say is null."""
    query = (
        "SELECT 1 AS a, 2 AS a_2, 3 AS a, 'nan'::DOUBLE AS b, ['-inf'::DOUBLE, 1.5] AS b, 4 AS a"
    )
    ran = unchanging.run("sql", query, "--json")
    assert ran.code == 0, ran.err
    (row,) = json.loads(ran.out, parse_constant=pytest.fail)
    assert row == {"a": 1, "a_2": 2, "a_3": 3, "b": None, "b_2": [None, 1.5], "a_4": 4}


def test_preview_is_drawn_by_its_seed(unchanging: Tiny) -> None:
    """The same seed draws the same records, another one others; an unknown recipe says so."""
    one, again, other = (
        [r["id"] for r in unchanging.run("preview", "page", "--seed", s, "--json").json]
        for s in ("1", "1", "2")
    )
    assert one == again != other
    assert unchanging.run("preview", "nobody").code == 4


def test_pin_fills_what_is_unknown(tiny: Tiny) -> None:
    """A hash that is null is written into the manifest, and holds from then on."""
    name = "manifests/samples/notes.jsonl"
    tiny.change("manifests/sources/notes.yaml", sample__sha256={name: None})
    (found,) = tiny.run("pin", "notes", "--json").json
    assert found["source"] == "notes" and len(found["value"]) == 64
    assert found["value"] in (tiny.root / "manifests/sources/notes.yaml").read_text("utf-8")
    assert tiny.run("pin", "notes", "--json").json == []
    tiny.write(name, "{}\n")
    assert tiny.run("pin", "notes").code == 4


def test_every_kind_names_code_that_exists() -> None:
    """The modules that a kind's code version covers are there, its own among them."""
    from datagen.plan.fingerprint import code_version

    for kind in KINDS.values():
        assert kind.run.__module__ in kind.code
        assert len(code_version(kind.code, kind.libraries)) == 16

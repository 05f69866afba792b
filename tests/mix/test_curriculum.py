"""A category's curriculum, from the metadata of its records to the rows of a build."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.conftest import Tiny, prose

METHOD = '''
"""Rows with the pass rate that they say they have."""

from datagen.record import Draft


async def rated(seed, ask, *, text="text"):
    """The text; its pass rate in the metadata, where it has one."""
    rate = seed.row["rate"]
    return [Draft(text=seed.row[text], metadata={} if rate is None else {"pass_rate": rate})]
'''
ORDER = {"by": "pass_rate", "start": 0.9, "end": 0.1, "sigma": 0.05}
RATES = [number / 16 for number in range(17)]
COUNT = 255


@pytest.fixture
def rated(tiny: Tiny) -> Tiny:
    """The tiny workspace with a source whose rows have pass rates, half of the mixture `small`."""
    lines = [
        {"id": f"q{n}", "text": prose(f"q{n}", 12 + n % 30), "rate": RATES[n % len(RATES)]}
        for n in range(COUNT)
    ]
    tiny.write("manifests/samples/tasks.jsonl", "".join(json.dumps(r) + "\n" for r in lines))
    source = {
        "name": "tasks",
        "title": "Tasks",
        "licence": "CC0-1.0",
        "key": "id",
        "text": "text",
        "columns": ["id", "text", "rate"],
        "sample": {"files": ["manifests/samples/tasks.jsonl"]},
    }
    tiny.write("manifests/sources/tasks.yaml", source)
    recipe = {"name": "task", "title": "Tasks", "method": "rated_ext:rated", "sources": ["tasks"]}
    tiny.write("generators/task/recipe.yaml", recipe)
    tiny.write("extension/rated_ext.py", METHOD)
    tiny.change("filters/corpus/corpus.yaml", minhash=None)
    tasks = {"share": 50, "draw": {"task": 1}}
    pages = {"share": 50, "draw": {"page@pages": 1}}
    tiny.change("mixtures/small.yaml", categories={"tasks": tasks, "pages": pages})
    return tiny


def built(tiny: Tiny, tokens: int = 40_000) -> list[dict[str, Any]]:
    """The rows of the build, in the order of its shards."""
    build = tiny.build("--tokens", str(tokens))["build"]
    shards = sorted(Path(build).glob("shards/*"))
    return [row for path in shards for row in pq.read_table(path).to_pylist()]


def rates_in_order(tiny: Tiny, rows: list[dict[str, Any]]) -> np.ndarray[Any, Any]:
    """The pass rates of the tasks' documents as a trainer meets them."""
    query = "SELECT id, metadata->>'pass_rate' AS rate FROM records WHERE generator = 'task'"
    ran = tiny.run("sql", query, "--json")
    assert ran.code == 0, ran.err
    rate = {row["id"]: row["rate"] for row in ran.json}
    found = [key for row in rows for key in row["record_ids"] if key in rate]
    return np.array([np.nan if rate[key] is None else float(rate[key]) for key in found])


def sixths(values: np.ndarray[Any, Any]) -> list[float]:
    return [float(np.nanmean(part)) for part in np.array_split(values, 6)]


def test_packed_tasks_go_from_easy_to_hard(rated: Tiny) -> None:
    """Without an order pass rates come by chance; with one they fall, and nothing else changes."""
    plain = built(rated)
    by_chance = rates_in_order(rated, plain)
    rated.change("mixtures/small.yaml", categories__tasks__order=ORDER)
    rows = built(rated)
    ordered = rates_in_order(rated, rows)
    assert sorted(ordered) == sorted(by_chance) and len(ordered) > COUNT / 2
    assert np.ptp(sixths(by_chance)) < 0.3
    falling = sixths(ordered)
    assert all(np.diff(falling) < 0) and falling[0] > 0.8 and falling[-1] < 0.2
    tokens = [sum(row["n_tokens"] for row in found) for found in (plain, rows)]
    assert tokens[0] == tokens[1]
    halves = np.array_split(np.array([row["categories"].count("tasks") for row in rows]), 4)
    assert min(map(np.mean, halves)) > 0.5 * max(map(np.mean, halves))


def test_no_width_is_a_sort_to_within_a_window(rated: Tiny) -> None:
    """The order of the mixture is exact; packing blurs it by no more than neighbouring rates."""
    rated.change("mixtures/small.yaml", categories__tasks__order=ORDER | {"sigma": 0.0})
    found = rates_in_order(rated, built(rated))
    assert np.max(np.maximum.accumulate(found[::-1])[::-1] - found) < 0.2


def test_only_what_the_order_decides_runs_again(rated: Tiny) -> None:
    """A changed curriculum is a changed mix and pack; records and tokens stay."""
    rated.change("mixtures/small.yaml", categories__tasks__order=ORDER)
    rated.build("--tokens", "4000")
    rated.change("mixtures/small.yaml", categories__tasks__order=ORDER | {"sigma": 0.5})
    assert rated.to_run("--tokens", "4000") == {"mix", "pack"}


def test_a_key_that_no_record_has_is_a_mistake(rated: Tiny) -> None:
    rated.change("mixtures/small.yaml", categories__tasks__order=ORDER | {"by": "pass_rte"})
    ran = rated.run("build", "--mixture", "small", "--tokens", "4000", "--json", "--quiet")
    assert ran.code == 2
    assert "no record of category 'tasks' has a number as 'pass_rte'" in ran.err
    assert "mixtures/small.yaml" in ran.err


def test_records_without_the_key_lie_evenly(rated: Tiny) -> None:
    """A quarter has no pass rate: it is spread over the whole, and the others still fall."""
    path = "manifests/samples/tasks.jsonl"
    rows = [json.loads(line) for line in (rated.root / path).read_text("utf-8").splitlines()]
    for row in rows[::4]:
        row["rate"] = None
    rated.write(path, "".join(json.dumps(row) + "\n" for row in rows))
    rated.change("mixtures/small.yaml", categories__tasks__order=ORDER)
    found = rates_in_order(rated, built(rated))
    assert all(np.diff(sixths(found)) < 0)
    share = [float(np.isnan(part).mean()) for part in np.array_split(found, 4)]
    assert max(share) - min(share) < 0.15

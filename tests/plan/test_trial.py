"""One recipe alone: `datagen try`, prompts that recipes share, several models, the tokenizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from datagen.plan.compile import BuildRequest, compile_plan
from datagen.workspace.load import Workspace
from tests.conftest import Tiny
from tests.servers import FaultServer

METHODS = '''
from datagen.record import Draft


async def asked(seed, ask, *, text="text"):
    """Asks two prompts, and keeps every other row."""
    said = await ask("say", into=str, page=seed.row[text])
    score = await ask("judge", into=str, said=said)
    kept = None if ask.balanced(2, "keep") else "unlucky: by draw"
    return [Draft(text=f"{said} {score} {seed.row[text]}", rejected=kept)]


async def cut(seed, ask, *, text="text", budget_tokens, tokenizer):
    """The beginning of a row, in tokens."""
    short = tokenizer.cut(seed.row[text], budget_tokens)
    metadata = {"tokens": tokenizer.count(short), "whole": tokenizer.count(seed.row[text])}
    return [Draft(text=short, metadata=metadata)]
'''
RECIPE: dict[str, Any] = {
    "name": "asked",
    "title": "Asked of two",
    "method": "asking_ext:asked",
    "sources": ["pages"],
    "prompts_from": ["shared"],
    "model": "teacher",
    "models": {"judge": "judge"},
    "max_calls_per_seed": 4,
}


@pytest.fixture
def asking(tiny: Tiny) -> Iterator[Tiny]:
    """The tiny workspace with a recipe that asks two models, both on one scripted server."""

    def answer(body: Mapping[str, Any], sample: int) -> str:
        return f"{body['model']} answers {body['messages'][-1]['content'][:12]!r}."

    with FaultServer(answer=answer) as server:
        tiny.write("extension/asking_ext.py", METHODS)
        tiny.write("generators/asked/recipe.yaml", RECIPE)
        tiny.write("generators/asked/say.jinja", "Own: {{ page }}")
        tiny.write("generators/shared/say.jinja", "Shared: {{ page }}")
        tiny.write("generators/shared/judge.jinja", "Judge: {{ said }}")
        for name, licence in (("writer", "MIT"), ("critic", "Apache-2.0")):
            pin = {"name": name, "title": name, "licence": licence, "served_as": name}
            tiny.write(f"manifests/models/{name}.yaml", pin)
        served = [{"url": server.url}]
        models = {
            "teacher": {"model": "writer", "endpoints": served},
            "judge": {"model": "critic", "endpoints": served},
        }
        tiny.change("datagen.yaml", profiles__here__models=models)
        yield tiny


def test_a_recipe_runs_alone(asking: Tiny) -> None:
    """Counts, reasons and some rows of each; a second try asks nobody."""
    ran = asking.run("try", "asked", "-n", "10", "--json", "--quiet")
    assert ran.code == 0, ran.err
    (report,) = ran.json
    assert (report["seeds"], report["kept"], report["rejected"]) == (10, 5, 5)
    assert report["reasons"] == {"generate": {"unlucky": 5}, "filter": {}}
    assert len(report["records"]) == len(report["rejects"]) == 3
    assert report["model_calls"] == 20
    (again,) = asking.run("try", "asked", "-n", "10", "--json", "--quiet").json
    assert again == report | {"model_calls": 0}
    shown = asking.run("try", "asked", "-n", "10", "--quiet")
    assert "10 seeds, 5 kept, 5 rejected" in shown.out and "unlucky" in shown.out
    more = asking.run("try", "asked", "-n", "12", "--json", "--quiet").json[0]
    assert more["model_calls"] == 4, "a larger draw keeps what the smaller one asked"


def test_try_says_what_is_wrong(asking: Tiny) -> None:
    """A recipe for any source must be told which; an unknown one is named."""
    ran = asking.run("try", "page", "--quiet")
    assert ran.code == 2 and "page@SOURCE" in ran.err
    ran = asking.run("try", "asked@notes", "--quiet")
    assert ran.code == 2 and "does not take source 'notes'" in ran.err


def test_prompts_are_shared_and_ones_own_win(asking: Tiny) -> None:
    """The recipe's `say` is asked, the shared `judge` too; either's bytes decide the step."""
    (report,) = asking.run("try", "asked", "-n", "3", "--json", "--quiet").json
    (record, *_) = report["records"]
    assert record["content"].startswith("writer answers 'Own: ")
    assert "critic answers 'Judge: " in record["content"]

    def step() -> str:
        workspace = Workspace(asking.root)
        return compile_plan(workspace, BuildRequest(mixture="asked")).steps[1].fingerprint

    corpus = {"draw": {"asked": 1}, "share": 100}
    mixture = {"name": "asked", "title": "A", "horizon_tokens": 1000, "categories": {"a": corpus}}
    asking.write("mixtures/asked.yaml", mixture)
    before = step()
    asking.write("generators/shared/say.jinja", "Shared, never asked: {{ page }}")
    assert step() == before
    asking.write("generators/shared/judge.jinja", "Judge well: {{ said }}")
    assert step() != before
    asking.change("generators/asked/recipe.yaml", prompts_from=["nowhere"])
    ran = asking.run("check")
    assert ran.code == 2 and "no prompts in generators/nowhere/" in ran.err + ran.out


def test_each_record_names_the_models_that_answered(asking: Tiny) -> None:
    """Lineage states both, with both licences; a role that is not served is named."""
    corpus = {"draw": {"asked": 1}, "share": 100}
    mixture = {"name": "asked", "title": "A", "horizon_tokens": 1000, "categories": {"a": corpus}}
    asking.write("mixtures/asked.yaml", mixture)
    ran = asking.run("build", "--mixture", "asked", "--json", "--quiet")
    assert ran.code == 0, ran.err
    found = asking.run("sql", "SELECT DISTINCT model, model_licence FROM records", "--json").json
    assert found == [{"model": "writer, critic", "model_licence": "MIT, Apache-2.0"}]
    card = asking.run("card").out
    assert "writer" in card and "critic" in card
    asking.change("generators/asked/recipe.yaml", models={"judge": "jury"})
    ran = asking.run("check")
    assert ran.code == 2 and "serves no model as 'jury'" in ran.err + ran.out
    assert "generators/asked/recipe.yaml:" in ran.err + ran.out


def test_a_method_may_cut_by_tokens(tiny: Tiny) -> None:
    """The profile's tokenizer comes as an argument that YAML may not set."""
    tiny.write("extension/asking_ext.py", METHODS)
    recipe = {
        "name": "cut",
        "title": "Cut",
        "method": "asking_ext:cut",
        "sources": ["pages"],
        "arguments": {"budget_tokens": 17},
    }
    tiny.write("generators/cut/recipe.yaml", recipe)
    (report,) = tiny.run("try", "cut", "-n", "20", "--show", "20", "--json", "--quiet").json
    assert report["kept"] == 20
    sizes = [record["metadata"] for record in report["records"]]
    assert all(size["tokens"] <= 17 < size["whole"] for size in sizes)
    assert sum(size["tokens"] == 17 for size in sizes) >= 10
    tiny.change("generators/cut/recipe.yaml", arguments={"budget_tokens": 17, "tokenizer": 1})
    ran = tiny.run("try", "cut", "--quiet")
    assert ran.code == 2 and "no argument 'tokenizer'" in ran.err


def test_a_source_gives_only_the_rows_it_names(tiny: Tiny) -> None:
    """`where` of the source, or of the profile's own files in its place."""
    lines = [f'{{"id": "r{n}", "text": "row {n}", "split": "{"ab"[n % 2]}"}}' for n in range(10)]
    tiny.write("manifests/samples/pages.jsonl", "\n".join(lines) + "\n")
    columns = ["id", "text", "split"]
    tiny.change("manifests/sources/pages.yaml", columns=columns, where={"split": "a"})

    def kept() -> Counter[str]:
        ran = tiny.run("try", "page@pages", "-n", "50", "--show", "50", "--json", "--quiet")
        assert ran.code == 0, ran.err
        return Counter(record["row_key"] for record in ran.json[0]["records"])

    assert set(kept()) == {f"r{n}" for n in range(0, 10, 2)}
    override: dict[str, Any] = {"files": ["manifests/samples/pages.jsonl"], "key": "id"}
    tiny.change("datagen.yaml", profiles__here__override={"pages": override})
    assert set(kept()) == {f"r{n}" for n in range(0, 10, 2)}
    override = {**override, "where": {"split": "b"}}
    tiny.change("datagen.yaml", profiles__here__override={"pages": override})
    assert set(kept()) == {f"r{n}" for n in range(1, 10, 2)}
    tiny.change("manifests/sources/pages.yaml", where={"half": "a"})
    ran = tiny.run("check")
    assert ran.code == 2 and "'half' is not among 'columns'" in ran.err + ran.out


def test_rows_of_ones_own_are_the_source_everywhere(tiny: Tiny) -> None:
    """Without `own`, a profile that reads the hub has nothing to read, and says so."""
    tiny.change("datagen.yaml", profiles__here__sources="hub")
    ran = tiny.run("try", "page@pages", "-n", "2", "--json", "--quiet")
    assert ran.code == 2 and "has no hub pin" in ran.err
    tiny.change("manifests/sources/pages.yaml", own=True)
    ran = tiny.run("try", "page@pages", "-n", "2", "--json", "--quiet")
    assert ran.code == 0 and ran.json[0]["kept"] == 2

"""The starter workspace is sound: every spec loads, and what it names exists."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datagen.cli import run
from datagen.llm.prompts import load_prompts
from datagen.plan.compile import BuildRequest, compile_plan
from datagen.plan.resolve import resolve_method
from datagen.workspace.load import Workspace
from datagen.workspace.locate import starter

ROOT = Path(__file__).resolve().parents[1]
WORKSPACE = Workspace(ROOT)


def names(folder: str) -> list[str]:
    return WORKSPACE.names(folder, recipe=folder == "generators")


def test_checkout_is_the_starter() -> None:
    """`datagen init` copies what stands in the checkout."""
    assert starter() == ROOT


@pytest.mark.parametrize(
    ("folder", "read"),
    [
        ("manifests/sources", WORKSPACE.source),
        ("manifests/models", WORKSPACE.model),
        ("manifests/tokenizers", WORKSPACE.tokenizer),
        ("manifests/benchmarks", WORKSPACE.benchmark),
        ("generators", WORKSPACE.recipe),
        ("filters", WORKSPACE.chain),
        ("filters/corpus", WORKSPACE.corpus),
        ("mixtures", WORKSPACE.mixture),
    ],
)
def test_specs_load(folder: str, read: Callable[[str], Any]) -> None:
    """Each folder has specs, and each spec says its own name."""
    assert names(folder)
    for name in names(folder):
        assert read(name).spec.name == name


@pytest.mark.parametrize("name", names("generators"))
def test_recipe_stands(name: str) -> None:
    """Its method takes its arguments, its prompts parse, its sampling names prompts."""
    recipe = WORKSPACE.recipe(name)
    resolve_method(recipe.spec.method, recipe.spec.arguments, at=recipe.where)
    prompts = load_prompts(WORKSPACE.prompt_files(name), root=ROOT)
    assert {*recipe.spec.sampling, *recipe.spec.models} <= set(prompts)


@pytest.mark.parametrize("name", names("manifests/sources"))
def test_sample_is_what_its_pin_says(name: str) -> None:
    """Bundled rows are pinned, and every pinned hash is that of the file."""
    sample = WORKSPACE.source(name).spec.sample
    assert sample is not None
    assert set(sample.sha256) == set(sample.files)
    for path, promised in sample.sha256.items():
        assert hashlib.sha256((ROOT / path).read_bytes()).hexdigest() == promised


def test_no_source_pins_an_invented_revision() -> None:
    """A hub revision is 40 hex digits, or null; a benchmark's and a model's too."""
    for name in names("manifests/sources"):
        hub = WORKSPACE.source(name).spec.hub
        if hub is not None and hub.revision is not None:
            assert len(set(hub.revision)) > 4


@pytest.mark.parametrize("name", names("mixtures"))
def test_mixture_compiles(name: str) -> None:
    """Every mixture becomes steps whose inputs come before them, under the default profile."""
    plan = compile_plan(WORKSPACE, BuildRequest(mixture=name))
    seen: set[str] = set()
    for step in plan.steps:
        assert seen.issuperset(step.inputs)
        seen.add(step.name)
    assert plan.build.kind == "pack"


def test_check_finds_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    """`datagen check` is content with what we ship."""
    code = run(["check", "--json", "--workspace", str(ROOT)])
    found = json.loads(capsys.readouterr().out)
    assert [f for f in found["findings"] if f["level"] == "error"] == []
    assert code == 0 and found["ok"]


def test_init_writes_a_workspace_that_checks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fresh workspace is as good as ours, and is not overwritten."""
    target = tmp_path / "mine"
    assert run(["init", str(target)]) == 0
    assert run(["check", "--workspace", str(target)]) == 0
    assert run(["init", str(target)]) == 2
    assert "already holds" in capsys.readouterr().err


def test_doctor_looks_and_fetches_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Each part has a state, and what is missing a remedy."""
    assert run(["doctor", "--json", "--workspace", str(ROOT)]) == 0
    parts = {part["part"]: part for part in json.loads(capsys.readouterr().out)}
    assert {"python", "weights smollm2-135m", "ledger folder", "disk"} <= set(parts)
    for part in parts.values():
        assert part["state"] in ("ok", "missing")
        assert part["found"] and (part["state"] == "ok") == (part["fix"] == "")

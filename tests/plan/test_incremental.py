"""A build does what changed and what follows from it, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Tiny, chats, forget_extension

DRAWS = ("page@pages", "note@notes", "page@chats")
MIXED = {"mix", "pack"}
TOKENS = {f"tokens/{draw}" for draw in DRAWS} | MIXED
# Dedup looks at all records at once: what one recipe keeps may be what another one loses.
DEDUP = {f"{kind}/{draw}" for kind in ("dedup", "diversity") for draw in DRAWS}
DEDUP |= {"clusters"} | TOKENS
RECIPE = "generators/note/recipe.yaml"


def from_step(kind: str, draw: str) -> set[str]:
    """A step of one draw and all that follows."""
    stages = ["generate", "filter", "signatures"]
    own = {f"{stage}/{draw}" for stage in stages[stages.index(kind) :]}
    return own | {"buckets"} | DEDUP


def snapshot(out: Path) -> dict[str, tuple[int, int, int]]:
    """Each path below a folder with what would tell that it was written again."""
    found = {}
    for path in sorted(out.rglob("*")):
        status = path.lstat()
        found[str(path)] = (status.st_ino, status.st_mtime_ns, status.st_size)
    return found


def written(tiny: Tiny, suffix: str) -> list[Path]:
    """The files of a kind that a person wrote."""
    return [path for path in tiny.root.rglob(f"*.{suffix}") if tiny.out not in path.parents]


def step_folders(out: Path) -> set[Path]:
    return {path.parent for path in out.rglob("manifest.json") if "latest" not in path.parts}


def test_second_build_writes_nothing(built: Tiny) -> None:
    """No file is made, touched or replaced, and the summary is the same."""
    before, first = snapshot(built.out), built.build()
    second = built.build()
    assert {**first, "seconds": 0} == {**second, "seconds": 0}
    assert snapshot(built.out) == before
    assert built.to_run() == set()


CHANGES: dict[str, tuple[Callable[[Tiny], object], set[str]]] = {
    "prompt": (
        lambda t: t.edit("generators/note/frame.jinja", "Note", "Remark"),
        from_step("generate", "note@notes"),
    ),
    "argument": (
        lambda t: t.change(RECIPE, arguments__mark="?"),
        from_step("generate", "note@notes"),
    ),
    "version": (lambda t: t.change(RECIPE, version="2"), from_step("generate", "note@notes")),
    "filter": (
        lambda t: t.edit("filters/plain.yaml", "min_words: 5", "min_words: 6"),
        from_step("filter", "note@notes"),
    ),
    "dedup": (
        lambda t: t.change("filters/corpus/corpus.yaml", minhash__threshold=0.5),
        {f"signatures/{draw}" for draw in DRAWS} | {"buckets"} | DEDUP,
    ),
    "rows": (
        lambda t: t.write("manifests/samples/chats.jsonl", chats(9, 30)),
        {"seeds/chats"} | from_step("generate", "page@chats"),
    ),
    "seeds": (
        lambda t: t.change("datagen.yaml", profiles__here__max_seeds={"note": 9}),
        {"seeds/notes"} | from_step("generate", "note@notes"),
    ),
    "share": (
        lambda t: (
            t.edit("mixtures/small.yaml", "share: 50", "share: 51"),
            t.edit("mixtures/small.yaml", "share: 30", "share: 29"),
        ),
        MIXED,
    ),
    "row length": (lambda t: t.change("datagen.yaml", profiles__here__row_tokens=256), MIXED),
    "budget": (lambda t: t.change("datagen.yaml", profiles__here__budget_tokens=5000), MIXED),
    "rows a shard": (
        lambda t: t.change("datagen.yaml", profiles__here__rows_per_shard=5),
        {"pack"},
    ),
    # The card says these, and it lies in the build.
    "mixture's title": (lambda t: t.change("mixtures/small.yaml", title="New"), {"pack"}),
    "source's title": (lambda t: t.change("manifests/sources/notes.yaml", title="New"), {"pack"}),
    # Nothing made depends on these.
    "recipe's title": (lambda t: t.change(RECIPE, title="New"), set()),
    "horizon": (lambda t: t.change("mixtures/small.yaml", horizon_tokens=7), set()),
    "notes": (lambda t: t.change("manifests/sources/notes.yaml", notes="New"), set()),
    "comment": (lambda t: t.edit(RECIPE, "sources:", "# where from\nsources:"), set()),
    "docstring": (
        lambda t: t.edit("extension/tiny_ext.py", '"""A row\'s text, or', '"""Text, or'),
        set(),
    ),
    "another mixture": (lambda t: t.change("mixtures/other.yaml", max_epochs=3), set()),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_change_runs_what_follows(unchanging: Tiny, kind: str) -> None:
    """The plan after a change is exactly the steps that the change can reach."""
    change, expected = CHANGES[kind]
    files = [p for suffix in ("yaml", "jinja", "jsonl", "py") for p in written(unchanging, suffix)]
    before = {path: path.read_bytes() for path in files}
    try:
        change(unchanging)
        if kind == "docstring":
            forget_extension()
        assert unchanging.to_run() == expected
    finally:
        for path, content in before.items():
            if path.read_bytes() != content:
                path.write_bytes(content)


def test_logic_of_a_method_counts(built: Tiny) -> None:
    """A method's new logic runs all recipes that use it; its module is one for both here."""
    built.edit("extension/tiny_ext.py", "text=ask.text", "text=' ' + ask.text")
    forget_extension()
    assert built.to_run() == set().union(*(from_step("generate", draw) for draw in DRAWS))


def test_options_count(unchanging: Tiny) -> None:
    """A budget on the command line is the mixture's matter; a seed is everybody's."""
    assert unchanging.to_run("--tokens", "5000") == MIXED
    assert unchanging.to_run("--seed", "1") >= {"seeds/pages", "generate/note@notes", *MIXED}


def test_a_run_makes_what_the_plan_said(built: Tiny) -> None:
    """After a changed prompt: new folders are those of the plan, old ones stay as they were."""
    built.edit("generators/note/frame.jinja", "Note", "Remark")
    expected, before = built.to_run(), step_folders(built.out)
    kept, summary = snapshot(built.out / "generate" / "page@pages"), built.build()
    made = step_folders(built.out) - before
    assert {folder.parent.relative_to(built.out).as_posix() for folder in made} == expected
    assert snapshot(built.out / "generate" / "page@pages") == kept
    assert (built.out / "latest" / "small").resolve() == Path(summary["build"])


def test_going_back_costs_nothing(built: Tiny) -> None:
    """A change taken back finds the old steps again, and `latest` follows."""
    first = built.build()
    built.edit("mixtures/small.yaml", "max_epochs: 50", "max_epochs: 49")
    second = built.build()
    built.edit("mixtures/small.yaml", "max_epochs: 49", "max_epochs: 50")
    assert built.to_run() == set()
    third = built.build()
    assert second["build"] != first["build"] == third["build"]
    assert (built.out / "latest" / "small").resolve() == Path(first["build"])


def test_a_step_whose_input_became_another_runs_again(built: Tiny) -> None:
    """An input that was deleted and built again to other bytes: what read the old one is stale."""
    build = Path(built.build()["build"])
    manifest = next((built.out / "generate").glob("page@pages/*/manifest.json"))
    manifest.write_bytes(manifest.read_bytes().replace(b"{", b"{ ", 1))
    assert built.run("verify").code == 4
    stale = built.to_run()
    assert {"filter/page@pages"} <= stale and "seeds/pages" not in stale
    assert Path(built.build()["build"]) == build
    assert built.run("verify").code == 0 and not built.to_run()

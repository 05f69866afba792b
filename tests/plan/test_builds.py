"""Finished builds: found by name, checked to the bit, and what no build needs is dropped."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.errors import DataError
from datagen.plan.builds import find_build, verify
from datagen.shards.manifest import read_manifest
from tests.conftest import Tiny


@pytest.fixture(scope="module")
def spoilt(unchanging: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the build's folder, to be spoilt and mended."""
    out = tmp_path_factory.mktemp("spoilt") / "out"
    shutil.copytree(unchanging.out, out, symlinks=True)
    yield out


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_flipped_bit_is_found(spoilt: Path, data: st.DataObject) -> None:
    """One bit anywhere in any listed file, and `verify` names that file."""
    build = find_build(spoilt, "small")
    folders = [path.parent for path in spoilt.glob("*/**/manifest.json")]
    files = sorted(
        {f / entry.path for f in folders for entry in read_manifest(f).files},
        key=lambda path: (path.parent.parent.parent != build.parent, path),
    )
    path = data.draw(st.sampled_from([p for p in files if "latest" not in p.parts]))
    content = path.read_bytes()
    place = data.draw(st.integers(0, 8 * len(content) - 1))
    flipped = bytearray(content)
    flipped[place // 8] ^= 1 << place % 8
    path.write_bytes(flipped)
    try:
        with pytest.raises(DataError) as caught:
            verify(build, spoilt)
        assert str(path) in caught.value.message
    finally:
        path.write_bytes(content)
    verify(build, spoilt)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_flipped_bit_of_a_manifest_is_found(spoilt: Path, data: st.DataObject) -> None:
    """Upstream manifests are vouched for by the next step; the build's own by its printed hash."""
    build = find_build(spoilt, "small")
    before = verify(build, spoilt)["manifest_sha256"]
    path = data.draw(
        st.sampled_from(
            sorted(p for p in spoilt.glob("*/**/manifest.json") if "latest" not in p.parts)
        )
    )
    content = path.read_bytes()
    place = data.draw(st.integers(0, 8 * len(content) - 1))
    flipped = bytearray(content)
    flipped[place // 8] ^= 1 << place % 8
    path.write_bytes(flipped)
    try:
        if path.parent == build:
            with contextlib.suppress(DataError):
                assert verify(build, spoilt)["manifest_sha256"] != before
        else:
            with pytest.raises(DataError):
                verify(build, spoilt)
    finally:
        path.write_bytes(content)
    assert verify(build, spoilt)["manifest_sha256"] == before


@pytest.mark.parametrize("change", ["missing", "shorter", "longer"])
def test_other_damage_is_found(built: Tiny, change: str) -> None:
    """A file that is gone, cut or grown: exit code 4 and its name."""
    build = find_build(built.out, None)
    path = build / "shards" / "00000.parquet"
    if change == "missing":
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(content[:-1] if change == "shorter" else content + b"\0")
    ran = built.run("verify")
    assert ran.code == 4
    assert str(path) in ran.err and "build again" in ran.err
    assert "Traceback" not in ran.err


def test_a_whole_build_verifies(unchanging: Tiny) -> None:
    """Every step of the plan is counted, and every file in them."""
    counts = unchanging.run("verify", "--json").json
    assert counts["steps"] == len(unchanging.states())
    assert counts["files"] >= counts["steps"]


def test_builds_by_name(built: Tiny) -> None:
    """By mixture, fingerprint, its beginning, or folder; the only one needs no name."""
    build = Path(built.build()["build"])
    for name in (None, "small", build.name, build.name[:6], str(build)):
        assert find_build(built.out, name) == build


def test_what_is_not_there_says_what_is(built: Tiny) -> None:
    """Errors list the builds that exist."""
    ran = built.run("build", "--mixture", "other", "--quiet")
    assert ran.code == 0
    assert find_build(built.out, None) == find_build(built.out, "other")  # made last
    for name, said in [("smal", "no build 'smal'"), ("..", "no build")]:
        with pytest.raises(DataError, match=said) as caught:
            find_build(built.out, name)
        assert caught.value.fix == "name one of: other, small"
    shutil.rmtree(find_build(built.out, "other"))
    with pytest.raises(DataError, match="not finished"):
        find_build(built.out, "other")


@pytest.mark.parametrize("way", ["folder", "latest", "fingerprint"])
def test_another_step_is_no_build(built: Tiny, way: str) -> None:
    """Whichever way a step is named, the error says what it is and which builds there are."""
    step = next((built.out / "seeds").rglob("manifest.json")).parent
    if way == "latest":
        (built.out / "latest" / "odd").symlink_to(step)
    name = {"folder": str(step), "latest": "odd", "fingerprint": step.name}[way]
    with pytest.raises(DataError, match="a step of kind seeds, not a build") as caught:
        find_build(built.out, name)
    assert caught.value.where == str(step.resolve())
    assert "small" in str(caught.value.fix)


def step_folders(out: Path) -> set[str]:
    return {
        path.parent.relative_to(out).as_posix()
        for path in out.rglob("manifest.json")
        if "latest" not in path.parts
    }


def test_gc_drops_what_no_latest_build_needs(built: Tiny) -> None:
    """Steps of older builds and unfinished ones go; latest builds, the ledger and others stay."""
    old = {f"{step}/{print_}" for step, print_ in _fingerprints(built).items()}
    assert built.run("build", "--mixture", "other", "--quiet").code == 0
    built.edit("generators/note/frame.jinja", "Note", "Remark")
    built.build()
    new = {f"{step}/{print_}" for step, print_ in _fingerprints(built).items()}
    built.run("build", "--mixture", "other", "--quiet")
    unfinished = built.out / "generate" / "page@gone" / ("0" * 16)
    (unfinished / "shards").mkdir(parents=True)
    (unfinished / "shards" / "00000.parquet").write_bytes(b"half")
    kept = {
        built.write(".datagen/ledger.sqlite", "answers"): "answers",
        built.write("out/train/run/shards/x", "weights"): "weights",
        built.write("out/notes/manifest.json", "mine"): "mine",
    }
    foreseen = built.run("gc", "--dry-run", "--json").json
    assert step_folders(built.out) >= old | new
    dropped = built.run("gc", "--json").json
    assert dropped == foreseen
    names = {line["step"] for line in dropped}
    assert unfinished.relative_to(built.out).as_posix() in names
    assert names.isdisjoint(new)
    assert {name for name in old - new if name.split("/")[0] != "pack"} <= names
    assert not unfinished.parent.exists()
    for path, content in kept.items():
        assert path.read_text(encoding="utf-8") == content
    for mixture in ("small", "other"):
        assert built.run("verify", mixture).code == 0
    assert built.to_run() == set()
    assert built.run("gc", "--json").json == []


def _fingerprints(tiny: Tiny) -> dict[str, str]:
    plan = tiny.run("build", "--mixture", "small", "--dry-run", "--json").json
    return {step["step"]: step["fingerprint"] for step in plan["steps"]}


def test_gc_touches_no_other_folder(built: Tiny) -> None:
    """`--out` pointed at something else by mistake costs nothing."""
    for path in ("shards/a.parquet", "src/shards/b.py", "mix/notes/manifest.json"):
        built.write(path, "mine")
    before = sorted(path for path in built.root.rglob("*") if path.name != ".lock")
    assert built.run("gc", "--out", str(built.root), "--json").json == []
    assert sorted(path for path in built.root.rglob("*") if path.name != ".lock") == before
    assert built.run("gc", "--out", str(built.root / "nowhere"), "--json").json == []

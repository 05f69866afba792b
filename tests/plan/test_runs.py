"""Builds that are cut off, run twice at once, or elsewhere end in the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import METHOD, Ran, Tiny, forget_extension, prose, write_tiny

# Notes each row it drafts; `fuse` makes one row fail, `brake` asks the run to stop, `gate` waits.
WATCHED = METHOD.replace(
    "from datagen.record",
    """import asyncio
import signal
from pathlib import Path

HERE = Path(__file__).parent


async def watched(seed, ask, *, text="text", messages=None):
    with (HERE / "rows.txt").open("a") as log:
        log.write(seed.row_key + "\\\\n")
    if seed.row_key == "pages-44" and (HERE / "fuse").exists():
        raise RuntimeError("the fuse blew")
    if (HERE / "brake").exists():
        (HERE / "brake").unlink()
        signal.raise_signal(signal.SIGINT)
    while (HERE / "gate").exists():
        (HERE / "waiting").touch()
        await asyncio.sleep(0.02)
    return await document(seed, ask, text=text, messages=messages)


from datagen.record""",
    1,
).replace("\\\\n", "\\n")


PAGES, SHARD = 100, 32


@pytest.fixture
def watched(tiny: Tiny) -> Tiny:
    """The tiny workspace with the watched method, and more pages than are in flight at once."""
    tiny.write("extension/tiny_ext.py", WATCHED)
    tiny.change("generators/page/recipe.yaml", method="tiny_ext:watched")
    lines = [json.dumps({"id": f"pages-{n}", "text": prose(f"p{n}", 20)}) for n in range(PAGES)]
    tiny.write("manifests/samples/pages.jsonl", "\n".join(lines) + "\n")
    tiny.change("filters/corpus/corpus.yaml", minhash=None)
    tiny.change("datagen.yaml", profiles__here__seeds_per_shard=SHARD)
    forget_extension()
    return tiny


def rows_drafted(tiny: Tiny) -> list[str]:
    """The rows that the method has seen since the last look."""
    log = tiny.root / "extension" / "rows.txt"
    rows = log.read_text(encoding="utf-8").split() if log.exists() else []
    log.unlink(missing_ok=True)
    return rows


def tree(out: Path) -> dict[str, str]:
    """Every file of a build folder by the hash of its bytes."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and "latest" not in path.parts and path.name != ".lock"
    }


def wait_for(path: Path) -> None:
    """Wait until another process has made a file."""
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} never came"
        time.sleep(0.02)


def interrupted_soon(action: Callable[[], Ran]) -> Ran:
    """Run something in this process, and interrupt it once it handles interrupts itself."""

    def interrupt() -> None:
        while signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    return action()


def test_a_failed_step_resumes(watched: Tiny) -> None:
    """Committed partitions are not done again, strays vanish, and the bytes are the same."""
    fuse = watched.root / "extension" / "fuse"
    fuse.touch()
    failed = watched.run("build", "--mixture", "small", "--quiet")
    assert failed.code == 4 and "row pages-44: method failed: RuntimeError" in failed.err
    parts = watched.out / ".parts" / "generate" / "page@pages"
    committed = len(list(parts.glob("*/*.json")))
    assert committed == 3, "the row lies in the last of four"
    rows_drafted(watched)
    (step,) = (watched.out / "generate" / "page@pages").iterdir()
    assert not (step / "manifest.json").exists()
    (step / "shards" / "99999.parquet").write_bytes(b"left over")
    (step / "shards" / ".00001.parquet.tmp").write_bytes(b"half")
    fuse.unlink()
    summary = watched.build()
    again = [row for row in rows_drafted(watched) if row.startswith("pages")]
    assert len(again) == PAGES - SHARD * committed
    assert "pages-44" in again
    names = {path.name for path in (step / "shards").iterdir()}
    assert names == {f"{n:05}.parquet" for n in range(4)}
    assert not list((watched.out / ".parts").rglob("*.json"))
    undisturbed = watched.build("--out", str(watched.root / "other"))
    assert undisturbed["manifest_sha256"] == summary["manifest_sha256"]
    assert tree(watched.out) == tree(watched.root / "other")


def test_stopping_finishes_what_is_in_flight(watched: Tiny) -> None:
    """Ctrl-C commits what is whole, says how to go on, and the next run does the rest."""
    (watched.root / "extension" / "brake").touch()
    stopped = watched.run("build", "--mixture", "small")
    assert stopped.code == 130
    assert "finishing what is in flight" in stopped.err
    assert "the same command goes on" in stopped.err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    first = rows_drafted(watched)
    committed = sorted((watched.out / ".parts" / "generate").rglob("*.json"))
    assert 0 < len(committed) < 4
    summary = watched.build()
    second = [row for row in rows_drafted(watched) if row.startswith("pages")]
    assert len(second) == PAGES - SHARD * len(committed)
    assert set(first) | set(second) >= {f"pages-{n}" for n in range(PAGES)}
    undisturbed = watched.build("--out", str(watched.root / "other"))
    assert undisturbed["manifest_sha256"] == summary["manifest_sha256"]


def test_interrupt_and_lock_across_processes(watched: Tiny) -> None:
    """One process builds, others are told who; SIGINT ends it with 130, and a waiter goes on."""
    gate = watched.root / "extension" / "gate"
    gate.touch()
    command = ("build", "--mixture", "small", "--json")
    first = watched.start(*command)
    try:
        wait_for(watched.root / "extension" / "waiting")
        held = watched.run(*command)
        assert held.code == 2
        assert f"process {first.pid} (build --mixture) is building here" in held.err
        assert "--wait" in held.err and str(watched.root) in held.err
        collected = watched.run("gc")
        assert collected.code == 2 and str(first.pid) in collected.err
        stopped = interrupted_soon(lambda: watched.run(*command, "--wait"))
        assert stopped.code == 130
        assert f"waiting: process {first.pid}" in stopped.err
        waiter = watched.start(*command, "--wait")
        try:
            first.send_signal(signal.SIGINT)
            gate.unlink()
            _, said = first.communicate(timeout=100)
            assert first.returncode == 130, said
            assert "the same command goes on" in said and "Traceback" not in said
            out, said = waiter.communicate(timeout=100)
        finally:
            waiter.kill()
    finally:
        first.kill()
        first.communicate()
    assert waiter.returncode == 0, said
    undisturbed = watched.build("--out", str(watched.root / "other"))
    assert json.loads(out)["manifest_sha256"] == undisturbed["manifest_sha256"]
    assert tree(watched.out) == tree(watched.root / "other")


def test_same_bytes_anywhere(built: Tiny, tmp_path: Path) -> None:
    """Folder, working directory, hash seed and time zone leave no trace in any byte."""
    elsewhere = write_tiny(tmp_path / "another place" / "w")
    profile = tmp_path / "my.yaml"
    runs = []
    for tiny, seed, zone, cwd, out in [
        (built, "1", "Asia/Kathmandu", Path("/"), tmp_path / "one"),
        (elsewhere, "977", "America/St_Johns", tmp_path, elsewhere.root / "deep" / "out"),
    ]:
        environment = {"PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": "C"}
        command = ("build", "--mixture", "small", "--json", "--out", str(out))
        runs.append((tiny.start(*command, environment=environment, cwd=cwd), out))
    sums = [json.loads(process.communicate(timeout=100)[0]) for process, _ in runs]
    here = built.build()
    assert {s["manifest_sha256"] for s in sums} == {here["manifest_sha256"]}
    assert tree(runs[0][1]) == tree(runs[1][1]) == tree(built.out)
    # Where a profile of one's own lies is not in the card.
    profile.write_text("tokenizer: datagen-32k\nbudget_tokens: 6000\nrow_tokens: 512\n")
    moved = tmp_path / "sub" / "my.yaml"
    moved.parent.mkdir()
    shutil.copy(profile, moved)
    left, right = (built.build("--profile", str(path)) for path in (profile, moved))
    assert left["build"] == right["build"]
    assert str(tmp_path) not in (Path(left["build"]) / "README.md").read_text(encoding="utf-8")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
@pytest.mark.parametrize("size_kb", [4, 60, 200, 330])
def test_full_disk(built: Tiny, tmp_path: Path, size_kb: int) -> None:
    """A disk that fills up leaves no manifest of the step; with room, the command goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size={size_kb}k none '{disk}' 2>/dev/null"):
        pytest.skip("this root may not mount")
    command = ("build", "--mixture", "small", "--quiet", "--json", "--out", str(disk / "out"))
    try:
        if size_kb == 4:  # full before the first byte
            (disk / "out").mkdir()
            (disk / "out" / "filler").write_bytes(bytes(4096))
        full = built.run(*command)
        assert full.code == 4, full.err
        said = "No space left" if size_kb == 4 else "the disk is full"
        assert said in full.err and "free some space" in full.err
        assert not (disk / "out" / "latest").exists()
        assert os.system(f"mount -o remount,size=16m '{disk}'") == 0
        (disk / "out" / "filler").unlink(missing_ok=True)
        ended = built.run(*command)
        assert ended.code == 0, ended.err
        assert ended.json["manifest_sha256"] == built.build()["manifest_sha256"]
        assert tree(disk / "out") == tree(built.out)
    finally:
        os.system(f"umount '{disk}'")

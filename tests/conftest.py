"""A tiny workspace that builds in about a second, and the command line on it.

Its method is an extension, `tiny_ext:document`, that lies in the workspace's own `extension/`:
so every test that builds also takes the `package.module:function` road.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

# A run in the background is started with SIGINT ignored, and would hand that on to every process.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
TOKENIZER = "datagen-32k"
METHOD = '''
"""Methods of a test: a row as it is, or framed by a prompt file."""

from datagen.record import Draft, Message


async def document(seed, ask, *, text="text", messages=None):
    """A row's text, or its conversation."""
    if messages is None:
        return [Draft(text=seed.row[text])]
    turns = [
        Message(role=turn["role"], content=turn["content"], trained=turn["role"] == "assistant")
        for turn in seed.row[messages]
    ]
    return [Draft(messages=tuple(turns))]


async def framed(seed, ask, *, text="text", mark="!"):
    """A row's text inside the recipe's frame."""
    return [Draft(text=ask.text("frame", text=seed.row[text], mark=mark))]
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its one JSON document on stdout."""
        return json.loads(self.out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiny:
    """A workspace of a few rows: sources pages, notes and chats, recipes page and note."""

    root: Path

    @property
    def out(self) -> Path:
        """Where its builds go."""
        return self.root / "out"

    def write(self, path: str, content: str | Mapping[str, Any]) -> Path:
        """Write a file, or a mapping as YAML."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
        target.write_text(text, encoding="utf-8")
        return target

    def edit(self, path: str, old: str, new: str) -> int:
        """Replace a piece of a file that stands there once; return the line it stands on."""
        before = (self.root / path).read_text(encoding="utf-8")
        assert before.count(old) == 1, f"{old!r} stands {before.count(old)} times in {path}"
        self.write(path, before.replace(old, new))
        return before[: before.index(old)].count("\n") + 1

    def change(self, path: str, **values: Any) -> None:
        """Set keys of a YAML file; `a__b` is key b within a."""
        content = yaml.safe_load((self.root / path).read_text(encoding="utf-8"))
        for name, value in values.items():
            *outer, last = name.split("__")
            inner = content
            for part in outer:
                inner = inner[part]
            inner[last] = value
        self.write(path, content)

    def run(self, *arguments: str) -> Ran:
        """Run a command line in this process."""
        from datagen.cli import run

        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run([*arguments, "--workspace", str(self.root)])
        return Ran(code=code, out=out.getvalue(), err=err.getvalue())

    def start(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command line in a process of its own."""
        paths = [str(self.root / "extension"), str(ROOT)]
        return subprocess.Popen(
            [sys.executable, "-m", "datagen", *arguments, "--workspace", str(self.root)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(environment or {})},
            cwd=cwd or self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def spawn(self, *arguments: str, **options: Any) -> Ran:
        """Run a command line in a process of its own."""
        with self.start(*arguments, **options) as process:
            out, err = process.communicate(timeout=100)
        return Ran(code=process.returncode, out=out, err=err)

    def build(self, *arguments: str) -> Any:
        """Build `small` in this process; returns the summary."""
        ran = self.run("build", "--mixture", "small", "--json", "--quiet", *arguments)
        assert ran.code == 0, ran.err
        return ran.json

    def states(self, *arguments: str) -> dict[str, str]:
        """What `build --dry-run` says of each step: cached, or to run."""
        ran = self.run("build", "--mixture", "small", "--dry-run", "--json", *arguments)
        assert ran.code == 0, ran.err
        return {step["step"]: step["state"] for step in ran.json["steps"]}

    def to_run(self, *arguments: str) -> set[str]:
        """The steps that a build would run."""
        return {step for step, state in self.states(*arguments).items() if state != "cached"}


def prose(seed: str, words: int) -> str:
    """Words that no other seed says."""
    draw = random.Random(seed)
    return " ".join(
        "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(3, 9)))
        for _ in range(words)
    )


def rows(source: str, count: int, words: int) -> str:
    """JSON lines of a source with ids and text."""
    lines = [
        json.dumps({"id": f"{source}-{n}", "text": prose(f"{source}-{n}", words)})
        for n in range(count)
    ]
    return "\n".join(lines) + "\n"


def chats(count: int, words: int) -> str:
    """JSON lines of a source with conversations."""
    lines = []
    for n in range(count):
        turns = [
            {"role": "user", "content": prose(f"ask-{n}", 8)},
            {"role": "assistant", "content": prose(f"answer-{n}", words)},
        ]
        lines.append(json.dumps({"id": f"chats-{n}", "messages": turns}))
    return "\n".join(lines) + "\n"


def _source(name: str, content: str) -> dict[str, Any]:
    return {
        "name": name,
        "title": f"Source {name}",
        "licence": "CC0-1.0",
        "key": "id",
        content: content,
        "columns": ["id", content],
        "sample": {"files": [f"manifests/samples/{name}.jsonl"]},
    }


def write_tiny(root: Path) -> Tiny:
    """Write the tiny workspace into a folder."""
    tiny = Tiny(root=root)
    profile = {
        "tokenizer": TOKENIZER,
        "budget_tokens": 6000,
        "row_tokens": 512,
        "seeds_per_shard": 8,
        "rows_per_shard": 8,
    }
    tiny.write("datagen.yaml", {"default_profile": "here", "profiles": {"here": profile}})
    tiny.write("manifests/samples/pages.jsonl", rows("pages", 20, 90))
    tiny.write("manifests/samples/notes.jsonl", rows("notes", 12, 40))
    tiny.write("manifests/samples/chats.jsonl", chats(8, 30))
    for name, content in [("pages", "text"), ("notes", "text"), ("chats", "messages")]:
        tiny.write(f"manifests/sources/{name}.yaml", _source(name, content))
    kept = ROOT / "manifests" / "tokenizers"
    shutil.copytree(kept / TOKENIZER, root / "manifests" / "tokenizers" / TOKENIZER)
    shutil.copy(kept / f"{TOKENIZER}.yaml", root / "manifests" / "tokenizers")
    tiny.write(
        "generators/page/recipe.yaml",
        {"name": "page", "title": "Rows", "method": "tiny_ext:document", "sources": "any"},
    )
    tiny.write(
        "generators/note/recipe.yaml",
        {
            "name": "note",
            "title": "Framed notes",
            "method": "tiny_ext:framed",
            "sources": ["notes"],
            "arguments": {"mark": "!"},
            "filters": "plain",
        },
    )
    tiny.write("generators/note/frame.jinja", "Note{{ mark }}\n{{ text }}\n")
    links = [{"use": "text.too_short", "arguments": {"min_words": 5}}]
    tiny.write("filters/plain.yaml", {"name": "plain", "title": "Plain", "filters": links})
    tiny.write(
        "filters/corpus/corpus.yaml",
        {
            "name": "corpus",
            "title": "No text twice",
            "minhash": {"bands": 2, "rows": 4},
            "decontaminate": None,
        },
    )
    for name, shares in [("small", (50, 30, 20)), ("other", (10, 10, 80))]:
        draws = ("page@pages", "note", "page@chats")
        categories = {
            category: {"share": share, "draw": {drawn: 1}}
            for category, share, drawn in zip(
                ("pages", "notes", "chats"), shares, draws, strict=True
            )
        }
        tiny.write(
            f"mixtures/{name}.yaml",
            {
                "name": name,
                "title": f"Mixture {name}",
                "horizon_tokens": 100000,
                "max_epochs": 50,
                "categories": categories,
            },
        )
    tiny.write(
        "mixtures/switch.yaml",
        {
            "name": "switch",
            "title": "One, then the other",
            "horizon_tokens": 100000,
            "phases": [{"mixture": "small", "share": 75}, {"mixture": "other", "share": 25}],
        },
    )
    tiny.write("extension/tiny_ext.py", METHOD)
    return tiny


def forget_extension() -> None:
    """Let the next import read the extension of another workspace."""
    from datagen.plan.fingerprint import module_version

    sys.modules.pop("tiny_ext", None)
    module_version.cache_clear()


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tiny]:
    """A tiny workspace of one's own, its extension importable."""
    workspace = write_tiny(tmp_path / "workspace")
    monkeypatch.syspath_prepend(workspace.root / "extension")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    forget_extension()
    yield workspace
    forget_extension()


@pytest.fixture(scope="session")
def _built_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = write_tiny(tmp_path_factory.mktemp("built") / "workspace")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(workspace.root / "extension")
        patch.delenv("OPENAI_BASE_URL", raising=False)
        forget_extension()
        workspace.build()
        forget_extension()
    return workspace.root


@pytest.fixture(scope="module")
def unchanging(_built_once: Path) -> Iterator[Tiny]:
    """The workspace in which `small` is built, for tests that leave it as they found it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(_built_once / "extension")
        patch.delenv("OPENAI_BASE_URL", raising=False)
        forget_extension()
        yield Tiny(root=_built_once)
    forget_extension()


@pytest.fixture
def built(_built_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tiny]:
    """A copy of the tiny workspace in which `small` is built already."""
    root = tmp_path / "workspace"
    shutil.copytree(_built_once, root, symlinks=True)
    monkeypatch.syspath_prepend(root / "extension")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    forget_extension()
    yield Tiny(root=root)
    forget_extension()

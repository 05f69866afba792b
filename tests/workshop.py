"""A small workspace in a folder of its own, and builds of it as processes that may be killed.

    shop = Workshop(folder, endpoint=server.url)
    process = shop.start()                       # `datagen build`, with an empty or a used out/
    summary = shop.build()                       # the same to its end, as the JSON it printed

The engine runs from a snapshot, so that whoever edits the checkout meanwhile changes nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.two_calls import NOTES, ask_twice, keep

ROOT = Path(__file__).resolve().parents[1]
_SOURCES = {"finewiki": "text", "math": "text", "code": "content"}
_FILES = {
    "generators/quiz/recipe.yaml": f"""
        name: quiz
        title: Questions about pages, in two calls
        method: {ask_twice.__module__}:{ask_twice.__name__}
        sources: [finewiki, math]
        model: teacher
        sampling: {{extract: {{max_tokens: 64}}, question: {{max_tokens: 48}}}}
        max_calls_per_seed: 6
        filters: plain
        """,
    "generators/quiz/extract.jinja": "Row {{ key }}. List facts:\n{{ page }}\n",
    "generators/quiz/question.jinja": "Row {{ key }}. Ask about this fact: {{ fact }}\n",
    "generators/quiz/text.jinja": "{{ question }}\n{{ answer }}\n",
    "generators/keep/recipe.yaml": f"""
        name: keep
        title: Pages as they are
        method: {keep.__module__}:{keep.__name__}
        sources: any
        filters: plain
        """,
    "filters/plain.yaml": """
        name: plain
        title: A few words at least
        filters:
          - {use: text.too_short, arguments: {min_words: 6}}
          - {use: text.broken_encoding}
        """,
    "filters/corpus/corpus.yaml": """
        name: corpus
        title: No text twice
        minhash: {shingle_words: 3, bands: 4, rows: 2, threshold: 0.6, seed: 1}
        decontaminate: {benchmarks: [sample], ngram_words: 8, min_coverage: 0.5}
        """,
    "mixtures/small.yaml": """
        name: small
        title: A small mixture
        horizon_tokens: 24_000
        shares_sum: 100
        max_epochs: 4
        when_capped: shrink
        categories:
          quiz: {share: 30, draw: {quiz: 1}}
          pages: {share: 40, draw: {keep@finewiki: 1}}
          code: {share: 30, draw: {keep@code: 1}}
        """,
    "manifests/models/scripted.yaml": """
        name: scripted
        title: A scripted server
        licence: Apache-2.0
        served_as: scripted
        """,
}
_PHASE_OF = {
    **dict.fromkeys(("seeds", "generate"), "generation"),
    **dict.fromkeys(("tokens", "mix", "pack"), "packing"),
    **dict.fromkeys(
        ("filter", "decontaminate", "signatures", "buckets", "clusters", "dedup", "diversity"),
        "curation",
    ),
}
_ONE_PARTITION = ("seeds", "clusters", "diversity", "mix")
_PROFILE = """
          {name}:
            models: {{teacher: {teacher}}}
            tokenizer: datagen-32k
            ledger: .datagen/ledger.sqlite
            benchmarks: [sample]
            budget_tokens: 24_000
            row_tokens: 512
            max_seeds: {{quiz: {rows}, keep: 8}}
            seeds_per_shard: 8
            rows_per_shard: 4
            max_failed_share: 0.02
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A finished step: where it lies under out/, how many parts it has, how long it took."""

    name: str
    kind: str
    folder: str
    parts: int
    seconds: float

    @property
    def phase(self) -> str:
        """The phase of a build that the step's own work belongs to."""
        return _PHASE_OF[self.kind]


class Workshop:
    """A workspace under `folder`, a snapshot of the engine, and the environment of its builds."""

    def __init__(
        self,
        folder: Path,
        *,
        endpoint: str,
        rows: int = 24,
        max_concurrency: int = 8,
        timeout_s: float = 600.0,
        profile: str = "served",
    ) -> None:
        self.root = folder / "workspace"
        self.out = self.root / "out"
        self.notes = folder / "acknowledged"
        self.ledger = self.root / ".datagen" / "ledger.sqlite"
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self.profile = profile
        self._code = folder / "code"
        self._rows = rows
        self._endpoint = endpoint
        _snapshot(self._code)
        _write_workspace(self.root)
        self.serve(max_concurrency=max_concurrency, timeout_s=timeout_s)

    def serve(
        self, *, endpoint: str | None = None, max_concurrency: int, timeout_s: float = 600.0
    ) -> None:
        """Write the profiles anew: where the model answers and how it is asked."""
        served = {
            "url": endpoint or self._endpoint,
            "api_key_env": "",
            "max_concurrency": max_concurrency,
        }
        teachers = {
            "served": {"model": "scripted", "endpoints": [served], "timeout_s": timeout_s},
            "embedded": {"model": "smollm2-135m"},
        }
        profiles = [
            _PROFILE.format(name=name, teacher=json.dumps(teacher), rows=self._rows)
            for name, teacher in teachers.items()
        ]
        _write(
            self.root / "datagen.yaml",
            "default_profile: served\nprofiles:" + "".join(profiles),
        )

    def command(self, *words: str) -> list[str]:
        """A command line of the engine, with this workspace."""
        return [sys.executable, "-m", "datagen", *words, "--workspace", str(self.root)]

    def environment(self) -> dict[str, str]:
        """The environment of a build; temporary files and notes go to places of their own."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "DATAGEN_"))}
        cache = os.environ.get("DATAGEN_CACHE")
        return {
            **kept,
            **({"DATAGEN_CACHE": cache} if cache else {}),
            "PYTHONPATH": str(self._code),
            "TMPDIR": str(self.temporary),
            NOTES: str(self.notes),
        }

    def start(
        self, *more: str, before: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start a build; `before` is put in front of its command line (a tracer, say)."""
        words = ("build", "--mixture", "small", "--profile", self.profile, "--json", "--quiet")
        return subprocess.Popen(
            [*before, *self.command(*words, *more)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._code,
            env={**self.environment(), **(environment or {})},
        )

    def build(self) -> dict[str, Any]:
        """Build to the end; raises RuntimeError with what a failed build said."""
        process = self.start()
        said, complaint = process.communicate()
        if process.returncode:
            raise RuntimeError(f"the build ended with {process.returncode}: {complaint}")
        summary: dict[str, Any] = json.loads(said)
        return summary

    def run(self, *words: str) -> str:
        """Run another command of the engine; raises RuntimeError where it fails."""
        done = subprocess.run(
            self.command(*words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd=self._code,
            env=self.environment(),
        )
        if done.returncode:
            raise RuntimeError(f"{words[0]} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def steps(self) -> list[Step]:
        """The steps of the finished build, in the plan's order."""
        profile = ("--mixture", "small", "--profile", self.profile)
        found: list[Step] = []
        began = None
        for row in json.loads(self.run("plan", *profile, "--json"))["steps"]:
            folder = f"{row['step']}/{row['fingerprint']}"
            manifest = self.out / folder / "manifest.json"
            files = json.loads(manifest.read_bytes())["files"]
            shards = sum(entry["path"].startswith("shards/") for entry in files)
            ended = manifest.stat().st_mtime
            found.append(
                Step(
                    name=row["step"],
                    kind=row["kind"],
                    folder=folder,
                    parts=1 if row["kind"] in _ONE_PARTITION else shards,
                    seconds=ended - began if began else 0.2,
                )
            )
            began = ended
        return found

    def forget(self, *, answers: bool) -> None:
        """Drop everything built and noted and, with `answers`, the ledger too."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.notes.unlink(missing_ok=True)
        if answers:
            shutil.rmtree(self.ledger.parent, ignore_errors=True)

    def answers(self) -> dict[str, tuple[str, str]]:
        """Each ledger key with its messages and answer; reads a copy, touches nothing."""
        with tempfile.TemporaryDirectory(dir=self.temporary) as folder:
            for path in self.ledger.parent.glob(f"{self.ledger.name}*"):
                if not path.name.endswith("-shm"):
                    shutil.copy(path, folder)
            copy = Path(folder) / self.ledger.name
            if not copy.exists() or not copy.stat().st_size:
                return {}
            connection = sqlite3.connect(copy)
            try:
                if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    return {}
                rows = connection.execute("SELECT key, messages, answer FROM answers").fetchall()
            finally:
                connection.close()
        return {key: (messages, answer) for key, messages, answer in rows}

    def acknowledged(self) -> set[str]:
        """The ledger keys that methods have been given an answer for."""
        return set(self.notes.read_text().split()) if self.notes.exists() else set()


def _snapshot(code: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "datagen", code / "datagen", ignore=ignored)
    (code / "tests").mkdir()
    for name in ("__init__.py", "two_calls.py"):
        shutil.copy(ROOT / "tests" / name, code / "tests")


def _write_workspace(root: Path) -> None:
    for path, text in _FILES.items():
        _write(root / path, text)
    for name, column in _SOURCES.items():
        sample = f"manifests/samples/{name}.jsonl"
        _write(
            root / f"manifests/sources/{name}.yaml",
            f"{{name: {name}, title: Sample, licence: CC0-1.0, key: id, text: {column}, "
            f"columns: [id, {column}], sample: {{files: [{sample}]}}}}",
        )
        _write_sections(ROOT / sample, root / sample, column)
    for path in (
        "manifests/benchmarks/sample.yaml",
        "manifests/samples/benchmark_sample.jsonl",
        "manifests/models/smollm2-135m.yaml",
        "manifests/tokenizers/datagen-32k.yaml",
        *(f"manifests/tokenizers/datagen-32k/{p.name}" for p in _tokenizer_files()),
    ):
        _copy(root, path)


def _write_sections(source: Path, target: Path, column: str) -> None:
    """Cut the rows of a sample at blank lines, so that a few pages give many short rows."""
    rows = []
    for line in source.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        parts = [part for part in row[column].split("\n\n") if len(part.split()) >= 20]
        rows += [{"id": f"{row['id']}/{n}", column: part} for n, part in enumerate(parts)]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _tokenizer_files() -> list[Path]:
    return sorted((ROOT / "manifests/tokenizers/datagen-32k").iterdir())


def _copy(root: Path, path: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / path, root / path)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [line.removeprefix(" " * 8) for line in text.splitlines()]
    path.write_text("\n".join(lines).lstrip("\n") + "\n", encoding="utf-8")

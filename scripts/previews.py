#!/usr/bin/env python
"""Write docs/previews.md: what every recipe kept and refused, and what its records look like.

    datagen try legal/ecfr -n 50 --out /tmp/tried          # once for each recipe
    python scripts/previews.py /tmp/tried                   # or the out folders of builds

Takes any number of out folders. Of a folder with builds the one made last is shown, of a folder
with trials each recipe's last; a later folder wins where two hold the same recipe and source.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datagen.plan.builds import find_build
from datagen.record import Record, Reject
from datagen.shards.manifest import is_finished, read_manifest
from datagen.shards.records import read_records, read_rejects
from datagen.shards.sql import RECORD_KINDS, FinishedStep, closure
from datagen.workspace.load import Workspace

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "previews.md"
_HEAD = """\
# Previews

What each recipe made of its seeds: written by `scripts/previews.py` from runs of `datagen try` or
`datagen build`. A seed may give several records, and several rejects. Texts are shortened to about
{characters} characters.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One recipe on one source: its steps by kind, from seeds to the last that judged records."""

    recipe: str
    source: str
    steps: dict[str, FinishedStep] = field(default_factory=dict)

    @property
    def stages(self) -> list[FinishedStep]:
        """The steps that records passed, in order."""
        return [self.steps[kind] for kind in RECORD_KINDS if kind in self.steps]

    @property
    def seeds(self) -> int:
        """How many seeds the recipe saw."""
        return int(self.steps["generate"].manifest.extra.get("seeds", 0))

    @property
    def kept(self) -> int:
        """How many records are left after the last stage."""
        return self.stages[-1].manifest.rows

    @property
    def model(self) -> str:
        """The models that the kept records name, or `none`."""
        found = {record.lineage.model for record in self.records()} - {None}
        return ", ".join(sorted(map(str, found))) or "none"

    def reasons(self) -> Counter[tuple[str, str]]:
        """Rejects by stage and reason, also those of failed rows."""
        counts: Counter[tuple[str, str]] = Counter()
        for reject in self.rejects():
            counts[reject.stage.partition("/")[0], reject.reason] += 1
        return counts

    def records(self) -> Iterator[Record]:
        """The kept records."""
        return read_records(_paths(self.stages[-1], "shards"))

    def rejects(self) -> Iterator[Reject]:
        """What the recipe's stages refused."""
        for step in self.stages:
            yield from read_rejects(_paths(step, "rejects"))


def _paths(step: FinishedStep, folder: str) -> list[Path]:
    return [step.directory / entry.path for entry in step.manifest.files_under(folder)]


def runs_of(out: Path) -> Iterator[Run]:
    """The runs that an out folder holds: those of its last build, else its last trials."""
    if (out / "latest").is_dir():
        yield from _runs(closure(find_build(out, None), out))
        return
    newest: dict[str, Path] = {}
    manifests = sorted((out / "filter").rglob("manifest.json"), key=lambda p: p.stat().st_mtime_ns)
    for path in manifests:
        if is_finished(path.parent):
            newest[read_manifest(path.parent).step] = path.parent
    for directory in newest.values():
        yield from _runs(closure(directory, out))


def _runs(steps: Iterable[FinishedStep]) -> Iterator[Run]:
    found: dict[str, Run] = {}
    for step in steps:
        kind, _, draw = step.manifest.step.partition("/")
        if kind in RECORD_KINDS:
            recipe, _, source = draw.partition("@")
            run = found.setdefault(draw, Run(recipe=recipe, source=source))
            run.steps[kind] = step
    yield from found.values()


def shortened(text: str, characters: int) -> str:
    """The beginning of a text, cut at a word, with an ellipsis where something is missing."""
    text = re.sub(r"\n{3,}", "\n\n", text.strip())
    if len(text) <= characters:
        return text
    cut = text[: characters + 1].rsplit(None, 1)[0]
    return f"{cut if len(cut) > characters // 2 else text[:characters]} …"


def fenced(text: str) -> str:
    """A text in a fence that nothing inside can close."""
    visible = "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)
    runs = [len(run) for run in re.findall(r"`+", visible)]
    fence = "`" * max(3, *(length + 1 for length in runs), 3)
    return f"{fence}text\n{visible}\n{fence}"


def spoken(record: Record) -> str:
    """A record as text: the document, or one turn after another."""
    if record.messages is None:
        return record.text or ""
    turns = []
    for message in record.messages:
        thought = f"<think> {message.reasoning} </think> " if message.reasoning else ""
        mark = "" if message.trained or message.role != "assistant" else " (not trained)"
        turns.append(f"{message.role}{mark}: {thought}{message.content}")
    return "\n".join(turns)


def some(records: Iterable[Any], count: int, key: Any) -> list[Any]:
    """The `count` items of the smallest hashes."""
    return sorted(records, key=lambda one: hashlib.sha256(key(one).encode()).digest())[:count]


def cell(value: object) -> str:
    """A value inside a table."""
    return re.sub(r"([|<>`*_\[\]\\])", r"\\\1", " ".join(str(value).split()))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *[[cell(value) for value in row] for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def section(runs: Sequence[Run], count: int, characters: int) -> str:
    """One recipe: its sources, what was refused why, and some records."""
    parts = [f"## {runs[0].recipe}"]
    rows = []
    for run in runs:
        reasons = sorted(run.reasons().items(), key=lambda item: (-item[1], item[0]))
        said = ", ".join(f"{reason} {n}" for (_, reason), n in reasons) or "none"
        rows.append((run.source, run.seeds, run.kept, sum(run.reasons().values()), said, run.model))
    parts.append(table(["source", "seeds", "kept", "rejected", "by reason", "model"], rows))
    kept = [record for run in runs for record in run.records()]
    for record in some(kept, count, lambda one: one.id):
        if record.messages is None:
            text = shortened(spoken(record), characters)
        else:
            text = shortened(spoken(record), 2 * characters)
        parts.append(fenced(text))
    if not kept:
        parts.append("Nothing was kept. A reject of each of the commonest reasons:")
        rejects = [reject for run in runs for reject in run.rejects()]
        by_reason = Counter(reject.reason for reject in rejects)
        for reason, _ in by_reason.most_common(count):
            own = [reject for reject in rejects if reject.reason == reason]
            (one,) = some(own, 1, lambda r: f"{r.row_key} {r.detail} {r.content}")
            said = f"{one.reason}: {one.detail}\n{one.content or ''}"
            parts.append(fenced(shortened(said, characters)))
    return "\n\n".join(parts)


def page(runs: Iterable[Run], recipes: Sequence[str], count: int, characters: int) -> str:
    """The whole page: a summary, then a section for each recipe that ran."""
    by_recipe: dict[str, list[Run]] = {}
    for run in runs:
        by_recipe.setdefault(run.recipe, []).append(run)
    names = sorted(by_recipe)
    summary = table(
        ["recipe", "seeds", "kept", "rejected"],
        [
            (
                name,
                sum(run.seeds for run in by_recipe[name]),
                sum(run.kept for run in by_recipe[name]),
                sum(sum(run.reasons().values()) for run in by_recipe[name]),
            )
            for name in names
        ],
    )
    missing = [name for name in recipes if name not in by_recipe]
    parts = [_HEAD.format(characters=characters).rstrip(), summary]
    if missing:
        parts.append(f"Not run here: {', '.join(missing)}.")
    parts += [section(by_recipe[name], count, characters) for name in names]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Read the out folders, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", nargs="+", type=Path, help="out folder of trials or builds")
    parser.add_argument("-n", dest="count", type=int, default=3, help="previews a recipe")
    parser.add_argument("--characters", type=int, default=300, help="length of a preview")
    parser.add_argument("--page", type=Path, default=PAGE, help="where to write")
    chosen = parser.parse_args()
    found: dict[tuple[str, str], Run] = {}
    for out in chosen.out:
        for run in runs_of(out.resolve()):
            found[run.recipe, run.source] = run
    if not found:
        sys.exit("no finished trial or build in these folders")
    recipes = Workspace(ROOT).names("generators", recipe=True)
    runs = [found[key] for key in sorted(found)]
    chosen.page.write_text(page(runs, recipes, chosen.count, chosen.characters), encoding="utf-8")
    print(f"{chosen.page}: {len({run.recipe for run in runs})} of {len(recipes)} recipes")


if __name__ == "__main__":
    main()

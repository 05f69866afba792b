"""The README and docs/ hold: commands parse and run, links lead somewhere, no key is left out.

A fenced `sh` block is run as it stands. An HTML comment right above a block says more:
`<!-- needs the embedded model -->` (run under the mark `embedded`), `<!-- needs torch -->`, any
other `<!-- needs ... -->` (not run here), `<!-- file: path -->` (the block is written there first).
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
import pytest
from pydantic.fields import FieldInfo

from datagen.cli.group import datagen
from datagen.curate.chain import describe_filters
from datagen.plan.builds import find_build
from datagen.plan.resolve import resolve_function
from datagen.shards import sql
from datagen.workspace import specs
from datagen.workspace.locate import init_workspace

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "AGENTS.md", ROOT / "CHANGELOG.md", *DOCS]
EMBEDDED = "needs the embedded model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block of a page: its language, its text, and what the comments above it say."""

    page: Path
    line: int
    language: str
    text: str
    notes: tuple[str, ...]

    @property
    def needs(self) -> str | None:
        """What a machine must have to run it."""
        return next((note for note in self.notes if note.startswith("needs ")), None)

    @property
    def file(self) -> str | None:
        """Where in the workspace the block belongs."""
        found = [note.removeprefix("file: ") for note in self.notes if note.startswith("file: ")]
        return found[0] if found else None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page in order."""
    found: list[Block] = []
    notes: list[str] = []
    fence: tuple[int, str, str] | None = None
    body: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if fence is not None and line.strip() == fence[2]:
            start, language, _ = fence
            found.append(
                Block(
                    page=page,
                    line=start,
                    language=language,
                    text="\n".join(body) + "\n",
                    notes=tuple(notes),
                )
            )
            fence, notes = None, []
        elif fence is not None:
            body.append(line)
        elif opening := re.match("`{3,}", line):
            fence, body = (number, line.strip("` "), opening[0]), []
        elif comment := re.fullmatch(r"<!-- (.+) -->", line):
            notes.append(comment[1])
        elif line.strip():
            notes = []
    assert fence is None, f"{page.name}: a block is not closed"
    return found


def shell_blocks(page: Path) -> list[Block]:
    """The blocks that a reader copies into a shell."""
    return [block for block in blocks(page) if block.language == "sh"]


def commands(text: str) -> Iterator[list[str]]:
    """The simple commands of a shell text, as words."""
    plain = re.sub(r"\\\n", " ", re.sub(r"(?m)(^|\s)#.*$", "", text))
    words: list[str] = []
    for word in re.findall(r"""(?:"[^"]*"|'[^']*'|[^\s"';|&()<>])+|[;|&()<>\n]""", plain):
        if re.fullmatch(r"[;|&()<>\n]", word):
            yield words
            words = []
        else:
            words += shlex.split(word)
    yield words


SHELL = [block for page in PAGES for block in shell_blocks(page)]


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_commands_are_ones_that_exist(block: Block) -> None:
    """Every `datagen` line parses with its options; every script is there to be run."""
    for words in commands(block.text):
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words[:1] == ["datagen"] and words[1:2] != ["--help"] and len(words) > 1:
            command = datagen.get_command(click.Context(datagen), words[1])
            assert command is not None, f"{block}: no command {words[1]}"
            command.make_context(words[1], words[2:])
        elif words and words[0].startswith("scripts/"):
            assert os.access(ROOT / words[0], os.X_OK), f"{block}: {words[0]} cannot be run"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Relative links name files, and headings that those files have."""
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            headings = re.findall(r"(?m)^#+ (.+)$", target.read_text(encoding="utf-8"))
            known = [re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in headings]
            assert anchor in known, f"{page.name} links to {link}"


# --- what docs/ must not leave out ---------------------------------------------------------------


def spec_name(spec: type[specs.Spec]) -> str:
    """A spec as its section is headed: `HubPin` -> `hub pin`, `SourceSpec` -> `source`."""
    name = spec.__name__.removesuffix("Spec")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def type_words(annotation: Any) -> str:
    """A field's type as the tables of docs/workspace.md write it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        return "null"
    if origin is Annotated:
        return type_words(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(type_words(argument) for argument in arguments)
    if origin is Literal:
        return " or ".join(f"`{argument}`" for argument in arguments)
    if origin is tuple:
        return f"list of {type_words(arguments[0])}"
    if origin is dict:
        return f"table of {type_words(arguments[1])}"
    if annotation is Any:
        return "any value"
    if issubclass(annotation, specs.Spec):
        name = spec_name(annotation)
        return f"[{name}](#{name.replace(' ', '-')})"
    return {str: "text", int: "whole number", float: "number", bool: "yes/no"}[annotation]


def default_words(field: FieldInfo) -> str:
    """A field's default as the tables of docs/workspace.md write it."""
    value = field.default
    if field.is_required():
        return "required"
    if value is None or value in ((), {}):
        return "none" if value is None else "empty"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, specs.Spec):
        return "its defaults"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


SPECS = [
    value
    for value in vars(specs).values()
    if isinstance(value, type) and issubclass(value, specs.Spec) and value is not specs.Spec
]


@pytest.mark.parametrize("spec", SPECS, ids=spec_name)
def test_workspace_page_has_every_key(spec: type[specs.Spec]) -> None:
    """docs/workspace.md: a section for each kind, a row for each key with its type and default."""
    text = (ROOT / "docs/workspace.md").read_text(encoding="utf-8")
    section = re.search(rf"(?msi)^#+ {spec_name(spec)}\n(.*?)(?=^#+ |\Z)", text)
    assert section, f"docs/workspace.md has no section {spec_name(spec)!r}"
    rows = re.findall(r"(?m)^\| (`.+?`) \| (.+?) \| (.+?) \| (.+) \|$", section[1])
    wanted = [
        (f"`{key}`", type_words(field.annotation), default_words(field))
        for key, field in spec.model_fields.items()
    ]
    assert [row[:3] for row in rows] == wanted


def test_curation_page_names_every_filter() -> None:
    """docs/curation.md lists what `datagen list filters` lists."""
    text = (ROOT / "docs/curation.md").read_text(encoding="utf-8")
    missing = [f.name for f in describe_filters(resolve_function) if f"`{f.name}`" not in text]
    assert missing == []


# --- what a reader would type --------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A workspace of the starter's own files, and the shell that a reader would have there."""

    root: Path

    def run(self, text: str) -> str:
        """Run a shell text; returns what it printed."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        kept = {k: v for k, v in os.environ.items() if not k.startswith("OPENAI_")}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.root,
            env={**kept, "PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done.stdout


def starter(folder: Path) -> Place:
    """A starter workspace in a folder of its own."""
    init_workspace(folder)
    return Place(root=folder)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The starter workspace with phase2 built from its pages alone: nobody is asked."""
    place = starter(tmp_path_factory.mktemp("pages") / "workspace")
    for name in ("phase1", "phase2"):
        mixture = place.root / "mixtures" / f"{name}.yaml"
        text = mixture.read_text(encoding="utf-8")
        mixture.write_text(text.replace("fact_seeking: 1, ", ""), encoding="utf-8")
    place.run("datagen build --mixture phase2 --quiet")
    return place


def runnable(*names: Path) -> list[Block]:
    """The shell blocks of pages that need nothing but the installed package."""
    return [
        block
        for page in names
        for block in shell_blocks(page)
        if block.needs in (None, "needs torch")
    ]


@pytest.mark.parametrize(
    "block", runnable(README, *(page for page in DOCS if page.name != "methods.md")), ids=str
)
def test_commands_run(block: Block, pages: Place) -> None:
    """A block without needs runs in the workspace built from pages; training takes two steps."""
    if block.needs == "needs torch" and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    pages.run(re.sub(r"--steps \d+", "--steps 2", block.text))


def test_records_page_has_every_column(pages: Place) -> None:
    """docs/records.md names the columns of each view in their order."""
    text = (ROOT / "docs/records.md").read_text(encoding="utf-8")
    out = pages.root / "out"
    connection = sql.connect(find_build(out, "phase2"), out)
    token_row = text.partition("## A token row")[2].partition("\n## ")[0]
    for view in sql.VIEWS:
        row = re.search(rf"(?m)^\| `{view}` \| .+ \| (.+) \|$", text)
        assert row, f"docs/records.md has no view {view}"
        said = re.findall(r"`(\w+)`", row[1])
        if view == "rows":
            said += re.findall(r"(?m)^\| `(\w+)` ", token_row)
        assert said == [line[0] for line in sql.query(connection, f"DESCRIBE {view}").rows]


def test_methods_page_works_as_written(tmp_path: Path) -> None:
    """docs/methods.md: its files written, its commands run, from top to bottom."""
    place = starter(tmp_path / "workspace")
    printed = ""
    for block in blocks(ROOT / "docs/methods.md"):
        if block.file is not None:
            path = place.root / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "sh":
            printed += place.run(f"export PYTHONPATH=.\n{block.text}")
    assert "What is" in printed and "academic_facts" in printed and "my_quiz" in printed


@pytest.mark.embedded
@pytest.mark.timeout(600)
def test_commands_with_the_embedded_model_run(tmp_path: Path) -> None:
    """The README's tour on a build that asked the model about a few pages."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("the embedded model needs the extra 'local'")
    place = starter(tmp_path / "workspace")
    profile = place.root / "datagen.yaml"
    text = profile.read_text(encoding="utf-8")
    fewer = re.sub(r"max_seeds: \{fact_seeking: \d+\}", "max_seeds: {fact_seeking: 4}", text)
    assert fewer != text
    profile.write_text(fewer, encoding="utf-8")
    for block in shell_blocks(README):
        if block.needs == EMBEDDED:
            place.run(block.text)

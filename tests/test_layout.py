"""The house stands as its plan says: who imports whom, one name, a quick `--help`."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parents[1]
HEAVY = (
    "torch ray datasets duckdb spacy datatrove pyarrow openai pydantic numpy numba jinja2 yaml "
    "tokenizers huggingface_hub rich"
).split()


def test_rooms_import_downwards_only() -> None:
    """import-linter keeps the contracts of pyproject.toml."""
    assert lint_imports(str(ROOT / "pyproject.toml"), no_cache=True, no_logo=True) == 0


def test_one_import_name() -> None:
    """The wheel installs `datagen` and nothing beside it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    targets = [*wheel["only-include"], *wheel["force-include"].values()]
    assert {target.split("/")[0] for target in targets} == {"datagen"}
    assert project["project"]["scripts"] == {"datagen": "datagen.__main__:main"}


def test_every_room_is_a_package() -> None:
    """A folder with Python files has an `__init__.py`: without one no contract sees it."""
    folders = {path.parent for path in (ROOT / "datagen").rglob("*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_help_imports_nothing_heavy() -> None:
    """`datagen --help` reads the table of commands and click, no more."""
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "datagen", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "build" in ran.stdout
    imported = {
        line.rsplit("|", 1)[1].strip().split(".")[0]
        for line in ran.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "click" in imported
    assert sorted(imported.intersection(HEAVY)) == []


def test_every_command_is_in_the_table() -> None:
    """What `--help` lists exists under its name, and says in one line what it does."""
    from datagen.cli.group import datagen

    with datagen.make_context("datagen", ["--help"], resilient_parsing=True) as context:
        for name in datagen.list_commands(context):
            command = datagen.get_command(context, name)
            assert command is not None and command.name == name
            assert command.help and re.match(r"[A-Z].*\.", command.help)

"""docs/task_seeded.md: its files written, a new data set stands; its tables leave nothing out."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from datagen.cli import run
from datagen.generate.items.blind import Consistency
from datagen.generate.items.checks import Limits
from datagen.generate.items.written import Columns
from datagen.generate.task_seeded import task_seeded
from datagen.workspace.locate import init_workspace
from tests.generate.test_task_seeded import ROOT, Teaching, recipe_names
from tests.servers import FaultServer

PAGE = (ROOT / "docs" / "task_seeded.md").read_text(encoding="utf-8")
ODD = Teaching(
    written={
        "question": "Which of these tools does not cut?",
        "answer": "pliers",
        "wrong": ["chisel", "saw", "scissors"],
    },
    answer="pliers",
)


def section(title: str) -> str:
    """What the page says under a heading, without the headings below it."""
    found = re.search(rf"(?ms)^##+ {title}\n(.*?)(?=^##|\Z)", PAGE)
    assert found, title
    return found[1]


def keys(text: str) -> list[str]:
    """The keys in the first column of a table."""
    rows = re.findall(r"(?m)^\| (`[^|]+`) \|", text)
    return [key for row in rows for key in re.findall(r"`(\w+)`", row)]


def test_tables_name_every_argument() -> None:
    parameters = inspect.signature(task_seeded).parameters
    assert set(keys(section("Arguments"))) == set(parameters) - {"seed", "ask"}
    assert set(keys(section("Columns"))) == set(Columns.model_fields) - {"first_index"}
    assert "first_index" in section("Columns")
    assert set(keys(section("Limits"))) == set(Limits.model_fields)
    assert all(f"`{name}`" in section("Arguments") for name in Consistency.model_fields)


def test_the_page_names_every_recipe() -> None:
    first = PAGE.partition("## How")[0]
    assert [name for name in recipe_names() if f"`{name}`" not in first] == []


def workspace(folder: Path) -> Path:
    """The starter with the page's files in it."""
    init_workspace(folder)
    blocks = re.findall(r"(?ms)^<!-- file: (\S+) -->\n```\w+\n(.*?)^```", PAGE)
    assert len(blocks) == 5
    for path, text in blocks:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return folder


def tell(*arguments: str) -> str:
    """Run a command that succeeds; returns what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(list(arguments))
    assert code == 0, out.getvalue()[-2000:] + err.getvalue()[-2000:]
    return out.getvalue()


def test_a_data_set_is_added_by_yaml_and_prompts_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = workspace(tmp_path / "workspace")
    monkeypatch.setenv("DATAGEN_LEDGER", str(tmp_path / "ledger.sqlite"))
    at = ("--workspace", str(root))
    found = json.loads(tell("check", "--json", *at))
    assert not [f for f in found["findings"] if "odd_one_out" in str(f) and f["level"] == "error"]
    with FaultServer(answer=ODD) as server:
        reports: list[dict[str, Any]] = json.loads(
            tell(
                "try", "task_seeded/odd_one_out", "-n", "3", "--show", "9", "--json", "--quiet",
                "--endpoint", server.url, "--model", "m", "--out", str(tmp_path / "out"), *at,
            )
        )  # fmt: skip
    (report,) = reports
    assert report["seeds"] == 3 and report["kept"] == 3
    texts = [record["content"] for record in report["records"]]
    assert all("pliers" in text and "not cut" in text for text in texts)
    letters = {record["metadata"]["answer_letter"] for record in report["records"]}
    assert len(letters) == 3

"""A mistake of any kind ends in one screen: the place, the remedy, the exit code, no traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Ran, Tiny

SCREEN_LINES = 15
Mistake = Callable[[Tiny], str]
RECIPE, SOURCE, CHAIN = (
    "generators/note/recipe.yaml",
    "manifests/sources/notes.yaml",
    "filters/plain.yaml",
)
MIXTURE, ROWS = "mixtures/small.yaml", "manifests/samples/notes.jsonl"


def one_screen(ran: Ran, code: int, *said: str) -> None:
    """The run failed as a person would like it to."""
    assert ran.code == code, ran.err
    assert "Traceback" not in ran.err
    assert len(ran.err.splitlines()) <= SCREEN_LINES
    assert ran.err.startswith("error: ")
    assert "\n  fix: " in ran.err
    for words in said:
        assert words in ran.err


def edit(path: str, old: str, new: str) -> Mistake:
    """Put `new` for `old`; the place is where that stands."""
    return lambda tiny: f"{path}:{tiny.edit(path, old, new)}"


def after(path: str, old: str, new: str) -> Mistake:
    """Put a line below `old`; the place is that line."""

    def change(tiny: Tiny) -> str:
        line = tiny.edit(path, old, old + "\n" + new)
        return f"{path}:{line + 1}"

    return change


def at(place: str, change: Mistake) -> Mistake:
    """A mistake that is noticed elsewhere."""

    def put(tiny: Tiny) -> str:
        change(tiny)
        return place

    return put


def outside(tiny: Tiny) -> str:
    """A link inside the workspace to a file beside it."""
    target = tiny.root.parent / "beside.jsonl"
    target.write_text('{"id": "1", "text": "x"}\n', encoding="utf-8")
    (tiny.root / ROWS).unlink()
    (tiny.root / ROWS).symlink_to(target)
    return f"{SOURCE}:9"


def gone(path: str, place: str) -> Mistake:
    """A file that is not there."""

    def remove(tiny: Tiny) -> str:
        (tiny.root / path).unlink()
        return place

    return remove


def write(path: str, text: str, line: int) -> Mistake:
    """A file that holds something else."""

    def put(tiny: Tiny) -> str:
        tiny.write(path, text)
        return f"{path}:{line}"

    return put


WRONG_WORKSPACE: dict[str, tuple[Mistake, str]] = {
    "unknown key": (edit(RECIPE, "method:", "methode:"), "did you mean 'method'?"),
    "unknown nested key": (edit(MIXTURE, "share: 50", "sharee: 50"), "did you mean 'share'?"),
    "key twice": (after(RECIPE, "title: Framed notes", "title: again"), "stands twice"),
    "bad syntax": (after(RECIPE, "title: Framed notes", "  a: : b"), "not valid YAML"),
    "control character": (after(RECIPE, "title: Framed notes", "version: a\0b"), "0x00"),
    "no date": (after(RECIPE, "title: Framed notes", "version: 2024-13-13"), "is no value"),
    "within itself": (
        at(CHAIN, write(CHAIN, "name: plain\ntitle: &a [*a]\n", 1)),
        "nested too deeply, or within itself",
    ),
    "no mapping": (write(CHAIN, "- plain\n", 1), "no keys and values"),
    "wrong type": (edit(MIXTURE, "share: 50", "share: fifty"), "a valid number"),
    "missing key": (at(f"{MIXTURE}:1", edit(MIXTURE, "title: Mixture small\n", "")), "'title'"),
    "wrong name": (edit(MIXTURE, "name: small", "name: smal"), "the file says 'small'"),
    "shares that do not sum": (
        at(f"{MIXTURE}:5", edit(MIXTURE, "share: 50", "share: 51")),
        "sum to 101",
    ),
    "category without source": (
        at(f"{MIXTURE}:14", edit(MIXTURE, "    draw:\n      page@chats: 1\n", "")),
        "category 'chats' has no source",
    ),
    "unknown method": (edit(RECIPE, "tiny_ext:framed", "documnt"), "no method 'documnt'"),
    "unknown function": (edit(RECIPE, "tiny_ext:framed", "tiny_ext:frame"), "'framed'?"),
    "unknown module": (edit(RECIPE, "tiny_ext:framed", "tinny_ext:framed"), "no module"),
    "unknown argument": (edit(RECIPE, "mark: '!'", "marc: '!'"), "did you mean 'mark'?"),
    "broken extension": (
        at("extension/tiny_ext.py:4", edit("extension/tiny_ext.py", "from datagen.record", "fro")),
        "not valid Python",
    ),
    "extension that fails": (
        at("page/recipe.yaml:3", after("extension/tiny_ext.py", "Draft, Message", "1 / 0")),
        "ZeroDivisionError",
    ),
    "unknown filter": (edit(CHAIN, "text.too_short", "text.too_shrt"), "'text.too_short'?"),
    "unknown argument of a filter": (
        at(f"{CHAIN}:4", edit(CHAIN, "min_words", "min_wrds")),
        "min_wrds",
    ),
    "unknown chain": (edit(RECIPE, "filters: plain", "filters: plan"), "did you mean 'plain'?"),
    "unknown source": (edit(RECIPE, "- notes", "- notez"), "did you mean 'notes'?"),
    "unknown source in a mixture": (edit(MIXTURE, "page@pages", "page@pagez"), "'pages'?"),
    "unknown recipe": (edit(MIXTURE, "page@pages", "pag@pages"), "did you mean 'page'?"),
    "source not taken": (edit(MIXTURE, "note: 1", "note@pages: 1"), "does not take"),
    "any source": (edit(MIXTURE, "note: 1", "page: 1"), "write page@SOURCE"),
    "unknown corpus": (after(MIXTURE, "max_epochs: 50", "corpus: corps"), "'corpus'?"),
    "unknown role": (after(RECIPE, "version: x", "model: teacher"), "no model as 'teacher'"),
    "unknown tokenizer": (edit("datagen.yaml", "datagen-32k", "datagen-33k"), "'datagen-32k'?"),
    "unknown licence": (
        at(f"{SOURCE}:3", after(SOURCE, "licence: CC0-1.0", "sample_licence: secret")),
        "not known",
    ),
    "parent folder": (at(f"{SOURCE}:9", edit(SOURCE, ROWS, "../x.jsonl")), "not a path inside"),
    "absolute path": (at(f"{SOURCE}:9", edit(SOURCE, ROWS, "/x.jsonl")), "not a path inside"),
    "NUL in a path": (at(f"{SOURCE}:9", edit(SOURCE, ROWS, '"a\\0b"')), "not a path inside"),
    "link outside": (outside, "leads outside"),
    "unset variable": (at(f"{SOURCE}:9", edit(SOURCE, ROWS, "${NOT_SET}/x")), "NOT_SET"),
    "no such file": (gone(ROWS, f"{SOURCE}:9"), "no file matches"),
    "sampling for no prompt": (
        after(RECIPE, "version: x", "sampling: {framee: {n: 1}}"),
        "no framee.jinja",
    ),
    "prompt syntax": (write("generators/note/frame.jinja", "a\n{{ b \n", 2), "template syntax"),
    "undefined variable": (
        write("generators/note/frame.jinja", "a\n{{ marc }}\n", 2),
        "'marc' is undefined",
    ),
    "prompt not there": (
        gone("generators/note/frame.jinja", "generators/note"),
        "write frame.jinja",
    ),
    "tokenizer file gone": (
        gone("manifests/tokenizers/datagen-32k/tokenizer.json", "datagen-32k.yaml:3"),
        "has no file tokenizer.json",
    ),
}


@pytest.mark.parametrize("kind", WRONG_WORKSPACE)
def test_wrong_workspace(tiny: Tiny, kind: str) -> None:
    """Exit code 2, the file and line of the mistake, and what to do about it."""
    tiny.change(RECIPE, version="x")
    mistake, said = WRONG_WORKSPACE[kind]
    place = mistake(tiny)
    ran = tiny.run("build", "--mixture", "small", "--quiet")
    one_screen(ran, 2, f"{place}: " if ":" in place else place, said)
    assert not (tiny.out / "pack").exists()


WRONG_DATA: dict[str, tuple[Mistake, str]] = {
    "missing column": (
        at(ROWS, edit(SOURCE, "columns:\n", "columns:\n- tittle\n")),
        "no column 'tittle'",
    ),
    "wrong sha256": (
        at(f"{SOURCE}:9", edit(SOURCE, "sample:", f"sample:\n  sha256: {{{ROWS}: '{'f' * 64}'}}")),
        "pins ffffffffffff",
    ),
    "no JSON": (write(ROWS, '{"id": "1", "text": "x"}\n{"id"\n', 2), "not JSON"),
    "key twice": (
        at(f"{ROWS}#1", write(ROWS, '{"id": "1", "text": "x"}\n{"id": "1", "text": "y"}\n', 2)),
        "stands twice",
    ),
    "tokenizer file changed": (
        at(
            "manifests/tokenizers/datagen-32k/chat_template.jinja",
            edit(
                "manifests/tokenizers/datagen-32k/chat_template.jinja",
                "in messages %}",
                "in messages -%}",
            ),
        ),
        "the manifest of tokenizer 'datagen-32k' says",
    ),
    "method that fails": (
        at("generate/note@notes", edit("extension/tiny_ext.py", "mark=mark)", "mark=1 / 0)")),
        "ZeroDivisionError",
    ),
}


@pytest.mark.parametrize("kind", WRONG_DATA)
def test_wrong_data(tiny: Tiny, kind: str) -> None:
    """Exit code 4, the file and row, and what to do about it."""
    mistake, said = WRONG_DATA[kind]
    place = mistake(tiny)
    one_screen(tiny.run("build", "--mixture", "small", "--quiet"), 4, place, said)


@pytest.mark.parametrize("name", ["notes.parquet", "notes.jsonl.gz", "notes.jsonl.zst"])
def test_damaged_file(tiny: Tiny, name: str) -> None:
    """A file that is not what its name says ends in its name, not in a library's error."""
    tiny.write(f"manifests/samples/{name}", "neither Parquet nor compressed")
    tiny.edit(SOURCE, ROWS, f"manifests/samples/{name}")
    ran = tiny.run("build", "--mixture", "small", "--quiet")
    one_screen(ran, 4, f"manifests/samples/{name}", "cannot be read")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["build", "--mixture", "smal"], 2, "--mixture: no mixture 'smal'"),
        (["build", "--mixture", "../datagen"], 2, "no mixture '../datagen'"),
        (["plan", "--mixture", "smal"], 2, "did you mean 'small'?"),
        (["build", "--profile", "ther"], 2, "datagen.yaml:2: no profile 'ther'"),
        (["build", "--profile", "nowhere.yaml"], 2, "no such file"),
        (["build", "--mixture", "small", "--model", "who"], 2, "no model pin 'who'"),
        (["build", "--mixture", "small", "--out", "/dev/null"], 2, "builds cannot be kept here"),
        (["sql", "SELECT 1"], 4, "no build here"),
        (["verify", "small"], 4, "no build 'small'"),
        (["verify", "a\0b"], 4, "no build"),
        (["preview", "page"], 4, "no build here"),
        (["card"], 4, "no build here"),
    ],
)
def test_wrong_command(tiny: Tiny, arguments: list[str], code: int, said: str) -> None:
    """What the command line names and is not there."""
    one_screen(tiny.run(*arguments), code, said)


@pytest.mark.parametrize(
    "arguments",
    [
        ["build", "--seed", "-1"],
        ["plan", "--seed", str(2**63)],
        ["plan", "--tokens", str(2**63)],
        ["preview", "page", "--seed", "-1"],
        ["train", "--seed", "-1"],
    ],
)
def test_numbers_out_of_range(tiny: Tiny, arguments: list[str]) -> None:
    """Seeds and budgets are what every library below can hold."""
    ran = tiny.run(*arguments)
    assert ran.code == 2
    assert f"{arguments[-1]} is not in the range" in ran.err and arguments[-2] in ran.err


def test_errors_as_json(tiny: Tiny) -> None:
    """`--json`: one JSON document on stdout, whatever went wrong, and the words on stderr."""
    line = tiny.edit(RECIPE, "method:", "methode:")
    ran = tiny.run("build", "--mixture", "small", "--json")
    assert ran.json["error"] == {
        "message": f"unknown key 'methode'\n  also {RECIPE}:1: key 'method' is missing",
        "where": f"{RECIPE}:{line}",
        "fix": "did you mean 'method'?",
        "exit_code": 2,
    }
    one_screen(ran, 2)
    assert tiny.run("build", "--tokens", "many", "--json").json["error"]["exit_code"] == 2
    assert tiny.run("sql", "SELECT 1", "--json").json["error"]["exit_code"] == 4


def test_no_workspace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Outside of any workspace, the way to one is said."""
    from datagen.cli import run

    assert run(["check", "--workspace", str(tmp_path)]) == 2
    assert "datagen init DIR" in capsys.readouterr().err


def test_real_process(tiny: Tiny) -> None:
    """The same through the interpreter's own door: exit code, JSON on stdout, words on stderr."""
    tiny.edit(RECIPE, "method:", "methode:")
    ran = tiny.spawn("build", "--mixture", "small", "--json")
    one_screen(ran, 2, f"{RECIPE}:3: ")
    assert json.loads(ran.out)["error"]["exit_code"] == 2

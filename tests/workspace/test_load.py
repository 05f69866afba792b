"""YAML to specs: what is written is what is read, and every mistake has its line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datagen.errors import WorkspaceError
from datagen.workspace.load import Workspace, parse
from datagen.workspace.locate import find_workspace, inside
from datagen.workspace.specs import ChainSpec, MixtureSpec, ProfileSpec, SourceSpec
from tests.conftest import Tiny

SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12)
LINKS = st.lists(
    st.fixed_dictionaries(
        {
            "use": WORDS,
            "arguments": st.dictionaries(
                WORDS,
                st.integers() | st.booleans() | WORDS | st.lists(WORDS, max_size=2),
                max_size=2,
            ),
        }
    ),
    max_size=4,
)


@SHARED
@given(title=WORDS, links=LINKS, indent=st.integers(2, 6), flow=st.booleans())
def test_read_is_written(
    tmp_path: Path, title: str, links: list[object], indent: int, flow: bool
) -> None:
    """Any values, in any style of YAML, come back as they were; each has a line inside the file."""
    content = {"name": "c", "title": title, "filters": links}
    text = yaml.safe_dump(content, allow_unicode=True, indent=indent, default_flow_style=flow)
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    loaded = parse(path, ChainSpec, root=tmp_path)
    assert loaded.spec.model_dump(mode="json") == content
    assert all(1 <= line <= text.count("\n") + 1 for line in loaded.lines.values())


@SHARED
@given(st.integers(0, 5), st.sampled_from(["use", "arguments"]))
def test_line_of_a_misspelt_key(tmp_path: Path, above: int, key: str) -> None:
    """The line named is the one on which the key stands, whatever lies above it."""
    link = {"use": "  - use: text.too_short", "arguments": "    arguments: {min_words: 3}"}
    wrong = {**link, key: link[key].replace(key, f"{key}x")}
    text = "\n".join(
        ["name: c", "title: t", *["# a remark"] * above, "filters:", *[*link.values()] * above]
    )
    path = tmp_path / "c.yaml"
    path.write_text(f"{text}\n" + "\n".join(wrong.values()) + "\n", encoding="utf-8")
    with pytest.raises(WorkspaceError) as caught:
        parse(path, ChainSpec, root=tmp_path)
    line = text.count("\n") + 2 + (key == "arguments")
    assert caught.value.where == f"c.yaml:{line}"
    assert caught.value.fix == f"did you mean {key!r}?"


@SHARED
@given(st.binary(max_size=60))
def test_no_bytes_crash_it(tmp_path: Path, content: bytes) -> None:
    """Whatever lies in the file, it is read or refused with a place."""
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(WorkspaceError) as caught:
        parse(path, ChainSpec, root=tmp_path)
    assert str(caught.value.where).startswith("c.yaml")


@pytest.mark.parametrize(
    ("model", "text", "said", "line"),
    [
        (
            SourceSpec,
            "name: s\ntitle: t\nlicence: MIT\ntext: a\ncolumns: [b]\nhub: {id: x/y}\n",
            "'a'",
            5,
        ),
        (
            SourceSpec,
            "name: s\ntitle: t\nlicence: MIT\ntext: a\ncolumns: [a]\n",
            "'hub' or 'sample'",
            1,
        ),
        (
            SourceSpec,
            "name: s\ntitle: t\nlicence: MIT\ncolumns: [a]\nhub: {id: x/y}\n",
            "either",
            1,
        ),
        (SourceSpec, "name: s\nhub:\n  revision: main\n  id: x/y\n", "hub.revision", 3),
        (
            MixtureSpec,
            "name: m\ntitle: t\nhorizon_tokens: 1\n",
            "either 'categories' or 'phases'",
            1,
        ),
        (MixtureSpec, "name: m\ntitle: t\nhorizon_tokens: 0\n", "horizon_tokens: ", 3),
        (MixtureSpec, "name: Upper Case\n", "name: ", 1),
        (
            ProfileSpec,
            "tokenizer: t\nbudget_tokens: 5\noverride: {p: {files: []}}\n",
            "override.p.files",
            3,
        ),
    ],
)
def test_rules_of_specs(tmp_path: Path, model: type, text: str, said: str, line: int) -> None:
    """What a spec asks beyond types is said with the line that it is about."""
    path = tmp_path / "s.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(WorkspaceError) as caught:
        parse(path, model, root=tmp_path)
    assert f"s.yaml:{line}: " in str(caught.value).replace("also ", "")
    assert said in caught.value.message


def test_names_that_leave_the_folder(tiny: Tiny) -> None:
    """A name finds a listed file, and nothing else that a path could reach."""
    workspace = Workspace(tiny.root)
    for name in ("../datagen", "small/../small", "/etc/passwd", "", "a\0b", "small.yaml"):
        with pytest.raises(WorkspaceError, match="no mixture"):
            workspace.mixture(name)


def test_profiles(tiny: Tiny) -> None:
    """The default one, one by name, and a file of one's own."""
    tiny.write("mine.yaml", "tokenizer: datagen-32k\nbudget_tokens: 7\n")
    workspace = Workspace(tiny.root)
    assert workspace.profile(None).spec == workspace.profile("here").spec
    assert workspace.profile(str(tiny.root / "mine.yaml")).spec.budget_tokens == 7
    assert workspace.profile("here").where("tokenizer") == "datagen.yaml:4"
    tiny.change("datagen.yaml", default_profile="gone")
    with pytest.raises(WorkspaceError, match="'gone' is not among 'profiles'") as caught:
        Workspace(tiny.root)
    assert caught.value.where == "datagen.yaml:2"


def test_where_a_workspace_is(tiny: Tiny, tmp_path: Path) -> None:
    """Found from any folder inside; not found outside, with the way to one."""
    assert find_workspace(tiny.root / "generators" / "note") == tiny.root.resolve()
    with pytest.raises(WorkspaceError) as caught:
        find_workspace(tmp_path)
    assert "datagen init" in str(caught.value.fix)


@pytest.mark.parametrize("path", ["../a", "a/../../b", "/a", "a\0b", "link", "folder/a"])
def test_paths_that_leave(tmp_path: Path, path: str) -> None:
    """A path in YAML stays inside, also when a link says otherwise."""
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "a").write_text("x", encoding="utf-8")
    (root / "link").symlink_to(tmp_path / "a")
    (root / "folder").symlink_to(tmp_path)
    with pytest.raises(WorkspaceError) as caught:
        inside(root, path, where="s.yaml:1")
    assert caught.value.where == "s.yaml:1"


def test_paths_that_stay(tmp_path: Path) -> None:
    """A link that stays inside is fine, and so is a file that is not there yet."""
    (tmp_path / "a").write_text("x", encoding="utf-8")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for path in ("a", "b", "c/d"):
        assert inside(tmp_path, path, where="s.yaml:1") == tmp_path / path

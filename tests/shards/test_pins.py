"""Pins hold the bytes, are remembered safely, and are written without touching the rest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest
import yaml

from datagen.errors import DataError, WorkspaceError
from datagen.shards.parquet import file_sha256
from datagen.shards.pins import HASH_CACHE, pin_source, set_scalar, verify_pins
from datagen.shards.sources import SourceFile

HASH = "a1" * 32


@pytest.fixture
def file(tmp_path: Path) -> SourceFile:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x"}\n')
    os.utime(path, ns=(1_000, 1_000))
    return SourceFile("a.jsonl", path)


def _verify(file: SourceFile, pin: str | None = None) -> dict[str, str]:
    return verify_pins({"a.jsonl": pin}, [file], root=file.path.parent, where="s.yaml")


def test_hashes_come_back_and_are_compared(file: SourceFile) -> None:
    found = file_sha256(file.path)
    assert _verify(file) == _verify(file, found) == {"a.jsonl": found}
    with pytest.raises(DataError) as caught:
        _verify(file, HASH)
    assert found[:12] in str(caught.value)
    assert HASH[:12] in str(caught.value)
    assert caught.value.where == "s.yaml"


def test_a_pin_without_its_file_is_an_error(file: SourceFile) -> None:
    with pytest.raises(DataError, match=r"pinned file 'gone\.jsonl'"):
        verify_pins({"gone.jsonl": HASH}, [file], root=file.path.parent, where="s.yaml")


def test_an_unchanged_file_is_not_read_again(file: SourceFile) -> None:
    _verify(file)
    cache = file.path.parent / HASH_CACHE
    content = orjson.loads(cache.read_bytes())
    (entry,) = content.values()
    entry[2] = HASH
    cache.write_bytes(orjson.dumps(content))
    assert _verify(file) == {"a.jsonl": HASH}
    file.path.write_text('{"text": "changed"}\n')
    assert _verify(file) == {"a.jsonl": file_sha256(file.path)}


def test_a_file_written_this_instant_is_not_remembered(file: SourceFile) -> None:
    os.utime(file.path)
    _verify(file)
    assert not (file.path.parent / HASH_CACHE).exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"x": 1, "y": [1, 2, "z"]}', b"\xff\xfe"])
def test_a_damaged_cache_is_an_empty_one(file: SourceFile, content: bytes) -> None:
    cache = file.path.parent / HASH_CACHE
    cache.parent.mkdir()
    cache.write_bytes(content)
    assert _verify(file) == {"a.jsonl": file_sha256(file.path)}
    assert len(orjson.loads(cache.read_bytes())) == 1
    assert list(cache.parent.iterdir()) == [cache]


def test_pinning_fills_hashes_and_refuses_other_bytes(file: SourceFile) -> None:
    root, found = file.path.parent, file_sha256(file.path)
    manifest = root / "s.yaml"
    text = "# ours\nname: s\nsample:\n  files: [a.jsonl]  # one\n\nnotes: >\n  long\n"
    manifest.write_text(text)
    (pinned,) = pin_source(manifest, root=root)
    assert (pinned.key, pinned.value) == (("sample", "sha256", "a.jsonl"), found)
    line = f'  sha256:\n    "a.jsonl": {found}\n'
    assert manifest.read_text() == text.replace("# one\n", f"# one\n{line}")
    assert pin_source(manifest, root=root) == []
    file.path.write_text("other")
    with pytest.raises(DataError, match="to accept these bytes"):
        pin_source(manifest, root=root)


YAMLS = [
    "name: a\nsample:\n  files: [x] # c\n  # end\nnotes: >\n  long\n  text\n\n# tail\n",
    "name: a\nsample:\n  files:\n    - x\n    - y # c\n  sha256: {}  # none\n# z\nhub:\n  id: b\n",
    'sample:\n  sha256:\n    "s/x.jsonl": null # why\n    s/y.jsonl:\nhub: {id: b, revision: null}'
    "\nrows:\n",
    "sample: {files: [x], sha256: {s/x.jsonl: ~}}\nhub: {id: b}\nrows: null # unknown",
    "hub:\n  id: b\n  revision: null # unknown\n  # more\n\nsample:\n  sha256:\nnotes: |\n  t\n",
    "sample: {}\nhub:\n  split: train\nrows: 3",
]


@pytest.mark.parametrize("text", YAMLS)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        (("sample", "sha256", "s/x.jsonl"), HASH),
        (("sample", "sha256", "s/new.jsonl"), "1" * 64),
        (("hub", "revision"), "12e4" * 10),
        (("rows",), 5),
    ],
)
def test_one_scalar_changes_and_comments_stay(
    text: str, key: Sequence[str], value: str | int
) -> None:
    edited = set_scalar(text, key, value, where="s.yaml")
    found = yaml.safe_load(edited)
    for name in key:
        found = found[name]
    assert found == value
    comments = [part for part in text.split("\n") if "#" in part]
    assert all(comment.partition("#")[2] in edited for comment in comments)
    assert set_scalar(edited, key, value, where="s.yaml") == edited


def test_yaml_that_cannot_be_edited_says_what_to_write() -> None:
    """An anchor on the old value: another key would change with it."""
    with pytest.raises(WorkspaceError, match=r"write it by hand: rows: 5"):
        set_scalar("rows: &unknown null\ntokens: *unknown\n", ("rows",), 5, where="s.yaml")

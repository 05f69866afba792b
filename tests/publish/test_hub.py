"""Publishing and reading against a local server that answers as the hub does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from datagen.errors import DataError, ServiceError, WorkspaceError
from datagen.publish.card import card
from datagen.publish.hub import plan_publication, publish
from datagen.shards.manifest import read_manifest
from datagen.shards.pins import pin_model, pin_source
from tests.publish.hub_server import TOKEN, Hub, Repository, serve_hub
from tests.publish.test_card import FACTS
from tests.shards.built import FINGERPRINT, Built, make_build


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serve_hub() as served:
        yield served


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return make_build(tmp_path / "out")


def test_published_bytes_are_the_files(hub: Hub, built: Built) -> None:
    plan = plan_publication(built.directory, built.out, "org/set", private=True)
    done = publish(plan, endpoint=hub.url)
    repository = hub.repositories["org/set"]
    assert repository.files == {f.path_in_repo: f.path.read_bytes() for f in plan.files}
    assert set(repository.files) >= {
        "README.md",
        "manifest.json",
        "shards/0.parquet",
        "records/facts@wiki/0.parquet",
        "provenance/seeds/wiki/manifest.json",
    }
    assert repository.private
    assert done.revision == repository.revision
    assert done.url == f"{hub.url}/datasets/org/set"
    assert plan.bytes == sum(map(len, repository.files.values()))


def test_a_second_build_leaves_nothing_of_the_first_behind(hub: Hub, built: Built) -> None:
    left = {"shards/99.parquet": b"old", "records/x/9.parquet": b"old", "notes.md": b"mine"}
    hub.repositories["org/set"] = Repository(private=False, files=dict(left))
    plan = plan_publication(built.directory, built.out, "org/set")
    done = publish(plan, endpoint=hub.url)
    repository = hub.repositories["org/set"]
    assert done.removed == ("records/x/9.parquet", "shards/99.parquet")
    assert set(repository.files) == {f.path_in_repo for f in plan.files} | {"notes.md"}
    assert repository.commits == 1


def test_an_upload_cut_short_is_finished_without_sending_twice(hub: Hub, built: Built) -> None:
    plan = plan_publication(built.directory, built.out, "org/set")
    hub.refuse["/commit/"] = 409
    with pytest.raises(ServiceError, match="run the command again"):
        publish(plan, endpoint=hub.url)
    assert hub.repositories["org/set"].files == {}
    hub.refuse.clear()
    publish(plan, endpoint=hub.url)
    puts = [request for request in hub.requests if request.startswith("PUT")]
    assert len(puts) == len(set(puts)) == len(hub.objects)
    assert len(hub.repositories["org/set"].files) == len(plan.files)


@pytest.mark.parametrize(
    ("refused", "status", "remedy"),
    [
        ("/api/repos/create", 403, "lacks the right"),
        ("/tree/", 404, "check the name"),
        ("/lfs-store/", 403, "lacks the right"),
        ("/api/validate-yaml", 400, "README"),
    ],
)
def test_refusals_become_service_errors(
    hub: Hub, built: Built, refused: str, status: int, remedy: str
) -> None:
    hub.refuse[refused] = status
    plan = plan_publication(built.directory, built.out, "org/set")
    with pytest.raises(ServiceError, match=remedy) as caught:
        publish(plan, endpoint=hub.url)
    assert TOKEN not in str(caught.value)
    assert str(status) in str(caught.value)
    assert not hub.repositories.get("org/set", Repository(private=True)).files


def test_a_wrong_token_is_named_but_not_shown(
    hub: Hub, built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "hf_secret")
    plan = plan_publication(built.directory, built.out, "org/set")
    with pytest.raises(ServiceError, match="set MY_TOKEN") as caught:
        publish(plan, endpoint=hub.url, token_env="MY_TOKEN")
    assert "hf_secret" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_no_hub_at_all(built: Built) -> None:
    plan = plan_publication(built.directory, built.out, "org/set")
    with pytest.raises(ServiceError, match="check the network"):
        publish(plan, endpoint="http://127.0.0.1:9")


def test_a_damaged_shard_is_not_published(built: Built) -> None:
    shard = built.directory / "shards/0.parquet"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match=r"shards/0\.parquet: sha256"):
        plan_publication(built.directory, built.out, "org/set")


@pytest.mark.parametrize("repo", ["set", "a/b/c", "../x/y", "org/", "org/a b"])
def test_a_repository_needs_owner_and_name(built: Built, repo: str) -> None:
    with pytest.raises(WorkspaceError, match="ORG/NAME"):
        plan_publication(built.directory, built.out, repo)


def test_the_build_is_listed_once_and_verified(built: Built) -> None:
    plan = plan_publication(built.directory, built.out, "org/set")
    paths = [file.path_in_repo for file in plan.files]
    assert paths == sorted(set(paths))
    listed = {entry.path for entry in read_manifest(built.directory).files}
    assert listed <= set(paths)
    assert not any(FINGERPRINT in path for path in paths)


# --- pins and reading ----------------------------------------------------------------------------

MANIFEST = """\
name: wiki   # the pages
title: Pages
licence: CC-BY-SA-4.0
text: text
columns: [text]
hub:
  id: org/set
  revision: null  # not verified yet
rows:
"""


def test_pin_asks_the_hub_and_keeps_comments(hub: Hub, tmp_path: Path) -> None:
    card = {"dataset_info": {"splits": [{"name": "train", "num_examples": 12, "num_bytes": 3}]}}
    hub.repositories["org/set"] = Repository(private=False, commits=4, card=card)
    manifest = tmp_path / "wiki.yaml"
    manifest.write_text(MANIFEST)
    pinned = pin_source(manifest, root=tmp_path, endpoint=hub.url)
    assert [pin.key for pin in pinned] == [("hub", "revision"), ("rows",)]
    revision = hub.repositories["org/set"].revision
    assert manifest.read_text() == MANIFEST.replace("null", revision).replace("rows:", "rows: 12")
    assert pin_source(manifest, root=tmp_path, endpoint=hub.url) == []


def test_pin_asks_for_a_models_revision(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["org/model"] = Repository(private=False, commits=2)
    manifest = tmp_path / "teacher.yaml"
    text = "# a teacher\nname: teacher\nhub:\n  id: org/model\n  revision: null  # not yet\n"
    manifest.write_text(text)
    (pinned,) = pin_model(manifest, endpoint=hub.url)
    assert pinned.value == hub.repositories["org/model"].revision
    assert manifest.read_text() == text.replace("null", str(pinned.value))
    assert pin_model(manifest, endpoint=hub.url) == []


def test_a_count_that_the_card_does_not_state_stays_unknown(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["org/set"] = Repository(private=False)
    manifest = tmp_path / "wiki.yaml"
    manifest.write_text(MANIFEST)
    pin_source(manifest, root=tmp_path, endpoint=hub.url)
    assert yaml.safe_load(manifest.read_text())["rows"] is None


def test_pin_without_a_hub_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n')
    manifest = tmp_path / "wiki.yaml"
    text = MANIFEST + "sample: {files: [a.jsonl]}\n"
    manifest.write_text(text)
    with pytest.raises(ServiceError, match="check the network"):
        pin_source(manifest, root=tmp_path, endpoint="http://127.0.0.1:9")
    assert manifest.read_text() == text


READ = """
import json, sys
from datagen.errors import DatagenError
from datagen.shards.hub import read_hub
for arguments in json.loads(sys.argv[1]):
    try:
        rows = list(read_hub("org/set", where="wiki.yaml", **arguments))
        print(json.dumps([[row.place, row.values] for row in rows]))
    except DatagenError as error:
        print(json.dumps([type(error).__name__, str(error)]))
"""


def test_a_published_set_reads_back_as_a_stream(hub: Hub, tmp_path: Path) -> None:
    """The card's configs lead to the rows; a wrong column, file or config says what to correct."""
    built = make_build(tmp_path / "out", card=card(FACTS).encode())
    publish(plan_publication(built.directory, built.out, "org/set"), endpoint=hub.url)
    revision = hub.repositories["org/set"].revision
    reads = [
        {"columns": ["key", "text"], "rename": {"id": "key"}, "config": "records"},
        {"columns": ["n_tokens"], "files": ["shards/*.parquet"]},
        {"columns": ["nope"], "config": "records"},
        {"columns": ["text"], "files": ["absent/*.parquet"]},
        {"columns": ["text"], "config": "absent"},
        {"columns": ["text"], "config": "records", "split": "test"},
    ]
    ran = subprocess.run(
        [sys.executable, "-c", READ, json.dumps([{"revision": revision} | r for r in reads])],
        env=os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    records, rows, *wrong = map(json.loads, ran.stdout.splitlines())
    assert records == [
        ["train#0", {"key": "aaaaaa11", "text": "Question: what is granite?"}],
        ["train#1", {"key": "aaaaaa22", "text": None}],
    ]
    assert [values["n_tokens"] for _, values in rows] == [7, 2, 4]
    assert [kind for kind, _ in wrong] == ["DataError", *["WorkspaceError"] * 3]
    assert "no column 'nope'; the columns are id, lineage" in wrong[0][1]
    assert all("check 'id:', 'config:'" in message for _, message in wrong[1:])
    assert any(f"/resolve/{revision}/" in request for request in hub.requests)


def test_an_unpinned_hub_set_is_refused() -> None:
    from datagen.shards.hub import read_hub

    with pytest.raises(WorkspaceError, match="datagen pin"):
        next(read_hub("org/set", revision=None, columns=["text"], where="wiki.yaml"))

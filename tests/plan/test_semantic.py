"""Semantic dedup in a build: the house's encoder, one of one's own, and a served model."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.conftest import Tiny, forget_extension, prose

ENCODER = """

def letters(texts):
    \"\"\"One dimension of 509 for all texts of the same letters.\"\"\"
    return [[float(sum(map(ord, text)) % 509 == place) for place in range(509)] for text in texts]
"""


def shuffled(seed: str) -> str:
    words = prose("meaning", 60).split()
    random.Random(seed).shuffle(words)
    return " ".join(words)


@pytest.fixture
def shop(tiny: Tiny) -> Tiny:
    """The tiny workspace with four pages of the same words in another order, and four others."""
    pages = [shuffled(f"s{n}") for n in range(4)] + [prose(f"other{n}", 60) for n in range(4)]
    lines = [json.dumps({"id": f"p{n}", "text": page}) for n, page in enumerate(pages)]
    tiny.write("manifests/samples/pages.jsonl", "\n".join(lines) + "\n")
    return tiny


class Server(ThreadingHTTPServer):
    """A server of vectors: the letters of a text decide, and the first request fails."""

    requests = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.requests += 1
        if self.server.requests == 1:
            self.send_error(503)
            return
        places = [sum(map(ord, text)) % 97 for text in body["input"]]
        rows = [
            {"object": "embedding", "index": i, "embedding": [float(n == place) for n in range(97)]}
            for i, place in enumerate(places)
        ]
        reply = {"object": "list", "model": body["model"], "data": rows[::-1]}
        data = json.dumps({**reply, "usage": {"prompt_tokens": 1, "total_tokens": 1}}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()


def rows(tiny: Tiny, query: str) -> list[dict[str, Any]]:
    ran = tiny.run("sql", query, "--json")
    assert ran.code == 0, ran.err
    return list(ran.json)


def build(tiny: Tiny, **semantic: Any) -> None:
    tiny.change("filters/corpus/corpus.yaml", semantic=semantic)
    ran = tiny.run("build", "--mixture", "small", "--quiet")
    assert ran.code == 0, ran.err


REFUSED = "SELECT count(*) AS n FROM rejects WHERE reason = 'same_meaning' AND source = 'pages'"
KEPT = "SELECT id, text FROM records WHERE source = 'pages' ORDER BY id"


def test_the_same_words_in_another_order_are_one(shop: Tiny) -> None:
    found = []
    for size in (2, 64):
        shop.change("datagen.yaml", profiles__here__seeds_per_shard=size)
        build(shop, threshold=0.95, clusters=4)
        assert rows(shop, REFUSED) == [{"n": 3}]
        found.append(rows(shop, KEPT))
    assert found[0] == found[1] and len(found[0]) == 5


def test_an_encoder_of_ones_own(shop: Tiny) -> None:
    path = shop.root / "extension/tiny_ext.py"
    path.write_text(path.read_text(encoding="utf-8") + ENCODER, encoding="utf-8")
    forget_extension()
    build(shop, encoder="tiny_ext:letters", threshold=0.9)
    assert rows(shop, REFUSED) == [{"n": 3}]


def test_a_served_model_is_asked_again_after_a_failure(
    shop: Tiny, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    pin = {"name": "vectors", "title": "Vectors", "licence": "MIT", "served_as": "vectors"}
    shop.write("manifests/models/vectors.yaml", pin)
    role = {"embedder": {"model": "vectors", "endpoints": [{"url": url}]}}
    shop.change("datagen.yaml", profiles__here__models=role)
    build(shop, model="embedder", threshold=0.9)
    assert rows(shop, REFUSED)[0]["n"] >= 3 and server.requests > 1


def test_what_is_not_there_is_said(shop: Tiny) -> None:
    for semantic, said in (
        ({"model": "embedder"}, "serves no model as 'embedder'"),
        ({"encoder": "tiny_ext:nothing"}, "has no 'nothing'"),
    ):
        shop.change("filters/corpus/corpus.yaml", semantic=semantic)
        ran = shop.run("build", "--mixture", "small", "--quiet")
        assert ran.code == 2 and said in ran.err


def test_a_model_without_an_endpoint_gives_no_vectors(shop: Tiny) -> None:
    pin = {"name": "vectors", "title": "Vectors", "licence": "MIT", "served_as": "vectors"}
    shop.write("manifests/models/vectors.yaml", pin)
    shop.change("datagen.yaml", profiles__here__models={"embedder": {"model": "vectors"}})
    shop.change("filters/corpus/corpus.yaml", semantic={"model": "embedder"})
    ran = shop.run("build", "--mixture", "small", "--quiet")
    assert ran.code == 2 and "no endpoint that gives vectors" in ran.err

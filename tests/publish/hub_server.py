"""A data set hub on 127.0.0.1: the part of its HTTP interface that publishing and reading use."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from threading import Lock, Thread
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "k" * 30


@dataclass
class Repository:
    """One data set repository: its files at the newest commit, and how many commits there were."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    commits: int = 0

    @property
    def revision(self) -> str:
        """The newest commit's id: 40 hex digits."""
        return hashlib.sha1(str(self.commits).encode()).hexdigest()


@dataclass
class Hub:
    """The server's state, for tests to set up and look at."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    refuse: dict[str, int] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Run a hub on a free port of the loopback interface until the block ends."""
    hub = Hub()
    handler = type("Bound", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self._body()
        with self.hub.lock:
            self.hub.requests.append(f"{self.command} {path}")
            for pattern, status in self.hub.refuse.items():
                if re.search(pattern, path):
                    return self._json({"error": "refused by the test"}, status)
            writes = self.command in ("POST", "PUT") and "/lfs-store/" not in path
            if writes and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self._json({"error": "Invalid credentials"}, 401)
            for pattern, method in _ROUTES:
                if match := re.fullmatch(pattern, path):
                    return method(self, body, *match.groups())
        return self._json({"error": "Repository not found"}, 404)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _json(self, value: object, status: int = 200) -> None:
        self._bytes(json.dumps(value).encode(), status, {"Content-Type": "application/json"})

    def _bytes(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        there = name in self.hub.repositories
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.repositories.setdefault(name, Repository(private=private))
        url = f"{self.hub.url}/datasets/{name}"
        self._json(
            {"url": url, "error": "exists"} if there else {"url": url}, 409 if there else 200
        )

    def _validate(self, body: bytes) -> None:
        valid = json.loads(body)["content"].startswith("---\n")
        errors = [] if valid else [{"message": "no metadata"}]
        self._json({"errors": errors, "warnings": []}, 200 if valid else 400)

    def _preupload(self, body: bytes, name: str) -> None:
        files = json.loads(body)["files"]
        modes = ["lfs" if f["path"].endswith(".parquet") else "regular" for f in files]
        listed = [
            {"path": f["path"], "uploadMode": mode, "shouldIgnore": False}
            for f, mode in zip(files, modes, strict=True)
        ]
        self._json({"files": listed})

    def _lfs_batch(self, body: bytes, name: str) -> None:
        answers = []
        for item in json.loads(body)["objects"]:
            answer = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.hub.objects:
                answer["actions"] = {
                    "upload": {"href": f"{self.hub.url}/lfs-store/{item['oid']}"},
                    "verify": {"href": f"{self.hub.url}/lfs-verify"},
                }
            answers.append(answer)
        self._json({"transfer": "basic", "objects": answers})

    def _store(self, body: bytes, oid: str) -> None:
        intact = hashlib.sha256(body).hexdigest() == oid
        if intact:
            self.hub.objects[oid] = body
        self._json({}, 200 if intact else 400)

    def _verify(self, body: bytes) -> None:
        asked = json.loads(body)
        known = len(self.hub.objects.get(asked["oid"], b"")) == asked["size"]
        self._json({}, 200 if known else 404)

    def _commit(self, body: bytes, name: str) -> None:
        repository = self.hub.repositories[name]
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                repository.files[value["path"]] = self.hub.objects[value["oid"]]
            elif item["key"] == "deletedFile":
                del repository.files[value["path"]]
        repository.commits += 1
        url = f"{self.hub.url}/datasets/{name}/commit/{repository.revision}"
        self._json({"success": True, "commitOid": repository.revision, "commitUrl": url})

    def _info(self, body: bytes, name: str) -> None:
        if name not in self.hub.repositories:
            return self._json({"error": "Repository not found"}, 404)
        repository = self.hub.repositories[name]
        self._json(
            {
                "id": name,
                "sha": repository.revision,
                "private": repository.private,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "cardData": repository.card,
                "siblings": [{"rfilename": path} for path in sorted(repository.files)],
            }
        )

    def _tree(self, body: bytes, name: str, under: str | None) -> None:
        if name not in self.hub.repositories:
            return self._json({"error": "Repository not found"}, 404)
        files = self.hub.repositories[name].files
        folders = {str(p) for path in files for p in PurePosixPath(path).parents} - {"."}
        entries: list[dict[str, Any]] = [
            {"type": "file", "path": path, "size": len(content), "oid": "0" * 40}
            for path, content in sorted(files.items())
        ]
        entries += [{"type": "directory", "path": p, "oid": "0" * 40} for p in sorted(folders)]
        base = PurePosixPath((under or "").strip("/"))
        recursive = "recursive=true" in self.path.lower()
        parents = [PurePosixPath(entry["path"]).parents for entry in entries]
        kept = [base in above if recursive else base == above[0] for above in parents]
        self._json([entry for entry, keep in zip(entries, kept, strict=True) if keep])

    def _resolve(self, body: bytes, name: str, path: str) -> None:
        repository = self.hub.repositories.get(name)
        content = repository.files.get(path) if repository else None
        if repository is None or content is None:
            missing = {"X-Error-Code": "EntryNotFound"}
            return self._bytes(b"", 404, missing)
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": repository.revision,
            "Accept-Ranges": "bytes",
        }
        if span := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            first, last = int(span[1]), int(span[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            return self._bytes(content[first : last + 1], 206, headers)
        self._bytes(content, 200, headers)


_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES = [
    (r"/api/repos/create", _Handler._create),
    (r"/api/validate-yaml", _Handler._validate),
    (rf"/api/datasets/{_NAME}/preupload/main", _Handler._preupload),
    (rf"/datasets/{_NAME}\.git/info/lfs/objects/batch", _Handler._lfs_batch),
    (r"/lfs-store/(\w+)", _Handler._store),
    (r"/lfs-verify", _Handler._verify),
    (rf"/api/datasets/{_NAME}/commit/main", _Handler._commit),
    (rf"/api/datasets/{_NAME}/tree/[\w]+(/.*)?", _Handler._tree),
    (rf"/api/(?:datasets|models)/{_NAME}(?:/revision/\w+)?", _Handler._info),
    (rf"/datasets/{_NAME}/resolve/\w+/(.+)", _Handler._resolve),
]

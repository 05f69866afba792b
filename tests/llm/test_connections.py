"""Our own connections: kept and given up in time, and left where they cannot serve."""

from __future__ import annotations

import asyncio
import gzip
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from datagen.llm.client import Client, RequestRefused, ServiceDown
from datagen.llm.connections import Post
from datagen.llm.faults import Fault
from datagen.llm.http1 import Reply
from datagen.llm.transport import Transport
from datagen.llm.wire import Completion
from tests.llm.common import MODEL, endpoint, request
from tests.servers import FaultServer

WHOLE = b'{"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(WHOLE), WHOLE)
Serve = Callable[[int, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Raw:
    """A server that says exactly these bytes; `serve` gets the number of each connection."""

    def __init__(self, serve: Serve, context: ssl.SSLContext | None = None) -> None:
        self.connections = 0
        self.heads: list[bytes] = []
        self.ended: list[int] = []
        self.port = 0
        self._serve = serve
        self._context = context
        self._loop = asyncio.new_event_loop()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = self.connections
        self.connections += 1
        try:
            await self._serve(number, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.ended.append(number)
        finally:
            writer.close()

    async def take(self, reader: asyncio.StreamReader) -> None:
        """Read one request."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)

    def run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._connection, "127.0.0.1", 0, ssl=self._context)
        )
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)


@contextmanager
def raw(serve: Callable[[Raw], Serve], context: ssl.SSLContext | None = None) -> Iterator[Raw]:
    """Run a raw server in a thread."""
    server: Raw = Raw(lambda *a: serve(server)(*a), context)
    ready = threading.Event()
    thread = threading.Thread(target=server.run, args=(ready,), daemon=True)
    thread.start()
    assert ready.wait(5)
    try:
        yield server
    finally:
        server.stop()
        thread.join(5)


def saying(*pieces: bytes, close: bool = False, pause_s: float = 0.0) -> Callable[[Raw], Serve]:
    """Answer every request with these pieces."""

    def with_server(server: Raw) -> Serve:
        async def serve(_: int, reader: Any, writer: asyncio.StreamWriter) -> None:
            while True:
                await server.take(reader)
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(pause_s)
                if close:
                    return

        return serve

    return with_server


def send(
    server: Raw,
    times: int = 1,
    *,
    timeout_s: float = 2.0,
    pause_s: float = 0.0,
    max_bytes: int = 4096,
) -> list[Reply | Fault]:
    """Post some bodies one after another through one pool."""

    async def run() -> list[Reply | Fault]:
        url = f"http://127.0.0.1:{server.port}/v1/chat/completions"
        post = Post(url, {"X": "y"}, timeout_s=timeout_s, max_bytes=max_bytes)
        got: list[Reply | Fault] = []
        for _ in range(times):
            try:
                got.append(await post(b"{}"))
            except Fault as fault:
                got.append(fault)
            await asyncio.sleep(pause_s)
        await post.close()
        return got

    return asyncio.run(run())


def kinds(got: list[Reply | Fault]) -> list[str | int]:
    return [each.kind if isinstance(each, Fault) else each.status for each in got]


def test_a_connection_is_used_again() -> None:
    with raw(saying(OK)) as server:
        assert kinds(send(server, 5)) == [200] * 5
        assert server.connections == 1
    assert server.heads[0].startswith(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:")


@pytest.mark.parametrize(
    ("pieces", "close"),
    [
        ((OK.replace(b"Content", b"Connection: close\r\nContent"),), False),
        ((OK,), True),
        ((OK + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",), False),
        ((b"HTTP/1.1 200 OK\r\n\r\n" + WHOLE,), True),
    ],
    ids=["said", "closed", "more-than-asked", "open-ended"],
)
def test_a_connection_that_ends_is_replaced(pieces: tuple[bytes, ...], close: bool) -> None:
    with raw(saying(*pieces, close=close)) as server:
        got = send(server, 3, pause_s=0.05)
        assert kinds(got) == [200] * 3 and server.connections == 3
        assert all(isinstance(each, Reply) and each.body == WHOLE for each in got)


def test_bytes_that_nobody_asked_for_end_a_connection() -> None:
    with raw(saying(OK, b"HTTP/1.1 200 OK\r\n", pause_s=0.02)) as server:
        assert kinds(send(server, 3, pause_s=0.1)) == [200] * 3
        assert server.connections == 3


@pytest.mark.parametrize(
    ("pieces", "close", "kind"),
    [
        ((OK[:-1],), True, "cut_body"),
        ((OK[:20],), True, "cut_body"),
        ((b"",), True, "cut_body"),
        ((b"SSH-2.0-x\r\n\r\n",), False, "cut_body"),
        ((OK[:-1],), False, "timeout"),
        ((b"",), False, "timeout"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n",), False, "too_large"),
        ((b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 5000), True, "too_large"),
    ],
    ids=["body", "head", "nothing", "foreign", "stalls", "mute", "says-large", "is-large"],
)
def test_what_goes_wrong_is_a_fault_and_ends_the_connection(
    pieces: tuple[bytes, ...], close: bool, kind: str
) -> None:
    with raw(saying(*pieces, close=close)) as server:
        got = send(server, 2, timeout_s=0.2)
        assert kinds(got) == [kind, kind] and server.connections == 2


def test_the_time_limit_counts_from_sending_however_it_drips() -> None:
    drips = tuple(bytes([byte]) for byte in OK)
    with raw(saying(*drips, pause_s=0.02)) as server:
        assert kinds(send(server, timeout_s=0.3)) == ["timeout"]


def test_requests_given_up_close_their_connections() -> None:
    with raw(saying(b"")) as server:

        async def run() -> None:
            post = Post(f"http://127.0.0.1:{server.port}/", {}, timeout_s=9, max_bytes=99)
            one = asyncio.create_task(post(b"{}"))
            other = asyncio.create_task(post(b"{}"))
            while len(server.heads) < 2:
                await asyncio.sleep(0.01)
            one.cancel()
            with pytest.raises(asyncio.CancelledError):
                await one
            while server.ended != [0] and server.ended != [1]:
                await asyncio.sleep(0.01)
            await post.close()
            with pytest.raises(Fault, match="closed"):
                await other
            while len(server.ended) < 2:
                await asyncio.sleep(0.01)

        asyncio.run(asyncio.wait_for(run(), 5))


def test_as_many_connections_as_requests_at_a_time() -> None:
    with FaultServer(delay_s=0.02) as server:

        async def run() -> None:
            async with Client(MODEL, [endpoint(server.url, max_concurrency=5)]) as client:
                asked = (client.complete(request(f"say {i}")) for i in range(60))
                await asyncio.gather(*asked)

        asyncio.run(run())
        assert server.most_at_once <= 5


def complete(url: str, **options: Any) -> Completion | BaseException:
    async def run() -> Completion:
        fields = {"api_key_env": options.pop("key", None)}
        given = {"timeout_s": 2.0, "down_after_s": 0.1, "attempts": 2, **options}
        async with Client(MODEL, [endpoint(url, **fields)], **given) as client:
            return await client.complete(request())

    try:
        return asyncio.run(run())
    except Exception as error:
        return error


def test_chunks_and_slow_starts_make_no_difference() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in (WHOLE[:9], WHOLE[9:])]
    with raw(saying(head[:7], head[7:], *chunks, b"0\r\n\r\n", pause_s=0.01)) as server:
        answer = complete(f"http://127.0.0.1:{server.port}/v1")
    assert isinstance(answer, Completion) and answer.choices[0].text == "yes"


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
def test_a_proxy_of_the_environment_is_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    with FaultServer() as server:
        monkeypatch.setenv(name, server.url.removesuffix("/v1"))
        answer = complete("http://model.invalid/v1")
        assert isinstance(answer, Completion) and server.received == 1
        assert server.headers[0]["host"] == "model.invalid"
        monkeypatch.setenv("NO_PROXY", ".invalid")
        assert isinstance(complete("http://model.invalid/v1"), ServiceDown)
        assert server.received == 1


def test_a_redirect_is_followed_and_takes_no_key_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-planted-0123")
    with FaultServer() as server:
        place = server.url.replace("127.0.0.1", "localhost") + "/chat/completions"
        moved = f"HTTP/1.1 307 Moved\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode()
        with raw(saying(moved)) as first:
            answer = complete(f"http://127.0.0.1:{first.port}/v1", key="SOME_KEY")
        assert isinstance(answer, Completion) and server.received == 1
        assert b"sk-planted" in first.heads[0] and "sk-planted" not in str(server.headers)


def test_a_compressed_answer_is_read_although_it_was_not_asked_for() -> None:
    body = gzip.compress(WHOLE)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    with raw(saying(head + body)) as server:
        answer = complete(f"http://127.0.0.1:{server.port}/v1")
    assert isinstance(answer, Completion) and answer.choices[0].text == "yes"
    assert b"Accept-Encoding: identity" in server.heads[0]


def test_a_query_in_the_url_is_kept() -> None:
    with raw(saying(OK)) as server:
        answer = complete(f"http://127.0.0.1:{server.port}/v1?api-version=7")
    assert isinstance(answer, Completion)
    assert server.heads[0].split(b" ")[1] == b"/v1/chat/completions?api-version=7"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that nobody has signed, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed, so there is no certificate to serve")
    path = tmp_path_factory.mktemp("tls") / "pair.pem"
    subprocess.run(
        [
            *"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost".split(),
            *("-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(path.with_name("key"))),
            *("-out", str(path.with_name("certificate"))),
        ],
        check=True,
        capture_output=True,
    )
    names = ("certificate", "key")
    path.write_bytes(b"".join(path.with_name(name).read_bytes() for name in names))
    return path


def test_tls_is_spoken_and_verified(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with raw(saying(OK), context) as server:
        url = f"https://localhost:{server.port}/v1"
        stranger = complete(url)
        assert isinstance(stranger, ServiceDown) and "certificate" in str(stranger)
        assert not server.heads
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_name("certificate")))
        assert isinstance(complete(url), Completion)
        wrong = complete(url.replace("localhost", "127.0.0.1"))
        assert isinstance(wrong, ServiceDown) and "certificate" in str(wrong)


def test_the_words_of_a_refusal_are_shown_without_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-planted-0123")
    for body, says in (
        (b'{"error": {"message": "too long", "type": "exceed_context_size"}}', "exceed_context"),
        (b'{"detail": "no such field"}', "no such field"),
        (b'{"error": "sk-planted-0123 is no key"}', "*** is no key"),
        (b"<html>sk-planted-0123</html>", "<html>***</html>"),
        (b"", "no reason given"),
    ):
        reply = b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        with raw(saying(reply)) as server:
            error = complete(f"http://127.0.0.1:{server.port}/v1", key="SOME_KEY")
        assert isinstance(error, RequestRefused) and says in str(error)
        assert "sk-planted" not in str(error)


def test_the_way_taken_needs_no_openai_package() -> None:
    code = (
        "import sys, datagen.llm.transport, datagen.llm.client\n"
        "from datagen.workspace.specs import EndpointSpec\n"
        "spec = EndpointSpec(url='http://127.0.0.1:1/v1')\n"
        "datagen.llm.transport.Transport(spec, timeout_s=1, max_bytes=1)\n"
        "print('openai' in sys.modules, 'httpx' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_an_organisation_is_named_to_openais_key_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-0123")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "bad\r\nX-Injected: 1")
    with raw(saying(OK)) as server:
        url = f"http://127.0.0.1:{server.port}/v1"
        complete(url, key="OPENAI_API_KEY")
        complete(url)
    named, plain = server.heads
    assert b"OpenAI-Organization: org-1" in named and b"Injected" not in named
    assert b"org-1" not in plain and b"Authorization" not in plain


def test_closing_without_ever_sending_is_fine() -> None:
    transport = Transport(endpoint("https://model.invalid/v1"), timeout_s=1, max_bytes=1)
    asyncio.run(transport.close())

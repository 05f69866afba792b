"""Keep-alive connections to one URL, each with one request at a time: the hot path's HTTP client.

    post = Post(url, headers, timeout_s=600, max_bytes=64 << 20)
    reply = await post(body)        # a Reply of any status, or a Fault
    await post.close()

TLS verifies the server's name and chain. It knows no proxies, redirects or compressed bodies:
`Transport` has another way for those. It opens a connection for each request under way, so the
caller's own limit bounds them. Written for the event loop's callbacks, without a task or a timer of
its own for each request: a general client costs many times the CPU.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

from datagen.llm.faults import Fault, Kind
from datagen.llm.http1 import Garbled, Reply, ReplyReader, TooLarge

_CONNECT_S = 5.0
# Many servers drop a connection that was idle for 5 s: never send into one about to go.
_LONGEST_IDLE_S = 4.0
_FAMILY_DELAY_S = 0.25
_BUFFER = 64 << 10
_KEEP_ALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5))


class Post:
    """Posts bodies to one URL. It belongs to the event loop that it is first used in."""

    def __init__(
        self, url: str, headers: Mapping[str, str], *, timeout_s: float, max_bytes: int
    ) -> None:
        """Touch nothing yet. `url` is http or https, in ASCII, without user or fragment."""
        parts = urlsplit(url)
        assert parts.hostname and parts.scheme in ("http", "https")
        self.max_bytes = max_bytes
        self._host = parts.hostname
        self._secure = parts.scheme == "https"
        self._port = parts.port or (443 if self._secure else 80)
        target = f"{parts.path or '/'}{parts.query and '?'}{parts.query}"
        lines = [f"POST {target} HTTP/1.1", f"Host: {parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._head = "\r\n".join([*lines, "Content-Length: "]).encode("ascii")
        self._timeout_s = timeout_s
        self._context: ssl.SSLContext | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: list[_Connection] = []
        # In the order of their deadlines, because all have the same time: one timer is enough.
        self._under_way: dict[_Connection, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        # One for all connections: what a read brings is taken out before the next read begins.
        self._buffer = memoryview(bytearray(_BUFFER))

    async def __call__(self, body: bytes) -> Reply:
        """Send a body and wait for the whole reply, `timeout_s` from sending; raises `Fault`."""
        loop = self._loop = self._loop or asyncio.get_running_loop()
        connection = self._reusable(loop.time()) or await self._connect(loop)
        deadline = loop.time() + self._timeout_s
        self._under_way[connection] = deadline
        if self._timer is None:
            self._timer = loop.call_at(deadline, self._expire, loop)
        request = b"".join((self._head, str(len(body)).encode(), b"\r\n\r\n", body))
        try:
            reply = await connection.ask(request, loop)
        except asyncio.CancelledError:
            connection.drop()
            raise
        finally:
            del self._under_way[connection]
        if connection.open:
            connection.idle_since = loop.time()
            self._idle.append(connection)
        return reply

    async def close(self) -> None:
        """Close every connection; a request under way ends as a `Fault`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection in [*self._idle, *self._under_way]:
            connection.end("cut_body", "the client was closed")
        self._idle.clear()
        await asyncio.sleep(0)  # the sockets close in the loop's next round

    def _reusable(self, now: float) -> _Connection | None:
        """The connection used last, where it is still good; those before it are older still."""
        while self._idle:
            connection = self._idle.pop()
            if connection.open and now - connection.idle_since < _LONGEST_IDLE_S:
                return connection
            connection.drop()
        return None

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> _Connection:
        if self._secure and self._context is None:
            self._context = verifying_context()
        limit_s = min(_CONNECT_S, self._timeout_s)
        # asyncio's own loop tries a host's families side by side; others may not know how to.
        own = isinstance(loop, asyncio.BaseEventLoop)
        families: dict[str, Any] = {"happy_eyeballs_delay": _FAMILY_DELAY_S} if own else {}
        try:
            async with asyncio.timeout(limit_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self.max_bytes, self._buffer),
                    self._host,
                    self._port,
                    ssl=self._context,
                    server_hostname=self._host if self._secure else None,
                    **families,
                )
        except TimeoutError:
            raise Fault("unreachable", f"no connection within {limit_s:g} s") from None
        except (OSError, UnicodeError) as error:
            raise Fault("unreachable", str(error) or repr(error)) from None
        return connection

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        """Fail what is over its time, and come back for the next."""
        self._timer = None
        now = loop.time()
        for connection, deadline in self._under_way.items():
            if deadline > now:
                self._timer = loop.call_at(deadline, self._expire, loop)
                return
            connection.end("timeout", f"no answer within {self._timeout_s:g} s")


class _Connection(asyncio.BufferedProtocol):
    """One connection: reads the reply to the one request under way, and expects nothing else."""

    __slots__ = ("_answered", "_buffer", "_max_bytes", "_reader", "_transport", "idle_since")

    def __init__(self, max_bytes: int, buffer: memoryview) -> None:
        self.idle_since = 0.0
        self._buffer = buffer
        self._max_bytes = max_bytes
        self._transport: asyncio.Transport | None = None
        self._reader: ReplyReader | None = None
        self._answered: asyncio.Future[Reply] | None = None

    @property
    def open(self) -> bool:
        """Whether another request may be sent here."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, request: bytes, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Reply]:
        """Send one request; the future gets its reply, or a `Fault`."""
        assert self._transport is not None and self._answered is None
        self._reader = ReplyReader(max_bytes=self._max_bytes)
        self._answered = answered = loop.create_future()
        self._transport.write(request)
        return answered

    def end(self, kind: Kind, detail: str) -> None:
        """End the request under way with a `Fault`, and the connection with it."""
        answered, self._answered = self._answered, None
        if answered is not None and not answered.done():
            answered.set_exception(Fault(kind, detail))
        self.drop()

    def drop(self) -> None:
        """Close at once, without a word to the server."""
        self._answered = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        raw = transport.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):
            # A model may think for minutes: keep the routers in between from forgetting us.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _KEEP_ALIVE:
                raw.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def get_buffer(self, hint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, size: int) -> None:
        if self._answered is None or self._reader is None:
            self.drop()  # nobody asked
            return
        try:
            reply = self._reader.feed(bytes(self._buffer[:size]))
        except Garbled as error:
            self.end("cut_body", f"not an HTTP answer: {error}")
        except TooLarge:
            self.end("too_large", f"the answer is larger than {self._max_bytes} bytes")
        else:
            if reply is not None:
                self._answer(reply, self._reader)

    def eof_received(self) -> None:
        self._closed(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._closed(error)

    def _answer(self, reply: Reply, reader: ReplyReader) -> None:
        assert self._answered is not None and self._transport is not None
        answered, self._answered = self._answered, None
        # A server that answers before it has read the request will not read the rest.
        if not reader.reusable or self._transport.get_write_buffer_size():
            self._transport.close()
        if not answered.done():
            answered.set_result(reply)

    def _closed(self, error: Exception | None) -> None:
        if self._answered is None or self._reader is None:
            return
        reply = self._reader.end() if error is None else None
        if reply is not None:
            self._answer(reply, self._reader)
            return
        how = "in the middle of its answer" if self._reader.begun else "without an answer"
        said = f" ({error})" if error else ""
        self.end("cut_body", f"the server closed the connection {how}{said}")


def verifying_context() -> ssl.SSLContext:
    """TLS that checks the server's name and chain: SSL_CERT_FILE, the system's, or certifi's."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    paths = ssl.get_default_verify_paths()
    folder = paths.capath and any(os.scandir(paths.capath))
    if not (paths.cafile or folder or context.get_ca_certs()):
        import certifi

        context.load_verify_locations(certifi.where())
    return context

"""What a server says in HTTP/1.1, read from pieces however the network cut them.

    reader = ReplyReader(max_bytes=64 << 20)
    while (reply := reader.feed(piece)) is None: ...     # the reply, once it is whole
    reply = reader.end()                                 # where the connection ends before

Bodies with Content-Length, in chunks, and those that end with the connection; interim answers are
skipped. What is neither is `Garbled`: nothing is guessed, because a wrong guess would hand one
request's answer to the next. Source: RFC 9112.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_LONGEST_HEAD = 64 << 10
_LONGEST_LINE = 1 << 10
_STATUS = re.compile(r"HTTP/1\.([01]) ([1-5][0-9]{2})(?: |$)")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")


class Garbled(Exception):
    """These bytes are no HTTP/1.1 answer."""


class TooLarge(Exception):
    """The body is, or says that it will be, larger than allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a server answered; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class ReplyReader:
    """Reads one reply; `reusable` then says whether its connection may carry another one."""

    reusable = False
    _head = b""
    _status = 0
    _length: int | None = None
    _chunked = False
    _trailer: int | None = None
    _received = 0

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._headers: dict[str, str] = {}
        self._pieces: list[bytes] = []
        self._raw = bytearray()

    @property
    def begun(self) -> bool:
        """Whether anything has come at all."""
        return bool(self._status or self._head)

    def feed(self, data: bytes) -> Reply | None:
        """Take what has come; the reply once it is whole. Raises `Garbled` or `TooLarge`."""
        while not self._status:
            data = self._head + data
            end = data.find(b"\r\n\r\n")
            if max(end, len(data) if end < 0 else 0) > _LONGEST_HEAD:
                raise Garbled("a head without end")
            if end < 0:
                self._head = data
                return None
            self._head = b""
            self._read_head(data[:end])
            data = data[end + 4 :]
        if self._chunked:
            return self._read_chunks(data)
        self._received += len(data)
        over = self._received - self._bound()
        if self._length is None:
            if over > 0:
                raise TooLarge
            self._pieces.append(data)
            return None
        if over > 0:
            self.reusable = False  # bytes that nobody asked for
            data = data[:-over]
        self._pieces.append(data)
        return self._whole() if over >= 0 else None

    def end(self) -> Reply | None:
        """Note that the connection has ended: the reply, where its body ends in that way."""
        open_ended = self._status and self._length is None and not self._chunked
        return self._whole() if open_ended else None

    def _bound(self) -> int:
        return self._max_bytes if self._length is None else self._length

    def _whole(self) -> Reply:
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return Reply(status=self._status, headers=self._headers, body=body)

    def _read_head(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        match = _STATUS.match(first)
        if match is None or match[2] == "101":
            raise Garbled(repr(first[:80]))
        if match[2].startswith("1"):
            return  # an interim answer: the real one follows
        headers = self._headers
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise Garbled(f"the header {line[:80]!r}")
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        self._status = int(match[2])
        self._length = self._body_length()
        if self._length is not None and self._length > self._max_bytes:
            raise TooLarge
        options = headers.get("connection", "").lower()
        framed = self._chunked or self._length is not None
        self.reusable = framed and match[1] == "1" and "close" not in options

    def _body_length(self) -> int | None:
        """How long the body is, or None where chunks or the connection's end tell."""
        if self._status in (204, 304):
            return 0
        coding = self._headers.get("transfer-encoding")
        said = self._headers.get("content-length")
        if coding is not None:
            if coding.lower() != "chunked" or said is not None:
                raise Garbled(f"transfer encoding {coding[:80]!r} and content length {said!r}")
            self._chunked = True
            return None
        if said is None:
            return None
        sizes = set(said.split(", "))
        size = sizes.pop()
        if sizes or not (size.isascii() and size.isdecimal()) or len(size) > 15:
            raise Garbled(f"content length {said[:80]!r}")
        return int(size)

    def _read_chunks(self, data: bytes) -> Reply | None:
        raw = self._raw
        raw += data
        at = 0
        while (end := raw.find(b"\r\n", at)) >= 0:
            if self._trailer is not None:
                self._trailer += end + 2 - at
                if self._trailer > _LONGEST_HEAD:
                    raise Garbled("a trailer without end")
                if end == at:
                    self.reusable = self.reusable and len(raw) == end + 2
                    return self._whole()
                at = end + 2
                continue
            match = _CHUNK.fullmatch(raw, at, end)
            if match is None or end - at > _LONGEST_LINE:
                raise Garbled(f"the chunk size {bytes(raw[at : min(end, at + 80)])!r}")
            size, start = int(match[1], 16), end + 2
            if self._received + size > self._max_bytes:
                raise TooLarge
            if size == 0:
                self._trailer, at = 0, start
                continue
            if len(raw) < start + size + 2:
                break
            if raw[start + size : start + size + 2] != b"\r\n":
                raise Garbled("a chunk that is longer than it says")
            self._pieces.append(bytes(raw[start : start + size]))
            self._received += size
            at = start + size + 2
        else:
            if len(raw) - at > _LONGEST_HEAD:
                raise Garbled("a line without end")
        del raw[:at]
        return None

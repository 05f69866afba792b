"""Replies are read as sent however they are cut, and nothing that is no reply passes for one."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.llm.http1 import Garbled, Reply, ReplyReader, TooLarge

HEAD = b"HTTP/1.1 200 OK\r\nX-One: a\r\nx-one: b\r\n"


def plain(body: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(pieces: list[bytes]) -> bytes:
    chunks = b"".join(b"%X;x=y\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nX-After: z\r\n\r\n"


def read(data: bytes, cuts: list[int], *, max_bytes: int = 1 << 20) -> tuple[Reply | None, bool]:
    """Feed the bytes cut at the given places; the reply, and whether the connection may go on."""
    reader = ReplyReader(max_bytes=max_bytes)
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for start, end in pairwise(places):
        reply = reader.feed(data[start:end])
        if reply is not None:
            assert end == len(data)
            return reply, reader.reusable
    return reader.end(), reader.reusable


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(1, 300), max_size=12))
def test_a_reply_is_the_same_however_it_is_cut(pieces: list[bytes], cuts: list[int]) -> None:
    body = b"".join(pieces)
    interim = b"HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\n"
    for data in (plain(body), chunked(pieces), interim + plain(body)):
        reply, reusable = read(data, cuts)
        assert reply is not None and reply.body == body and reusable
        assert reply.status == 200 and reply.headers["x-one"] == "a, b"
        assert "x-early" not in reply.headers and "x-after" not in reply.headers


@given(st.binary(max_size=60), st.lists(st.integers(1, 300), max_size=8))
def test_a_body_may_end_with_its_connection(body: bytes, cuts: list[int]) -> None:
    reply, reusable = read(HEAD + b"\r\n" + body, cuts)
    assert reply is not None and reply.body == body and not reusable


@given(st.binary(max_size=200))
def test_any_bytes_are_a_reply_or_garbled_or_not_finished(data: bytes) -> None:
    for before in (b"", b"HTTP/1.1 200 OK\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\n"):
        with contextlib.suppress(Garbled, TooLarge):
            ReplyReader(max_bytes=100).feed(before + data)


@pytest.mark.parametrize(
    "data", [plain(b"abc"), chunked([b"abc", b"defg"]), chunked([b"a" * 300])], ids=["n", "c", "l"]
)
def test_a_reply_cut_anywhere_is_never_taken_for_whole(data: bytes) -> None:
    for length in range(len(data)):
        reader = ReplyReader(max_bytes=1 << 20)
        assert reader.feed(data[:length]) is None and reader.end() is None


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"hello\r\n\r\n",
        HEAD + b"no colon\r\n\r\n",
        HEAD + b" folded: x\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1_0\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n-3\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
        HEAD + b"X: " + b"y" * (70 << 10),
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 20_000,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"3" * (70 << 10),
    ],
    ids=lambda data: repr(data[-24:]),
)
def test_what_could_be_misread_is_refused(data: bytes) -> None:
    with pytest.raises(Garbled):
        ReplyReader(max_bytes=1 << 20).feed(data)


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"Content-Length: 101\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n65\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"32\r\n" + b"x" * 50 + b"\r\n") * 3,
        HEAD + b"\r\n" + b"x" * 101,
    ],
    ids=["length", "chunk", "chunks", "open"],
)
def test_a_body_beyond_the_bound_is_not_read(data: bytes) -> None:
    with pytest.raises(TooLarge):
        ReplyReader(max_bytes=100).feed(data)


@pytest.mark.parametrize(
    "data",
    [
        plain(b"abc") + b"more",
        chunked([b"abc"]) + b"more",
        plain(b"abc").replace(b"X-One", b"Connection: Close\r\nX-One"),
        plain(b"abc").replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
    ids=["plain", "chunked", "close", "old"],
)
def test_a_connection_that_cannot_go_on_is_known(data: bytes) -> None:
    reader = ReplyReader(max_bytes=100)
    reply = reader.feed(data)
    assert reply is not None and reply.body == b"abc" and not reader.reusable

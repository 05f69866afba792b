"""A chat completion server that is never the bottleneck: one fixed answer after a fixed delay.

python scripts/bench/fast_server.py [--delay 0.02] [--prove]

The answer is a JSON object with a `question` and an `answer` of about 300 tokens together, so that
it passes for either stage of `generation.py`. It reads requests only as far as their length, and
one timer writes what is due. Prints its URL, serves until standard input ends, then prints its
counts and its own CPU time as JSON. `--prove` sends to it from raw sockets and prints its capacity.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

_TICK_S = 0.001
_WORDS = (
    "the tide turns twice a day because the moon pulls the sea and the sea answers slowly".split()
)
_USAGE = {"prompt_tokens": 350, "completion_tokens": 300, "total_tokens": 650}


def answer_text() -> str:
    """The JSON answer that every request gets: about 300 tokens.

    `name` and `age` are what curator asks for to see whether a server follows a schema.
    """
    said = " ".join(_WORDS[i % len(_WORDS)] for i in range(270))
    question = "Why does the tide turn twice a day?"
    return json.dumps({"question": question, "answer": said, "name": "Ada", "age": 36})


def _response() -> bytes:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": answer_text()},
        "finish_reason": "stop",
        "logprobs": None,
    }
    body = json.dumps(
        {
            "id": "fixed",
            "object": "chat.completion",
            "created": 1,
            "model": "fixed",
            "choices": [choice],
            "usage": _USAGE,
        }
    ).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\ncontent-type: application/json\r\n"
    return head.encode() + b"server: fixed\r\n\r\n" + body


class _Server:
    """What all connections share: the answer, and who is to get it when."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.response = _response()
        self.served = 0
        self.other = 0
        self.due: deque[tuple[float, asyncio.Transport]] = deque()
        self.loop = asyncio.get_running_loop()

    def tick(self) -> None:
        """Write every answer that is due, and come back."""
        now = self.loop.time()
        while self.due and self.due[0][0] <= now:
            self.due.popleft()[1].write(self.response)
            self.served += 1
        self.loop.call_later(_TICK_S, self.tick)


class _Connection(asyncio.Protocol):
    """Finds where requests end, and queues an answer to each."""

    def __init__(self, server: _Server) -> None:
        self.server = server
        self.held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        data = self.held + data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            head = data[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(data) < end + 4 + length:
                break
            data = data[end + 4 + length :]
            if head.startswith(b"post"):
                due = self.server.loop.time() + self.server.delay_s
                self.server.due.append((due, self.transport))
            else:
                self.server.other += 1
                self._list_models()
        self.held = data

    def _list_models(self) -> None:
        body = b'{"object": "list", "data": [{"id": "fixed", "object": "model"}]}'
        head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"content-type: application/json\r\n\r\n" + body)


async def serve(delay_s: float) -> None:
    """Serve on a free port of the loopback until standard input ends."""
    loop = asyncio.get_running_loop()
    state = _Server(delay_s)
    server = await loop.create_server(lambda: _Connection(state), "127.0.0.1", 0, backlog=4096)
    state.tick()
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = round(usage.ru_utime + usage.ru_stime, 3)
    print(json.dumps({"served": state.served, "other": state.other, "cpu_s": cpu_s}), flush=True)
    server.close()


@contextmanager
def running(delay_s: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run the server in a process of its own; its counts fill the mapping when it has ended."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--delay", str(delay_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    counts: dict[str, Any] = {}
    try:
        yield process.stdout.readline().strip(), counts
    finally:
        counts.update(json.loads(process.communicate()[0].splitlines()[-1]))


def prove(connections: int = 64, requests: int = 200) -> dict[str, float]:
    """Calls a second that it can answer: each of many raw sockets always has a request waiting."""
    body = b"x" * 2500
    request = b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 2500\r\n\r\n" + body
    size = len(_response())
    with running(0.0) as (url, counts):
        port = int(url.split(":")[2].split("/")[0])
        sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
        started = time.perf_counter()
        for _ in range(requests):
            for each in sockets:
                each.sendall(request)
            for each in sockets:
                left = size
                while left:
                    left -= len(each.recv(left))
        seconds = time.perf_counter() - started
        for each in sockets:
            each.close()
    total = connections * requests
    return {
        "calls_a_second_side_by_side": round(total / seconds),
        "calls_a_second_of_its_core": round(total / counts["cpu_s"]),
    }


def main() -> None:
    """Serve, or prove."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--delay", type=float, default=0.02, metavar="SECONDS")
    parser.add_argument("--prove", action="store_true")
    given = parser.parse_args()
    if given.prove:
        print(json.dumps(prove()))
    else:
        asyncio.run(serve(given.delay))


if __name__ == "__main__":
    main()

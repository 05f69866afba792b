"""A scripted OpenAI-compatible server on loopback: deterministic answers, seeded faults.

    with FaultServer(share=0.2, seed=7) as server:
        EndpointSpec(url=server.url)
        server.requests         # the JSON bodies that arrived, in order of arrival
        server.faulted          # how often each kind of fault was served

An answer is a pure function of the request: `answer(body, sample)` when given, else JSON that
conforms to the request's schema, or a sentence, with words drawn from the last user message. Which
requests fail depends on the seed, the request and how often it has come, never on arrival order.
"""

from __future__ import annotations

import argparse
import asyncio
import email.utils
import hashlib
import json
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

FAULTS = (
    "429",
    "500",
    "503",
    "stall",
    "cut_json",
    "half_closed",
    "error_body",
    "empty_choices",
    "null_content",
)
Answer = Callable[[Mapping[str, Any], int], str | Mapping[str, Any]]


class FaultServer:
    """Serves `/v1/chat/completions` from a thread of its own; use it with `with`.

    `faults` names the kinds that share `share` evenly. `retry_after` goes with 429 and 503: some
    seconds, or "date" for an HTTP date a second ahead. A stall lasts `stall_s`, longer than the
    timeout of the client under test. `delay_s` passes before every good answer. `answer` may
    return a mapping: the fields of the message, and `finish_reason`. `most_choices` bounds `n` in
    silence.
    """

    def __init__(
        self,
        *,
        answer: Answer | None = None,
        share: float = 0.0,
        faults: tuple[str, ...] = FAULTS,
        seed: int = 0,
        retry_after: str | None = "0.05",
        stall_s: float = 30.0,
        delay_s: float = 0.0,
        script: Callable[[Mapping[str, Any], int], str | None] | None = None,
        most_choices: int | None = None,
        echo: str = "",
        port: int = 0,
        keep: bool = True,
    ) -> None:
        """`script(body, times_seen)` names the fault of each request instead of the seed.

        A fault may also be any HTTP status, or "echo": an error body that repeats `echo`.
        """
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.arrivals: list[float] = []
        self.received = 0
        self.faulted: Counter[str] = Counter()
        self.most_at_once = 0
        self._answer = answer or conforming
        self._share = share
        self._faults = faults
        self._seed = seed
        self._retry_after = retry_after
        self._stall_s = stall_s
        self._delay_s = delay_s
        self._script = script
        self._most_choices = most_choices
        self._echo = echo
        self._port = port
        self._keep = keep
        self._at_once = 0
        self._seen: Counter[bytes] = Counter()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        """The base URL, as a profile names it."""
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> FaultServer:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the scripted server did not start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and end the thread; safe to call twice."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        pending = asyncio.all_tasks(self._loop)
        for task in pending:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connection, "127.0.0.1", self._port, backlog=1024)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _read_request(reader)) is not None:
                path, headers, body = request
                if not await self._respond(writer, path, headers, body):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or the server stops
        finally:
            writer.close()

    async def _respond(
        self, writer: asyncio.StreamWriter, path: str, headers: dict[str, str], data: bytes
    ) -> bool:
        """Answer one request; returns whether the connection stays open."""
        if path == "/health":
            await _send(writer, 200, b'{"status": "ok"}')
            return True
        if not path.endswith("/chat/completions"):
            await _send(writer, 404, b'{"error": {"message": "no such path"}}')
            return True
        body = json.loads(data)
        self.received += 1
        if self._keep:
            self.arrivals.append(time.monotonic())
            self.requests.append(body)
            self.headers.append(headers)
        fault = self._fault(body, data)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            if fault is not None:
                self.faulted[fault] += 1
                return await self._fail(writer, fault, body)
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            await _send(writer, 200, json.dumps(self._completion(body)).encode())
            return True
        finally:
            self._at_once -= 1

    def _fault(self, body: Mapping[str, Any], data: bytes) -> str | None:
        identity = hashlib.blake2b(data, digest_size=16).digest()
        times = self._seen[identity]
        self._seen[identity] += 1
        if self._script is not None:
            return self._script(body, times)
        draw = random.Random(f"{self._seed}:{identity.hex()}:{times}")
        return draw.choice(self._faults) if draw.random() < self._share else None

    async def _fail(
        self, writer: asyncio.StreamWriter, fault: str, body: Mapping[str, Any]
    ) -> bool:
        whole = self._completion(body)
        if fault == "stall":
            await asyncio.sleep(self._stall_s)
        elif fault == "cut_json":
            text = json.dumps(whole).encode()
            await _send(writer, 200, text[: len(text) // 2])
        elif fault == "half_closed":
            text = json.dumps(whole).encode()
            await _send(writer, 200, text[: len(text) // 2], length=len(text))
            return False
        elif fault == "error_body":
            await _send(writer, 200, b'{"error": {"message": "engine lost", "code": 500}}')
        elif fault == "empty_choices":
            await _send(writer, 200, json.dumps({**whole, "choices": []}).encode())
        elif fault == "null_content":
            whole["choices"][0]["message"]["content"] = None
            await _send(writer, 200, json.dumps(whole).encode())
        elif fault == "echo":
            await _send(writer, 200, json.dumps({"error": {"message": self._echo}}).encode())
        else:
            await self._status(writer, int(fault))
        return fault != "stall"

    async def _status(self, writer: asyncio.StreamWriter, status: int) -> None:
        words = f"scripted {status} {self._echo}".strip()
        message = json.dumps({"error": {"message": words}}).encode()
        extra = {}
        if status in (429, 503) and self._retry_after is not None:
            later = email.utils.formatdate(time.time() + 1.5, usegmt=True)
            extra["Retry-After"] = later if self._retry_after == "date" else self._retry_after
        await _send(writer, status, message, extra=extra)

    def _completion(self, body: Mapping[str, Any]) -> dict[str, Any]:
        wanted = min(body.get("n") or 1, self._most_choices or 1 << 30)
        choices = [_choice(body, self._answer(body, place), place) for place in range(wanted)]
        prompt = sum(len(message["content"].split()) for message in body["messages"])
        answered = sum(len((c["message"]["content"] or "").split()) for c in choices)
        return {
            "id": "scripted",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": choices,
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": answered,
                "total_tokens": prompt + answered,
            },
        }


def _choice(body: Mapping[str, Any], said: str | Mapping[str, Any], place: int) -> dict[str, Any]:
    message = {"content": said} if isinstance(said, str) else dict(said)
    finish_reason = message.pop("finish_reason", "stop")
    return {
        "index": place,
        "message": {"role": "assistant", **message},
        "finish_reason": finish_reason,
        "logprobs": _logprobs(message["content"] or "") if body.get("logprobs") else None,
    }


def conforming(body: Mapping[str, Any], sample: int) -> str:
    """Answer by the request's JSON schema, or with a sentence, in words of the user's message."""
    seed = json.dumps([body["messages"], body.get("seed"), sample], sort_keys=True)
    draw = random.Random(hashlib.sha256(seed.encode()).hexdigest())
    said = [message["content"] for message in body["messages"] if message["role"] == "user"]
    words = re.findall(r"\w+", said[-1] if said else "") or ["nothing"]
    wanted = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
    if wanted is None:
        return _sentence(draw, words, 12)
    return json.dumps(_value(wanted, wanted.get("$defs", {}), draw, words))


def _value(
    schema: Mapping[str, Any], defs: Mapping[str, Any], draw: random.Random, words: list[str]
) -> Any:
    """Draw a value that a schema allows; patterns are not heeded."""
    if "$ref" in schema:
        return _value(defs[schema["$ref"].rpartition("/")[2]], defs, draw, words)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return draw.choice(schema["enum"])
    for union in ("anyOf", "oneOf", "allOf"):
        if union in schema:
            return _value(schema[union][0], defs, draw, words)
    kind = schema.get("type", "string")
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: _value(inner, defs, draw, words) for name, inner in properties.items()}
    if kind == "array":
        low = schema.get("minItems", 1)
        count = draw.randint(low, max(low, min(schema.get("maxItems", low + 2), low + 2)))
        return [_value(schema.get("items", {}), defs, draw, words) for _ in range(count)]
    if kind in ("integer", "number"):
        return _number(schema, draw, kind)
    if kind == "boolean":
        return draw.random() < 0.5
    if kind == "null":
        return None
    text = _sentence(draw, words, 6).ljust(schema.get("minLength", 0), "x")
    return text[: schema.get("maxLength", len(text))]


def _number(schema: Mapping[str, Any], draw: random.Random, kind: str) -> float:
    low = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
    high = schema.get("maximum", schema.get("exclusiveMaximum", low + 11) - 1)
    return draw.randint(int(low), int(high)) if kind == "integer" else draw.uniform(low, high)


def _sentence(draw: random.Random, words: list[str], most: int) -> str:
    """A run of the words as they stand, so that an answer can be a span of the prompt."""
    start = draw.randrange(len(words))
    return " ".join(words[start : start + draw.randint(2, most)]) or words[start]


def _logprobs(text: str) -> dict[str, Any]:
    return {"content": [{"token": word, "logprob": -0.5} for word in text.split()]}


async def _read_request(
    reader: asyncio.StreamReader,
) -> tuple[str, dict[str, str], bytes] | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines[1:] if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return lines[0].split(" ")[1], headers, body


async def _send(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    *,
    length: int | None = None,
    extra: Mapping[str, str] | None = None,
) -> None:
    lines = [
        f"HTTP/1.1 {status} Scripted",
        "Content-Type: application/json",
        f"Content-Length: {len(body) if length is None else length}",
        *(f"{name}: {value}" for name, value in (extra or {}).items()),
    ]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    await writer.drain()


def main() -> None:
    """Serve until standard input ends, with the URL as the first line of output."""
    parser = argparse.ArgumentParser(description="A scripted, faulty model server.")
    parser.add_argument("--share", type=float, default=0.0, help="share of requests that fail")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stall", type=float, default=30.0, metavar="SECONDS")
    parser.add_argument("--delay", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--retry-after", default="1")
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    with FaultServer(
        share=given.share,
        seed=given.seed,
        stall_s=given.stall,
        delay_s=given.delay,
        retry_after=given.retry_after,
        port=given.port,
        keep=False,
    ) as server:
        sys.stdout.write(server.url + "\n")
        sys.stdout.flush()
        sys.stdin.read()
        counts = {"received": server.received, "faulted": dict(server.faulted)}
        sys.stdout.write(json.dumps(counts) + "\n")


if __name__ == "__main__":
    main()

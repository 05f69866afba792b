"""One attempt at one endpoint, through the `openai` package: a completion, or a `Fault`."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import openai
import orjson

from datagen.errors import WorkspaceError
from datagen.llm.faults import Fault, Kind, retry_after_s
from datagen.llm.wire import Choice, Completion, TokenLogprob
from datagen.workspace.specs import EndpointSpec

# openai 2 stands on httpx and openai 3 on httpx2: take whichever it brought.
_http: Any = sys.modules[openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0]]

_CONNECT_S = 5.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_NO_KEY = "none"
# The command line names this key for its endpoint, which may be a local server without one.
_OPTIONAL_KEY = "OPENAI_API_KEY"
_LONGEST_DETAIL = 400
_THOUGHT_ENDS = "</think>"


class Transport:
    """A connection pool to one endpoint. It never retries and never waits to be polite."""

    def __init__(self, endpoint: EndpointSpec, *, timeout_s: float, max_bytes: int) -> None:
        self.url = endpoint.url
        parts = urlsplit(endpoint.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise WorkspaceError(
                f"{endpoint.url!r} is not an http or https URL",
                where="endpoints",
                fix="write it as http://host:port/v1",
            )
        if parts.username or parts.password:
            raise WorkspaceError(
                "an endpoint's URL must not carry a user name or password",
                where=f"endpoints: {parts.hostname}",
                fix="put the key into an environment variable and name it in 'api_key_env'",
            )
        self._secret = _key_of(endpoint)
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        limits = _http.Limits(
            max_connections=endpoint.max_concurrency,
            max_keepalive_connections=endpoint.max_concurrency,
        )
        self._client = openai.AsyncOpenAI(
            base_url=endpoint.url,
            api_key=self._secret or _NO_KEY,
            max_retries=0,
            timeout=openai.Timeout(timeout_s, connect=min(_CONNECT_S, timeout_s)),
            http_client=openai.DefaultAsyncHttpxClient(
                # A proxy for the outside world must not stand before a server on this machine.
                limits=limits,
                trust_env=parts.hostname not in _LOOPBACK,
            ),
        )

    async def close(self) -> None:
        """Close the pool."""
        await self._client.close()

    async def send(self, body: Mapping[str, Any]) -> Completion:
        """Ask once; every way to fail comes out as a `Fault`."""
        try:
            async with asyncio.timeout(self._timeout_s):
                data = await self._exchange(body)
        except Fault:
            raise
        except (TimeoutError, openai.APITimeoutError) as error:
            connecting = isinstance(error.__cause__, _http.ConnectTimeout)
            kind: Kind = "unreachable" if connecting else "timeout"
            raise Fault(kind, f"no answer within {self._timeout_s:g} s") from None
        except openai.APIStatusError as error:
            raise self._status_fault(error) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            connecting = isinstance(cause, _http.ConnectError | _http.UnsupportedProtocol)
            raise Fault(
                "unreachable" if connecting else "cut_body", self._safe(str(cause) or repr(cause))
            ) from None
        except (openai.OpenAIError, _http.HTTPError, OSError) as error:
            detail = self._safe(f"{type(error).__name__}: {error}")
            raise Fault("cut_body", detail) from None
        try:
            return read_completion(data)
        except Fault as fault:
            raise Fault(fault.kind, self._safe(fault.detail)) from None

    async def _exchange(self, body: Mapping[str, Any]) -> bytes:
        create = self._client.chat.completions.with_streaming_response.create
        data = bytearray()
        # As `extra_body` it goes out as it is: openai's own pass over the schema costs as much CPU
        # as sending does.
        async with create(model=body["model"], messages=(), extra_body=body) as response:
            async for chunk in response.iter_bytes():
                data += chunk
                if len(data) > self._max_bytes:
                    raise Fault("too_large", f"the answer is larger than {self._max_bytes} bytes")
        return bytes(data)

    def _status_fault(self, error: openai.APIStatusError) -> Fault:
        status = error.status_code
        detail = self._safe(f"HTTP {status}: {_said(error)}")
        wait = retry_after_s(error.response.headers.get("retry-after"), now=time.time())
        kind: Kind
        # 402 and 403: the account or the key is refused, whatever is asked.
        if status in (401, 402, 403, 404):
            kind = "denied"
        elif status == 429:
            kind = "throttled"
        elif status in (502, 503, 504):
            kind = "unavailable"
        elif status >= 500 or status in (408, 409, 425):
            kind = "server_error"
        else:
            kind = "refused"
        return Fault(kind, detail, retry_after_s=wait)

    def _safe(self, text: str) -> str:
        """Shorten a server's words and take the key out, which some servers repeat."""
        if self._secret:
            text = text.replace(self._secret, "***")
        text = " ".join(text.split())
        return text if len(text) <= _LONGEST_DETAIL else text[: _LONGEST_DETAIL - 1] + "…"


def _said(error: openai.APIStatusError) -> str:
    """A server's own words about a refusal, with the type or code it gives."""
    if not isinstance(error.body, dict):
        return error.message
    kinds = (error.body.get("type"), error.body.get("code"))
    kind = next((str(kind) for kind in kinds if isinstance(kind, str)), "")
    return f"{error.body.get('message') or error.message}{kind and f' ({kind})'}"


def _key_of(endpoint: EndpointSpec) -> str:
    """The key in the variable that the endpoint names, or "" where it names none."""
    name = endpoint.api_key_env
    if not name:
        return ""
    secret = os.environ.get(name, "").strip()
    if name != _OPTIONAL_KEY and not secret:
        raise WorkspaceError(
            f"the environment variable {name} is not set",
            where=endpoint.url,
            fix=f"export {name}=…, or take 'api_key_env' out of the profile",
        )
    if not secret.isascii() or not secret.isprintable():
        raise WorkspaceError(
            f"the environment variable {name} holds characters that no HTTP header can carry",
            where=endpoint.url,
            fix=f"set {name} again, without line breaks or quotation marks",
        )
    return secret


def read_completion(data: bytes) -> Completion:
    """Read a chat completion's bytes; a `Fault` where they are not a whole answer."""
    try:
        value = orjson.loads(data)
    except ValueError as error:
        raise Fault("cut_body", f"the body is not whole JSON ({error})") from None
    if not isinstance(value, dict):
        raise Fault("error_body", f"the body is a JSON {type(value).__name__}")
    if value.get("error"):
        raise Fault("error_body", orjson.dumps(value["error"]).decode())
    rows = value.get("choices")
    if not isinstance(rows, list) or not rows:
        raise Fault("empty_choices", "the answer has no choices")
    try:
        choices = tuple(_choice(row) for row in sorted(rows, key=_index))
        usage = value.get("usage") or {}
        return Completion(
            choices=choices,
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Fault("error_body", f"not a chat completion ({error!r})") from None


def _index(row: Mapping[str, Any]) -> int:
    return int(row.get("index") or 0)


def _choice(row: Mapping[str, Any]) -> Choice:
    message = row["message"]
    content = message.get("content")
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    refusal = message.get("refusal")
    finish_reason = row.get("finish_reason")
    if content is None and not (reasoning or refusal) and finish_reason in (None, "stop"):
        raise Fault("empty_message", "the answer has no content and no reason for it")
    if content is not None and not isinstance(content, str):
        raise Fault("error_body", f"content is a {type(content).__name__}, not text")
    if content and not reasoning and _THOUGHT_ENDS in content:
        # A server without a reasoning parser leaves the thoughts in front of the answer.
        thoughts, _, content = content.partition(_THOUGHT_ENDS)
        reasoning = thoughts.removeprefix("<think>").strip() or None
        content = content.strip()
    entries = (row.get("logprobs") or {}).get("content")
    return Choice(
        text=content or "",
        finish_reason=str(finish_reason or "stop"),
        reasoning=reasoning,
        refusal=refusal,
        logprobs=tuple(
            TokenLogprob(token=str(entry["token"]), logprob=float(entry["logprob"]))
            for entry in entries
        )
        if entries is not None
        else None,
    )

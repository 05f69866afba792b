"""One attempt at one endpoint: a completion, or a `Fault`."""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

import orjson

import datagen
from datagen.errors import WorkspaceError
from datagen.llm.connections import Post
from datagen.llm.faults import Fault, Kind, retry_after_s
from datagen.llm.http1 import Reply
from datagen.llm.wire import Choice, Completion, TokenLogprob
from datagen.workspace.specs import EndpointSpec

if TYPE_CHECKING:
    from datagen.llm.through_openai import ThroughOpenAI

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
# The command line names this key for its endpoint, which may be a local server without one.
_OPTIONAL_KEY = "OPENAI_API_KEY"
_OPENAI_HEADERS = {
    "OpenAI-Organization": "OPENAI_ORG_ID",
    "OpenAI-Project": "OPENAI_PROJECT_ID",
}
_LONGEST_DETAIL = 400
_THOUGHT_ENDS = "</think>"
_REDIRECTS = (301, 302, 303, 307, 308)


class Transport:
    """A connection pool to one endpoint. It never retries and never waits to be polite.

    It opens a connection for each request under way: `Pace` bounds those. Our own connections
    carry it, and the `openai` package where a proxy of the environment, a redirect, a compressed
    answer or an odd URL is beyond them.
    """

    def __init__(self, endpoint: EndpointSpec, *, timeout_s: float, max_bytes: int) -> None:
        self.url = endpoint.url
        parts = urlsplit(endpoint.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not _has_port(parts):
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
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._direct = self._straight(parts) if _is_direct(parts) else None
        self._roundabout: ThroughOpenAI | None = None

    def _straight(self, parts: SplitResult) -> Post:
        return Post(
            parts._replace(path=f"{parts.path.rstrip('/')}/chat/completions").geturl(),
            _headers(self._endpoint, self._secret),
            timeout_s=self._timeout_s,
            max_bytes=self._max_bytes,
        )

    def _around(self) -> ThroughOpenAI:
        """The way by the `openai` package, opened when it is first needed."""
        from datagen.llm.through_openai import ThroughOpenAI

        if self._roundabout is None:
            self._roundabout = ThroughOpenAI(
                self.url,
                secret=self._secret,
                places=self._endpoint.max_concurrency,
                timeout_s=self._timeout_s,
                max_bytes=self._max_bytes,
                # A proxy for the outside world must not stand before a server on this machine.
                proxies=urlsplit(self.url).hostname not in _LOOPBACK,
            )
        return self._roundabout

    async def close(self) -> None:
        """Close the pool."""
        for way in (self._direct, self._roundabout):
            if way is not None:
                await way.close()

    async def send(self, body: bytes) -> Completion:
        """Ask once, with a JSON body; every way to fail comes out as a `Fault`."""
        try:
            if self._direct is None or self._roundabout is not None:
                reply = await self._around()(body)
            else:
                reply = await self._direct(body)
                if _is_beyond(reply):
                    reply = await self._around()(body)
            if not 200 <= reply.status < 300:
                raise _status_fault(reply)
            return read_completion(reply.body)
        except Fault as fault:
            detail = self._safe(fault.detail)
            raise Fault(fault.kind, detail, retry_after_s=fault.retry_after_s) from None

    def _safe(self, text: str) -> str:
        """Shorten a server's words and take the key out, which some servers repeat."""
        if self._secret:
            text = text.replace(self._secret, "***")
        text = " ".join(text.split())
        return text if len(text) <= _LONGEST_DETAIL else text[: _LONGEST_DETAIL - 1] + "…"


def _has_port(parts: SplitResult) -> bool:
    """Whether the port is a number that there is, or none is named."""
    try:
        return parts.port != 0
    except ValueError:
        return False


def _is_direct(parts: SplitResult) -> bool:
    """Whether our own connections can reach a URL: no proxy before it, and nothing to escape."""
    url = parts.geturl()
    if not (url.isascii() and url.isprintable()) or " " in url or parts.fragment:
        return False
    host = parts.hostname or ""
    proxies = {} if host in _LOOPBACK else urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return not proxy or bool(urllib.request.proxy_bypass(host))


def _is_beyond(reply: Reply) -> bool:
    """Whether a reply asks for what our own connections cannot do."""
    coding = reply.headers.get("content-encoding", "identity").lower()
    return reply.status in _REDIRECTS or coding not in ("identity", "")


def _headers(endpoint: EndpointSpec, secret: str) -> dict[str, str]:
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "User-Agent": f"datagen/{datagen.__version__}",
    }
    if secret:
        headers["Authorization"] = f"Bearer {secret}"
    if endpoint.api_key_env == _OPTIONAL_KEY:
        for name, variable in _OPENAI_HEADERS.items():
            value = os.environ.get(variable, "")
            if value and value.isascii() and value.isprintable():
                headers[name] = value
    return headers


def _status_fault(reply: Reply) -> Fault:
    status = reply.status
    wait = retry_after_s(reply.headers.get("retry-after"), now=time.time())
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
    return Fault(kind, f"HTTP {status}: {_said(reply.body)}", retry_after_s=wait)


def _said(body: bytes) -> str:
    """A server's own words about a refusal, with the type or code it gives."""
    text = body.decode("utf-8", "replace").strip()
    try:
        value = orjson.loads(body)
    except ValueError:
        return text or "no reason given"
    error = value.get("error", value) if isinstance(value, dict) else value
    if not isinstance(error, dict):
        return str(error)
    kinds = (error.get("type"), error.get("code"))
    kind = next((kind for kind in kinds if isinstance(kind, str)), "")
    return f"{error.get('message') or text}{kind and f' ({kind})'}"


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

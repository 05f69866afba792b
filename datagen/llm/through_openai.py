"""The way to an endpoint that our own connections do not know: proxies, redirects, odd URLs.

It is the `openai` package with its retries off. Slower by far, and imported only where needed.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import openai
import orjson

from datagen.llm.faults import Fault, Kind
from datagen.llm.http1 import Reply

# openai 2 stands on httpx and openai 3 on httpx2: take whichever it brought.
_http: Any = sys.modules[openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0]]

_CONNECT_S = 5.0
_NO_KEY = "none"


class ThroughOpenAI:
    """Posts chat completions to a base URL as `Post` does, proxies of the environment included."""

    def __init__(
        self, url: str, *, secret: str, places: int, timeout_s: float, max_bytes: int, proxies: bool
    ) -> None:
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._client = openai.AsyncOpenAI(
            base_url=url,
            api_key=secret or _NO_KEY,
            max_retries=0,
            timeout=openai.Timeout(timeout_s, connect=min(_CONNECT_S, timeout_s)),
            http_client=openai.DefaultAsyncHttpxClient(
                limits=_http.Limits(max_connections=places, max_keepalive_connections=places),
                trust_env=proxies,
            ),
        )

    async def close(self) -> None:
        """Close the pool."""
        await self._client.close()

    async def __call__(self, body: bytes) -> Reply:
        """Send a body and wait for the whole reply; raises `Fault` where there is none."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._exchange(orjson.loads(body))
        except (TimeoutError, openai.APITimeoutError) as error:
            connecting = isinstance(error.__cause__, _http.ConnectTimeout)
            kind: Kind = "unreachable" if connecting else "timeout"
            raise Fault(kind, f"no answer within {self._timeout_s:g} s") from None
        except openai.APIStatusError as error:
            return _reply(error.response, error.response.content)
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            kind = "cut_body"
            if isinstance(cause, _http.ConnectError | _http.UnsupportedProtocol | _http.ProxyError):
                kind = "unreachable"
            raise Fault(kind, str(cause) or repr(cause)) from None
        except (openai.OpenAIError, _http.HTTPError, OSError) as error:
            raise Fault("cut_body", f"{type(error).__name__}: {error}") from None

    async def _exchange(self, body: Any) -> Reply:
        create = self._client.chat.completions.with_streaming_response.create
        data = bytearray()
        # As `extra_body` it goes out as it is, without openai's own pass over the schema.
        async with create(model=body["model"], messages=(), extra_body=body) as response:
            async for chunk in response.iter_bytes():
                data += chunk
                if len(data) > self._max_bytes:
                    raise Fault("too_large", f"the answer is larger than {self._max_bytes} bytes")
            return _reply(response, bytes(data))


def _reply(response: Any, body: bytes) -> Reply:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(status=response.status_code, headers=headers, body=body)

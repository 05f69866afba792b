"""The client of a served model: any OpenAI-compatible endpoints, one retry layer, no cache.

    async with Client(model, endpoints) as client:      # a ModelSpec and its EndpointSpecs
        completion = await client.complete(request)
        client.requests_sent, client.prompt_tokens, client.completion_tokens, client.faults

A client belongs to the event loop it is used in. Errors: `ServiceDown` when no endpoint will answer
anything (all refuse connections for `down_after_s` or fail all that they get over
`down_after_rests`, which takes 8 minutes, or one says 401 or 404): stop, mend, resume.
`RequestRefused` when this request alone is refused. `ServiceError` when its attempts are used up.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from datagen.errors import DatagenError, ServiceError, WorkspaceError
from datagen.llm.faults import Fault, RequestRefused, ServiceDown
from datagen.llm.pace import Pace
from datagen.llm.wire import Completion, Request
from datagen.workspace.specs import EndpointSpec, ModelSpec

if TYPE_CHECKING:
    from datagen.llm.transport import Transport

__all__ = ["Client", "RequestRefused", "ServiceDown"]

_FIRST_DELAY_S = 0.25
_LONGEST_DELAY_S = 20.0
_LONGEST_SPOILT_DELAY_S = 0.5
# llama.cpp parses what its model wrote, and answers 500 where it cannot; so it will every time.
_UNREADABLE = "model produced output that does not match"
_TOO_LONG = ("context_length_exceeded", "exceed_context_size", "context size", "context length")


class _Line:
    """An endpoint's connections and its pace."""

    def __init__(self, transport: Transport, ceiling: int) -> None:
        self.transport = transport
        self.pace = Pace(ceiling)


class Client:
    """Sends requests to the least loaded endpoint and retries what a retry can mend."""

    def __init__(
        self,
        model: ModelSpec,
        endpoints: Sequence[EndpointSpec] | Callable[[], Sequence[EndpointSpec]],
        *,
        attempts: int = 6,
        timeout_s: float = 600.0,
        down_after_s: float = 10.0,
        down_after_rests: int = 20,
        max_bytes: int = 64 << 20,
    ) -> None:
        """Touch nothing yet; `endpoints` may be a function, called when the first is needed."""
        self.model = model
        self.requests_sent = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.faults: Counter[str] = Counter()
        self._endpoints = endpoints
        self._attempts = attempts
        self._timeout_s = timeout_s
        self._down_after_s = down_after_s
        self._down_after_rests = down_after_rests
        self._max_bytes = max_bytes
        self._down: str | None = None
        self._last_fault: Fault | None = None
        self._unopened: DatagenError | None = None
        self._lines: list[_Line] = []
        self._opening = asyncio.Lock()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._jitter = random.Random(0)
        self._clock = time.monotonic  # what event loops count by as well

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        for line in self._lines:
            await line.transport.close()

    async def complete(self, request: Request) -> Completion:
        """Ask until there is an answer, within `attempts`; refused connections do not count."""
        body = request.encoded()
        failed = 0
        if not self._lines:
            await self._open()
        while True:
            line = await self._acquire()
            outcome = await self._attempt(line, body)
            if isinstance(outcome, Completion):
                return outcome
            self._stop_if_hopeless(line, outcome)
            failed += outcome.kind != "unreachable"
            if failed >= self._attempts:
                raise ServiceError(
                    f"no answer after {failed} attempts; the last one: {outcome}",
                    where=line.transport.url,
                    fix="run again: what is answered is kept, and only this is asked again",
                )
            await asyncio.sleep(self._delay(failed, outcome))

    async def _open(self) -> None:
        """Make the connection pools; a function of endpoints runs in a thread, for it may wait."""
        from datagen.llm.transport import Transport

        async with self._opening:
            if self._lines:
                return
            if self._unopened is not None:
                raise self._unopened  # once is enough: a server that does not start stays away
            found = self._endpoints
            try:
                endpoints = await asyncio.to_thread(found) if callable(found) else found
            except DatagenError as error:
                self._unopened = error
                raise
            if not endpoints:
                raise WorkspaceError(
                    f"model {self.model.name!r} has no endpoint",
                    where="endpoints",
                    fix="give the profile's model 'endpoints', or pass --endpoint URL",
                )
            made = [
                Transport(endpoint, timeout_s=self._timeout_s, max_bytes=self._max_bytes)
                for endpoint in endpoints
            ]
            self._lines = [
                _Line(transport, endpoint.max_concurrency)
                for transport, endpoint in zip(made, endpoints, strict=True)
            ]

    async def _attempt(self, line: _Line, body: bytes) -> Completion | Fault:
        """Send once on a line that `_acquire` has taken, and give the line back."""
        started = self._clock()
        self.requests_sent += 1
        try:
            completion = await line.transport.send(body)
        except Fault as fault:
            self.faults[fault.kind] += 1
            self._last_fault = fault
            # Nothing was sent where nobody listens; such attempts are not counted as requests.
            self.requests_sent -= fault.kind == "unreachable"
            if fault.retryable:
                line.pace.failed(fault, started=started, now=self._clock())
            else:
                line.pace.reached()
            return fault
        else:
            line.pace.succeeded()
            self.prompt_tokens += completion.prompt_tokens
            self.completion_tokens += completion.completion_tokens
            return completion
        finally:
            line.pace.in_flight -= 1
            self._wake()

    def _stop_if_hopeless(self, line: _Line, fault: Fault) -> None:
        where = line.transport.url
        if fault.kind == "denied":
            self._down = f"{where}: {fault.detail}"
            self._wake_all()
            raise ServiceDown(
                f"the service will not serve {self.model.served_as!r} ({fault.detail})",
                where=where,
                fix="check the URL (it ends in /v1), the served model's name, the API key "
                "and its quota",
            )
        unreadable = fault.kind == "server_error" and _UNREADABLE in fault.detail
        if fault.kind in ("refused", "too_large") or unreadable:
            error = RequestRefused(
                f"the service refuses this request ({fault.detail})",
                where=where,
                fix="check prompt length, max_tokens, n and the JSON schema against the server",
            )
            if unreadable:
                error.reason = "unreadable"
            elif any(word in fault.detail for word in _TOO_LONG):
                error.reason = "too_long"
            raise error

    def _delay(self, failed: int, fault: Fault) -> float:
        """Seconds until the next attempt: what the server asked for, else doubling with jitter."""
        if fault.kind == "unreachable":
            return 0.0  # the endpoint's own rest paces this
        if fault.retry_after_s is not None:
            return fault.retry_after_s
        # A spoilt answer says nothing about the server's load: ask again soon.
        cap = _LONGEST_SPOILT_DELAY_S if fault.spoilt else _LONGEST_DELAY_S
        longest: float = min(cap, _FIRST_DELAY_S * 2 ** (failed - 1))
        return longest * self._jitter.uniform(0.5, 1.0)

    async def _acquire(self) -> _Line:
        """Take a place on the least loaded endpoint that may be asked, waiting for one."""
        while True:
            now = self._clock()
            self._raise_if_down(now)
            free: _Line | None = None
            for line in self._lines:
                if line.pace.ready(now) and (free is None or line.pace.load < free.pace.load):
                    free = line
            if free is not None:
                free.pace.in_flight += 1
                return free
            rests = [
                line.pace.resting_until - now
                for line in self._lines
                if line.pace.free > 0 and line.pace.resting_until > now
            ]
            await self._wait(min(rests) if rests else None)

    async def _wait(self, timeout_s: float | None) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            # The place this one was woken for goes to the next.
            self._wake()
            raise

    def _wake(self) -> None:
        """Wake as many waiters as there are free places."""
        if not self._waiters:
            return
        free = sum(max(line.pace.free, 0) for line in self._lines)
        while free > 0 and self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                free -= 1

    def _wake_all(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _raise_if_down(self, now: float) -> None:
        if self._down is None:
            for line in self._lines:
                if not self._is_down(line.pace, now):
                    return
            urls = ", ".join(line.transport.url for line in self._lines)
            self._down = f"no answer from {urls}; the last attempt: {self._last_fault}"
            self._wake_all()
        raise ServiceDown(
            self._down,
            where=f"model {self.model.name}",
            fix="start the server (scripts/serve) or correct the profile's endpoints, then run "
            "again: every answer so far is kept",
        )

    def _is_down(self, pace: Pace, now: float) -> bool:
        """Whether an endpoint has refused connections, or failed all it got, for long enough."""
        since = pace.unreachable_since
        refused = since is not None and now - since >= self._down_after_s
        return refused or pace.rests >= self._down_after_rests

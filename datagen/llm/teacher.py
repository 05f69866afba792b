"""A served model whose every answer is recorded before use and asked for only once.

teacher = Teacher(client, ledger)            # one for all seeds of a run
completion = await teacher.answer(request)
await teacher.drain()                        # before the client and the ledger close
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

from datagen.llm.ledger import Ledger
from datagen.llm.wire import Completion, Request
from datagen.workspace.specs import ModelSpec


class Completer(Protocol):
    """What completes requests for one pinned model: a `Client`, or one that starts late."""

    @property
    def model(self) -> ModelSpec: ...
    async def complete(self, request: Request) -> Completion: ...


class _Asking:
    """A request under way, and those who wait for its answer."""

    __slots__ = ("task", "waiters")

    def __init__(self, task: asyncio.Task[Completion]) -> None:
        self.task = task
        self.waiters: list[asyncio.Future[Completion]] = []


class Teacher:
    """Joins a client and a ledger; `on_answer` hears of every answer, old ones too."""

    def __init__(
        self,
        client: Completer,
        ledger: Ledger,
        on_answer: Callable[[Completion], None] = lambda completion: None,
    ) -> None:
        self.client = client
        self._on_answer = on_answer
        self._ledger = ledger
        self._under_way: dict[str, _Asking] = {}

    @property
    def model(self) -> ModelSpec:
        """The pinned model that answers."""
        return self.client.model

    async def answer(self, request: Request) -> Completion:
        """Look the answer up, or join whoever is asking for it, or ask; durable on return."""
        key = request.key()
        found = self._ledger.get(key)
        if found is None:
            found = await self._asked(key, request)
        self._on_answer(found)
        return found

    def _asked(self, key: str, request: Request) -> asyncio.Future[Completion]:
        """A share in the answer to a request that is under way, or goes out now."""
        asking = self._under_way.get(key)
        if asking is None:
            # A task of its own: one seed given up must not take the answer from the others, nor
            # from the ledger.
            asking = _Asking(asyncio.create_task(self._ask(request)))
            self._under_way[key] = asking
            asking.task.add_done_callback(partial(self._hand_out, key))
        waiter: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        asking.waiters.append(waiter)
        return waiter

    async def drain(self) -> None:
        """Wait for the requests under way, so that what they cost is recorded."""
        tasks = [asking.task for asking in self._under_way.values()]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, request: Request) -> Completion:
        completion = await self.client.complete(request)
        return await self._ledger.put(request, completion)

    def _hand_out(self, key: str, task: asyncio.Task[Completion]) -> None:
        """Give what came of a request to everybody who still waits for it."""
        waiters = [waiter for waiter in self._under_way.pop(key).waiters if not waiter.done()]
        # Looked at even where nobody waits any more: asyncio complains of errors that nobody saw.
        error = None if task.cancelled() else task.exception()
        for waiter in waiters:
            if task.cancelled():
                waiter.cancel()
            elif error is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(task.result())

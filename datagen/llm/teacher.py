"""A served model whose every answer is recorded before use and asked for only once.

teacher = Teacher(client, ledger)            # one for all seeds of a run
completion = await teacher.answer(request)
await teacher.drain()                        # before the client and the ledger close
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from datagen.llm.ledger import Ledger
from datagen.llm.wire import Completion, Request
from datagen.workspace.specs import ModelSpec


class Completer(Protocol):
    """What completes requests for one pinned model: a `Client`, or one that starts late."""

    @property
    def model(self) -> ModelSpec: ...
    async def complete(self, request: Request) -> Completion: ...


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
        self._under_way: dict[str, asyncio.Task[Completion]] = {}

    @property
    def model(self) -> ModelSpec:
        """The pinned model that answers."""
        return self.client.model

    async def answer(self, request: Request) -> Completion:
        """Look the answer up, or join whoever is asking for it, or ask; durable on return."""
        completion = await self._recall_or_ask(request)
        self._on_answer(completion)
        return completion

    async def _recall_or_ask(self, request: Request) -> Completion:
        key = request.key()
        found = self._ledger.get(key)
        if found is not None:
            return found
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.create_task(self._ask(request))
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        # Shielded: one seed given up must not take the answer from the others, nor from the ledger.
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Wait for the requests under way, so that what they cost is recorded."""
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def _ask(self, request: Request) -> Completion:
        completion = await self.client.complete(request)
        return await self._ledger.put(request, completion)

    def _forget(self, key: str, task: asyncio.Task[Completion]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # seen, although everybody who waited may have gone

"""A sandbox that stays up for an episode: many commands, files in and out, one end.

async with Sandbox(limits=Limits(wall_s=60, processes=64), tools="shell") as box:
    await box.write("notes.txt", b"...")
    outcome = await box.run(["sh", "-c", "sort notes.txt | head"])
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import inspect
import json
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from datagen.agent import supervisor
from datagen.agent.chain import HOME, Limits, Tools
from datagen.agent.sandbox import Job, Outcome, not_set_up, python_program, slot_of_its_own

_GRACE_S = 5.0
_START_S = 30.0


class SandboxLost(Exception):
    """The sandbox has ended: killed from inside, or for a command that could not be stopped."""


class Sandbox:
    """One sandbox, used with `async with`; commands run one after another.

    `Limits.wall_s` is the time of one command, the others as for a single one; files and background
    processes stay from command to command. Keep its event loop in one thread: the kernel ends a
    sandbox with the thread that started it.
    """

    def __init__(self, *, limits: Limits | None = None, tools: Tools = "shell") -> None:
        self._limits = limits or Limits()
        self._tools = tools
        self._stack = contextlib.AsyncExitStack()
        self._turn = asyncio.Lock()
        self._job: Job | None = None
        self.lost = False

    async def __aenter__(self) -> Sandbox:
        try:
            slot = await self._stack.enter_async_context(slot_of_its_own())
            command = [python_program(), "-s", "-S", "-B", "-c", inspect.getsource(supervisor)]
            self._job = await Job.start(command, limits=self._limits, tools=self._tools, slot=slot)
            self._stack.push_async_callback(self._job.end)
            try:
                await asyncio.wait_for(self._receive(), _START_S)
            except (SandboxLost, TimeoutError):
                assert self._job.process.stderr is not None
                self._job.kill()
                said = await self._job.process.stderr.read()
                raise not_set_up(said.decode(errors="replace").strip()) from None
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.lost = True
        await self._stack.aclose()

    async def run(
        self,
        command: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout_s: float | None = None,
        folder: str = HOME,
    ) -> Outcome:
        """Run one command to its end; `lost` where it took the sandbox with it, or had it lost."""
        wall_s = self._limits.wall_s if timeout_s is None else timeout_s
        try:
            told = await self._ask(
                wall_s + _GRACE_S,
                do="run",
                command=list(command),
                stdin=base64.b64encode(stdin).decode(),
                timeout_s=wall_s,
                output_bytes=self._limits.output_bytes,
                folder=folder,
            )
        except SandboxLost:
            return Outcome(ended="lost", exit_code=None, stdout=b"", stderr=b"")
        if "problem" in told:
            return Outcome(ended="exit", exit_code=127, stdout=b"", stderr=told["problem"].encode())
        return Outcome(
            ended=told["ended"],
            exit_code=told["exit_code"],
            stdout=base64.b64decode(told["stdout"]),
            stderr=base64.b64decode(told["stderr"]),
        )

    async def write(self, path: str, data: bytes) -> None:
        """Write a file, below the home folder unless the path is absolute; OSError if it cannot."""
        told = await self._ask(
            _GRACE_S, do="write", path=_inside(path), data=base64.b64encode(data).decode()
        )
        if "problem" in told:
            raise OSError(told["problem"])

    async def read(self, path: str) -> bytes:
        """A file's first `Limits.output_bytes`; OSError where there is none."""
        most = self._limits.output_bytes
        told = await self._ask(_GRACE_S, do="read", path=_inside(path), most=most)
        if "problem" in told:
            raise OSError(told["problem"])
        return base64.b64decode(told["data"])

    async def _ask(self, wall_s: float, **request: Any) -> dict[str, Any]:
        if self._job is None or self.lost:
            raise SandboxLost("the sandbox has ended")
        assert self._job.process.stdin is not None
        async with self._turn:
            data = json.dumps(request).encode()
            try:
                async with asyncio.timeout(wall_s):
                    self._job.process.stdin.write(len(data).to_bytes(4, "big") + data)
                    await self._job.process.stdin.drain()
                    return await self._receive()
            except BaseException as error:
                # An answer that comes later would be taken for the next one's.
                self.lost = True
                self._job.kill()
                if isinstance(error, ConnectionError | TimeoutError):
                    raise SandboxLost(str(error)) from None
                raise

    async def _receive(self) -> dict[str, Any]:
        assert self._job is not None and self._job.process.stdout is not None
        stream = self._job.process.stdout
        try:
            size = int.from_bytes(await stream.readexactly(4), "big")
            told: dict[str, Any] = json.loads(await stream.readexactly(size))
        except asyncio.IncompleteReadError:
            raise SandboxLost("the sandbox has ended") from None
        return told


def _inside(path: str) -> str:
    return path if path.startswith("/") else f"{HOME}/{path}"

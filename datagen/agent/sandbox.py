"""Run what a model wrote, where it can reach nothing; or refuse to run it.

    outcome = await run_once([python_program(), "-c", code], stdin=b"...", limits=Limits(cpu_s=5))

`live.Sandbox` stays up for many commands, which an episode of an agent wants.

Whatever layer of the chain is missing, nothing runs: `sandbox_problem()` says which, and what to
do. A sandbox has no network, sees no file of its user, and ends with everything it started.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import subprocess
import weakref
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from datagen.agent.chain import UID_SLOTS, Limits, Tools, command_line, layers, missing
from datagen.errors import WorkspaceError

__all__ = [
    "Job",
    "Limits",
    "Outcome",
    "python_program",
    "require_sandbox",
    "run_once",
    "sandbox_problem",
]

Ended = Literal["exit", "wall_time", "output", "lost"]

_CHUNK = 1 << 16
_GRACE_S = 5.0
_PROBE = """
import json, os
said = dict(line.split(':', 1) for line in open('/proc/self/status') if ':' in line)
print(json.dumps({
    'uid': os.getuid(),
    'parent': os.getppid(),
    'network': [line.split(':')[0].strip() for line in open('/proc/net/dev') if ':' in line],
    'read_only': bool(os.statvfs('/').f_flag & os.ST_RDONLY),
    **{name: said[name].strip() for name in ('CapEff', 'CapBnd', 'NoNewPrivs', 'Seccomp')},
}))
"""
_HOLDS = {
    "uid": 1000,
    "parent": 0,
    "network": ["lo"],
    "read_only": True,
    "CapEff": "0" * 16,
    "CapBnd": "0" * 16,
    "NoNewPrivs": "1",
    "Seccomp": "2",
}
_REMEDIES = {
    "namespace": "allow unprivileged user namespaces: sysctl kernel.unprivileged_userns_clone=1 "
    "(Debian), kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), user.max_user_namespaces "
    "above 0; in a container, a seccomp profile that permits them",
    "Unknown option": "install bubblewrap 0.8 or newer",
    "reuid": "run with CAP_SETUID, or as a user who is not root",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a command ended and what it said, output cut at `Limits.output_bytes`.

    `exit_code` is None where the command was ended from outside: for its `wall_time`, its `output`,
    or because the sandbox was `lost`. A command that a signal ended has 128 and the signal.
    """

    ended: Ended
    exit_code: int | None
    stdout: bytes
    stderr: bytes


def sandbox_problem() -> str | None:
    """Why nothing can be run in a sandbox here, with the remedy; None where every layer holds."""
    try:
        _prove()
    except WorkspaceError as error:
        return str(error)
    return None


def require_sandbox() -> None:
    """Raise WorkspaceError where nothing can be run: for whoever would ask a model before."""
    _prove()


def python_program() -> str:
    """The interpreter that sandboxes have; it brings its standard library alone."""
    return layers().python.program


@functools.cache
def _prove() -> None:
    """Start a sandbox and look from inside whether each layer holds; WorkspaceError if not."""
    filter_fd, (status, told) = _filter_fd(), os.pipe()
    command = [python_program(), "-I", "-S", "-c", _PROBE]
    chain = command_line(
        command, limits=Limits(), tools="python", slot=0, filter_fd=filter_fd, status_fd=told
    )
    try:
        ran = subprocess.run(
            chain, capture_output=True, check=False, timeout=60, pass_fds=[filter_fd, told], env={}
        )
    finally:
        for descriptor in (filter_fd, status, told):
            os.close(descriptor)
    said = ran.stderr.decode(errors="replace").strip()
    if ran.returncode:
        raise not_set_up(said)
    found = json.loads(ran.stdout)
    for name, wanted in _HOLDS.items():
        if found[name] != wanted:
            why = f"inside, it is {found[name]!r} and not {wanted!r}"
            raise missing(name, why, "report it, with the kernel and the version of bubblewrap")


def not_set_up(said: str) -> WorkspaceError:
    """The refusal where bubblewrap could not build the sandbox, from what it said of it."""
    fix = next((fix for mark, fix in _REMEDIES.items() if mark in said), "see docs/sandbox.md")
    return missing("its namespaces", said.replace("\n", "; ")[-300:] or "no reason given", fix)


def _filter_fd() -> int:
    """The filter as an open file: bubblewrap reads it to its end, so each launch takes its own."""
    descriptor = os.memfd_create("seccomp")
    os.write(descriptor, layers().filter)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


@dataclass(slots=True)
class _Places:
    """The uids that are free, shared by everything that runs on one event loop."""

    gate: asyncio.Semaphore
    one_shots: asyncio.Semaphore


_places: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Places] = weakref.WeakKeyDictionary()
_free_slots = list(range(UID_SLOTS - 1, 0, -1))


def _places_here() -> _Places:
    loop = asyncio.get_running_loop()
    if loop not in _places:
        at_once = max(2, os.cpu_count() or 1)
        _places[loop] = _Places(
            gate=asyncio.Semaphore(UID_SLOTS // 2), one_shots=asyncio.Semaphore(at_once)
        )
    return _places[loop]


@contextlib.asynccontextmanager
async def slot_of_its_own() -> AsyncIterator[int]:
    """A number that no other sandbox of this process has meanwhile; waits for one."""
    async with _places_here().gate:
        slot = _free_slots.pop()
        try:
            yield slot
        finally:
            _free_slots.append(slot)


@dataclass(slots=True)
class Job:
    """A started chain: its pipes, and the end of everything in it."""

    process: asyncio.subprocess.Process
    status: int
    room: int
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    told: bytes = b""
    overflowed: bool = False

    @classmethod
    async def start(cls, command: Sequence[str], *, limits: Limits, tools: Tools, slot: int) -> Job:
        """Start a command at the end of the chain; it may not have begun when this returns."""
        _prove()
        filter_fd, (status, told) = _filter_fd(), os.pipe()
        os.set_blocking(status, False)
        chain = command_line(
            command, limits=limits, tools=tools, slot=slot, filter_fd=filter_fd, status_fd=told
        )
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *chain, stdin=pipe, stdout=pipe, stderr=pipe, pass_fds=[filter_fd, told], env={}
            )
        except BaseException:
            os.close(status)
            raise
        finally:
            os.close(filter_fd)
            os.close(told)
        return cls(process, status, limits.output_bytes)

    async def finish(self, stdin: bytes) -> None:
        """Feed the command and gather what it says, until it ends or has said too much."""
        assert self.process.stdout is not None and self.process.stderr is not None
        await asyncio.gather(
            self._feed(stdin),
            self._gather(self.process.stdout, self.stdout),
            self._gather(self.process.stderr, self.stderr),
        )
        await self.process.wait()

    async def _feed(self, stdin: bytes) -> None:
        pipe = self.process.stdin
        assert pipe is not None
        with contextlib.suppress(ConnectionError):
            pipe.write(stdin)
            await pipe.drain()
            pipe.close()

    async def _gather(self, stream: asyncio.StreamReader, into: bytearray) -> None:
        while piece := await stream.read(_CHUNK):
            into += piece[: self.room]
            self.room -= min(self.room, len(piece))
            if self.room == 0 and not self.overflowed:
                self.overflowed = True
                self.kill()

    def kill(self) -> None:
        """End the sandbox with all that runs in it.

        Its process 1 is killed, not bubblewrap, which then takes leave of it: killed first, it
        would leave a zombie to whatever is the machine's process 1.
        """
        inside = self._status().get("child-pid")
        with contextlib.suppress(ProcessLookupError):
            if inside is not None and _parent(inside) == self.process.pid:
                os.kill(inside, signal.SIGKILL)
            else:
                self.process.kill()

    async def end(self) -> None:
        """Kill what is left and wait until it is gone."""
        self.kill()
        waiting = asyncio.ensure_future(self.process.wait())
        try:
            if not (await asyncio.wait([waiting], timeout=_GRACE_S))[0]:
                self.process.kill()
                await asyncio.shield(waiting)
        finally:
            os.close(self.status)

    def exit_code(self) -> int:
        """The command's exit code; WorkspaceError where the sandbox did not come to run it."""
        code = self._status().get("exit-code")
        if code is None:
            raise not_set_up(self.stderr.decode(errors="replace").strip())
        return code

    def _status(self) -> dict[str, int]:
        """What bubblewrap has told so far, a JSON object a line."""
        with contextlib.suppress(BlockingIOError):
            self.told += os.read(self.status, _CHUNK)
        known: dict[str, int] = {}
        for line in self.told.splitlines():
            with contextlib.suppress(ValueError):  # not all of it has come
                known |= json.loads(line)
        return known


def _parent(process: int) -> int | None:
    """The parent of a process, None where it is gone."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[1])


async def run_once(
    command: Sequence[str],
    *,
    stdin: bytes = b"",
    limits: Limits | None = None,
    tools: Tools = "python",
) -> Outcome:
    """Run one command in a sandbox of its own and end the sandbox with it.

    At most one a core runs at a time, the others wait. With `tools="shell"` the command sees the
    machine's programs, else one Python alone. WorkspaceError where a layer is missing.
    """
    limits = limits or Limits()
    ended: Ended = "exit"
    async with _places_here().one_shots, slot_of_its_own() as slot:
        job = await Job.start(command, limits=limits, tools=tools, slot=slot)
        try:
            async with asyncio.timeout(limits.wall_s):
                await job.finish(stdin)
            ended = "output" if job.overflowed else "exit"
            code = job.exit_code() if ended == "exit" else None
        except TimeoutError:
            ended, code = "wall_time", None
        finally:
            await job.end()
    return Outcome(ended=ended, exit_code=code, stdout=bytes(job.stdout), stderr=bytes(job.stderr))

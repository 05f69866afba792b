"""Worker processes that read untrusted pages, a few at a time; one that dies is replaced.

Whatever a page does to its worker, the caller gets a page or a reason: never an exception, never
more than the limits' bytes, seldom later than the limits' seconds.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import json
import os
import queue
import select
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from datagen.errors import WorkspaceError
from datagen.generate.html import worker as worker_module
from datagen.generate.html.extract import Page
from datagen.generate.html.limits import (
    BYTES,
    HEADER,
    LAST,
    PAGE,
    READY,
    TEXT,
    Limits,
    Refusal,
)

_START_S = 60.0
_MOST_WORKERS = 8
_KEPT_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "TMPDIR")


class _Died(Exception):
    """A worker gave no answer: its exit status, or None where it had to be ended."""

    def __init__(self, status: int | None) -> None:
        super().__init__(str(status))
        self.status = status


class _TooMuch(Exception):
    """A worker's answer is larger than the limits allow."""


class _Worker:
    """One process and its pipes."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.pages = 0
        kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-m", worker_module.__name__, json.dumps(asdict(limits))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=kept,
        )
        try:
            started, _ = self._answer(time.monotonic() + _START_S)
        except (_Died, _TooMuch):
            started = -1
        if started != READY:
            self.end()
            raise WorkspaceError(
                "the process that reads HTML does not start",
                where="generate.html",
                fix="pip install 'datagen[text]'; it must import selectolax",
            )

    def ask(self, kind: int, data: bytes) -> tuple[int, bytes]:
        """One page there, one answer back; _Died or _TooMuch where there is none."""
        assert self._process.stdin is not None
        self.pages += 1
        deadline = time.monotonic() + self._limits.wall_s
        try:
            self._process.stdin.write(HEADER.pack(kind, len(data)) + data)
            self._process.stdin.flush()
        except OSError:
            raise _Died(self._process.wait()) from None
        return self._answer(deadline)

    def _answer(self, deadline: float) -> tuple[int, bytes]:
        kind, length = HEADER.unpack(self._bytes(HEADER.size, deadline))
        if length > self._limits.answer_bytes:
            raise _TooMuch
        return kind, self._bytes(length, deadline)

    def _bytes(self, count: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        stream = self._process.stdout.fileno()
        found = bytearray()
        while len(found) < count:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stream], [], [], left)[0]:
                raise _Died(None)
            piece = os.read(stream, count - len(found))
            if not piece:
                raise _Died(self._process.wait())
            found += piece
        return bytes(found)

    def end(self) -> None:
        """End the process at once and close its pipes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:
                continue  # what was still to be written has no reader any more


class PagePool:
    """At most `workers` processes, started when they are first needed."""

    def __init__(self, limits: Limits, *, workers: int) -> None:
        self._limits = limits
        self._idle: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()
        for _ in range(workers):
            self._idle.put(None)
        self._workers = workers
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="read-html")

    async def read(self, source: bytes | str) -> Page | Refusal:
        """Read a page without holding up the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self.read_now, source)

    def read_now(self, source: bytes | str) -> Page | Refusal:
        """Read a page, in the thread of the caller."""
        kind = BYTES if isinstance(source, bytes) else TEXT
        data = source if isinstance(source, bytes) else source.encode(errors="replace")
        if len(data) > self._limits.page_bytes:
            said = f"{len(data)} bytes, at most {self._limits.page_bytes}"
            return Refusal("html_too_large", said)
        worker = self._idle.get()
        try:
            while True:
                worker = worker or _Worker(self._limits)
                used = worker.pages > 0
                found, alive = self._ask(worker, kind, data)
                if not alive:
                    worker.end()
                    worker = None
                # What earlier pages left behind must not decide: memory is counted from a start.
                if used and isinstance(found, Refusal) and found.reason == "html_memory":
                    continue
                return found
        finally:
            self._idle.put(worker)

    def _ask(self, worker: _Worker, kind: int, data: bytes) -> tuple[Page | Refusal, bool]:
        """A worker's answer, and whether it lives on."""
        limits = self._limits
        try:
            said, answer = worker.ask(kind, data)
        except _TooMuch:
            return Refusal("html_too_large", f"text of over {limits.answer_bytes} bytes"), False
        except _Died as died:
            if died.status is None:
                return Refusal("html_timeout", f"more than {limits.wall_s:g} s"), False
            if died.status in (-signal.SIGPROF, -signal.SIGXCPU):
                return Refusal("html_timeout", f"more than {limits.cpu_s:g} s of CPU"), False
            return Refusal("html_crash", f"the reader ended with {died.status}"), False
        if said == PAGE:
            return Page(**json.loads(answer)), True
        if said == LAST:
            bound = limits.memory_bytes >> 20
            return Refusal("html_memory", f"more than {bound} MiB"), False
        return Refusal.of(answer.decode(errors="replace")), True

    def close(self) -> None:
        """End all workers, once the pages that are being read are done."""
        self._threads.shutdown(cancel_futures=True)
        for _ in range(self._workers):
            worker = self._idle.get()
            if worker is not None:
                worker.end()
            self._idle.put(None)


@functools.cache
def shared_pool(limits: Limits) -> PagePool:
    """The pool of this process for these limits: as many workers as there are cores, at most 8."""
    pool = PagePool(limits, workers=min(os.cpu_count() or 1, _MOST_WORKERS))
    atexit.register(pool.close)
    return pool

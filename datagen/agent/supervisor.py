"""Runs inside a sandbox that stays up: starts one command after another and tells how each ended.

Requests come on standard input, answers go to standard output, each a length in four bytes and JSON
(bytes as base64). Nothing but the standard library is imported, for nothing else is there.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

_SET_DUMPABLE = 4
_CHUNK = 1 << 16


def receive(stream: BinaryIO) -> Any:
    """Read one frame; None at the end of the line."""
    head = stream.read(4)
    return json.loads(stream.read(int.from_bytes(head, "big"))) if len(head) == 4 else None


def send(stream: BinaryIO, message: Any) -> None:
    """Write one frame."""
    data = json.dumps(message).encode()
    stream.write(len(data).to_bytes(4, "big") + data)
    stream.flush()


def serve(asked: BinaryIO, told: BinaryIO) -> None:
    """Do what is asked until the line ends."""
    send(told, {"ready": True})
    while (request := receive(asked)) is not None:
        try:
            answer = _DO[request.pop("do")](**request)
        except (OSError, ValueError) as error:
            answer = {"problem": f"{type(error).__name__}: {error}"}
        send(told, answer)


def run(
    command: list[str], stdin: str, timeout_s: float, output_bytes: int, folder: str
) -> dict[str, Any]:
    """Run a command in a session of its own until it exits, has said too much, or time is up.

    What it leaves in the background goes on, until the sandbox ends.
    """
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=folder, start_new_session=True
    )
    ended, said = _watch(process, base64.b64decode(stdin), timeout_s, output_bytes)
    if ended != "exit":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    _reap()
    stdout, stderr = (base64.b64encode(part).decode() for part in said)
    return {
        "ended": ended,
        "exit_code": None if ended != "exit" else code if code >= 0 else 128 - code,
        "stdout": stdout,
        "stderr": stderr,
    }


def _reap() -> None:
    """Take leave of orphans that have ended: this is process 1, and they count as processes."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _watch(
    process: subprocess.Popen[bytes], stdin: bytes, timeout_s: float, room: int
) -> tuple[str, tuple[bytearray, bytearray]]:
    """Feed and listen; returns how it ended and what came on both streams."""
    assert process.stdin and process.stdout and process.stderr
    said = (bytearray(), bytearray())
    deadline = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as watched, process.stdin, process.stdout, process.stderr:
        for stream in (process.stdin, process.stdout, process.stderr):
            os.set_blocking(stream.fileno(), False)
        watched.register(process.stdout, selectors.EVENT_READ, said[0])
        watched.register(process.stderr, selectors.EVENT_READ, said[1])
        watched.register(process.stdin, selectors.EVENT_WRITE)
        last = False
        while not last:
            last = process.poll() is not None  # then once more, for what is still in the pipes
            for key, _ in watched.select(0 if last else 0.01):
                if key.data is None:
                    stdin = _feed(process.stdin, stdin, watched)
                    continue
                while room and (piece := _read(key.fd)):
                    key.data.extend(piece[:room])
                    room -= min(room, len(piece))
                if not room:
                    return "output", said
                if piece is not None:
                    watched.unregister(key.fileobj)
            if time.monotonic() > deadline and not last:
                return "wall_time", said
    return "exit", said


def _read(descriptor: int) -> bytes | None:
    """What a pipe holds now: None for nothing yet, no bytes at its end."""
    try:
        return os.read(descriptor, _CHUNK)
    except BlockingIOError:
        return None


def _feed(stream: Any, stdin: bytes, watched: selectors.BaseSelector) -> bytes:
    """Write what the pipe takes; close it behind the last byte, or where nobody reads."""
    try:
        stdin = stdin[os.write(stream.fileno(), stdin[:_CHUNK]) :] if stdin else b""
    except BrokenPipeError:
        stdin = b""
    if not stdin:
        watched.unregister(stream)
        stream.close()
    return stdin


def write(path: str, data: str) -> dict[str, Any]:
    """Write a file, its folders made."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(base64.b64decode(data))
    return {}


def read(path: str, most: int) -> dict[str, Any]:
    """The first bytes of a file."""
    with Path(path).open("rb") as file:
        return {"data": base64.b64encode(file.read(most)).decode()}


_DO: dict[str, Callable[..., dict[str, Any]]] = {"run": run, "write": write, "read": read}


def main() -> None:
    """Hide from what will run, let nothing inherit the line, and serve."""
    import ctypes

    if ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError("cannot hide from the commands")
    sys.path[:] = [folder for folder in sys.path if folder]
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    asked, told = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    serve(asked, told)


if __name__ == "__main__":
    main()

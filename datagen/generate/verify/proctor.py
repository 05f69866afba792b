"""Runs inside the sandbox: a proctor that holds the tests, a candidate that has the code.

    proctor     reads {"mark", "source", "code", "setup", "tests", "wall_s"} from its standard
                input, starts the candidate, runs each test, and writes the mark and one JSON
                verdict to its standard output
    candidate   defines what the code defines, and answers calls with plain data

The code under test never shares a process with the tests: whatever it ends, prints, overrides or
searches, it sees neither an expected value nor the mark that a verdict begins with.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import signal
import sys
import time
import types
from collections.abc import Mapping
from typing import Any

from datagen.generate.verify.line import CodeGone, OutOfTime, Peer

_SET_DUMPABLE = 4


def candidate(read_fd: int, write_fd: int) -> None:
    """Define what the code defines, name it, and serve until the line ends."""
    peer = Peer(read_fd, write_fd)
    module = types.ModuleType("solution")
    sys.modules["solution"] = module
    try:
        exec(compile(peer.receive(), "solution.py", "exec"), module.__dict__)
    except BaseException as error:
        kind = "code_invalid" if isinstance(error, SyntaxError) else "code_raised"
        peer.send([kind, f"{type(error).__name__}: {error}"[:300]])
        return
    given = {n: peer.pack(v) for n, v in vars(module).items() if not n.startswith("__")}
    peer.send(["defined", given])
    with contextlib.suppress(CodeGone):
        while True:
            verb, *rest = peer.receive()
            peer.serve(verb, *rest)


def start_candidate(source: str, wall_s: float) -> tuple[Peer, int]:
    """Start the process in which the code will run; returns the line to it, and its id.

    This process is made unreadable first: /proc shows neither its memory nor its files to the
    other, which runs under the same uid.
    """
    import ctypes

    if ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError("cannot hide the tests from the code")
    there_read, here_write = os.pipe()
    here_read, there_write = os.pipe()
    for descriptor in (there_read, there_write):
        os.set_inheritable(descriptor, True)
    nothing = os.open(os.devnull, os.O_RDWR)
    command = [sys.executable, "-s", "-S", "-B", "-c", source]
    command += ["code", str(there_read), str(there_write)]
    silent = [(os.POSIX_SPAWN_DUP2, nothing, descriptor) for descriptor in (0, 1, 2)]
    process = os.posix_spawn(sys.executable, command, dict(os.environ), file_actions=silent)
    os.close(there_read)
    os.close(there_write)
    return Peer(here_read, here_write, time.monotonic() + wall_s), process


def _used_up(process: int) -> bool:
    """Whether the code's process was ended for its processor time."""
    for _ in range(20):
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) in (-signal.SIGXCPU, -signal.SIGKILL)
        time.sleep(0.01)
    return False


def proctor() -> None:
    """Read the task, run every test against the code in its own process, write the verdict."""
    task = json.loads(sys.stdin.buffer.read())
    verdict_fd = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    with contextlib.suppress(OSError):
        adjusted = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(adjusted, b"1000")
        os.close(adjusted)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    peer, process = start_candidate(task["source"], task["wall_s"])
    verdict = examine(task, peer)
    if verdict["reason"] == "code_ended" and _used_up(process):
        verdict["reason"] = "time_limit"
    os.write(verdict_fd, (task["mark"] + json.dumps(verdict)).encode())
    os._exit(0)


def examine(task: Mapping[str, Any], peer: Peer) -> dict[str, Any]:
    """The verdict: for each test in turn how it ended, up to the first that did not pass."""
    passed = 0
    try:
        peer.send(task["code"])
        kind, told = peer.receive()
        if kind != "defined":
            return {"reason": kind, "detail": str(told), "passed": 0}
        defined = {name: peer.unpack(value) for name, value in told.items()}
        for number, test in enumerate(task["tests"], 1):
            problem = _one_test(peer, dict(defined), task["setup"], test)
            if problem is not None:
                reason, detail = problem
                return {"reason": reason, "detail": f"test {number}: {detail}", "passed": passed}
            passed += 1
    except OutOfTime:
        return {"reason": "time_limit", "detail": f"in test {passed + 1}", "passed": passed}
    except (CodeGone, ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        return {
            "reason": "code_ended",
            "detail": f"in test {passed + 1}: {error}",
            "passed": passed,
        }
    return {"reason": "passed", "detail": f"{passed} tests", "passed": passed}


def _one_test(peer: Peer, space: dict[str, Any], setup: str, test: str) -> tuple[str, str] | None:
    """Run one test; why it did not pass, or None."""
    try:
        ready = compile(setup, "setup", "exec")
        tree = ast.parse(test)
    except (SyntaxError, ValueError) as error:
        return "test_invalid", f"{type(error).__name__}: {error}"
    if not any(isinstance(node, ast.Assert) for node in ast.walk(tree)):
        return "test_vacuous", "it asserts nothing"
    try:
        exec(ready, space)
        known, before = set(space), peer.asked
        exec(compile(tree, "test", "exec"), space)
        for name, value in list(space.items()):
            if name.startswith("test") and name not in known and callable(value):
                value()
    except (CodeGone, OutOfTime):
        raise
    except AssertionError as error:
        return "test_failed", f"{test.strip()[:160]} {error}".strip()
    except BaseException as error:
        return "test_raised", f"{type(error).__name__}: {error}"[:200]
    if peer.asked == before:
        return "test_vacuous", "it never calls the code"
    return None


if __name__ == "__main__":
    # The working folder is the code's to write, so nothing is imported from it.
    sys.path[:] = [folder for folder in sys.path if folder]
    if hasattr(sys, "set_int_max_str_digits"):
        sys.set_int_max_str_digits(0)
    if sys.argv[1] == "code":
        candidate(int(sys.argv[2]), int(sys.argv[3]))
    else:
        proctor()

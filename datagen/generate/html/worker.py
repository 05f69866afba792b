"""A process that reads pages one after another within limits; run with `python -m`, by the pool.

It gets nothing of its parent but a page at a time: no keys, no open files, no way to write one. The
limits are the kernel's: address space by RLIMIT_AS, CPU time of a page by an interval timer whose
signal ends the process wherever it stands, in Python or in the parser.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from dataclasses import asdict
from typing import BinaryIO

from datagen.generate.html.encoding import TooLarge
from datagen.generate.html.extract import BadPage, read_page
from datagen.generate.html.limits import BYTES, HEADER, LAST, PAGE, READY, REFUSED, Limits


def main() -> None:
    """Answer frames from stdin on stdout until stdin ends; the limits are JSON in the argument."""
    limits = Limits(**json.loads(sys.argv[1]))
    read_page("<p>warm", most_bytes=limits.page_bytes)
    _confine(limits)
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    _answer(answers, READY, b"")
    while len(header := asked.read(HEADER.size)) == HEADER.size:
        kind, length = HEADER.unpack(header)
        signal.setitimer(signal.ITIMER_PROF, limits.cpu_s)
        said, answer = _read(kind, asked.read(length), limits)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _answer(answers, said, answer)
        if said == LAST:
            return


def _confine(limits: Limits) -> None:
    for what, most in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 16),
    ):
        hard = resource.getrlimit(what)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (bound, bound))


def _read(kind: int, data: bytes, limits: Limits) -> tuple[int, bytes]:
    """A page as its answer; after running out of memory, the answer is this process's last."""
    try:
        source = data if kind == BYTES else data.decode()
        page = read_page(source, most_bytes=limits.page_bytes)
        return PAGE, json.dumps(asdict(page)).encode()
    except BadPage as error:
        return REFUSED, str(error).encode()
    except TooLarge as error:
        return REFUSED, f"html_too_large: {error}".encode()
    except MemoryError:
        return LAST, b"html_memory: "
    except Exception as error:
        return REFUSED, f"html_error: {type(error).__name__}: {error}".encode(errors="replace")


def _answer(answers: BinaryIO, kind: int, data: bytes) -> None:
    answers.write(HEADER.pack(kind, len(data)) + data)
    answers.flush()


if __name__ == "__main__":
    main()

"""The line between the two processes of a test run, as both of them have it: frames and values.

Values travel as tagged JSON: plain data by value, so that an object that says it equals everything
equals nothing at the other end; anything else stays where it is, and the other end holds a handle.
Runs inside the sandbox, joined with `proctor`, so it imports the standard library alone.
"""

from __future__ import annotations

import builtins
import collections
import importlib
import json
import os
import select
import sys
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

_MOST_BYTES = 16 << 20
_PLAIN = (bool, int, float, str, type(None))
# Travel as text; imported only where they are used, for a start counts in milliseconds.
_OF_TEXT = {
    "Decimal": "decimal",
    "Fraction": "fractions",
    "datetime": "datetime",
    "date": "datetime",
}
_SEQUENCES: dict[str, Any] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": collections.deque,
}


class CodeGone(Exception):
    """The candidate's process has ended, or answers nothing that can be read."""


class OutOfTime(Exception):
    """The time for all tests is over."""


class CodeRaised(Exception):
    """The code raised something that is no built-in exception."""


class Peer:
    """One end of the line: sends a request and serves those that come before its answer.

    A frame is a length in four bytes, then JSON. Values travel as tagged JSON; what is no plain
    data stays where it is, under a number.
    """

    def __init__(self, read_fd: int, write_fd: int, deadline: float | None = None) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._deadline = deadline
        self._kept: list[Any] = []
        self.asked = 0

    # -- frames

    def send(self, message: Any) -> None:
        """Write one frame; CodeGone where nobody reads."""
        data = json.dumps(message).encode()
        data = len(data).to_bytes(4, "big") + data
        try:
            while data:
                data = data[os.write(self._write_fd, data) :]
        except OSError as error:
            raise CodeGone(str(error)) from None

    def receive(self) -> Any:
        """Read one frame; CodeGone at the end of the line, OutOfTime past the deadline."""
        size = int.from_bytes(self._exactly(4), "big")
        if size > _MOST_BYTES:
            raise CodeGone(f"an answer of {size} bytes")
        try:
            message = json.loads(self._exactly(size))
        except (ValueError, RecursionError) as error:
            raise CodeGone(f"no message: {error}") from None
        if not isinstance(message, list | str) or len(message) < 1:
            raise CodeGone("no message")
        return message

    def _exactly(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            if self._deadline is not None:
                left = self._deadline - time.monotonic()
                if left <= 0 or not select.select([self._read_fd], [], [], left)[0]:
                    raise OutOfTime
            part = os.read(self._read_fd, min(size, 1 << 16))
            if not part:
                raise CodeGone("its process ended")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    # -- values

    def pack(self, value: Any) -> Any:
        """A value as tagged JSON: plain data by value, anything else by number."""
        if isinstance(value, Remote):
            return ["back", value.number_]
        if isinstance(value, bool | type(None)):
            return value
        if isinstance(value, str):
            return str(value)
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return float(value)
        if isinstance(value, bytes | bytearray):
            return ["bytes" if isinstance(value, bytes) else "bytearray", value.hex()]
        if isinstance(value, complex):
            return ["complex", value.real, value.imag]
        if isinstance(value, range):
            return ["range", value.start, value.stop, value.step]
        if isinstance(value, dict):
            return ["dict", *([self.pack(k), self.pack(v)] for k, v in value.items())]
        for name, kind in _SEQUENCES.items():
            if isinstance(value, kind):
                return [name, *map(self.pack, value)]
        name = type(value).__name__
        if name in _OF_TEXT and type(value).__module__ == _OF_TEXT[name]:
            return [name, value.isoformat() if hasattr(value, "isoformat") else str(value)]
        if isinstance(value, types.ModuleType) and value.__name__ in sys.stdlib_module_names:
            return ["module", value.__name__]
        if isinstance(value, type) and value in vars(builtins).values():
            return ["type", value.__name__]
        self._kept.append(value)
        return ["there", len(self._kept) - 1]

    def unpack(self, packed: Any) -> Any:
        """The value that tagged JSON stands for; handles for what stayed at the other end."""
        if isinstance(packed, _PLAIN):
            return packed
        tag, *rest = packed
        if tag in _SEQUENCES:
            return _SEQUENCES[tag](map(self.unpack, rest))
        if tag == "dict":
            return {self.unpack(k): self.unpack(v) for k, v in rest}
        if tag in _OF_TEXT:
            kind = getattr(importlib.import_module(_OF_TEXT[tag]), tag)
            return getattr(kind, "fromisoformat", kind)(rest[0])
        if tag in ("bytes", "bytearray"):
            data = bytes.fromhex(rest[0])
            return data if tag == "bytes" else bytearray(data)
        if tag == "complex":
            return complex(*rest)
        if tag == "range":
            return range(*rest)
        if tag == "back":
            return self._kept[rest[0]]
        if tag == "type":
            return getattr(builtins, rest[0])
        if tag == "module" and rest[0] in sys.stdlib_module_names:
            return importlib.import_module(rest[0])
        if tag == "there":
            return Remote(self, rest[0])
        raise CodeGone(f"no value: {str(packed)[:80]}")

    # -- requests

    def ask(self, verb: str, number: int, *arguments: Any, **named: Any) -> Any:
        """Ask the other end to do something with one of its objects, and wait for the result.

        Lists, dicts, sets and byte arrays among the arguments change here as they changed there.
        Meanwhile the code may call what the tests gave it to call, and nothing else.
        """
        self.asked += 1
        names = {name: self.pack(value) for name, value in named.items()}
        self.send([verb, number, [self.pack(value) for value in arguments], names])
        while True:
            kind, *rest = self.receive()
            if kind == "value":
                for place, packed in rest[1]:
                    _change(arguments[place], self.unpack(packed))
                return self.unpack(rest[0])
            if kind == "raised":
                raise _exception(str(rest[0]), str(rest[1]))
            if kind != "call" or len(rest) != 3:
                raise CodeGone(f"no message: {str(kind)[:40]}")
            self.serve(kind, *rest)

    def serve(self, verb: str, number: int, packed: Any, names: Any) -> None:
        """Do what the other end asks of an object that it was given, and send the result."""
        try:
            target = self._kept[number]
            arguments = [self.unpack(value) for value in packed]
            named = {name: self.unpack(value) for name, value in names.items()}
            before = [self._shown(value) for value in arguments]
            if verb == "call":
                value = target(*arguments, **named)
            else:
                value = _VERBS[verb](target, *arguments)
            changed = [
                [place, after]
                for place, old in enumerate(before)
                if old is not None and (after := self._shown(arguments[place])) != old
            ]
            answer = ["value", self.pack(value), changed]
        except (CodeGone, OutOfTime):
            raise
        except BaseException as error:
            answer = ["raised", type(error).__name__, str(error)[:200]]
        self.send(answer)

    def _shown(self, value: Any) -> Any:
        """What a value that can change holds now; None for one that cannot."""
        return self.pack(value) if isinstance(value, list | dict | set | bytearray) else None


def _change(value: Any, now: Any) -> None:
    if isinstance(value, list | bytearray):
        value[:] = now
    elif isinstance(value, dict | set):
        value.clear()
        value.update(now)


def _exception(name: str, message: str) -> Exception:
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(message)
        except TypeError:  # takes more than a message
            return CodeRaised(f"{name}: {message}")
    return CodeRaised(f"{name}: {message}")


_VERBS: dict[str, Callable[..., Any]] = {
    "get": getattr,
    "set": setattr,
    "item": lambda value, key: value[key],
    "put": lambda value, key, item: value.__setitem__(key, item),
    "len": len,
    "iter": iter,
    "next": next,
    "has": lambda value, item: item in value,
    "bool": bool,
    "str": str,
    "repr": repr,
    "hash": hash,
    "same": lambda value, other: bool(value == other),
    "less": lambda value, other: bool(value < other),
}


class Remote:
    """A handle for an object of the code: asks where it lives. Never equal to plain data."""

    def __init__(self, peer: Peer, number: int) -> None:
        object.__setattr__(self, "peer_", peer)
        object.__setattr__(self, "number_", number)

    def ask_(self, verb: str, *arguments: Any) -> Any:
        """Ask about the object that this handle stands for."""
        return self.peer_.ask(verb, self.number_, *arguments)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.peer_.ask("call", self.number_, *arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return self.ask_("get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self.ask_("set", name, value)

    def __getitem__(self, key: Any) -> Any:
        return self.ask_("item", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.ask_("put", key, value)

    def __contains__(self, item: Any) -> bool:
        return self.ask_("has", item) is True

    def __len__(self) -> int:
        return int(self.ask_("len"))

    def __iter__(self) -> Iterator[Any]:
        inner = self.ask_("iter")
        return iter(inner) if not isinstance(inner, Remote) else inner

    def __next__(self) -> Any:
        return self.ask_("next")

    def __bool__(self) -> bool:
        return self.ask_("bool") is True

    def __str__(self) -> str:
        return str(self.ask_("str"))

    def __repr__(self) -> str:
        return str(self.ask_("repr"))

    def __hash__(self) -> int:
        return int(self.ask_("hash"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and self.ask_("same", other) is True

    def __lt__(self, other: object) -> bool:
        return isinstance(other, Remote) and self.ask_("less", other) is True

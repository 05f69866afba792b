"""What a page may cost, and what comes back for one: shared by the pool and its workers."""

from __future__ import annotations

import struct
from dataclasses import dataclass

MIB = 1 << 20
HEADER = struct.Struct(">BI")
"""A frame's kind and length, before its bytes: both ways through a worker's pipes."""
TEXT, BYTES, READY, PAGE, REFUSED, LAST = range(6)
"""Kinds of frames: a page as text or bytes; a worker is ready, has read, refused, or must end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Per page: seconds of CPU and by the clock, address space of a worker, bytes in and out."""

    cpu_s: float = 5.0
    wall_s: float = 5.0
    memory_bytes: int = 512 * MIB
    page_bytes: int = 16 * MIB
    answer_bytes: int = 64 * MIB


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a page could not be read: `reason` is a snake_case word that counts can group by."""

    reason: str
    detail: str

    @classmethod
    def of(cls, said: str) -> Refusal:
        """A refusal written as `reason: detail`."""
        reason, _, detail = said.partition(": ")
        return cls(reason, detail)

"""Equal numbers of each class: which records of the larger classes are too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import xxhash


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSize:
    """How many records a class has, and how many of them are kept."""

    found: int
    kept: int


def class_of(metadata: Mapping[str, Any], by: Sequence[str]) -> str | None:
    """A record's class: its values under the keys, as one text; None where one is missing."""
    values = [metadata.get(key) for key in by]
    if any(not isinstance(value, str | int | float | bool) for value in values):
        return None
    return " / ".join(str(value) for value in values)


def class_sizes(
    classes: Sequence[str], tolerance: float, rare_below: float = 0.0
) -> dict[str, ClassSize]:
    """What each class keeps: at most the smallest one's number and `tolerance` of it more.

    Classes of less than `rare_below` of the mean size keep all they have and are not the smallest.
    """
    found = dict(sorted(Counter(classes).items()))
    common = [n for n in found.values() if n * len(found) >= rare_below * len(classes)]
    # As a fraction of its decimal form: 100 and 15 % are 115, not the float 114.99999999999999.
    room = 1 + Fraction(str(tolerance))
    limit = int(min(common, default=0) * room)
    return {name: ClassSize(found=n, kept=min(n, limit)) for name, n in found.items()}


def surplus(
    ids: Sequence[str], classes: Sequence[str], sizes: Mapping[str, ClassSize], seed: int
) -> set[str]:
    """The ids that their class has no room for: those whose seeded hash comes last.

    Depends on nothing but the ids of the class, so that it survives any sharding.
    """
    members: dict[str, list[tuple[int, str]]] = {name: [] for name in sizes}
    for one, name in zip(ids, classes, strict=True):
        members[name].append((xxhash.xxh3_64_intdigest(one.encode(), seed), one))
    return {
        one for name, hashed in members.items() for _, one in sorted(hashed)[sizes[name].kept :]
    }

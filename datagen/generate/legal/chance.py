"""Seeded choices in a row: the n-th choice of a name is the same in every run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from datagen.llm.ask import Ask

T = TypeVar("T")


class Chance:
    """Choices that a seed and some words fix, one after another."""

    def __init__(self, ask: Ask, *parts: str) -> None:
        self._ask = ask
        self._parts = parts
        self._drawn = 0

    def below(self, ways: int) -> int:
        """A number from 0 to `ways` - 1."""
        self._drawn += 1
        return self._ask.draw(*self._parts, str(self._drawn)) % ways

    def one_of(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.below(len(items))]

    def some(self, items: Sequence[T], count: int) -> list[T]:
        """`count` of the items, each at most once, in the order of drawing."""
        left = list(items)
        return [left.pop(self.below(len(left))) for _ in range(min(count, len(left)))]

    def happens(self, per_cent: int) -> bool:
        """Whether something with this chance happens."""
        return self.below(100) < per_cent

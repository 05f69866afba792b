"""Self-consistency: how many samples, asked blind, say what the key says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How `asked` samples answered a question whose key is known; unreadable ones agree never."""

    asked: int
    agreed: int
    others: tuple[str, ...]

    @property
    def share(self) -> float:
        """Share of the samples that give the key."""
        return self.agreed / self.asked if self.asked else 0.0

    @property
    def favourite(self) -> str | None:
        """The answer beside the key that most samples give; the first of several."""
        return max(self.others, key=self.others.count, default=None)

    def reachable(self, threshold: float, *, total: int) -> bool:
        """Whether `total` samples can still reach the threshold if all further ones agree."""
        return self.agreed + (total - self.asked) >= threshold * total


def agreement(said: Sequence[str | None], key: str, *, asked: int) -> Agreement:
    """Count what samples said, in one form each, against the key; None is an unreadable answer."""
    read = [answer for answer in said if answer is not None]
    return Agreement(
        asked=max(asked, len(said)),
        agreed=read.count(key),
        others=tuple(answer for answer in read if answer != key),
    )


def joined(parts: Sequence[Agreement]) -> Agreement:
    """The agreement over all samples of several askings."""
    return Agreement(
        asked=sum(part.asked for part in parts),
        agreed=sum(part.agreed for part in parts),
        others=tuple(answer for part in parts for answer in part.others),
    )

"""Which mixture holds for which stretch of the horizon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from datagen.workspace.specs import MixtureSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A mixture that holds for `tokens` tokens, from token `start` of the whole."""

    mixture: MixtureSpec
    start: int
    tokens: int

    @property
    def name(self) -> str:
        """The name that rows of this phase carry."""
        return self.mixture.name


def phases_of(
    mixture: MixtureSpec, budget_tokens: int, find: Callable[[str], MixtureSpec]
) -> list[Phase]:
    """The phases of a mixture in order, their tokens summing to the budget.

    `find` gives a mixture by name. A mixture without phases is one phase. Workspaces whose
    phases have phases of their own are refused before they come here.
    """
    if not mixture.phases:
        return [Phase(mixture=mixture, start=0, tokens=budget_tokens)]
    total = sum(phase.share for phase in mixture.phases)
    found: list[Phase] = []
    start, share = 0, 0.0
    for part in mixture.phases:
        share += part.share
        end = round(budget_tokens * share / total)
        found += [
            Phase(mixture=inner.mixture, start=start + inner.start, tokens=inner.tokens)
            for inner in phases_of(find(part.mixture), end - start, find)
        ]
        start = end
    return found

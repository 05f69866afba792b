"""The nouns that travel: a seed row, what a method drafts from it, and the stamped record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Role = Literal["system", "user", "assistant", "tool"]
Masked = Literal["reasoning_end", "reasoning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """One row of a pinned source: where it lies and what it says.

    `number` is its place in the seeded draw, which a larger limit does not change.
    """

    source: str
    row_key: str
    row: Mapping[str, Any]
    licence: str
    number: int = 0


class TokenCutter(Protocol):
    """What a method may know of the profile's tokenizer: how long a text is, and where to cut."""

    def count(self, text: str) -> int:
        """Count the tokens of a text."""
        ...

    def cut(self, text: str, budget_tokens: int) -> str:
        """The longest beginning of a text that is at most `budget_tokens` long, in characters."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A function call that an assistant made; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation; `trained` marks the turns whose tokens are targets.

    `masked` takes a part of a trained turn out again: the mark that ends its reasoning (put there
    by a cut, not by the model), or the reasoning with both of its marks.
    """

    role: Role
    content: str
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    trained: bool = False
    masked: Masked | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a method made of a seed: text or messages, never both.

    `rejected` is None for a draft to keep; otherwise `"reason"` or `"reason: detail"`, where the
    reason is a stable snake_case word that counts can group by. A rejected draft may be empty.
    `calls` narrows the lineage to the answers this draft rests on (`Answer.key`): None means every
    answer of the seed, nothing at all that no model had a part in it.
    """

    text: str | None = None
    messages: tuple[Message, ...] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    calls: tuple[str, ...] | None = None
    rejected: str | None = None

    def __post_init__(self) -> None:
        if self.rejected is None and (self.text is None) == (self.messages is None):
            raise ValueError("a draft carries either text or messages")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Where a record comes from: recipe, seed row, prompts, teacher and licences.

    `prompts` are sha256 of the prompt templates in the order of use; `calls` are ledger keys of
    the answers that the record rests on; `fingerprint` is that of the recipe (not of the step),
    so that ids and lineage survive a rebuild with other budgets.
    """

    generator: str
    version: str
    fingerprint: str
    source: str
    source_revision: str
    row_key: str
    licence: str
    model: str | None = None
    model_revision: str | None = None
    model_licence: str | None = None
    prompts: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A finished training document with its id and lineage; text or messages, never both."""

    id: str
    text: str | None
    messages: tuple[Message, ...] | None
    lineage: Lineage
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """A row that did not make it: at which stage, why, and what it said.

    `status` is `rejected` (looked at and refused) or `failed` (the service gave no answer).
    """

    stage: str
    status: Literal["rejected", "failed"]
    reason: str
    detail: str
    generator: str
    source: str
    row_key: str
    record_id: str | None = None
    content: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

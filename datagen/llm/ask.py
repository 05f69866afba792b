"""What a method may ask of a served model: a prompt by name, variables, a type for the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """One generated token and its natural-log probability."""

    token: str
    logprob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[T]):
    """A validated answer: its value, and where in the ledger it is paid for.

    `text` is the raw content, `reasoning` the reasoning content where the server separates it,
    `logprobs` one entry a token where they were asked for.
    """

    value: T
    text: str
    key: str
    finish_reason: str
    reasoning: str | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None


class AnswerRejected(Exception):
    """The model answered, and no answer was valid after the repair attempt.

    A method may catch it and return a rejected draft; uncaught, the engine rejects the seed.
    """

    def __init__(self, reason: str, detail: str, *, calls: Sequence[str] = ()) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.calls = tuple(calls)


class Ask(Protocol):
    """A method's only way to a model. One instance belongs to one seed and one recipe."""

    async def __call__(
        self,
        prompt: str,
        /,
        *,
        into: type[T],
        schema: Mapping[str, Any] | None = None,
        sampling: Mapping[str, Any] | None = None,
        **variables: Any,
    ) -> T:
        """Render prompt file `<prompt>.jinja`, ask once, validate, and return the value.

        `into` is a pydantic model (JSON answer) or `str`. `schema` replaces the JSON schema that
        constrains decoding (validation is always by `into`). `sampling` overrides the recipe's
        `sampling[prompt]`, e.g. {"temperature": 0.2, "seed": 7}. An answer that does not validate
        is asked for once more; then `AnswerRejected`. Raises `ServiceError` when the service
        stays down.
        """
        ...

    async def answers(
        self,
        prompt: str,
        /,
        *,
        into: type[T],
        n: int = 1,
        logprobs: bool = False,
        schema: Mapping[str, Any] | None = None,
        sampling: Mapping[str, Any] | None = None,
        **variables: Any,
    ) -> list[Answer[T]]:
        """As calling, for `n` samples: the valid ones in sampling order, at least one."""
        ...

    def text(self, prompt: str, /, **variables: Any) -> str:
        """Render a template without asking anybody (for the text of a record)."""
        ...

    def draw(self, *parts: str) -> int:
        """A 64-bit number fixed by the build seed, this seed row and `parts`: seeded choices."""
        ...

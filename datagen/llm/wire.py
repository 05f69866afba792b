"""What goes to a served model and what comes back: requests with their ledger key, completions.

A `Request` is complete: equal requests have equal keys, and nothing else about the run enters the
key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson
from pydantic import ValidationError

from datagen.errors import WorkspaceError
from datagen.workspace.specs import Sampling

_DEFAULTS = Sampling()


def sampling_with(base: Any | None, changes: Mapping[str, Any] | None, *, where: str) -> Sampling:
    """Lay `changes` over a recipe's sampling (a spec, a mapping, or None for the defaults)."""
    if not changes and (base is None or isinstance(base, Sampling)):
        return _DEFAULTS if base is None else base
    fields = {**(dict(base) if base is not None else {}), **(changes or {})}
    try:
        return Sampling.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise WorkspaceError(
            f"sampling {name!r}: {first['msg']}",
            where=where,
            fix="sampling takes temperature, top_p, max_tokens, n, seed and stop",
        ) from None


@lru_cache(maxsize=1024)
def request_seed(sampling_seed: int, build_seed: int, part: str = "") -> int:
    """Fix the seed a server gets: 31 bits from the recipe's seed, the build's seed and a part."""
    text = f"{build_seed}:{sampling_seed}:{part}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest()) >> 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Everything that decides an answer. `messages` are (role, content); `seed` is the server's.

    `schema` constrains decoding; None where the server cannot, or for free text.
    """

    model: str
    revision: str
    served_as: str
    prompt: str
    prompt_sha256: str
    messages: tuple[tuple[str, str], ...]
    sampling: Sampling
    seed: int
    logprobs: bool = False
    schema_name: str = "answer"
    schema: Mapping[str, Any] | None = None
    reasoning_effort: str | None = None
    _encoded: bytes = field(default=b"", init=False, repr=False, compare=False)
    _key: str = field(default="", init=False, repr=False, compare=False)

    def body(self) -> dict[str, Any]:
        """The JSON body of the chat completion request."""
        body: dict[str, Any] = {
            "model": self.served_as,
            "messages": [{"role": role, "content": content} for role, content in self.messages],
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "max_tokens": self.sampling.max_tokens,
            "n": self.sampling.n,
            "seed": self.seed,
        }
        if self.sampling.stop:
            body["stop"] = list(self.sampling.stop)
        if self.logprobs:
            body["logprobs"] = True
        if self.reasoning_effort is not None:
            body["reasoning_effort"] = self.reasoning_effort
        if self.schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": self.schema_name, "schema": dict(self.schema)},
            }
        return body

    def encoded(self) -> bytes:
        """The body as JSON bytes, made once."""
        if not self._encoded:
            object.__setattr__(self, "_encoded", orjson.dumps(self.body()))
        return self._encoded

    def key(self) -> str:
        """The ledger key: sha256 of the whole request in one fixed form, made once.

        Keys of a schema keep their order, because servers generate properties in that order.
        """
        if not self._key:
            about = {
                "form": 1,
                "model": self.model,
                "revision": self.revision,
                "prompt_sha256": self.prompt_sha256,
            }
            # As the last member, the body stands here as it goes out.
            whole = b'%b,"body":%b}' % (orjson.dumps(about)[:-1], self.encoded())
            object.__setattr__(self, "_key", hashlib.sha256(whole).hexdigest())
        return self._key


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """One generated token and its natural-log probability."""

    token: str
    logprob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One sample: its text, why it ended, and what the server kept apart from the text."""

    text: str
    finish_reason: str
    reasoning: str | None = None
    refusal: str | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A paid answer: its samples in order and the tokens it cost (0 where the server is silent)."""

    choices: tuple[Choice, ...]
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def encode(self) -> bytes:
        """Serialise as the ledger stores it: {choices: [...], usage: {...}}."""
        choices = []
        for choice in self.choices:
            row: dict[str, Any] = {"text": choice.text, "finish_reason": choice.finish_reason}
            if choice.reasoning is not None:
                row["reasoning"] = choice.reasoning
            if choice.refusal is not None:
                row["refusal"] = choice.refusal
            if choice.logprobs is not None:
                row["logprobs"] = [[entry.token, entry.logprob] for entry in choice.logprobs]
            choices.append(row)
        usage = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
        }
        return orjson.dumps({"choices": choices, "usage": usage})

    @classmethod
    def decode(cls, data: bytes) -> Completion:
        """Invert `encode`; raises ValueError, KeyError or TypeError on foreign bytes."""
        value = orjson.loads(data)
        choices = tuple(
            Choice(
                text=row["text"],
                finish_reason=row["finish_reason"],
                reasoning=row.get("reasoning"),
                refusal=row.get("refusal"),
                logprobs=tuple(TokenLogprob(token=t, logprob=p) for t, p in row["logprobs"])
                if "logprobs" in row
                else None,
            )
            for row in value["choices"]
        )
        usage = value["usage"]
        return cls(
            choices=choices,
            prompt_tokens=usage["prompt_tokens"],
            completion_tokens=usage["completion_tokens"],
        )

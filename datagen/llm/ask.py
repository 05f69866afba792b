"""What a method may ask of a served model: a prompt by name, variables, a type for the answer.

`Ask` is what a method sees; `SeedAsk` is what the engine makes for each seed:

    ask = SeedAsk(teacher, prompts, source=seed.source, row_key=seed.row_key, build_seed=seed,
                  max_calls=recipe.max_calls_per_seed, sampling=recipe.sampling)
    drafts = await method(seed, ask, **recipe.arguments)
    ask.calls           # what to write as rows of CALL_SCHEMA
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from datagen.errors import WorkspaceError
from datagen.llm.answers import json_schema
from datagen.llm.client import RequestRefused
from datagen.llm.prompts import Prompt
from datagen.llm.samples import Answer, Asked, read_samples
from datagen.llm.teacher import Teacher
from datagen.llm.wire import (
    Choice,
    Completion,
    Request,
    TokenLogprob,
    request_seed,
    sampling_with,
)

__all__ = ["Answer", "AnswerRejected", "Ask", "CallRecord", "SeedAsk", "TokenLogprob"]

T = TypeVar("T")

# llama.cpp refuses more samples than it has slots.
_MOST_SAMPLES = 16
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_NOT_REPAIRED = ("refused",)
# How many calls led to this one, in this task and the tasks that it grew from.
_depth: ContextVar[int] = ContextVar("datagen_ask_depth", default=0)


class AnswerRejected(Exception):
    """The model answered, and no answer was valid after the repair attempt.

    A method may catch it and return a rejected draft; uncaught, the engine rejects the seed. Caught
    or not, `call_budget` rejects the whole seed.
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

    def balanced(self, ways: int, *parts: str) -> int:
        """A number below `ways`: each comes once among `ways` seeds that are drawn in a row."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One sample of one answer that a seed used; the fields that CALL_SCHEMA asks of this room.

    Tokens are those of the whole request and stand with its first sample; the others say 0.
    """

    key: str
    prompt: str
    prompt_sha256: str
    model: str
    messages: tuple[Mapping[str, str], ...]
    answer: str
    reasoning: str | None
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


class SeedAsk:
    """`Ask` for one seed of one recipe: renders, asks the teacher, validates, repairs, records.

    Every request counts against `max_calls`, answered from the ledger or not, repairs included,
    so that a run from a warm ledger decides as the first one did. A request beyond it is not sent
    but raises `call_budget` and leaves `exhausted` True: the engine then rejects the whole seed,
    for which of several requests at once came too late depends on the order of arrival. `teacher`
    may be None for a recipe that only renders texts; `others` answer the prompts of their names.
    `number` is the seed's place in the draw.

    `calls` grows in place with every answer used, in the order of use; answers used at the same
    time stand by key, so that the order does not depend on which arrived first.
    """

    def __init__(
        self,
        teacher: Teacher | None,
        prompts: Mapping[str, Prompt],
        *,
        source: str,
        row_key: str,
        build_seed: int,
        max_calls: int,
        number: int = 0,
        others: Mapping[str, Teacher] | None = None,
        sampling: Mapping[str, Any] | None = None,
        recipe: str = "recipe",
    ) -> None:
        self._teacher = teacher
        self._others = others or {}
        self._number = number
        self._prompts = prompts
        self._identity = (build_seed, source, row_key)
        self._build_seed = build_seed
        self._max_calls = max_calls
        self._sampling = sampling or {}
        self._recipe = recipe
        self.calls: list[CallRecord] = []
        self._asked = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._depth_of: dict[str, int] = {}

    @property
    def exhausted(self) -> bool:
        """Whether more requests were wanted than `max_calls`, those that were not sent included."""
        return self._asked > self._max_calls

    def over_budget(self) -> AnswerRejected | None:
        """What rejects the whole seed where it is `exhausted`, whatever its method caught."""
        if not self.exhausted:
            return None
        return AnswerRejected("call_budget", f"{self._max_calls} calls are used up")

    async def close(self) -> None:
        """End what is still asking, so that `calls` no longer grows; requests sent are recorded."""
        self._closed = True
        others = self._tasks - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.gather(*others, return_exceptions=True)

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
        """Ask, and return the first valid sample's value. See `Ask`."""
        found = await self.answers(prompt, into=into, schema=schema, sampling=sampling, **variables)
        return found[0].value

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
        """Ask, and return every valid sample: at least one, or `AnswerRejected`. See `Ask`."""
        template = self._prompt(prompt)
        changes = {**(sampling or {}), **({"n": n} if n > 1 else {})}
        asked = Asked(
            template=template,
            messages=template.messages(variables),
            sampling=sampling_with(self._sampling.get(prompt), changes, where=self._recipe),
            schema=schema if schema is not None else json_schema(into),
            schema_name=_NOT_IN_NAMES.sub("_", into.__name__),
            logprobs=logprobs,
        )
        samples = await self._sample(asked)
        good, problems = read_samples(into, samples)
        if good:
            return good
        problem = problems[0]
        keys = [key for key, _ in samples]
        if problem.reason not in _NOT_REPAIRED:
            try:
                repaired = await self._sample(asked.repair(samples[0][1].text, problem), "repair")
            except AnswerRejected:  # too long, or one call too many: the first problem stands
                repaired = []
            good, problems = read_samples(into, repaired)
            if good:
                return good
            keys += [key for key, _ in repaired]
            problem = problems[0] if problems else problem
        raise AnswerRejected(problem.reason, problem.detail, calls=keys)

    def text(self, prompt: str, /, **variables: Any) -> str:
        """Render a template as the text of a record. See `Ask`."""
        return self._prompt(prompt).text(variables)

    def draw(self, *parts: str) -> int:
        """Draw the 64-bit number of this seed and `parts`. See `Ask`."""
        named = json.dumps([*self._identity, *parts]).encode()
        return int.from_bytes(hashlib.blake2b(named, digest_size=8).digest())

    def balanced(self, ways: int, *parts: str) -> int:
        """Choose by this seed's place in a shuffled block of `ways` seeds. See `Ask`."""
        block, place = divmod(self._number, ways)
        build_seed, source, _ = self._identity

        def rank(way: int) -> bytes:
            named = json.dumps([build_seed, source, block, way, *parts]).encode()
            return hashlib.blake2b(named, digest_size=8).digest()

        return sorted(range(ways), key=rank)[place]

    def _prompt(self, name: str) -> Prompt:
        if name not in self._prompts:
            known = ", ".join(sorted(self._prompts)) or "none"
            raise WorkspaceError(
                f"no prompt {name!r}",
                where=self._recipe,
                fix=f"write {name}.jinja beside recipe.yaml, or ask for one of: {known}",
            )
        return self._prompts[name]

    async def _sample(self, asked: Asked, part: str = "") -> list[tuple[str, Choice]]:
        """Ask for `n` samples: in one request, and further ones where the server gives fewer."""
        _depth.set(_depth.get() + 1)
        depth = _depth.get()
        samples: list[tuple[str, Choice]] = []
        wanted = asked.sampling.n
        while len(samples) < wanted:
            seed_part = f"{part}{len(samples) or ''}"
            n = min(wanted - len(samples), _MOST_SAMPLES)
            request = self._request(asked, n, seed_part)
            key = request.key()
            completion = await self._answer(request)
            self._record(key, request, completion, depth)
            samples += [(key, choice) for choice in completion.choices]
        return samples[:wanted]

    def _request(self, asked: Asked, n: int, part: str) -> Request:
        teacher = self._others.get(asked.template.name, self._teacher)
        if teacher is None:
            raise WorkspaceError(
                f"prompt {asked.template.name!r} is asked, but the recipe names no model",
                where=self._recipe,
                fix="write 'model: <role>' into the recipe and serve that role in the profile",
            )
        model = teacher.model
        return Request(
            model=model.name,
            revision=model.revision,
            served_as=model.served_as,
            prompt=asked.template.name,
            prompt_sha256=asked.template.sha256,
            messages=asked.messages,
            sampling=asked.sampling
            if asked.sampling.n == n and not model.thinking_tokens
            else asked.sampling.model_copy(
                update={"n": n, "max_tokens": asked.sampling.max_tokens + model.thinking_tokens}
            ),
            seed=request_seed(asked.sampling.seed, self._build_seed, part),
            logprobs=asked.logprobs,
            schema_name=asked.schema_name,
            schema=asked.schema if model.structured_output else None,
            reasoning_effort=model.reasoning_effort,
        )

    async def _answer(self, request: Request) -> Completion:
        if self._closed:
            raise asyncio.CancelledError("the seed is closed")
        self._asked += 1
        if over := self.over_budget():
            raise over
        if task := asyncio.current_task():
            self._tasks.add(task)
        teacher = self._others.get(request.prompt, self._teacher)
        assert teacher is not None
        try:
            return await teacher.answer(request)
        except RequestRefused as error:
            if error.reason is None:
                raise
            raise AnswerRejected(error.reason, error.message) from None

    def _record(self, key: str, request: Request, completion: Completion, depth: int) -> None:
        messages = tuple({"role": role, "content": content} for role, content in request.messages)
        records = [
            CallRecord(
                key=key,
                prompt=request.prompt,
                prompt_sha256=request.prompt_sha256,
                model=request.model,
                messages=messages,
                answer=choice.text,
                reasoning=choice.reasoning,
                finish_reason=choice.finish_reason,
                prompt_tokens=0 if place else completion.prompt_tokens,
                completion_tokens=0 if place else completion.completion_tokens,
            )
            for place, choice in enumerate(completion.choices)
        ]
        if key not in self._depth_of:
            self.calls += records
        self._depth_of[key] = min(depth, self._depth_of.get(key, depth))
        if len(self.calls) > len(records):
            self.calls.sort(key=lambda call: (self._depth_of[call.key], call.key))

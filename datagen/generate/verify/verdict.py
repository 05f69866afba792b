"""One signature for every verifier: `await verify(kind, answer, spec)`.

| kind | spec |
|---|---|
| `exact` | answer, form (number, letter, text), tolerance, units, options, marked |
| `code` | tests, setup, timeout_s |
| `json` | schema |
| `form` | rules |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from datagen.errors import DataError
from datagen.generate.verify.code import run_tests
from datagen.generate.verify.exact import ExactSpec, exact_problem
from datagen.generate.verify.form import FormSpec, form_problem
from datagen.generate.verify.json_schema import json_problem, schema_problem

Kind = Literal["exact", "code", "json", "form"]
KINDS: tuple[str, ...] = get_args(Kind)

_FENCE = re.compile(r"^```[ \t]*(\w*)[^\n]*\n(.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)


class CodeSpec(BaseModel):
    """The tests that code must pass, what runs before each, and processor seconds for all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tests: tuple[str, ...]
    setup: str = ""
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0

    @field_validator("tests")
    @classmethod
    def _test_something(cls, tests: tuple[str, ...]) -> tuple[str, ...]:
        if not any(test.strip() for test in tests):
            raise ValueError("there is no test to pass")
        return tests


class JsonSpec(BaseModel):
    """The JSON Schema that an answer must follow."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: Annotated[Any, Field(alias="schema")]

    @field_validator("schema_")
    @classmethod
    def _can_be_checked(cls, schema: Any) -> Any:
        if problem := schema_problem(schema):
            raise ValueError(problem)
        return schema


_SPECS: dict[str, type[BaseModel]] = {
    "exact": ExactSpec,
    "code": CodeSpec,
    "json": JsonSpec,
    "form": FormSpec,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether an answer is right; `detail` says why not, or is empty."""

    passed: bool
    detail: str = ""


def spec_problem(kind: Kind, spec: Mapping[str, Any]) -> str | None:
    """Why no answer can be held against a spec, or None where one can."""
    try:
        _SPECS[kind].model_validate(spec)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{place}: {first['msg']}" if place else str(first["msg"])
    return None


async def verify(kind: Kind, answer: str, spec: Mapping[str, Any]) -> Verdict:
    """Hold an answer against what its spec says; the same answer always gets the same verdict.

    DataError where the spec is unusable (`spec_problem` asks first), WorkspaceError where code
    would have to run and there is no sandbox.
    """
    if problem := spec_problem(kind, spec):
        raise DataError(f"no answer can be verified: {problem}", fix="correct the spec")
    if kind == "code":
        return await _code(answer, CodeSpec.model_validate(spec))
    if kind == "json":
        found = json_problem(answer, JsonSpec.model_validate(spec).schema_)
    else:
        found = (exact_problem if kind == "exact" else form_problem)(answer, spec)
    return Verdict(passed=found is None, detail=found or "")


async def _code(answer: str, spec: CodeSpec) -> Verdict:
    code = find_code(answer)
    if code is None:
        return Verdict(passed=False, detail="no code")
    ran = await run_tests(code, spec.tests, setup=spec.setup, timeout_s=spec.timeout_s)
    return Verdict(passed=ran.passed, detail="" if ran.passed else f"{ran.reason}: {ran.detail}")


def find_code(answer: str) -> str | None:
    """The Python of an answer: its last fenced block, or all of it where nothing is fenced."""
    text = answer.rpartition("</think>")[2]
    blocks = [body for name, body in _FENCE.findall(text) if name.lower() in ("", "python", "py")]
    if blocks:
        return str(blocks[-1])
    return text if text.strip() and "```" not in text else None

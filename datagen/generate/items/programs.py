"""A program beside its tests: what can be seen of them, and what running them shows."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Sequence

from pydantic import BaseModel

from datagen.generate.items.agreement import Agreement, agreement
from datagen.generate.verify.code import run_tests
from datagen.llm.ask import AnswerRejected, Ask

_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


class Program(BaseModel):
    """A solution of a programming task."""

    code: str


def function_name(code: str) -> str | None:
    """The last function that a program defines at its top, or None."""
    try:
        tree = _parsed(code)
    except _UNREADABLE:
        return None
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    return names[-1] if names else None


def program_problem(code: str, tests: Sequence[str], *, fewest: int = 3) -> str | None:
    """Why a program and its tests are not worth running, or None.

    Each test is one assertion that calls a function of the program and compares what it gives;
    no two are the same.
    """
    try:
        tree = _parsed(code)
    except _UNREADABLE as error:
        return f"code_syntax: {type(error).__name__}"
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    if not defined:
        return "code_without_function: nothing is defined"
    different = {"".join(test.split()) for test in tests}
    if len(different) < max(fewest, len(tests)):
        return f"tests_few: {len(different)} different tests of {len(tests)}, {fewest} wanted"
    for test in tests:
        problem = _test_problem(test, defined)
        if problem is not None:
            return problem
    return None


def stub(code: str) -> str:
    """A program of the same functions that know nothing: each returns None."""
    names = [node.name for node in _parsed(code).body if isinstance(node, ast.FunctionDef)]
    return "\n".join(f"def {name}(*_, **__):\n    return None" for name in names)


def _test_problem(test: str, defined: set[str]) -> str | None:
    try:
        body = _parsed(test.strip()).body
    except _UNREADABLE:
        return f"test_syntax: {test[:60]!r}"
    if len(body) != 1 or not isinstance(body[0], ast.Assert):
        return f"test_is_no_assertion: {test[:60]!r}"
    called = {
        node.func.id
        for node in ast.walk(body[0].test)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    if not called & defined:
        return f"test_calls_nothing: {test[:60]!r}"
    return None


async def tests_problem(code: str, tests: Sequence[str], *, timeout_s: float) -> str | None:
    """Run a program, and one that knows nothing, against the tests; only the first may pass."""
    verdict = await run_tests(code, tests, timeout_s=timeout_s)
    if not verdict.passed:
        return f"code_fails: {verdict.reason}: {verdict.detail}"
    verdict = await run_tests(stub(code), tests, timeout_s=timeout_s)
    return "tests_prove_nothing: functions that return None pass them" if verdict.passed else None


async def blind_programs(
    ask: Ask,
    question: str,
    tests: Sequence[str],
    *,
    samples: int,
    timeout_s: float,
    calls: list[str],
) -> Agreement:
    """Ask prompt `solve` for programs from the wording and the first test; all tests must pass."""
    try:
        answers = await ask.answers(
            "solve", into=Program, n=samples, question=question, tests=list(tests[:1])
        )
    except AnswerRejected as error:
        calls += error.calls
        return agreement([], "passed", asked=samples)
    calls += [answer.key for answer in answers]
    said = [
        (await run_tests(answer.value.code, tests, timeout_s=timeout_s)).reason
        for answer in answers
    ]
    return agreement(said, "passed", asked=samples)


def _parsed(code: str) -> ast.Module:
    """The syntax tree of a program; what Python thinks of its escapes concerns nobody."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(code)

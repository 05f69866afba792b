"""Tests of code that a model wrote, run in the sandbox."""

from __future__ import annotations

import functools
import inspect
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from datagen.agent.sandbox import Limits, python_program, run_once
from datagen.generate.verify import line, proctor

_WALL_PER_CPU = 3.0
_OUTPUT_BYTES = 1 << 16
_PROCESSES = 8
_FUTURE = "from __future__ import annotations"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeVerdict:
    """Whether code passed all of its tests, and if not, why.

    `reason`: passed, no_tests, code_invalid, code_raised, code_ended, test_invalid, test_vacuous,
    test_failed, test_raised, time_limit or lost. `tests_passed` counts those before the first that
    did not.
    """

    passed: bool
    reason: str
    detail: str
    tests_passed: int = 0


async def run_tests(
    code: str, tests: Sequence[str], *, setup: str = "", timeout_s: float = 5.0
) -> CodeVerdict:
    """Run code against tests, each a piece of Python with an `assert` that calls the code.

    `setup` runs before each test, beside it. `timeout_s` is processor time for all tests together,
    so that a busy machine does not change a verdict; three times as much may pass on the clock.
    Code and tests run in two processes of one sandbox, without network: code that exits, prints,
    reads or overrides passes nothing by it (see `proctor`). Tests that assert nothing or never call
    the code do not pass. WorkspaceError where there is no sandbox.
    """
    if not any(test.strip() for test in tests):
        return CodeVerdict(passed=False, reason="no_tests", detail="there is no test to pass")
    mark = secrets.token_hex(16)
    wall_s = timeout_s * _WALL_PER_CPU + 1
    task = {
        "mark": mark,
        "source": _proctor_source(),
        "code": code,
        "setup": setup,
        "tests": list(tests),
        "wall_s": wall_s,
    }
    outcome = await run_once(
        [python_program(), "-s", "-S", "-B", "-c", _proctor_source(), "tests"],
        stdin=json.dumps(task).encode(),
        limits=Limits(
            cpu_s=timeout_s, wall_s=wall_s + 5, processes=_PROCESSES, output_bytes=_OUTPUT_BYTES
        ),
    )
    said = outcome.stdout.decode(errors="replace")
    if not said.startswith(mark):
        detail = f"no verdict; the sandbox ended with {outcome.ended}, {outcome.exit_code}"
        return CodeVerdict(passed=False, reason="lost", detail=detail)
    verdict = json.loads(said.removeprefix(mark))
    passed = verdict["reason"] == "passed" and verdict["passed"] == len(tests)
    return CodeVerdict(
        passed=passed,
        reason=verdict["reason"],
        detail=verdict["detail"],
        tests_passed=verdict["passed"],
    )


@functools.cache
def _proctor_source() -> str:
    """`line` and `proctor` as one program: no file of this package lies inside the sandbox."""
    lines = [text for module in (line, proctor) for text in inspect.getsource(module).splitlines()]
    own = ("from __future__ import", "from datagen.")
    return "\n".join([_FUTURE, *(text for text in lines if not text.startswith(own))])

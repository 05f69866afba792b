"""Tests of code: right code passes, and nothing else does, whatever it tries."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from pathlib import Path

import pytest

from datagen.generate.verify.code import CodeVerdict, run_tests
from tests.agent.needs import needs_sandbox

holds = needs_sandbox()

TRIPLE = "assert triple(2) == 6"


def verdict(code: str, *tests: str, setup: str = "", timeout_s: float = 5.0) -> CodeVerdict:
    """Run code against tests."""
    return asyncio.run(run_tests(code, tests, setup=setup, timeout_s=timeout_s))


def many(*runs: tuple[str, tuple[str, ...]]) -> list[str]:
    """The reasons of several runs at once."""

    async def run() -> list[str]:
        found = await asyncio.gather(*(run_tests(code, tests) for code, tests in runs))
        assert all(one.passed == (one.reason == "passed") for one in found)
        return [one.reason for one in found]

    return asyncio.run(run())


@holds
def test_right_code_passes_and_wrong_code_fails_at_its_test() -> None:
    right = verdict("def triple(x):\n    return 3 * x", TRIPLE, "assert triple('a') == 'aaa'")
    assert (right.passed, right.tests_passed) == (True, 2)
    wrong = verdict("def triple(x):\n    return 6", TRIPLE, "assert triple(3) == 9", TRIPLE)
    assert (wrong.passed, wrong.reason, wrong.tests_passed) == (False, "test_failed", 1)
    assert "test 2" in wrong.detail


CHEATS = {
    "exits while it is defined": "import sys\nsys.exit(0)",
    "exits when called": "import sys\ndef triple(x):\n    sys.exit(0)",
    "ends the process": "import os\ndef triple(x):\n    os._exit(0)",
    "kills the tests": "import os\nos.kill(os.getppid(), 9)\ndef triple(x):\n    return 1",
    "prints a verdict": """
import os
def triple(x):
    for d in range(64):
        try:
            os.write(d, b'{"reason": "passed", "passed": 1}')
        except OSError:
            pass
""",
    "equals everything": """
class Same:
    def __eq__(self, other):
        return True
    def __ne__(self, other):
        return False
def triple(x):
    return Same()
""",
    "a number that equals everything": """
class Same(int):
    def __eq__(self, other):
        return True
    __hash__ = int.__hash__
def triple(x):
    return Same(5)
""",
    "overrides what a test may use": """
import builtins
builtins.AssertionError = ValueError
builtins.isinstance = lambda *a: True
def triple(x):
    return 5
""",
    "looks for the expected value in the frames": """
import gc, sys
def triple(x):
    frame = sys._getframe(1)
    while frame:
        for c in frame.f_code.co_consts:
            if isinstance(c, str) and 'triple(2) ==' in c:
                return int(c.rsplit('==')[1])
        frame = frame.f_back
    for thing in gc.get_objects():
        if isinstance(thing, dict) and 'tests' in thing:
            return int(thing['tests'][0].rsplit('==')[1])
""",
    "reads the memory of the tests": """
import os
def triple(x):
    for name in ('mem', 'environ', 'maps', 'fd/0', 'fd/1', 'fd/3'):
        open(f'/proc/{os.getppid()}/{name}', 'rb').read(1)
    return 6
""",
    "answers in place of the line": """
import os
def triple(x):
    for d in range(3, 64):
        try:
            os.write(d, b'\\x00\\x00\\x00\\x04true')
        except OSError:
            pass
""",
}


@holds
def test_no_cheat_passes() -> None:
    reasons = many(*((code, (TRIPLE,)) for code in CHEATS.values()))
    assert dict(zip(CHEATS, reasons, strict=True)) == {
        "exits while it is defined": "code_raised",
        "exits when called": "test_raised",
        "ends the process": "code_ended",
        "kills the tests": "test_failed",
        "prints a verdict": "code_ended",
        "equals everything": "test_failed",
        "a number that equals everything": "test_failed",
        "overrides what a test may use": "code_ended",
        "looks for the expected value in the frames": "test_failed",
        "reads the memory of the tests": "test_raised",
        "answers in place of the line": "code_ended",
    }


@holds
def test_code_cannot_plant_a_module_for_the_tests() -> None:
    planted = "open('heapq.py', 'w').write('import os; os._exit(3)')\ndef triple(x):\n    return 6"
    assert verdict(planted, f"import heapq\n{TRIPLE}").passed


@holds
@holds
@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ("triple(2)", "test_vacuous"),
        ("assert True", "test_vacuous"),
        ("# nothing", "test_vacuous"),
        ("assert triple(2) =", "test_invalid"),
        ("assert treble(2) == 6", "test_raised"),
    ],
)
def test_a_test_that_tests_nothing_is_no_pass(test: str, reason: str) -> None:
    found = verdict("def triple(x):\n    return 3 * x", TRIPLE, test)
    assert (found.passed, found.reason) == (False, reason)


@pytest.mark.parametrize("tests", [[], ["", "  \n"]])
def test_without_tests_nothing_passes(tests: list[str]) -> None:
    assert verdict("def triple(x):\n    return 3 * x", *tests).reason == "no_tests"


@holds
def test_code_that_does_not_parse_and_code_that_raises() -> None:
    assert many(("def triple(x)", (TRIPLE,)), ("1 / 0", (TRIPLE,))) == [
        "code_invalid",
        "code_raised",
    ]


@holds
def test_endless_code_runs_out_of_time() -> None:
    spins = verdict("def triple(x):\n    while True:\n        pass", TRIPLE, timeout_s=1)
    sleeps = verdict("import time\ndef triple(x):\n    time.sleep(60)", TRIPLE, timeout_s=0.1)
    assert (spins.reason, sleeps.reason) == ("time_limit", "time_limit")


@holds
def test_what_tests_do_with_code() -> None:
    """Objects, iterators, callbacks, changed arguments, expected exceptions, imports, set-up."""
    runs = {
        "def add(xs):\n    xs.append(3)": "a = [1]\nadd(a)\nassert a == [1, 3]",
        "def twice(f, x):\n    return f(f(x))": "assert twice(lambda x: x + 1, 1) == 3",
        "def only(xs, kind):\n    return [x for x in xs if isinstance(x, kind)]": (
            "assert only([1, 'a'], int) == [1]"
        ),
        "def squares(n):\n    for i in range(n):\n        yield i * i": (
            "assert list(squares(3)) == [0, 1, 4]"
        ),
        "class P:\n    def __init__(self, x):\n        self.x = x": (
            "p = P(1)\np.x = 5\nassert p.x == 5"
        ),
        "def no(x):\n    raise KeyError(x)": (
            "try:\n    no(1)\nexcept KeyError:\n    pass\nelse:\n    assert False"
        ),
        "import math\ndef half(x):\n    return x / 2": "assert math.isclose(half(3), 1.5)",
        "def bits(x):\n    return {(1, 2): [b'x', {x}, 1 << 20000, 2j, None]}": (
            "assert bits(1) == {(1, 2): [b'x', {1}, 1 << 20000, 2j, None]}"
        ),
        "from fractions import Fraction\nimport datetime as d\ndef both():\n"
        "    return Fraction(1, 3), d.date(2024, 2, 29)": (
            "assert both() == (Fraction(1, 3), d.date(2024, 2, 29))"
        ),
        "def one():\n    return 1": "def test_one():\n    assert one() == 1",
    }
    assert many(*((code, (test,)) for code, test in runs.items())) == ["passed"] * len(runs)
    assert verdict("def f(x):\n    return x", "assert f(n) == 7", setup="n = 7").passed
    assert not verdict("def one():\n    return 2", "def test_one():\n    assert one() == 1").passed


@holds
def test_the_order_of_a_set_does_not_change_from_run_to_run() -> None:
    code = "def order():\n    return ''.join({'a', 'b', 'c', 'd', 'e', 'f'})"
    seen = {verdict(code, "assert False, order()").detail for _ in range(3)}
    assert len(seen) == 1


DATA = os.environ.get("DATAGEN_DATA")


@holds
@pytest.mark.skipif(not DATA, reason="set DATAGEN_DATA to the folder of real data")
def test_reference_solutions_pass_their_own_tests() -> None:
    with gzip.open(Path(DATA or "") / "bench" / "mbpp_all.jsonl.gz", "rt") as lines:
        rows = [row for row in map(json.loads, lines) if row["split"] == "train"][::12]
    assert len(rows) > 30

    async def run() -> list[CodeVerdict]:
        return await asyncio.gather(
            *(run_tests(r["code"], r["test_list"], setup=r["test_setup_code"]) for r in rows)
        )

    assert [one.reason for one in asyncio.run(run())] == ["passed"] * len(rows)

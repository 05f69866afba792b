"""What decides a fingerprint: values and logic do; order, prose and layout do not."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.errors import WorkspaceError
from datagen.plan.execute import merge_figures
from datagen.plan.fingerprint import fingerprint, module_closure, module_version

SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.floats(-9, 9)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


def reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


@given(VALUES)
def test_order_of_keys_does_not_count(value: Any) -> None:
    """Equal values have equal fingerprints, through JSON and back too."""
    assert fingerprint(value) == fingerprint(reversed_keys(value))
    assert fingerprint(value) == fingerprint(json.loads(json.dumps(value)))


@given(VALUES, VALUES)
def test_different_values_differ(left: Any, right: Any) -> None:
    """Whatever JSON tells apart, a fingerprint does."""
    same = json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
    assert (fingerprint(left) == fingerprint(right)) == same


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ({"a": {1, 2}}, "value.a: set"),
        ({"a": [0, frozenset()]}, "value.a[1]: frozenset"),
        ([math.nan], "value[0]: NaN"),
        ({"a": object()}, "value.a: object"),
        ({"a": Path("x")}, "Path"),
        ({"a": b"x"}, "bytes"),
        ({1: "a"}, "key 1 is not a string"),
        ({"a": {2: "b"}}, "value.a: key 2"),
    ],
)
def test_unstable_values_are_refused(value: Any, at: str) -> None:
    """A value without one stable form raises, with the place where it stands."""
    with pytest.raises(TypeError) as caught:
        fingerprint(value)
    assert at in str(caught.value)


BEFORE = '''
"""What it does."""
import math

LIMIT = 3


def area(radius):
    """The area."""
    return math.pi * radius**2  # a circle's
'''
SAME = '''
"""Said anew."""
# with a comment

import math
LIMIT = 3
def area(radius):
    return (math.pi *
            radius ** 2)
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path for modules of a test."""
    monkeypatch.syspath_prepend(tmp_path)
    module_version.cache_clear()
    return tmp_path


def version(package: Path, name: str, source: str) -> str:
    (package / f"{name}.py").write_text(source, encoding="utf-8")
    importlib.invalidate_caches()
    module_version.cache_clear()
    return module_version(name)


@pytest.mark.parametrize(
    ("source", "same"),
    [
        (SAME, True),
        (BEFORE.replace("LIMIT = 3", "LIMIT = 4"), False),
        (BEFORE.replace("radius**2", "radius**3"), False),
        (BEFORE.replace("math.pi", "math.tau"), False),
        (BEFORE.replace("LIMIT = 3", 'LIMIT = 3\nNAME = "x"'), False),
    ],
)
def test_prose_is_no_logic(package: Path, source: str, same: bool) -> None:
    """Docstrings, comments and layout leave a module's version alone; logic changes it."""
    assert (version(package, "seen_module", source) == version(package, "seen_module", BEFORE)) == (
        same
    )


def test_closure_follows_imports(package: Path) -> None:
    """A method's code is its module and what it imports of its own package, however it says so."""
    files = {
        "__init__": "",
        "method": "from .near import one\nimport json\nimport own_package.far\n",
        "near": "def one():\n    from own_package.inner import leaf\n",
        "far": "from own_package import method\n",
        "unrelated": "",
        "inner/__init__": "from . import helper",
        "inner/helper": "",
        "inner/leaf": "from ..near import one",
    }
    for name, source in files.items():
        path = package / "own_package" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    found = module_closure("own_package.method", "own_package")
    assert [name.removeprefix("own_package") for name in found] == [
        *("", ".far", ".inner", ".inner.helper", ".inner.leaf", ".method", ".near")
    ]


def test_house_method_covers_what_it_rests_on() -> None:
    """A change anywhere below `grounded_qa` makes its records anew."""
    found = module_closure("datagen.generate.grounded_qa", "datagen.generate")
    passages = Path(__file__).resolve().parents[2] / "datagen" / "generate" / "passages"
    modules = {path.stem for path in passages.glob("*.py")} - {"__init__"}
    assert modules == {n.rpartition(".")[2] for n in found if ".passages." in n}


def test_module_that_is_no_python(package: Path) -> None:
    """A syntax error is the workspace's mistake, with its line."""
    with pytest.raises(WorkspaceError, match="not valid Python") as caught:
        version(package, "broken_module", "a = 1\nb = = 2\n")
    assert str(caught.value.where).endswith("broken_module.py:2")
    with pytest.raises(TypeError):
        module_version("no_such_module_anywhere")


COUNTS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 9))


@given(st.lists(COUNTS, max_size=5))
def test_figures_add_up(parts: list[dict[str, int]]) -> None:
    """Merging parts in order gives the sums, at any depth."""
    merged: dict[str, Any] = {}
    for part in parts:
        merged = merge_figures(merged, {"n": len(part), "inner": part})
    for name in merged.get("inner", {}):
        assert merged["inner"][name] == sum(part.get(name, 0) for part in parts)
    assert merged.get("n", 0) == sum(map(len, parts))


def test_figures_of_other_kinds() -> None:
    """Lists join; words, and what changes its kind, are replaced; the inputs stay as they are."""
    left = {"a": [1], "b": "x", "c": 1, "d": {"e": 1}}
    right = {"a": [2], "b": "y", "c": "z", "d": {"f": 2}}
    assert merge_figures(left, right) == {"a": [1, 2], "b": "y", "c": "z", "d": {"e": 1, "f": 2}}
    assert left["d"] == {"e": 1}

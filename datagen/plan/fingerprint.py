"""What decides a step's bytes, in one short name.

A fingerprint covers the step's arguments, the fingerprints of its inputs, the logic of the code
that runs, and the versions of the libraries that write. Values without a stable form are refused.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from datagen.errors import WorkspaceError

FINGERPRINT_DIGITS = 16


def fingerprint(value: Any) -> str:
    """Hash a JSON value: 16 hex digits, equal for equal values whatever the order of keys.

    Raises TypeError for anything that is not plain JSON: a set or an object has no stable form.
    """
    _refuse_unstable(value, "value")
    content = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(content, digest_size=FINGERPRINT_DIGITS // 2).hexdigest()


def _refuse_unstable(value: Any, at: str) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{at}: key {key!r} is not a string")
            _refuse_unstable(item, f"{at}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_unstable(item, f"{at}[{index}]")
    elif isinstance(value, float) and value != value:
        raise TypeError(f"{at}: NaN does not equal itself")
    elif value is not None and not isinstance(value, str | int | float | bool):
        raise TypeError(f"{at}: {type(value).__name__} has no stable form")


class _Bare(ast.NodeTransformer):
    """Drop docstrings: prose does not decide bytes."""

    def _strip(self, node: Any) -> ast.AST:
        self.generic_visit(node)
        first = node.body[0] if node.body else None
        if (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
        ):
            node.body = node.body[1:] or [ast.Pass()]
        result: ast.AST = node
        return result

    visit_Module = visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _strip


def find_source(module: str) -> Path | None:
    """The file behind a module's name; None where there is none, or its package fails."""
    try:
        spec = importlib.util.find_spec(module)
    except Exception:
        # To find `a.b` is to run `a`, which may raise anything; importing it says what.
        return None
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise WorkspaceError(
            f"not valid Python: {error}", where=f"{path}:{line}", fix="correct the module"
        ) from error


@functools.cache
def module_version(module: str) -> str:
    """Hash the logic of a module's source: comments, docstrings and layout do not count.

    A compiled module is hashed as it is. TypeError for a module without a file.
    """
    path = find_source(module)
    if path is None:
        raise TypeError(f"module {module!r} has no source to hash")
    content = (
        ast.dump(_Bare().visit(_parse(path))).encode()
        if path.suffix == ".py"
        else path.read_bytes()
    )
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def module_closure(module: str, *within: str) -> tuple[str, ...]:
    """The module and all that it imports, at whatever remove, from the packages `within`."""
    found: dict[str, None] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = find_source(name)
        if name in found or path is None:
            continue
        found[name] = None
        if path.suffix == ".py":
            package = name if path.stem == "__init__" else name.rpartition(".")[0]
            waiting += [
                imported
                for imported in _imports(_parse(path), package)
                if any(imported == one or imported.startswith(f"{one}.") for one in within)
            ]
    return tuple(sorted(found))


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """Every name that a module imports and that may be a module, its own parents included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join(
                [*(above if node.level else []), *([node.module] if node.module else [])]
            )
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _library_version(distribution: str) -> str:
    """The installed version, or `absent`: a plan may be made where a step could not run."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def code_version(modules: Sequence[str], libraries: Sequence[str]) -> str:
    """One version for the code of a step: its modules' logic and its libraries' versions.

    Every step writes through pyarrow and orjson. Python's minor version counts too: the form that
    logic is hashed in is that of its own syntax tree.
    """
    parts = [f"{name}={module_version(name)}" for name in sorted(modules)]
    parts.append(f"python=={sys.version_info.major}.{sys.version_info.minor}")
    names = {*libraries, "orjson", "pyarrow"}
    parts += [f"{name}=={_library_version(name)}" for name in sorted(names)]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()

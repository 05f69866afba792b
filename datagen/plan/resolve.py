"""Names in YAML to functions: the one place that looks code up by name."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from datagen.errors import WorkspaceError
from datagen.plan.fingerprint import find_source, module_closure

_ENGINE = {"run", "stamp"}
_GIVEN = {"tokenizer"}
"""Keyword arguments that the engine fills in, not YAML."""


def method_names() -> list[str]:
    """The house methods: files of datagen/generate that define a function of their own name."""
    package = importlib.import_module("datagen.generate")
    return sorted(
        module.name
        for module in pkgutil.iter_modules(package.__path__)
        if not module.ispkg and module.name not in _ENGINE
    )


def resolve_function(name: str, *, where: str) -> Callable[..., Any]:
    """A `package.module:function` of an installed package, or WorkspaceError."""
    module_name, _, function_name = name.partition(":")
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name):
        raise WorkspaceError(
            f"{name!r} is not a function's name", where=where, fix="write package.module:function"
        )
    module = _import(module_name, where=where)
    function = getattr(module, function_name, None)
    if function is None:
        close = difflib.get_close_matches(function_name, vars(module), n=1)
        raise WorkspaceError(
            f"module {module_name!r} has no {function_name!r}",
            where=where,
            fix=f"did you mean {close[0]!r}?" if close else "name one of its functions",
        )
    if not callable(function):
        raise WorkspaceError(f"{name!r} is not a function", where=where, fix="name a function")
    found: Callable[..., Any] = function
    return found


def _import(module: str, *, where: str) -> ModuleType:
    """Import a module that YAML names; whatever it raises is a mistake of the workspace."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise _unimportable(module, error, where) from error
        raise WorkspaceError(
            f"no module {module!r}",
            where=where,
            fix="install the package that has it, or put its folder on PYTHONPATH",
        ) from error
    except Exception as error:
        raise _unimportable(module, error, where) from error


def _unimportable(module: str, error: Exception, where: str) -> WorkspaceError:
    return WorkspaceError(
        f"cannot import {module!r}: {type(error).__name__}: {error}", where=where, fix="mend it"
    )


def function_code(name: str, *, where: str) -> tuple[str, ...]:
    """The modules whose logic decides what an extension's `package.module:function` does."""
    module = name.partition(":")[0]
    if find_source(module) is None:
        # Only a parent package's own code can be to blame here, or there is no such module.
        _import(module, where=where)
    return module_closure(module, module.partition(".")[0])


def method_module(name: str, *, where: str) -> str:
    """The module that holds a method: a house method by its bare name, or an extension's."""
    if ":" in name:
        return name.partition(":")[0]
    known = method_names()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        raise WorkspaceError(
            f"no method {name!r}",
            where=where,
            fix=f"did you mean {close[0]!r}?"
            if close
            else f"one of: {', '.join(known)}; or package.module:function",
        )
    return f"datagen.generate.{name}"


def method_code(name: str, *, where: str) -> tuple[str, ...]:
    """The modules whose logic decides what a method drafts: its own, and those it rests on."""
    if ":" in name:
        return function_code(name, where=where)
    return module_closure(method_module(name, where=where), "datagen.generate", "datagen.agent")


def resolve_method(
    name: str, arguments: Mapping[str, Any], *, at: Callable[..., str]
) -> Callable[..., Any]:
    """A method by name, its keyword arguments checked against the YAML's; `at`: key to place."""
    module = method_module(name, where=at("method"))
    function = resolve_function(name if ":" in name else f"{module}:{name}", where=at("method"))
    _check_arguments(function, arguments, name=name, at=at)
    return function


def wants_tokenizer(method: Callable[..., Any]) -> bool:
    """Whether a method counts or cuts tokens, and so depends on the profile's tokenizer."""
    return "tokenizer" in inspect.signature(method).parameters


def _check_arguments(
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    *,
    name: str,
    at: Callable[..., str],
) -> None:
    """Refuse keyword arguments that the function does not take, and missing ones."""
    parameters = inspect.signature(function).parameters.values()
    keywords = {
        p.name: p
        for p in parameters
        if p.kind is inspect.Parameter.KEYWORD_ONLY and p.name not in _GIVEN
    }
    unknown = sorted(set(arguments) - set(keywords))
    if unknown:
        close = difflib.get_close_matches(unknown[0], list(keywords), n=1)
        raise WorkspaceError(
            f"{name} takes no argument {unknown[0]!r}",
            where=at("arguments", unknown[0]),
            fix=f"did you mean {close[0]!r}?"
            if close
            else f"known: {', '.join(keywords) or 'none'}",
        )
    missing = sorted(
        n
        for n, p in keywords.items()
        if p.default is inspect.Parameter.empty and n not in arguments
    )
    if missing:
        raise WorkspaceError(
            f"{name} needs argument {missing[0]!r}",
            where=at("arguments"),
            fix=f"arguments: {missing[0]}: ...",
        )

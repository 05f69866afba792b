"""Names in YAML to functions: the one place that looks code up by name."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Mapping
from typing import Any

from datagen.errors import WorkspaceError

_ENGINE = {"run", "stamp", "passages"}


def method_names() -> list[str]:
    """The house methods: files of datagen/generate that define a function of their own name."""
    package = importlib.import_module("datagen.generate")
    return sorted(
        module.name
        for module in pkgutil.iter_modules(package.__path__)
        if module.name not in _ENGINE
    )


def resolve_function(name: str, *, where: str) -> Callable[..., Any]:
    """A `package.module:function` of an installed package, or WorkspaceError."""
    module_name, _, function_name = name.partition(":")
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name):
        raise WorkspaceError(
            f"{name!r} is not a function's name", where=where, fix="write package.module:function"
        )
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise WorkspaceError(
            f"cannot resolve {name!r}: {error}", where=where, fix="install the package that has it"
        ) from error
    if not callable(function):
        raise WorkspaceError(f"{name!r} is not a function", where=where, fix="name a function")
    found: Callable[..., Any] = function
    return found


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


def resolve_method(name: str, arguments: Mapping[str, Any], *, where: str) -> Callable[..., Any]:
    """A method by name, its keyword arguments checked against the YAML's."""
    module = method_module(name, where=where)
    function = resolve_function(name if ":" in name else f"{module}:{name}", where=where)
    check_arguments(function, arguments, name=name, where=where)
    return function


def check_arguments(
    function: Callable[..., Any], arguments: Mapping[str, Any], *, name: str, where: str
) -> None:
    """Refuse keyword arguments that the function does not take, and missing ones."""
    parameters = inspect.signature(function).parameters.values()
    keywords = {p.name: p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    unknown = sorted(set(arguments) - set(keywords))
    if unknown:
        close = difflib.get_close_matches(unknown[0], list(keywords), n=1)
        raise WorkspaceError(
            f"{name} takes no argument {unknown[0]!r}",
            where=where,
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
            where=where,
            fix=f"arguments: {missing[0]}: ...",
        )

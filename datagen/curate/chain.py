"""A chain of filters as YAML orders it: the first reason to refuse a record wins.

A filter returns why to drop, or None; one that edits returns the record that takes its place.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, get_type_hints

from datagen.curate import chat, code, pii, qa, quality, text
from datagen.curate.words import record_text
from datagen.errors import DataError, DatagenError, WorkspaceError
from datagen.record import Record
from datagen.workspace.locate import inside
from datagen.workspace.specs import ChainSpec, FilterSpec

Judge = Callable[[Record], str | Record | None]
Resolve = Callable[..., Callable[..., Any]]
"""`resolve("package.module:name", where=place)` gives the object named, or WorkspaceError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A filter of datatrove's: what makes a judge of texts, and what it refuses, in one line."""

    target: str
    doc: str


HOUSE: Mapping[str, ModuleType] = MappingProxyType(
    {"text": text, "qa": qa, "chat": chat, "code": code, "quality": quality, "pii": pii}
)
"""Prefix -> the module whose public functions are filters."""

DATATROVE: Mapping[str, Rule] = MappingProxyType(
    {
        "GopherQuality": Rule(
            target="datagen.curate.rules:gopher_quality",
            doc="Refuse odd lengths, symbols, bullets, few letters, few stop words (Gopher).",
        ),
        "GopherRepetition": Rule(
            target="datagen.curate.rules:gopher_repetition",
            doc="Refuse repeated lines, paragraphs and word n-grams (Gopher, table A1).",
        ),
        "C4Quality": Rule(
            target="datagen.curate.rules:c4_quality",
            doc="Refuse too few good sentences, lorem ipsum, curly brackets (C4).",
        ),
        "C4Paragraph": Rule(
            target="datagen.curate.rules:c4_paragraph",
            doc="Refuse pages with fewer than three long paragraphs (mC4).",
        ),
        "FineWebQuality": Rule(
            target="datagen.curate.rules:fineweb_quality",
            doc="Refuse unpunctuated, short or repeated lines and lists (FineWeb).",
        ),
        "Language": Rule(
            target="datagen.curate.language:language_rule",
            doc="Refuse other languages than those named (fastText lid.176, no download).",
        ),
    }
)
"""datatrove's filters by the names that YAML uses, behind the prefix `datatrove.`: compiled, with
the same verdicts (`curate.rules`)."""

_NOT_FROM_YAML = frozenset({"exclusion_writer", "batch_size"})
_FIX = "datagen list filters"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterInfo:
    """One line of `datagen list filters`; arguments read `name=default`."""

    name: str
    doc: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One filter of a chain, ready to be called; `reason` is what rejects are counted by."""

    reason: str
    judge: Judge


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The ordered filters of one filters/<name>.yaml."""

    name: str
    links: tuple[Link, ...]

    def sift(self, record: Record) -> Record | tuple[str, str]:
        """The record as the chain leaves it, or the first (reason, detail) to refuse it.

        Raises DataError naming filter and record when a filter fails on it.
        """
        for link in self.links:
            try:
                verdict = link.judge(record)
            except DatagenError:
                raise
            except Exception as error:
                raise DataError(
                    f"filter '{link.reason}' failed: {type(error).__name__}: {error}",
                    where=f"record {record.id}",
                    fix=f"mend the filter or take it out of chain '{self.name}'",
                ) from error
            if isinstance(verdict, Record):
                record = verdict
            elif verdict is not None:
                return link.reason, verdict
        return record

    def judge(self, record: Record) -> tuple[str, str] | None:
        """The first (reason, detail) to refuse the record, or None to keep it."""
        found = self.sift(record)
        return None if isinstance(found, Record) else found


def _public(module: ModuleType) -> dict[str, Callable[..., Any]]:
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
        and next(iter(inspect.signature(value).parameters), None) == "record"
    }


def _target(use: str) -> str:
    """Where a name from YAML lies, as `package.module:function`; KeyError where it is none."""
    if ":" in use:
        return use
    prefix, _, name = use.partition(".")
    if prefix == "datatrove":
        return DATATROVE[name].target
    return f"{HOUSE[prefix].__name__}:{_public(HOUSE[prefix])[name].__name__}"


def _known_names() -> list[str]:
    house = [f"{prefix}.{name}" for prefix, module in HOUSE.items() for name in _public(module)]
    return [*house, *(f"datatrove.{name}" for name in DATATROVE)]


def _reason(use: str) -> str:
    """The short snake_case name: `datatrove.GopherQuality` -> `gopher_quality`."""
    name = re.split(r"[.:]", use)[-1]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _tuples(value: object) -> object:
    """Lists as tuples, which is what datatrove's defaults are."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _build_rule(constructor: Callable[..., Any], arguments: Mapping[str, Any]) -> Judge:
    """Construct a rule of datatrove's, so that a bad argument or a lack shows at once."""
    if refused := sorted(_NOT_FROM_YAML & arguments.keys()):
        raise TypeError(f"argument {refused[0]!r} cannot be given in YAML")
    rule = constructor(**{name: _tuples(value) for name, value in arguments.items()})

    def judge(record: Record) -> str | None:
        verdict: str | None = rule(record_text(record))
        return verdict

    return judge


def _bind(
    function: Callable[..., Any], arguments: Mapping[str, Any], root: Path, where: str
) -> Judge:
    """Fix a filter's keyword arguments, each checked against its annotation.

    An argument that is a path names a file of the workspace.
    """
    from pydantic import TypeAdapter

    inspect.signature(function).bind(None, **arguments)
    hints = get_type_hints(function)
    checked = {
        name: TypeAdapter(hints.get(name, Any)).validate_python(value)
        for name, value in arguments.items()
    }
    for name, value in checked.items():
        if isinstance(value, Path):
            checked[name] = inside(root, str(value), where=where)
            if not checked[name].is_file():
                raise WorkspaceError(f"no file {str(value)!r}", where=where, fix="mend the path")

    def judge(record: Record) -> str | Record | None:
        verdict: str | Record | None = function(record, **checked)
        return verdict

    return judge


def _needs_extra(use: str, error: ImportError, where: str) -> WorkspaceError:
    return WorkspaceError(
        f"filter '{use}' needs the package {error.name!r}",
        where=where,
        fix="pip install 'datagen[text]'",
    )


def _link(spec: FilterSpec, resolve: Resolve, where: str, root: Path) -> Link:
    try:
        function = resolve(_target(spec.use), where=where)
    except (KeyError, WorkspaceError) as error:
        if isinstance(error.__cause__, ImportError) and spec.use.startswith("datatrove."):
            raise _needs_extra(spec.use, error.__cause__, where) from error
        close = difflib.get_close_matches(spec.use, _known_names(), n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise WorkspaceError(f"no filter '{spec.use}'{hint}", where=where, fix=_FIX) from error
    try:
        if spec.use.startswith("datatrove."):
            judge = _build_rule(function, spec.arguments)
        else:
            judge = _bind(function, spec.arguments, root, where)
        return Link(reason=_reason(spec.use), judge=judge)
    except WorkspaceError as error:
        raise WorkspaceError(error.message, where=where, fix=error.fix) from error
    except ImportError as error:
        raise _needs_extra(spec.use, error, where) from error
    except (TypeError, ValueError) as error:
        raise WorkspaceError(
            f"bad arguments of '{spec.use}': {error}", where=where, fix=_FIX
        ) from error


def build_chain(
    spec: ChainSpec,
    resolve: Resolve,
    where: str | Sequence[str] | None = None,
    *,
    root: Path = Path(),
) -> Chain:
    """Make a chain callable.

    `where` is the chain's place, or each filter's (file:line); files that filters read lie below
    `root`. Raises WorkspaceError there for a
    name or an argument that no filter has.
    """
    links = []
    for number, filter_spec in enumerate(spec.filters):
        if where is None or isinstance(where, str):
            place = f"{where or f'filters/{spec.name}.yaml'}, filter {number + 1}"
        else:
            place = where[number]
        links.append(_link(filter_spec, resolve, place, root))
    return Chain(name=spec.name, links=tuple(links))


def _arguments(function: Callable[..., Any]) -> tuple[str, ...]:
    parameters = [
        parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in _NOT_FROM_YAML | {"record"}
    ]
    return tuple(
        p.name if p.default is inspect.Parameter.empty else f"{p.name}={p.default!r}"
        for p in parameters
    )


def describe_filters(resolve: Resolve) -> list[FilterInfo]:
    """Every filter that YAML can name without an extension: name, meaning, arguments."""
    found = []
    for prefix, module in HOUSE.items():
        for name, function in _public(module).items():
            doc = (inspect.getdoc(function) or "").partition("\n")[0]
            found.append(
                FilterInfo(name=f"{prefix}.{name}", doc=doc, arguments=_arguments(function))
            )
    for name, rule in DATATROVE.items():
        arguments = _arguments(resolve(rule.target, where=name))
        found.append(FilterInfo(name=f"datatrove.{name}", doc=rule.doc, arguments=arguments))
    return found

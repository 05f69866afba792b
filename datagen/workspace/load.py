"""YAML to frozen specs, with file:line in every error."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, get_origin

import yaml
from pydantic import ValidationError

from datagen.errors import WorkspaceError
from datagen.workspace import specs
from datagen.workspace.locate import WORKSPACE_FILE

S = TypeVar("S", bound=specs.Spec)
_Location = tuple[Hashable, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded(Generic[S]):
    """A spec and where each of its keys stands, for errors that come later."""

    spec: S
    path: Path
    shown: str
    lines: dict[_Location, int]

    def where(self, *location: Hashable) -> str:
        """`file:line` of a key, or of the nearest enclosing key that has a line."""
        while location and location not in self.lines:
            location = location[:-1]
        return f"{self.shown}:{self.lines.get(location, 1)}"


def _construct(
    node: yaml.Node, at: _Location, lines: dict[_Location, int], shown: str, loader: yaml.SafeLoader
) -> Any:
    lines.setdefault(at, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        mapping: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node)
            if not isinstance(key, str):
                key = str(key)
            line = key_node.start_mark.line + 1
            if key in mapping:
                raise WorkspaceError(
                    f"key {key!r} stands twice", where=f"{shown}:{line}", fix="keep one of the two"
                )
            lines[(*at, key)] = line
            mapping[key] = _construct(value_node, (*at, key), lines, shown, loader)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [
            _construct(child, (*at, index), lines, shown, loader)
            for index, child in enumerate(node.value)
        ]
    return _scalar(node, shown, loader)


def _read_yaml(path: Path, shown: str) -> tuple[Any, dict[_Location, int]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise WorkspaceError("no such file", where=shown, fix="check the name") from error
    except UnicodeDecodeError as error:
        raise WorkspaceError(f"not UTF-8: {error}", where=shown, fix="save as UTF-8") from error
    except OSError as error:
        raise WorkspaceError(
            f"cannot be read: {error.strerror}", where=shown, fix="name a file that can be read"
        ) from error
    lines: dict[_Location, int] = {}
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            data = {} if node is None else _construct(node, (), lines, shown, loader)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        problem, line = _syntax(error, text)
        raise WorkspaceError(
            f"not valid YAML: {problem}", where=f"{shown}:{line}", fix="correct the syntax"
        ) from error
    except RecursionError as error:
        raise WorkspaceError(
            "nested too deeply, or within itself", where=shown, fix="take the nesting out"
        ) from error
    return data, lines


def _syntax(error: yaml.YAMLError, text: str) -> tuple[str, int]:
    """What is wrong with the YAML, and on which line."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark
        return str(error.problem), mark.line + 1 if mark else 1
    if isinstance(error, yaml.reader.ReaderError):
        return f"character {error.character:#04x} is not allowed", text[: error.position].count(
            "\n"
        ) + 1
    return str(error), 1


def _scalar(node: yaml.Node, shown: str, loader: yaml.SafeLoader) -> Any:
    """A scalar's value; 2024-13-01 has the form of a date and is none."""
    try:
        return loader.construct_object(node, deep=True)
    except ValueError as error:
        raise WorkspaceError(
            f"{node.value!r} is no value: {error}",
            where=f"{shown}:{node.start_mark.line + 1}",
            fix="quote it, if it is text",
        ) from error


def _allowed_keys(model: type[specs.Spec], location: _Location) -> list[str]:
    """The keys that the spec at `location` knows, as far as plain nesting can be followed."""
    current = model
    parts = list(location)
    while parts:
        field = current.model_fields.get(str(parts.pop(0)))
        if field is None:
            return []
        inner = [
            candidate
            for candidate in _flatten(field.annotation)
            if isinstance(candidate, type) and issubclass(candidate, specs.Spec)
        ]
        if not inner:
            return []
        current = inner[0]
        if any(get_origin(one) in (dict, tuple) for one in _flatten(field.annotation)):
            del parts[:1]  # a name or a number of the author's own
    return list(current.model_fields)


def _flatten(annotation: Any) -> Iterator[Any]:
    yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _flatten(argument)


def parse(path: Path, model: type[S], *, root: Path) -> Loaded[S]:
    """Read one YAML file as `model`; WorkspaceError names every wrong key with its line."""
    shown = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
    data, lines = _read_yaml(path, shown)
    try:
        spec = model.model_validate(data)
    except ValidationError as error:
        raise _as_workspace_error(error, model, shown, lines) from error
    return Loaded(spec=spec, path=path, shown=shown, lines=lines)


def _as_workspace_error(
    error: ValidationError, model: type[specs.Spec], shown: str, lines: dict[_Location, int]
) -> WorkspaceError:
    problems: list[tuple[bool, str, str, str]] = []
    for item in error.errors():
        location = tuple(part for part in item["loc"] if part != "[key]")
        known = location or _mentioned(item["msg"], lines)
        while known and known not in lines:
            known = known[:-1]
        place = f"{shown}:{lines.get(known, 1)}"
        key = ".".join(str(part) for part in location)
        message = item["msg"].removeprefix("Value error, ")
        fix = "correct one of the two" if item["type"] == "value_error" else "correct the value"
        if item["type"] == "extra_forbidden":
            options = _allowed_keys(model, location[:-1])
            close = difflib.get_close_matches(str(location[-1]), options, n=1)
            message = f"unknown key {key!r}"
            fix = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(options)}"
        elif item["type"] == "model_type":
            message = f"{key}: keys and values are expected" if key else "no keys and values"
        elif item["type"] == "missing":
            message, fix = f"key {key!r} is missing", f"add '{location[-1]}:'"
        elif key:
            message = f"{key}: {message}"
        problems.append((item["type"] != "extra_forbidden", place, message, fix))
    # A misspelt key is also a missing one: the spelling comes first.
    problems.sort(key=lambda problem: problem[0])
    _, place, message, fix = problems[0]
    more = "".join(f"\n  also {p}: {m}" for _, p, m, _ in problems[1:4])
    return WorkspaceError(message + more, where=place, fix=fix)


def _mentioned(message: str, lines: dict[_Location, int]) -> _Location:
    """The first key of the file that a message about the whole file names in quotes."""
    quoted = ((word,) for word in message.split("'")[1::2])
    return next((location for location in quoted if location in lines), ())


class Workspace:
    """The four folders and datagen.yaml, read on demand; every spec is cached."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.file = parse(self.root / WORKSPACE_FILE, specs.WorkspaceSpec, root=self.root)

    def _named(
        self, folder: str, name: str, model: type[S], kind: str, used: str | None
    ) -> Loaded[S]:
        path = self.root / folder / (f"{name}/recipe.yaml" if kind == "recipe" else f"{name}.yaml")
        known = self.names(folder, recipe=kind == "recipe")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise WorkspaceError(
                f"no {kind} {name!r} in {folder}/",
                where=used,
                fix=f"did you mean {close[0]!r}?"
                if close
                else f"one of: {', '.join(known) or 'none yet'}",
            )
        loaded = parse(path, model, root=self.root)
        if getattr(loaded.spec, "name", name) != name:
            raise WorkspaceError(
                f"'name' is {loaded.spec.name!r}, the file says {name!r}",  # type: ignore[attr-defined]
                where=loaded.where("name"),
                fix=f"name: {name}",
            )
        return loaded

    def names(self, folder: str, *, recipe: bool = False) -> list[str]:
        """The names of all specs in a folder, sorted."""
        base = self.root / folder
        if recipe:
            return sorted(p.parent.relative_to(base).as_posix() for p in base.rglob("recipe.yaml"))
        return sorted(p.stem for p in base.glob("*.yaml"))

    @functools.cache  # noqa: B019 - one workspace a process
    def source(self, name: str, used: str | None = None) -> Loaded[specs.SourceSpec]:
        """manifests/sources/<name>.yaml; `used` is the place that names it, for the error."""
        return self._named("manifests/sources", name, specs.SourceSpec, "source", used)

    @functools.cache  # noqa: B019
    def model(self, name: str, used: str | None = None) -> Loaded[specs.ModelSpec]:
        """manifests/models/<name>.yaml."""
        return self._named("manifests/models", name, specs.ModelSpec, "model", used)

    @functools.cache  # noqa: B019
    def tokenizer(self, name: str, used: str | None = None) -> Loaded[specs.TokenizerSpec]:
        """manifests/tokenizers/<name>.yaml."""
        return self._named("manifests/tokenizers", name, specs.TokenizerSpec, "tokenizer", used)

    @functools.cache  # noqa: B019
    def benchmark(self, name: str, used: str | None = None) -> Loaded[specs.BenchmarkSpec]:
        """manifests/benchmarks/<name>.yaml."""
        return self._named("manifests/benchmarks", name, specs.BenchmarkSpec, "benchmark", used)

    @functools.cache  # noqa: B019
    def evaluation_only(self) -> Loaded[specs.EvaluationOnlySpec]:
        """manifests/evaluation_only.yaml; where there is none, only names of splits are refused."""
        path = self.root / "manifests" / "evaluation_only.yaml"
        if path.is_file():
            return parse(path, specs.EvaluationOnlySpec, root=self.root)
        return Loaded(
            spec=specs.EvaluationOnlySpec(),
            path=path,
            shown=str(path.relative_to(self.root)),
            lines={},
        )

    @functools.cache  # noqa: B019
    def recipe(self, name: str, used: str | None = None) -> Loaded[specs.RecipeSpec]:
        """generators/<name>/recipe.yaml."""
        return self._named("generators", name, specs.RecipeSpec, "recipe", used)

    @functools.cache  # noqa: B019
    def chain(self, name: str, used: str | None = None) -> Loaded[specs.ChainSpec]:
        """filters/<name>.yaml."""
        return self._named("filters", name, specs.ChainSpec, "chain", used)

    @functools.cache  # noqa: B019
    def corpus(self, name: str, used: str | None = None) -> Loaded[specs.CorpusSpec]:
        """filters/corpus/<name>.yaml."""
        return self._named("filters/corpus", name, specs.CorpusSpec, "corpus", used)

    @functools.cache  # noqa: B019
    def mixture(self, name: str, used: str | None = None) -> Loaded[specs.MixtureSpec]:
        """mixtures/<name>.yaml."""
        return self._named("mixtures", name, specs.MixtureSpec, "mixture", used)

    def profile(self, name: str | None) -> Loaded[specs.ProfileSpec]:
        """A profile of datagen.yaml by name, the default one, or a YAML file of its own."""
        if name is not None and name.endswith((".yaml", ".yml")):
            return parse(Path(name).resolve(), specs.ProfileSpec, root=self.root)
        chosen = name or self.file.spec.default_profile
        profiles = self.file.spec.profiles
        if chosen not in profiles:
            raise WorkspaceError(
                f"no profile {chosen!r}",
                where=self.file.where("profiles"),
                fix=f"one of: {', '.join(profiles)}; or a YAML file",
            )
        prefix = ("profiles", chosen)
        lines = {k[2:]: v for k, v in self.file.lines.items() if k[:2] == prefix}
        return Loaded(
            spec=profiles[chosen], path=self.file.path, shown=self.file.shown, lines=lines
        )

    def prompt_files(self, recipe: str) -> dict[str, Path]:
        """The templates that a recipe uses, by name without `.jinja`, sorted: its own win.

        Raises WorkspaceError for a folder of `prompts_from` that is not there.
        """
        loaded = self.recipe(recipe)
        base = self.root / "generators"
        found: dict[str, Path] = {}
        for number, folder in reversed(list(enumerate(loaded.spec.prompts_from))):
            shared = {p.stem: p for p in (base / folder).glob("*.jinja")}
            if not shared:
                raise WorkspaceError(
                    f"no prompts in generators/{folder}/",
                    where=loaded.where("prompts_from", number),
                    fix="name a folder below generators/ that holds *.jinja files",
                )
            found |= shared
        found |= {p.stem: p for p in (base / recipe).glob("*.jinja")}
        return dict(sorted(found.items()))

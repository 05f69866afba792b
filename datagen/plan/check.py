"""`datagen check`: everything that can be known wrong before a run, all at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from datagen.errors import DatagenError, WorkspaceError
from datagen.llm.prompts import Prompt, load_prompts
from datagen.plan.audit import audit_arguments, audit_names, audit_rows, item_index
from datagen.plan.compile import ledger_path
from datagen.plan.draws import draws_of_category, mixtures_of, model_roles
from datagen.plan.licences import require_licence
from datagen.plan.pins import SourcePin, pin_benchmark, pin_source, served_benchmarks
from datagen.plan.resolve import resolve_function, resolve_method
from datagen.plan.steps import BuildPlan
from datagen.shards.manifest import is_finished
from datagen.workspace.load import Loaded, Workspace
from datagen.workspace.specs import ChainSpec, MixtureSpec, ProfileSpec, RecipeSpec, TokenizerSpec

_AUDITED_BYTES = 4 << 20
_Check = Callable[[], object]
"""Raises what is wrong."""

_KINDS = {
    "manifests/sources": "source",
    "manifests/models": "model",
    "manifests/tokenizers": "tokenizer",
    "manifests/benchmarks": "benchmark",
    "generators": "recipe",
    "filters": "chain",
    "filters/corpus": "corpus",
    "mixtures": "mixture",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that `check` saw: an `error` fails it, a `note` only informs."""

    level: str
    where: str
    message: str
    fix: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The finding as a JSON object."""
        return asdict(self)


def check_workspace(workspace: Workspace, profile: str | None) -> list[Finding]:
    """Validate specs, prompts, methods, filters, pins, licences, mixtures and the profile."""
    findings: list[Finding] = []

    def attempt(action: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return action(*arguments)
        except DatagenError as error:
            findings.append(
                Finding(
                    level="error",
                    where=error.where or str(workspace.root),
                    message=error.message,
                    fix=error.fix,
                )
            )
            return None

    loaded: dict[str, list[Loaded[Any]]] = {}
    for folder, kind in _KINDS.items():
        read = getattr(workspace, kind)
        names = workspace.names(folder, recipe=kind == "recipe")
        specs = [attempt(read, name) for name in names]
        loaded[kind] = [spec for spec in specs if spec is not None]
    chosen = attempt(workspace.profile, profile)
    checks: list[_Check] = [
        *(check for recipe in loaded["recipe"] for check in _recipe_checks(workspace, recipe)),
        *(check for chain in loaded["chain"] for check in _chain_checks(workspace, chain)),
        *(partial(_check_tokenizer, workspace, one) for one in loaded["tokenizer"]),
        *(check for mixture in loaded["mixture"] for check in _mixture_checks(workspace, mixture)),
    ]
    if chosen is not None:
        checks += [partial(model_roles, chosen, recipe) for recipe in loaded["recipe"]]
    for check in checks:
        attempt(check)
    if chosen is not None:
        pins = _check_profile(workspace, chosen, attempt)
        findings += attempt(_audit_sources, workspace, chosen, pins, attempt) or ()
    findings += _unknowns(loaded)
    return sorted(dict.fromkeys(findings), key=lambda f: (f.level != "error", f.where))


def check_before_run(workspace: Workspace, plan: BuildPlan, out: Path) -> None:
    """Raise for the first mistake in what the unfinished steps will run, before any of them.

    What only a run can tell (an undefined variable in a prompt) is not found here.
    """
    waiting = [step for step in plan.steps if not is_finished(step.directory(out))]
    if any(step.kind in ("tokens", "pack") for step in waiting):
        _check_tokenizer(workspace, workspace.tokenizer(plan.tokenizer))
    for step in waiting:
        if step.kind == "generate":
            checks = _recipe_checks(workspace, workspace.recipe(step.arguments["recipe"]["name"]))
        elif step.kind == "filter" and step.arguments["chain"] is not None:
            checks = _chain_checks(workspace, workspace.chain(step.arguments["chain"]["name"]))
        else:
            continue
        for check in checks:
            check()


def _recipe_checks(workspace: Workspace, recipe: Loaded[RecipeSpec]) -> list[_Check]:
    """Its method resolves and takes its arguments; its prompts parse; what it names exists."""
    spec = recipe.spec
    checks: list[_Check] = [
        partial(resolve_method, spec.method, spec.arguments, at=recipe.where),
        partial(_check_prompts, workspace, recipe),
    ]
    if spec.filters is not None:
        checks.append(partial(workspace.chain, spec.filters, recipe.where("filters")))
    for number, source in enumerate(() if spec.sources == "any" else spec.sources):
        checks.append(partial(workspace.source, source, recipe.where("sources", number)))
    return checks


def _check_prompts(workspace: Workspace, recipe: Loaded[RecipeSpec]) -> None:
    spec = recipe.spec
    prompts = load_prompts(workspace.prompt_files(spec.name), root=workspace.root)
    for prompt in prompts.values():
        _check_renders(prompt)
    for key in ("sampling", "models"):
        for name in getattr(spec, key):
            if name not in prompts:
                raise WorkspaceError(
                    f"{key} for prompt {name!r}, and there is no {name}.jinja",
                    where=recipe.where(key, name),
                    fix=f"add generators/{spec.name}/{name}.jinja, or take the entry out",
                )


class _Anything(str):
    """A value that a template can print, loop over, and ask any attribute or item of."""

    __slots__ = ()

    def __iter__(self) -> Iterator[str]:
        yield self

    def __getattr__(self, name: str) -> _Anything:
        return self

    def __getitem__(self, key: object) -> _Anything:
        return self


def _check_renders(prompt: Prompt) -> None:
    """Render a template with stand-ins for its variables; WorkspaceError names its own mistakes."""
    variables = dict.fromkeys(prompt.variables, _Anything("x"))
    render = prompt.text if prompt.name.startswith("text_") else prompt.messages
    # Arithmetic on a stand-in proves nothing about the template.
    with contextlib.suppress(TypeError, ValueError):
        render(variables)


def _chain_checks(workspace: Workspace, chain: Loaded[ChainSpec]) -> list[_Check]:
    """Each of its filters is known and takes its arguments."""
    from datagen.curate.chain import build_chain

    return [
        partial(
            build_chain,
            chain.spec.model_copy(update={"filters": (link,)}),
            resolve_function,
            [chain.where("filters", number)],
            root=workspace.root,
        )
        for number, link in enumerate(chain.spec.filters)
    ]


def _check_tokenizer(workspace: Workspace, tokenizer: Loaded[TokenizerSpec]) -> None:
    """Its files are those pinned, and its chat template can be used."""
    from datagen.pack.render import Renderer

    Renderer(tokenizer.spec, workspace.root, used=tokenizer.where("path"))


def _mixture_checks(workspace: Workspace, mixture: Loaded[MixtureSpec]) -> list[_Check]:
    """What it draws from and its corpus-wide curation exist; its categories have sources."""
    return [
        partial(mixtures_of, workspace, mixture.spec.name),
        partial(workspace.corpus, mixture.spec.corpus, mixture.where("corpus")),
        *(
            partial(draws_of_category, workspace, mixture, category)
            for category in mixture.spec.categories
        ),
    ]


def _check_profile(
    workspace: Workspace, profile: Loaded[ProfileSpec], attempt: Callable[..., Any]
) -> list[SourcePin]:
    """Its models, tokenizer and files exist; hashes hold; licences are known or allowed.

    Returns the sources that this profile has.
    """
    spec = profile.spec
    attempt(ledger_path, workspace, profile)
    attempt(workspace.tokenizer, spec.tokenizer, profile.where("tokenizer"))
    allowed = set(spec.allow_licences)
    for role, served in spec.models.items():
        where = profile.where("models", role)
        model = attempt(workspace.model, served.model, where)
        if model is not None:
            where = model.where("licence")
            attempt(lambda m=model, w=where: require_licence(m.spec.licence, allowed, where=w))
    names = set(workspace.names("manifests/sources"))
    for name in spec.override:
        if name not in names:
            attempt(workspace.source, name, profile.where("override", name))
    found = [attempt(pin_source, workspace, profile, name) for name in sorted(names)]
    pins = [pin for pin in found if pin is not None]
    for pin in pins:
        if pin.spec.licence_column is None:
            where = workspace.source(pin.spec.name).where("licence")
            attempt(lambda p=pin, w=where: require_licence(p.spec.licence, allowed, where=w))
    for name in served_benchmarks(workspace, profile):
        attempt(pin_benchmark, workspace, profile, name)
    return pins


def _audit_sources(
    workspace: Workspace,
    profile: Loaded[ProfileSpec],
    pins: Sequence[SourcePin],
    attempt: Callable[..., Any],
) -> list[Finding]:
    """No source is evaluation data by name, nor, where its files are small, by content."""
    arguments = audit_arguments(workspace, profile)
    index = item_index(workspace, arguments)
    notes = []
    for pin in pins:
        attempt(audit_names, workspace, pin)
        size = sum(file.path.stat().st_size for file in pin.files)
        leaks = attempt(audit_rows, pin, index, arguments) if 0 < size <= _AUDITED_BYTES else None
        if leaks:
            said = ", ".join(f"{count} of {name}" for name, count in sorted(leaks.items()))
            message = f"rows that are evaluation items, refused as seeds: {said}"
            notes.append(Finding(level="note", where=pin.where, message=message))
    return notes


def _unknowns(loaded: dict[str, list[Loaded[Any]]]) -> Iterator[Finding]:
    """Revisions, hashes and counts that nobody has verified: said, never invented."""
    for kind in ("source", "model", "benchmark"):
        for one in loaded[kind]:
            hub = one.spec.hub
            if hub is not None and hub.revision is None:
                yield Finding(
                    level="note",
                    where=one.where("hub", "revision"),
                    message=f"{kind} {one.spec.name!r}: hub revision is unknown",
                    fix=f"datagen pin {one.spec.name}" if kind != "benchmark" else None,
                )


def list_things(workspace: Workspace, what: str) -> tuple[list[str], list[list[Any]]]:
    """A table of recipes, filters, mixtures, sources, models or benchmarks."""
    if what == "filters":
        from datagen.curate.chain import describe_filters

        found = describe_filters(resolve_function)
        return ["filter", "refuses", "arguments"], [
            [f.name, f.doc, ", ".join(f.arguments)] for f in found
        ]
    rows: list[list[Any]] = []
    if what == "generators":
        for name in workspace.names("generators", recipe=True):
            spec = workspace.recipe(name).spec
            sources = spec.sources if spec.sources == "any" else ", ".join(spec.sources)
            rows.append([name, spec.method, sources, spec.model or "none", spec.title])
        return ["recipe", "method", "sources", "model", "title"], rows
    if what == "mixtures":
        for name in workspace.names("mixtures"):
            mixture = workspace.mixture(name).spec
            inside = ", ".join(p.mixture for p in mixture.phases) or "itself"
            rows.append([name, mixture.horizon_tokens, inside, mixture.title])
        return ["mixture", "horizon tokens", "phases", "title"], rows
    if what == "sources":
        for name in workspace.names("manifests/sources"):
            source = workspace.source(name).spec
            hub = source.hub.id if source.hub else "none"
            revision = source.hub.revision if source.hub else None
            rows.append([name, source.licence, hub, revision, source.rows, source.tokens])
        return ["source", "licence", "hub", "revision", "rows", "tokens"], rows
    if what == "models":
        for name in workspace.names("manifests/models"):
            model = workspace.model(name).spec
            rows.append([name, model.licence, model.revision[:19], model.title])
        return ["model", "licence", "revision", "title"], rows
    for name in workspace.names("manifests/benchmarks"):
        benchmark = workspace.benchmark(name).spec
        place = ", ".join(benchmark.files) or (benchmark.hub.id if benchmark.hub else "none")
        rows.append([name, benchmark.licence, benchmark.split, place])
    return ["benchmark", "licence", "split", "items"], rows

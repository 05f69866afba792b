"""`datagen check`: everything that can be known wrong before a run, all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from datagen.errors import DatagenError, WorkspaceError
from datagen.plan.compile import draws_of, mixtures_of
from datagen.plan.licences import require_licence
from datagen.plan.pins import pin_benchmark, pin_source, served_benchmarks
from datagen.plan.resolve import resolve_function, resolve_method
from datagen.workspace.load import Loaded, Workspace
from datagen.workspace.specs import ChainSpec, MixtureSpec, ProfileSpec, RecipeSpec

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
    for recipe in loaded["recipe"]:
        attempt(_check_recipe, workspace, recipe)
    for chain in loaded["chain"]:
        attempt(_check_chain, chain)
    for mixture in loaded["mixture"]:
        attempt(_check_mixture, workspace, mixture)
    chosen = attempt(workspace.profile, profile)
    if chosen is not None:
        _check_profile(workspace, chosen, attempt)
    findings += _unknowns(loaded)
    return sorted(findings, key=lambda f: (f.level != "error", f.where))


def _check_recipe(workspace: Workspace, recipe: Loaded[RecipeSpec]) -> None:
    """Its method resolves and takes its arguments; its prompts parse; what it names exists."""
    from datagen.llm.prompts import load_prompts

    spec = recipe.spec
    resolve_method(spec.method, spec.arguments, at=recipe.where)
    prompts = load_prompts(recipe.path.parent, shown_as=f"generators/{spec.name}")
    for name in spec.sampling:
        if name not in prompts:
            raise WorkspaceError(
                f"sampling for prompt {name!r}, and there is no {name}.jinja",
                where=recipe.where("sampling", name),
                fix=f"add generators/{spec.name}/{name}.jinja, or take the entry out",
            )
    if spec.filters is not None:
        workspace.chain(spec.filters, recipe.where("filters"))
    if spec.sources != "any":
        for source in spec.sources:
            workspace.source(source, recipe.where("sources"))


def _check_chain(chain: Loaded[ChainSpec]) -> None:
    from datagen.curate.chain import build_chain

    where = [chain.where("filters", number) for number in range(len(chain.spec.filters))]
    build_chain(chain.spec, resolve_function, where)


def _check_mixture(workspace: Workspace, mixture: Loaded[MixtureSpec]) -> None:
    """What it draws from and its corpus-wide curation exist; its categories have sources."""
    for phase in mixtures_of(workspace, mixture.spec.name):
        draws_of(workspace, [phase])
        workspace.corpus(phase.spec.corpus, phase.where("corpus"))
        empty = [name for name, category in phase.spec.categories.items() if not category.draw]
        if empty and phase.spec.without_source == "error":
            raise WorkspaceError(
                f"category {empty[0]!r} has no source",
                where=phase.where("categories", empty[0]),
                fix="give it 'draw:', or set without_source: redistribute",
            )


def _check_profile(
    workspace: Workspace, profile: Loaded[ProfileSpec], attempt: Callable[..., Any]
) -> None:
    """Its models, tokenizer and files exist; hashes hold; licences are known or allowed."""
    spec = profile.spec
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
    for name in sorted(names):
        pin = attempt(pin_source, workspace, profile, name)
        if pin is not None and pin.spec.licence_column is None:
            where = workspace.source(name).where("licence")
            attempt(lambda p=pin, w=where: require_licence(p.spec.licence, allowed, where=w))
    for name in served_benchmarks(workspace, profile):
        attempt(pin_benchmark, workspace, profile, name)


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
                    fix=f"datagen pin {one.spec.name}" if kind == "source" else None,
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

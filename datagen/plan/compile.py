"""Specs to steps: a mixture, a profile and a few options become a BuildPlan."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from datagen.curate.diversity import LABELS
from datagen.plan.arguments import (
    DRAWN_WITH,
    card_arguments,
    dump_spec,
    extension_filters,
    mixture_arguments,
    model_identity,
)
from datagen.plan.audit import audit_arguments, audit_names
from datagen.plan.corpus_steps import repeat_steps, semantic_steps
from datagen.plan.draws import draws_of, mixtures_of, model_roles
from datagen.plan.fingerprint import code_version, fingerprint
from datagen.plan.kinds import KINDS
from datagen.plan.licences import require_licence
from datagen.plan.pins import SourcePin, pin_benchmark, pin_source, served_benchmarks
from datagen.plan.resolve import method_code, resolve_method, wants_tokenizer
from datagen.plan.steps import BuildPlan, Draw, Step
from datagen.plan.teacher import without_weights
from datagen.workspace.load import Loaded, Workspace
from datagen.workspace.locate import inside
from datagen.workspace.specs import (
    CorpusSpec,
    MixtureSpec,
    ModelSpec,
    ProfileSpec,
    RecipeSpec,
    TokenizerSpec,
)

LEDGER_VARIABLE = "DATAGEN_LEDGER"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """What the user asked for; `elsewhere`: at an endpoint that the command line names."""

    mixture: str
    profile: str | None = None
    tokens: int | None = None
    seed: int = 0
    model: ModelSpec | None = None
    elsewhere: bool = False


def seed_limit(profile: ProfileSpec, recipe: str) -> int | None:
    """How many rows of a source a recipe takes under this profile; None is all of them."""
    return profile.max_seeds.get(recipe, profile.max_seeds.get("default"))


class _Compiler:
    """Collects steps; each is fingerprinted from its arguments, inputs and code."""

    def __init__(self, workspace: Workspace, request: BuildRequest) -> None:
        self.workspace = workspace
        self.request = request
        self.profile = workspace.profile(request.profile)
        self.steps: dict[str, Step] = {}

    def add(
        self,
        name: str,
        kind: str,
        inputs: Sequence[str],
        arguments: Mapping[str, Any],
        *,
        code: Sequence[str] = (),
        hints: Mapping[str, int] | None = None,
    ) -> str:
        """Add a step and return its name."""
        version = code_version([*KINDS[kind].code, *code], KINDS[kind].libraries)
        decided = {
            "kind": kind,
            "name": name,
            "arguments": arguments,
            "inputs": {i: self.steps[i].fingerprint for i in inputs},
            "code": version,
        }
        self.steps[name] = Step(
            name=name,
            kind=kind,
            inputs=tuple(inputs),
            arguments=arguments,
            code_version=version,
            fingerprint=fingerprint(decided),
            hints=hints or {},
        )
        return name

    @cached_property
    def audit(self) -> dict[str, Any]:
        """What the split audit looks for in the seeds of every source."""
        return audit_arguments(self.workspace, self.profile)

    def seeds(self, source: str, draws: Sequence[Draw]) -> SourcePin:
        """The rows of a source that any recipe of the plan needs."""
        limits = [seed_limit(self.profile.spec, d.recipe) for d in draws if d.source == source]
        limit = None if None in limits else max(n for n in limits if n is not None)
        pin = pin_source(self.workspace, self.profile, source)
        audit_names(self.workspace, pin)
        if pin.spec.licence_column is None:
            where = self.workspace.source(source).where("licence")
            require_licence(pin.spec.licence, self.profile.spec.allow_licences, where=where)
        rows = pin.rows if limit is None else min(limit, pin.rows or limit)
        self.add(
            f"seeds/{source}",
            "seeds",
            [],
            {
                "source": pin.spec.model_dump(mode="json", include=DRAWN_WITH),
                "pin": pin.identity,
                "limit": limit,
                "seed": self.request.seed,
                "allow_licences": sorted(self.profile.spec.allow_licences),
                "audit": self.audit,
                "rows_per_shard": self.profile.spec.seeds_per_shard,
            },
            hints={"rows": rows} if rows else {},
        )
        return pin

    def teachers(self, recipe: Loaded[RecipeSpec]) -> dict[str, ModelSpec]:
        """The model pins that a recipe's roles stand for in this profile, the main one first."""
        allowed = self.profile.spec.allow_licences
        named = self.request.model
        roles = [recipe.spec.model, *recipe.spec.models.values()] if recipe.spec.model else []
        if named is not None:
            # A model that the command line names is allowed by name, its licence said as unknown.
            require_licence(named.licence, (*allowed, "unknown"), where=f"--model {named.name}")
            found = dict.fromkeys(filter(None, roles), named)
        else:
            found = {}
            for role, served in model_roles(self.profile, recipe).items():
                used = self.profile.where("models", role, "model")
                loaded = self.workspace.model(served.model, used)
                require_licence(loaded.spec.licence, allowed, where=loaded.where("licence"))
                found[role] = loaded.spec
        if self.request.elsewhere:
            return {role: without_weights(model) for role, model in found.items()}
        return found

    def generate(self, draw: Draw, pin: SourcePin) -> str:
        """One recipe on one source."""
        recipe = self.workspace.recipe(draw.recipe)
        models = [model_identity(model) for model in self.teachers(recipe).values()]
        prompts = {
            name: hashlib.sha256(path.read_bytes()).hexdigest()
            for name, path in self.workspace.prompt_files(draw.recipe).items()
        }
        code = method_code(recipe.spec.method, where=recipe.where("method"))
        own: dict[str, Any] = {
            "recipe": {k: v for k, v in dump_spec(recipe.spec).items() if k != "balance"},
            "prompts": prompts,
            "model": models[0] if models else None,
        }
        if len(models) > 1:
            own["models"] = dict(zip(self.teachers(recipe), models, strict=True))
        method = resolve_method(recipe.spec.method, recipe.spec.arguments, at=recipe.where)
        if wants_tokenizer(method):
            own["tokenizer"] = dump_spec(self.tokenizer)
        limit = seed_limit(self.profile.spec, draw.recipe)
        return self.add(
            f"generate/{draw.name}",
            "generate",
            [f"seeds/{draw.source}"],
            {
                **own,
                "fingerprint": fingerprint({**own, "code": code_version(code, [])}),
                "source_revision": pin.revision,
                "columns": {"text": pin.spec.text, "messages": pin.spec.messages},
                "limit": limit,
                "seed": self.request.seed,
                "max_failed_share": self.profile.spec.max_failed_share,
            },
            code=code,
            hints=self._hints(recipe.spec, draw, limit),
        )

    def _hints(self, recipe: RecipeSpec, draw: Draw, limit: int | None) -> dict[str, int]:
        """How many rows, calls and tokens a recipe may take at most; {} where nobody knows."""
        rows = self.steps[f"seeds/{draw.source}"].hints.get("rows")
        rows = rows if limit is None or rows is None else min(rows, limit)
        if rows is None:
            return {}
        calls = rows * recipe.max_calls_per_seed
        longest = max((s.max_tokens for s in recipe.sampling.values()), default=256)
        return {"rows": rows, "calls": calls, **({"tokens": calls * longest} if calls else {})}

    @property
    def tokenizer(self) -> TokenizerSpec:
        """The tokenizer that the profile names."""
        name = self.profile.spec.tokenizer
        return self.workspace.tokenizer(name, self.profile.where("tokenizer")).spec

    def curate(self, draw: Draw, corpus: CorpusSpec, benchmarks: Mapping[str, Any]) -> str:
        """A recipe's own chain, then decontamination; returns the last step's name."""
        recipe = self.workspace.recipe(draw.recipe)
        chain = recipe.spec.filters or self.chain_of_source(draw)
        loaded = None if chain is None else self.workspace.chain(chain, recipe.where("filters"))
        last = self.add(
            f"filter/{draw.name}",
            "filter",
            [f"generate/{draw.name}"],
            {"chain": None if loaded is None else dump_spec(loaded.spec)},
            code=[] if loaded is None else extension_filters(loaded),
        )
        if corpus.decontaminate is None:
            return last
        return self.add(
            f"decontaminate/{draw.name}",
            "decontaminate",
            [last],
            {"spec": dump_spec(corpus.decontaminate), "benchmarks": benchmarks},
        )

    def chain_of_source(self, draw: Draw) -> str | None:
        """The chain that a source names, for recipes that leave it to the source."""
        return self.workspace.source(draw.source).spec.filters

    def dedup(self, draws: Sequence[Draw], last: Mapping[Draw, str], corpus: CorpusSpec) -> None:
        """Exact and fuzzy dedup over all draws: signatures, clusters, then each draw's own."""
        minhash = None if corpus.minhash is None else dump_spec(corpus.minhash)
        for draw in draws:
            self.add(f"signatures/{draw.name}", "signatures", [last[draw]], {"minhash": minhash})
        order = [f"signatures/{draw.name}" for draw in draws]
        arguments = {"exact": corpus.exact, "minhash": minhash, "order": order}
        self.add("buckets", "buckets", order, arguments)
        self.add("clusters", "clusters", [*order, "buckets"], arguments)
        for index, draw in enumerate(draws):
            self.add(f"dedup/{draw.name}", "dedup", [last[draw], "clusters"], {"index": index})

    def balance(self, draw: Draw, final: str) -> str:
        """Equal classes, where the recipe asks for them; returns the step of the final records."""
        spec = self.workspace.recipe(draw.recipe).spec.balance
        if spec is None:
            return final
        arguments = {"spec": dump_spec(spec), "seed": self.request.seed}
        return self.add(f"balance/{draw.name}", "balance", [final], arguments)

    def diversity(self, draw: Draw, final: str) -> str:
        """How varied the draw's final records are, also by the classes that it balances."""
        spec = self.workspace.recipe(draw.recipe).spec.balance
        return self.add(
            f"diversity/{draw.name}",
            "diversity",
            [final],
            {
                "recipe": draw.recipe,
                "source": draw.source,
                "labels": list(dict.fromkeys([*(spec.by if spec else ()), *LABELS])),
                "seed": self.request.seed,
            },
        )


def corpus_of(workspace: Workspace, mixture: Loaded[MixtureSpec]) -> Loaded[CorpusSpec]:
    """The corpus-wide curation that a mixture names."""
    return workspace.corpus(mixture.spec.corpus, mixture.where("corpus"))


def _benchmarks(compiler: _Compiler, corpus: CorpusSpec) -> dict[str, Any]:
    if corpus.decontaminate is None:
        return {}
    served = served_benchmarks(compiler.workspace, compiler.profile)
    chosen = corpus.decontaminate.benchmarks
    names = served if chosen == "all" else [name for name in chosen if name in served]
    return {name: pin_benchmark(compiler.workspace, compiler.profile, name) for name in names}


def _draws_by_metadata(
    mixtures: Sequence[Loaded[MixtureSpec]], texts: Mapping[str, Sequence[Draw]]
) -> set[Draw]:
    """The draws of which the mix reads metadata: a curriculum's key, or the quality tier."""
    return {
        draw
        for mixture in mixtures
        for category in mixture.spec.categories.values()
        if category.order is not None or category.min_quality is not None
        for text in category.draw
        for draw in texts[text]
    }


def compile_plan(workspace: Workspace, request: BuildRequest) -> BuildPlan:
    """Compile a request to steps in topological order; nothing is read but specs and pins."""
    compiler = _Compiler(workspace, request)
    profile = compiler.profile
    mixtures = mixtures_of(workspace, request.mixture)
    mixture = mixtures[0]
    texts = draws_of(workspace, mixtures)
    draws = list(dict.fromkeys(draw for found in texts.values() for draw in found))
    loaded_corpus = corpus_of(workspace, mixture)
    corpus = loaded_corpus.spec
    benchmarks = _benchmarks(compiler, corpus)
    last: dict[Draw, str] = {}
    pins: dict[str, SourcePin] = {}
    for draw in draws:
        if draw.source not in pins:
            pins[draw.source] = compiler.seeds(draw.source, draws)
        compiler.generate(draw, pins[draw.source])
        last[draw] = compiler.curate(draw, corpus, benchmarks)
    compiler.dedup(draws, last, corpus)
    deduplicated = {draw: f"dedup/{draw.name}" for draw in draws}
    different = semantic_steps(compiler.add, workspace, profile, deduplicated, loaded_corpus)
    curated = repeat_steps(compiler.add, different, corpus)
    final = {draw: compiler.balance(draw, curated[draw]) for draw in draws}
    measured = [compiler.diversity(draw, final[draw]) for draw in draws]
    tokenizer = compiler.tokenizer
    rendered = [
        compiler.add(
            f"tokens/{draw.name}", "tokens", [final[draw]], {"tokenizer": dump_spec(tokenizer)}
        )
        for draw in draws
    ]
    ordered = _draws_by_metadata(mixtures, texts)
    budget = request.tokens or profile.spec.budget_tokens
    # A profile of one's own is a file somewhere; where it lies is nobody's business in a build.
    name = Path(request.profile or workspace.file.spec.default_profile).name
    compiler.add(
        "mix",
        "mix",
        [*rendered, *(final[draw] for draw in draws if draw in ordered)],
        {
            "mixture": mixture.spec.name,
            "mixtures": {m.spec.name: mixture_arguments(m.spec) for m in mixtures},
            "draws": {text: [d.name for d in found] for text, found in texts.items()},
            "budget_tokens": budget,
            "row_tokens": profile.spec.row_tokens,
            "seed": request.seed,
        },
    )
    compiler.add(
        "pack",
        "pack",
        ["mix", *rendered, *final.values(), *measured],
        {
            "row_tokens": profile.spec.row_tokens,
            "rows_per_shard": profile.spec.rows_per_shard,
            "seed": request.seed,
            "tokenizer": dump_spec(tokenizer),
            "card": card_arguments(workspace, mixture, name, list(compiler.steps.values())),
            "model": request.model.served_as if request.model else None,
        },
        hints={"tokens": budget},
    )
    return BuildPlan(
        mixture=mixture.spec.name,
        profile=name,
        budget_tokens=budget,
        row_tokens=profile.spec.row_tokens,
        seed=request.seed,
        tokenizer=tokenizer.name,
        draws=tuple(draws),
        steps=tuple(compiler.steps.values()),
        model=request.model.served_as if request.model else None,
    )


def compile_trial(workspace: Workspace, request: BuildRequest, draw: Draw, rows: int) -> BuildPlan:
    """Compile one recipe on `rows` rows of a source, up to its own filter chain."""
    compiler = _Compiler(workspace, request)
    profile = compiler.profile
    few = profile.spec.model_copy(update={"max_seeds": {draw.recipe: rows}})
    compiler.profile = replace(profile, spec=few)
    compiler.generate(draw, compiler.seeds(draw.source, [draw]))
    compiler.curate(draw, CorpusSpec(name="none", title="none", decontaminate=None), {})
    return BuildPlan(
        mixture=draw.name,
        profile=request.profile or workspace.file.spec.default_profile,
        budget_tokens=0,
        row_tokens=profile.spec.row_tokens,
        seed=request.seed,
        tokenizer=profile.spec.tokenizer,
        draws=(draw,),
        steps=tuple(compiler.steps.values()),
    )


def ledger_path(workspace: Workspace, profile: Loaded[ProfileSpec]) -> Path:
    """Where the ledger of model answers lies: in the workspace, never under the output.

    The environment variable DATAGEN_LEDGER names another file, for a workspace on a network disk.
    """
    elsewhere = os.environ.get(LEDGER_VARIABLE)
    if elsewhere:
        return Path(elsewhere).absolute()
    return inside(workspace.root, profile.spec.ledger, where=profile.where("ledger"))

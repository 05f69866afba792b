"""What of specs decides a step's bytes, as plain JSON for its arguments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from datagen import __version__
from datagen.plan.resolve import function_code
from datagen.plan.steps import Step
from datagen.workspace.load import Loaded, Workspace
from datagen.workspace.specs import ChainSpec, MixtureSpec, ModelSpec, Spec

DRAWN_WITH = {
    "name",
    "text",
    "messages",
    "columns",
    "key",
    "licence",
    "licence_column",
    "where",
}
"""What of a source's manifest decides its seeds, beside the pinned bytes."""


def dump_spec(spec: Spec) -> dict[str, Any]:
    """A spec as plain JSON without what only a person reads."""
    dumped = spec.model_dump(mode="json")
    for key in ("title", "notes"):
        dumped.pop(key, None)
    return dumped


def extension_filters(chain: Loaded[ChainSpec]) -> list[str]:
    """The modules whose logic decides what a chain's own functions refuse."""
    return [
        module
        for number, link in enumerate(chain.spec.filters)
        if ":" in link.use
        for module in function_code(link.use, where=chain.where("filters", number))
    ]


def model_identity(model: ModelSpec) -> dict[str, Any]:
    """What of a model pin decides its answers and licence; where it is served does not."""
    return {
        "name": model.name,
        "served_as": model.served_as,
        "revision": model.revision,
        "licence": model.licence,
        "structured_output": model.structured_output,
        "reasoning_effort": model.reasoning_effort,
        "thinking_tokens": model.thinking_tokens,
        "vllm_arguments": list(model.vllm_arguments),
        "context_tokens": model.embedded.context_tokens if model.embedded else None,
    }


def mixture_arguments(spec: MixtureSpec) -> dict[str, Any]:
    """What of a mixture decides the build; its horizon is only for the eyes."""
    dumped = dump_spec(spec)
    for key in ("source", "horizon_tokens"):
        dumped.pop(key)
    return dumped


def card_arguments(
    workspace: Workspace, mixture: Loaded[MixtureSpec], profile: str, steps: Iterable[Step]
) -> dict[str, Any]:
    """What of the card no other argument of the plan says: it lies in the build too."""
    sources = [s.arguments["source"]["name"] for s in steps if s.kind == "seeds"]
    models = {m["name"] for s in steps for m in s.models}
    known = sorted(models & set(workspace.names("manifests/models")))
    teachers = [workspace.model(name).spec for name in known]
    return {
        "title": mixture.spec.title,
        "profile": profile,
        "version": __version__,
        "sources": {name: workspace.source(name).spec.title for name in sources},
        "teachers": {
            one.name: [one.title, one.terms, one.embedded is not None] for one in teachers
        },
    }

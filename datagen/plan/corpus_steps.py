"""The steps that a corpus file asks for after dedup: same meanings, then shared passages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from datagen.errors import WorkspaceError
from datagen.plan.arguments import dump_spec, model_identity
from datagen.plan.resolve import function_code, resolve_function
from datagen.plan.steps import Draw
from datagen.workspace.load import Loaded, Workspace
from datagen.workspace.specs import CorpusSpec, ProfileSpec


class Add(Protocol):
    """Adds a step to the plan and returns its name."""

    def __call__(
        self,
        name: str,
        kind: str,
        inputs: Sequence[str],
        arguments: Mapping[str, Any],
        *,
        code: Sequence[str] = (),
    ) -> str: ...


def semantic_steps(
    add: Add,
    workspace: Workspace,
    profile: Loaded[ProfileSpec],
    last: Mapping[Draw, str],
    corpus: Loaded[CorpusSpec],
) -> dict[Draw, str]:
    """Semantic dedup over all draws, where the corpus asks for it; each draw's last step.

    Raises WorkspaceError for an encoder that is no function, or a role that the profile lacks.
    """
    spec = corpus.spec.semantic
    if spec is None:
        return dict(last)
    embedder: dict[str, Any] | None = None
    code: tuple[str, ...] = ()
    if spec.model is not None:
        where = corpus.where("semantic", "model")
        if spec.model not in profile.spec.models:
            raise WorkspaceError(
                f"the profile serves no model as {spec.model!r}",
                where=where,
                fix=f"add 'models: {{{spec.model}: {{model: NAME}}}}' to the profile",
            )
        used = profile.where("models", spec.model, "model")
        model = workspace.model(profile.spec.models[spec.model].model, used).spec
        embedder = model_identity(model)
    else:
        where = corpus.where("semantic", "encoder")
        resolve_function(spec.encoder, where=where)
        code = function_code(spec.encoder, where=where)
    arguments = {"spec": dump_spec(spec)}
    order = [
        add(
            f"vectors/{draw.name}",
            "vectors",
            [step],
            {**arguments, "embedder": embedder},
            code=code,
        )
        for draw, step in last.items()
    ]
    add("centroids", "centroids", order, {**arguments, "order": order})
    add("alike", "alike", [*order, "centroids"], {**arguments, "order": order})
    return {
        draw: add(f"semantic/{draw.name}", "semantic", [step, "alike"], {})
        for draw, step in last.items()
    }


def repeat_steps(add: Add, last: Mapping[Draw, str], corpus: CorpusSpec) -> dict[Draw, str]:
    """Shared passages and prompts, where the corpus asks for it; each draw's last step."""
    asked = {"line": corpus.repeated_lines, "paragraph": corpus.repeated_paragraphs}
    passages = {kind: dump_spec(spec) for kind, spec in asked.items() if spec is not None}
    if not passages and not corpus.same_prompts:
        return dict(last)
    arguments = {"passages": passages, "prompts": corpus.same_prompts}
    order = [
        add(f"passages/{draw.name}", "passages", [step], arguments) for draw, step in last.items()
    ]
    add("shared", "shared", order, {**arguments, "order": order})
    return {
        draw: add(
            f"repeats/{draw.name}",
            "repeats",
            [step, "shared"],
            {**arguments, "recipe": draw.recipe},
        )
        for draw, step in last.items()
    }

"""What a mixture draws from: which recipes on which sources, and which models they ask."""

from __future__ import annotations

from collections.abc import Sequence

from datagen.errors import WorkspaceError
from datagen.plan.steps import Draw
from datagen.workspace.load import Loaded, Workspace
from datagen.workspace.specs import MixtureSpec, ModelRole, ProfileSpec, RecipeSpec


def mixtures_of(workspace: Workspace, name: str) -> list[Loaded[MixtureSpec]]:
    """A mixture and, where it has phases, the mixtures that follow one another in it."""
    mixture = workspace.mixture(name, "--mixture")
    found = [mixture]
    for index, phase in enumerate(mixture.spec.phases):
        inner = workspace.mixture(phase.mixture, mixture.where("phases", index, "mixture"))
        if inner.spec.phases:
            raise WorkspaceError(
                f"phase {phase.mixture!r} has phases of its own",
                where=mixture.where("phases", index),
                fix="name a mixture with categories",
            )
        found.append(inner)
    return found


def parse_draw(workspace: Workspace, text: str, where: str) -> list[Draw]:
    """`recipe` (all its sources) or `recipe@source` as draws, both checked to exist."""
    name, _, source = text.partition("@")
    recipe = workspace.recipe(name, where)
    if source:
        workspace.source(source, where)
        if recipe.spec.sources != "any" and source not in recipe.spec.sources:
            raise WorkspaceError(
                f"recipe {name!r} does not take source {source!r}",
                where=where,
                fix=f"it takes: {', '.join(recipe.spec.sources)}",
            )
        return [Draw(recipe=name, source=source)]
    if recipe.spec.sources == "any":
        raise WorkspaceError(
            f"recipe {name!r} takes any source", where=where, fix=f"write {name}@SOURCE"
        )
    for number, one in enumerate(recipe.spec.sources):
        workspace.source(one, recipe.where("sources", number))
    return [Draw(recipe=name, source=s) for s in recipe.spec.sources]


def draws_of_category(
    workspace: Workspace, mixture: Loaded[MixtureSpec], category: str
) -> dict[str, list[Draw]]:
    """What a category draws from, as the YAML says it; nothing only where the mixture allows."""
    drawn = mixture.spec.categories[category].draw
    if not drawn and mixture.spec.without_source == "error":
        raise WorkspaceError(
            f"category {category!r} has no source",
            where=mixture.where("categories", category),
            fix="give it 'draw:', or set without_source: redistribute",
        )
    return {
        text: parse_draw(workspace, text, mixture.where("categories", category, "draw", text))
        for text in drawn
    }


def draws_of(
    workspace: Workspace, mixtures: Sequence[Loaded[MixtureSpec]]
) -> dict[str, list[Draw]]:
    """What the mixtures draw from, in order of first mention: the YAML's text to its draws."""
    found: dict[str, list[Draw]] = {}
    for mixture in mixtures:
        home: dict[Draw, str] = {}
        for category in mixture.spec.categories:
            drawn = draws_of_category(workspace, mixture, category)
            for text, draws in drawn.items():
                for draw in draws:
                    if home.setdefault(draw, text + category) != text + category:
                        raise WorkspaceError(
                            f"{draw.name} is drawn twice, so its epochs could not be capped",
                            where=mixture.where("categories", category, "draw", text),
                            fix="draw it in one category, once",
                        )
            found |= drawn
    return found


def model_roles(profile: Loaded[ProfileSpec], recipe: Loaded[RecipeSpec]) -> dict[str, ModelRole]:
    """What the profile serves as the models that a recipe asks for, by role; none if it asks none.

    The recipe's main role stands first.
    """
    spec = recipe.spec
    if spec.model is None:
        return {}
    named = {spec.model: ("model",), **{role: ("models", p) for p, role in spec.models.items()}}
    named[spec.model] = ("model",)
    for role, place in named.items():
        if role not in profile.spec.models:
            raise WorkspaceError(
                f"the profile serves no model as {role!r}",
                where=recipe.where(*place),
                fix=f"add 'models: {{{role}: {{model: NAME}}}}' to the profile",
            )
    return {role: profile.spec.models[role] for role in named}

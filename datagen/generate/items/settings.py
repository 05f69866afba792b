"""Nested arguments of a recipe, read as types; each mistake names its key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from datagen.errors import WorkspaceError

S = TypeVar("S", bound=BaseModel)


def weights(given: Mapping[str, int], known: Sequence[str], key: str) -> Mapping[str, int]:
    """Whole-number weights of known names, at least one above 0."""
    known_names(list(given), known, key)
    good = all(isinstance(w, int) and not isinstance(w, bool) and w >= 0 for w in given.values())
    if not good or not sum(given.values()):
        raise WorkspaceError(
            f"weights {dict(given)} are no whole numbers above 0",
            where=f"argument {key!r}",
            fix=f"{key}: {{{known[0]}: 1, {known[1]}: 3}}",
        )
    return given


def known_names(given: Sequence[str], known: Sequence[str], key: str) -> tuple[str, ...]:
    """Names that are all known."""
    for name in given:
        if name not in known:
            raise WorkspaceError(
                f"{name!r} is not known",
                where=f"argument {key!r}",
                fix=f"one of: {', '.join(known)}",
            )
    return tuple(given)


def nested(kind: type[S], given: Mapping[str, Any], key: str) -> S:
    """A nested argument as its type; WorkspaceError names the key that is wrong."""
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        row = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in row["loc"])
        raise WorkspaceError(
            f"{place}: {row['msg']}",
            where=f"argument {key!r}",
            fix=f"known: {', '.join(kind.model_fields)}",
        ) from None

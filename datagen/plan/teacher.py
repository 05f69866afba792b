"""The model that answers: a pin of the workspace, or one named on the command line."""

from __future__ import annotations

import os
import re

from datagen.errors import WorkspaceError
from datagen.workspace.load import Workspace
from datagen.workspace.specs import ModelSpec

ENDPOINT_VARIABLE = "OPENAI_BASE_URL"


def override_endpoint(endpoint: str | None) -> str | None:
    """The endpoint that overrides the profile's: the option, or OPENAI_BASE_URL."""
    return endpoint or os.environ.get(ENDPOINT_VARIABLE) or None


def override_model(
    workspace: Workspace, endpoint: str | None, model: str | None
) -> ModelSpec | None:
    """The teacher that `--model` names: a pin, or a bare name whose licence is unknown.

    Without `--model` it is the profile's own pin. A bare name never passes for a pin's.
    """
    if model is None:
        return None
    if model in workspace.names("manifests/models"):
        return workspace.model(model).spec
    if override_endpoint(endpoint) is None:
        raise WorkspaceError(
            f"no model pin {model!r}, and no endpoint that serves it",
            where="--model",
            fix=f"add --endpoint URL, or one of: {', '.join(workspace.names('manifests/models'))}",
        )
    name = re.sub(r"[^a-z0-9_.-]+", "-", model.lower()).strip("-.") or "model"
    if name in workspace.names("manifests/models"):
        name = f"{name}-unpinned"
    return ModelSpec(name=name, title=model, licence="unknown", served_as=model)


def without_weights(model: ModelSpec) -> ModelSpec:
    """A pin as another endpoint serves it: nobody vouches for the hash of its weights there."""
    return model.model_copy(update={"embedded": None})

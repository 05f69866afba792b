"""A recipe of one's own: a YAML file that names a preset and the fields that differ."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from datagen.train.config import ModelConfig, TrainConfig, preset


def load_config(name: str) -> TrainConfig:
    """Return the preset of this name, or what the YAML file of this name makes of one.

        preset: nano-like
        peak_lr: 0.001
        model: {experts: 32}

    Keys are the fields of TrainConfig and ModelConfig; WorkspaceError names a wrong one's line.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        return preset(name)
    from pydantic import create_model

    from datagen.workspace.load import parse
    from datagen.workspace.specs import Spec

    def some(kind: type, **others: Any) -> type[Spec]:
        """Make a spec in which every field of `kind` may stand."""
        hints = get_type_hints(kind)
        known: dict[str, Any] = {f.name: (hints[f.name] | None, None) for f in fields(kind)}
        made: type[Spec] = create_model(kind.__name__, __base__=Spec, **(known | others))
        return made

    shape = some(ModelConfig)
    recipe = some(TrainConfig, preset=(str, ...), model=(shape | None, None))
    spec = parse(path.resolve(), recipe, root=Path.cwd()).spec
    said = {key: getattr(spec, key) for key in spec.model_fields_set}
    config, changes = preset(said.pop("preset")), said.pop("model", None)
    if changes is not None:
        set_here = {key: getattr(changes, key) for key in changes.model_fields_set}
        config = replace(config, model=replace(config.model, **set_here))
    return replace(config, **said)

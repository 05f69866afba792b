"""A recipe in YAML changes what it names and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from datagen.errors import WorkspaceError
from datagen.train.config import preset
from datagen.train.settings import load_config


def test_a_file_changes_the_fields_it_names(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "preset: nano-like\npeak_lr: 0.001\nwindow_tokens: null\n"
        "model: {experts: 32, latent_width: null}\n"
    )
    base = preset("nano-like")
    shape = replace(base.model, experts=32, latent_width=None)
    assert load_config(str(path)) == replace(base, peak_lr=0.001, model=shape)
    assert load_config("nano-like") == base


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("preset: tiny\npeak: 1\n", "peak", 2),
        ("preset: tiny\nmodel:\n  experts: many\n", "experts", 3),
        ("peak_lr: 1\n", "preset", 1),
    ],
)
def test_a_wrong_key_or_value_is_named_by_line(
    tmp_path: Path, text: str, message: str, line: int
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(WorkspaceError, match=message) as caught:
        load_config(str(path))
    assert caught.value.where == f"{path}:{line}"


def test_what_cannot_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("preset: tiny\nmodel: {pattern: MXE}\n")
    with pytest.raises(WorkspaceError, match="only M, E"):
        load_config(str(path))

"""scripts/serve: the pin as a vLLM command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from datagen.workspace.specs import ModelSpec

ROOT = Path(__file__).resolve().parents[2]
PINS = sorted((ROOT / "manifests" / "models").glob("*.yaml"))


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "serve"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )


@pytest.mark.parametrize("path", PINS, ids=lambda path: path.stem)
def test_model_pins_are_named_as_their_files(path: Path) -> None:
    model = ModelSpec.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert model.name == path.stem and model.licence == "Apache-2.0"


def test_the_command_is_the_pin_and_what_follows_it() -> None:
    done = serve("--print", "qwen3-235b-a22b-thinking-2507", "--port", "9000")
    words = done.stdout.split()
    assert words[:3] == ["vllm", "serve", "Qwen/Qwen3-235B-A22B-Thinking-2507"]
    assert "--served-model-name qwen3-235b-a22b-thinking-2507" in done.stdout
    assert "--reasoning-parser=deepseek_r1" in words and words[-2:] == ["--port", "9000"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nosuch"], 2, "qwen3-235b-a22b-instruct-2507"),
        (["smollm2-135m"], 2, "no 'hub' id"),
        ([], 2, "MODEL_NAME"),
    ],
)
def test_what_cannot_be_served_is_said(arguments: list[str], code: int, says: str) -> None:
    done = serve(*arguments)
    assert done.returncode == code and says in done.stderr and "Traceback" not in done.stderr

"""Pack real text in two phases through the whole pipeline, for a real training run.

    DATAGEN_DATA=/path/to/data python scripts/bench/real_build.py FOLDER

Makes a workspace, adds the mixtures beside this script, runs `datagen build` with the profile
tests/profiles/real_training.yaml (no model is asked), and leaves in FOLDER/real what a trainer
needs: shards, manifest.json, tokenizer.json. Run again, it does only what is missing.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MIXTURES = Path(__file__).resolve().parent / "mixtures"


def datagen(*arguments: str | Path) -> None:
    """Run a command of ours; its error ends the script."""
    done = subprocess.run([sys.executable, "-m", "datagen", *map(str, arguments)], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def main() -> None:
    """Build, then gather what a trainer needs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int, default=12_000_000)
    options = parser.parse_args()
    workspace, out = options.folder / "workspace", options.folder / "out"
    if not workspace.exists():
        datagen("init", workspace)
    for path in sorted(MIXTURES.glob("*.yaml")):
        shutil.copy(path, workspace / "mixtures")
    datagen(
        "build", "--workspace", workspace, "--out", out, "--mixture", "real",
        "--profile", ROOT / "tests/profiles/real_training.yaml", "--tokens", str(options.tokens),
    )  # fmt: skip
    datagen("sql", "select * from mixture", "--workspace", workspace, "--out", out)
    target = options.folder / "real"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree((out / "latest" / "real").resolve(), target)
    shutil.copy(workspace / "manifests/tokenizers/datagen-32k/tokenizer.json", target)


if __name__ == "__main__":
    main()

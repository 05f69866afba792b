"""scripts/previews.py: every recipe of a build or of trials with its counts and some records."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT, Tiny, forget_extension, prose

PICKY = '''

async def picky(seed, ask, *, text="text"):
    """Keeps no row."""
    return [Draft(text=seed.row[text], rejected="too_plain: every row is")]
'''


def previews(*arguments: object) -> str:
    """Run the script; returns the page that it wrote."""
    page = Path(str(arguments[-1]))
    script = str(ROOT / "scripts" / "previews.py")
    command = [sys.executable, script, *map(str, arguments[:-1]), "--page", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return page.read_text(encoding="utf-8")


def test_a_build_is_shown_recipe_by_recipe(unchanging: Tiny, tmp_path: Path) -> None:
    """Counts of every source, three texts each, and the recipes that did not run."""
    text = previews(unchanging.out, tmp_path / "previews.md")
    assert "| note | 12 | 12 | 0 |" in text and "| page | 28 | 28 | 0 |" in text
    assert "| pages | 20 | 20 | 0 | none | none |" in text
    assert "Not run here: " in text and "fact_seeking" in text
    assert text.count("```text\n") == 6
    assert previews(unchanging.out, tmp_path / "again.md") == text


def test_trials_are_shown_and_text_stays_inside_its_fence(tiny: Tiny, tmp_path: Path) -> None:
    """A recipe that keeps nothing shows a reject; no text of a source becomes Markdown."""
    path = tiny.root / "extension/tiny_ext.py"
    path.write_text(path.read_text(encoding="utf-8") + PICKY, encoding="utf-8")
    recipe = {"name": "picky", "title": "Picky", "method": "tiny_ext:picky", "sources": ["notes"]}
    tiny.write("generators/picky/recipe.yaml", recipe)
    nasty = f"````\n# Not a heading\n```\n\x1b[31m{prose('nasty', 90)}"
    tiny.write("manifests/samples/pages.jsonl", json.dumps({"id": "1", "text": nasty}))
    forget_extension()
    out = tmp_path / "tried"
    for name in ("picky", "page@pages"):
        ran = tiny.run("try", name, "-n", "5", "--out", str(out), "--json", "--quiet")
        assert ran.code == 0, ran.err
    text = previews(out, "--characters", "120", tmp_path / "previews.md")
    assert "| notes | 5 | 0 | 5 | too\\_plain 5 | none |" in text
    assert "Nothing was kept." in text and "too_plain: every row is" in text
    assert "`````text\n````\n# Not a heading\n```\n" in text
    assert "\x1b" not in text and "…\n`````" in text

"""The small form of scripts/bench/table_kills.py: filters by themselves, killed with -9."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_a_killed_filter_goes_on_to_the_same_bytes() -> None:
    script = ROOT / "scripts" / "bench" / "table_kills.py"
    done = subprocess.run(
        [sys.executable, str(script), "--kills", "1", "--rows", "900"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("0 differ") == 2

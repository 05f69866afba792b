"""A build killed in each phase loses nothing; the whole proof is scripts/bench/kills.py."""

from __future__ import annotations

import runpy
from pathlib import Path

from tests.servers import FaultServer
from tests.workshop import ROOT, Workshop


def test_a_killed_build_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    bench = runpy.run_path(str(ROOT / "scripts/bench/kills.py"))
    with FaultServer(answer=bench["answer"], delay_s=0.02) as server:
        shop = Workshop(tmp_path, endpoint=server.url, rows=8)
        undisturbed = bench["Bench"](shop, server, seed=3, trace=False)
        undisturbed.again = 0.0
        tally = bench["run"](undisturbed, 4)
    assert not tally.broken
    assert tally.total >= 4 and tally.lost == tally.differing == 0
    assert tally.answers > 0

"""A faulty service costs no row; the whole proof is scripts/bench/faulty_builds.py."""

from __future__ import annotations

import runpy
from pathlib import Path

from tests.servers import FAULTS
from tests.workshop import ROOT, Workshop


def test_every_row_has_its_end_at_a_faulty_service(tmp_path: Path) -> None:
    bench = runpy.run_path(str(ROOT / "scripts/bench/faulty_builds.py"))
    shop = Workshop(tmp_path, endpoint="", rows=24)
    outcomes, broken = bench["compare"](shop, {"all": FAULTS}, share=0.2, seed=1)
    assert not broken
    assert outcomes[1].faults > 0 and outcomes[1].rows["kept"] > 0

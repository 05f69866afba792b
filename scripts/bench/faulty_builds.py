"""Builds against a faulty server, held against the same build with a calm one.

python scripts/bench/faulty_builds.py [--share 0.2] [--rows 200] [--seed 0]

Each kind of fault that `tests/servers.py` knows fails its share of the requests of one build, and
all kinds together those of another. Promised: every seed row ends kept, rejected or failed with a
reason; at least 99 % of the records kept without faults are kept with them; at most 1.5 times the
requests are sent; no fault is recorded as an answer. `faults.py` asks the same of the client alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.servers import FAULTS, FaultServer
from tests.workshop import Workshop

TIMEOUT_S = 2.0
_PLACES = 32
_ENDS = """
    WITH ends AS (
      SELECT lineage.source AS source, lineage.row_key AS row_key, 2 AS rank, '' AS reason
      FROM read_parquet({records})
      {rejects}
    )
    SELECT seeds.source, seeds.row_key, max(rank), count(*) FILTER (rank < 2 AND reason = '')
    FROM read_parquet({seeds}) AS seeds LEFT JOIN ends USING (source, row_key) GROUP BY ALL
"""
_REJECTS = """UNION ALL SELECT source, row_key, (status = 'rejected')::INT, coalesce(reason, '')
      FROM read_parquet({files})"""
_NAMES = {None: "nowhere", 0: "failed", 1: "rejected", 2: "kept"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one build came to: its rows by end, its records, its requests and its time."""

    name: str
    faults: int
    rows: Counter[str]
    without_reason: int
    records: frozenset[str]
    requests: int
    manifest: str
    foreign: int
    seconds: float

    def broken(self, calm: Outcome) -> list[str]:
        """The promises that this build breaks, beside one without faults."""
        same = len(self.records & calm.records)
        found = {
            "a row has no end": self.rows["nowhere"] > 0,
            "rows were lost or doubled": self.rows.total() != calm.rows.total(),
            "a reject has no reason": self.without_reason > 0,
            "less than 99 % of the records are kept": same < 0.99 * len(calm.records),
            "more than 1.5 times the requests": self.requests > 1.5 * calm.requests,
            "a fault was recorded as an answer": self.foreign > 0,
        }
        return [f"{self.name}: {what}" for what, holds in found.items() if holds]


def make(shop: Workshop, server: FaultServer, name: str, answers: set[str]) -> Outcome:
    """Build from nothing against a server; `answers` are those of a calm build, where known."""
    shop.forget(answers=True)
    shop.serve(endpoint=server.url, max_concurrency=_PLACES, timeout_s=TIMEOUT_S)
    started = time.monotonic()
    summary = shop.build()
    seconds = time.monotonic() - started
    records = sorted(map(str, shop.out.glob("generate/quiz@*/*/shards/*.parquet")))
    rejects = sorted(map(str, shop.out.glob("generate/quiz@*/*/rejects/*.parquet")))
    seeds = [
        str(path)
        for source in ("finewiki", "math")
        for path in sorted(shop.out.glob(f"seeds/{source}/*/shards/*.parquet"))
    ]
    ends = duckdb.sql(
        _ENDS.format(
            records=records,
            rejects=_REJECTS.format(files=rejects) if rejects else "",
            seeds=seeds,
        )
    ).fetchall()
    kept = duckdb.sql(f"SELECT id FROM read_parquet({records})").fetchall()
    recorded = {answer for _, answer in shop.answers().values()}
    return Outcome(
        name=name,
        faults=sum(server.faulted.values()),
        rows=Counter(_NAMES[rank] for _, _, rank, _ in ends),
        without_reason=sum(count for _, _, _, count in ends),
        records=frozenset(record for (record,) in kept),
        requests=summary["model_calls"],
        manifest=summary["manifest_sha256"],
        foreign=len(recorded - answers) if answers else 0,
        seconds=seconds,
    )


def compare(
    shop: Workshop, kinds: dict[str, tuple[str, ...]], *, share: float, seed: int
) -> tuple[list[Outcome], list[str]]:
    """Build calmly, then once for each set of kinds; the outcomes and the broken promises."""
    with FaultServer(delay_s=0.02, keep=False) as server:
        calm = make(shop, server, "none", set())
        answers = {answer for _, answer in shop.answers().values()}
    outcomes = [calm]
    for number, (name, faults) in enumerate(kinds.items()):
        own = 1000 * seed + number
        with FaultServer(
            delay_s=0.02, share=share, faults=faults, seed=own, stall_s=60.0, keep=False
        ) as server:
            outcomes.append(make(shop, server, name, answers))
        print_row(outcomes[-1], calm)
    return outcomes, [what for outcome in outcomes for what in outcome.broken(calm)]


def print_row(outcome: Outcome, calm: Outcome) -> None:
    """Print a line of the table."""
    rows = outcome.rows
    same = 100 * len(outcome.records & calm.records) / len(calm.records)
    equal = "equal" if outcome.manifest == calm.manifest else "differs"
    print(
        f"{outcome.name:<15}{outcome.faults:>7}{outcome.requests:>10}"
        f"{outcome.requests / calm.requests:>7.2f}{rows['kept']:>6}{rows['rejected']:>10}"
        f"{rows['failed']:>8}{same:>9.1f}  {equal:<9}{outcome.seconds:>7.1f}",
        flush=True,
    )


def main() -> int:
    """Run, print the table, and fail where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument(
        "--rows", type=int, default=200, help="rows of each of two sources, at most"
    )
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    kinds = {**{kind: (kind,) for kind in FAULTS}, "all": FAULTS}
    print(f"{given.share:.0%} faults; a request is given up after {TIMEOUT_S:g} s\n")
    print(
        f"{'fault':<15}{'served':>7}{'requests':>10}{'ratio':>7}{'kept':>6}{'rejected':>10}"
        f"{'failed':>8}{'same %':>9}  {'manifest':<9}{'seconds':>7}"
    )
    with tempfile.TemporaryDirectory(prefix="datagen-faults-") as folder:
        shop = Workshop(Path(folder), endpoint="", rows=given.rows)
        outcomes, broken = compare(shop, kinds, share=given.share, seed=given.seed)
    print_row(outcomes[0], outcomes[0])
    for what in broken:
        print(f"broken: {what}")
    print(f"\n{len(broken)} broken promises")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

"""The whole generation path beside its peers: CPU milliseconds a call on one two-stage job.

python scripts/bench/generation.py --install       # once: each peer into a venv of its own
python scripts/bench/generation.py [--rows 2000] [--at-once 512] [--runs 3]
python scripts/bench/generation.py --small         # seconds: what is installed, once

Every row is a page; a question is asked about it, then an answer to that, both validated, and the
records are written as Parquet. The scripts are in `jobs/`. The server (`fast_server.py`, a process
of its own) answers after 20 ms with about 300 tokens and is measured first. CPU is user and system
time of a job's process and its children; a run with 16 rows is taken off, so that imports and
starting up do not count. Systems take turns, run by run; figures are medians. datagen's path is
seeds, method, validation, durable ledger, stamp, records and calls; the others do what they do.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from fast_server import prove, running

JOBS = Path(__file__).resolve().parent / "jobs"
FEW = 16
PAGE = " ".join(f"word{i}" for i in range(300))
# The vocabulary that curator and data-designer would fetch lies in a package of curator's.
VOCABULARY = "lib/python3*/site-packages/litellm/litellm_core_utils/tokenizers"
# None of them needs torch; `requests` and `beautifulsoup4` distilabel imports without naming them.
PEERS = {
    "distilabel": ("distilabel[openai]==1.5.3", "requests==2.34.2", "beautifulsoup4>=4.12,<5"),
    "curator": ("bespokelabs-curator==0.1.31",),
    "data_designer": ("data-designer==0.9.6",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of one job: CPU and wall seconds, records written, requests the server saw."""

    cpu_s: float
    wall_s: float
    records: int
    requests: int


class Failed(Exception):
    """A job that did not end well; the message is its last words."""


def install(folder: Path) -> None:
    """Make a venv for each peer, with pinned versions."""
    for name, wanted in PEERS.items():
        subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)
        pip = [str(folder / name / "bin/python"), "-m", "pip", "install", "-q", *wanted]
        ended = subprocess.run(pip, check=False).returncode
        print(f"{name}: {'installed' if ended == 0 else 'could not be installed, see above'}")


def interpreter(name: str, folder: Path) -> Path | None:
    """The Python that runs a system's job, or None where the system is not installed."""
    if name == "datagen":
        return Path(sys.executable)
    path = folder / name / "bin/python"
    return path if path.is_file() else None


def run(name: str, python: Path, rows: int, at_once: int, peers: Path) -> Run:
    """Run one job in a process and a folder of its own, against a server of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="datagen-generation-") as place,
        running(0.02) as (url, counts),
        (Path(place) / "said").open("w+b") as said,
    ):
        folder = Path(place)
        seeds, out = folder / "seeds.jsonl", folder / "out"
        out.mkdir()
        lines = (json.dumps({"text": f"page {number}: {PAGE}"}) for number in range(rows))
        seeds.write_text("\n".join(lines), encoding="utf-8")
        command = [str(python), str(JOBS / f"with_{name}.py"), "--url", url, "--seeds", str(seeds)]
        command += ["--out", str(out), "--at-once", str(at_once)]
        environment = {**os.environ, "HOME": place, "DATA_DESIGNER_HOME": place}
        for found in peers.glob(f"*/{VOCABULARY}"):
            environment["TIKTOKEN_CACHE_DIR"] = str(found)
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=place, env=environment, stdout=said, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        words = said.read().decode("utf-8", "replace").strip().splitlines() or [""]
        found = [line for line in words if line.startswith('{"records"')]
        if process.returncode or not found:
            raise Failed(f"ended with {process.returncode}: {words[-1][:200]}")
    return Run(
        cpu_s=usage.ru_utime + usage.ru_stime,
        wall_s=wall_s,
        records=json.loads(found[-1])["records"],
        requests=counts["served"],
    )


def report(name: str, rows: int, few: Sequence[Run], many: Sequence[Run]) -> dict[str, object]:
    """A system's line of the table, over its runs."""
    calls = 2 * (rows - FEW)
    pairs = list(zip(few, many, strict=True))
    cpu_ms = [1e3 * (large.cpu_s - small.cpu_s) / calls for small, large in pairs]
    wall_ms = [1e3 * (large.wall_s - small.wall_s) / calls for small, large in pairs]
    return {
        "system": name,
        "cpu_ms_a_call": round(median(cpu_ms), 3),
        "lowest": round(min(cpu_ms), 3),
        "highest": round(max(cpu_ms), 3),
        "calls_a_second": round(1e3 / median(wall_ms)),
        "calls_a_second_of_a_core": round(1e3 / median(cpu_ms)),
        "starting_cpu_s": round(median(each.cpu_s for each in few), 2),
        "rows_lost": max(rows - each.records for each in many),
        "requests_a_row": round(median(each.requests for each in many) / rows, 2),
    }


def compare(
    names: Sequence[str], rows: int, at_once: int, runs: int, peers: Path
) -> list[dict[str, object]]:
    """Let every installed system run in turn; its line, or why it has none."""
    results: dict[str, tuple[list[Run], list[Run]]] = {name: ([], []) for name in names}
    reasons: dict[str, str] = {}
    for turn in range(runs):
        for name in names:
            python = interpreter(name, peers)
            if python is None:
                reasons[name] = f"not installed in {peers}: run with --install"
            if python is None or name in reasons:
                continue
            try:
                few = run(name, python, FEW, at_once, peers)
                many = run(name, python, rows, at_once, peers)
            except Failed as failed:
                reasons[name] = str(failed)
                continue
            results[name][0].append(few)
            results[name][1].append(many)
            print(f"run {turn + 1} {name}: {many.cpu_s:.2f} s CPU", file=sys.stderr, flush=True)
    return [
        {"system": name, "reason": reasons[name]}
        if name in reasons
        else report(name, rows, *results[name])
        for name in names
    ]


def table(lines: Sequence[dict[str, object]]) -> None:
    """Print the lines side by side."""
    heads = ("CPU ms/call", "lowest", "highest", "calls/s", "calls/s/core", "start CPU s", "lost")
    print(f"{'system':<16}" + "".join(f"{head:>13}" for head in heads) + f"{'requests/row':>14}")
    for line in lines:
        if "reason" in line:
            print(f"{line['system']:<16}  {line['reason']}")
            continue
        figures = list(line.values())[1:]
        print(f"{line['system']:<16}" + "".join(f"{figure!s:>13}" for figure in figures))


def main() -> int:
    """Install, or run and print; fails where datagen loses a row or is not the cheapest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=512)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=["datagen", *PEERS], metavar="SYSTEM")
    parser.add_argument("--small", action="store_true", help="200 rows, 64 at once, one run")
    parser.add_argument("--install", action="store_true", help="install the peers and stop")
    parser.add_argument("--json", action="store_true")
    default = Path(tempfile.gettempdir()) / "datagen-peers"
    parser.add_argument("--peers", type=Path, default=default, help=f"their venvs ({default})")
    given = parser.parse_args()
    if given.install:
        install(given.peers)
        return 0
    sizes = (200, 64, 1) if given.small else (given.rows, given.at_once, given.runs)
    capacity = prove()
    lines = compare(given.only or ["datagen", *PEERS], *sizes, given.peers)
    if given.json:
        print(json.dumps({"server": capacity, "systems": lines}, indent=1))
    else:
        print(f"the server alone answers {capacity} calls; {sizes[0]} rows, {sizes[1]} at once\n")
        table(lines)
    measured = {str(line["system"]): line for line in lines if "reason" not in line}
    ours = measured.get("datagen")
    if given.only and "datagen" not in given.only:
        return 0
    if ours is None or ours["rows_lost"]:
        return 1
    cheapest = min(measured.values(), key=lambda line: float(str(line["cpu_ms_a_call"])))
    return 0 if cheapest is ours else 1


if __name__ == "__main__":
    sys.exit(main())

"""Fuzzy dedup beside its peers on one Parquet file: speed, memory, recall, precision.

DATAGEN_DATA=... python scripts/bench/dedup.py [--peers PYTHON] [--only NAME,...]
DATAGEN_DATA=... python scripts/bench/dedup.py --scale     # ours at 50k, 200k, 800k documents

The corpus is grown by `dedup_corpus.py`, with planted pairs. Everybody runs in a process of its own
on one core in one thread, reading included; CPU is user and system time of the process, from its
start. The slow ones run on a smaller corpus of the same kind, and ours on it again beside them. A
planted pair is found when what is reported connects both (where rows are flagged without a
partner: when one of both is flagged). Precision is the share of reported pairs, each dropped row
with the row kept for ours, whose true Jaccard index of word 5-grams is 0.7 or more.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from dedup_corpus import LEVELS, jaccard

HERE = Path(__file__).resolve().parent
THRESHOLD = 0.7
FAST = {
    "gaoya": "5-grams, 14 x 8, pairs by signature",
    "rensa": "5-grams, 16 x 8, pairs by signature",
    "rensa_matrix": "5-grams, 16 x 8, flags",
    "datasketch": "5-grams, 14 x 8, candidates",
}
SLOW = {
    "text_dedup": "5-grams, 14 x 8, xxh3, clusters",
    "dolma": "5-grams seen, 70 %, flags",
    "datatrove_spaces": "5-grams, 14 x 8, words by spaces, clusters",
    "datatrove": "5-grams, 14 x 8, default words, clusters",
}
OURS, WARM = "datagen dedup", "its core, warm"
_ONE_THREAD = ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "POLARS_MAX_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """CPU seconds; peaks of resident and of anonymous memory in MB, looked at every 5 ms."""

    cpu_s: float
    peak_mb: float
    anonymous_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a table; `pairs` and `flags` are of row numbers, None where not reported."""

    name: str
    parameters: str
    cost: Cost
    pairs: Sequence[Sequence[int]] | None = None
    flags: Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class Corpus:
    """A grown corpus and what is known of it."""

    path: Path
    texts: pa.ChunkedArray = field(repr=False)
    planted: dict[float, list[tuple[int, int]]]
    rows: dict[str, int]
    megabytes: float


class Failed(Exception):
    """A process that did not end well; the message is its last words."""


def grow(folder: Path, documents: int) -> Path:
    """The corpus of so many documents, grown where it is not there yet; one in fifty is a copy."""
    path = folder / f"{documents}.parquet"
    if not path.is_file():
        command = [sys.executable, str(HERE / "dedup_corpus.py"), str(path)]
        command += ["--documents", str(documents), "--pairs", str(documents // 200)]
        subprocess.run(command, check=True)
    return path


def load(path: Path) -> Corpus:
    """Read a corpus and its pairs."""
    table = pq.read_table(path)
    rows = {one: row for row, one in enumerate(table["id"].to_pylist())}
    planted: dict[float, list[tuple[int, int]]] = {level: [] for level in LEVELS}
    for pair in pq.read_table(path.with_suffix(".pairs.parquet")).to_pylist():
        planted[pair["level"]].append((rows[pair["left"]], rows[pair["right"]]))
    size = pc.sum(pc.binary_length(table["text"])).as_py()
    return Corpus(path, table["text"], planted, rows, size / 1e6)


def run(command: Sequence[str], folder: str) -> Cost:
    """Run a command on one core, and look at its memory meanwhile."""
    core = max(os.sched_getaffinity(0))
    environment = {**os.environ, **dict.fromkeys(_ONE_THREAD, "1")}
    environment |= {"HF_HOME": folder, "HF_HUB_OFFLINE": "1"}
    peak = anonymous = 0
    with Path(folder, "said").open("w+b") as said:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            env=environment,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            now = dict(line.split(":", 1) for line in lines)
            # Absent between a process's end and our asking for it.
            peak = max(peak, int(now.get("VmHWM", "0 kB").split()[0]))
            anonymous = max(anonymous, int(now.get("RssAnon", "0 kB").split()[0]))
            time.sleep(0.005)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise Failed(said.read().decode("utf-8", "replace")[-400:])
    return Cost(
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_mb=peak * 1024 / 1e6,
        anonymous_mb=anonymous * 1024 / 1e6,
    )


def ours(corpus: Corpus | Path, runs: int = 1) -> list[Line]:
    """The whole command, and its core in a process that has warmed up; medians of some runs."""
    path = corpus if isinstance(corpus, Path) else corpus.path
    whole, warm = [], []
    pairs = None
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            out, answer = Path(folder, "out"), Path(folder, "answer.json")
            command = [sys.executable, "-m", "datagen", "dedup", str(path), "-o", str(out)]
            whole.append(run([*command, "--workers", "1"], folder))
            if isinstance(corpus, Corpus):
                table = pq.read_table(out / "clusters.parquet", filters=[("kept", "=", False)])
                found = zip(table["cluster"].to_pylist(), table["id"].to_pylist(), strict=True)
                pairs = [(corpus.rows[kept], corpus.rows[one]) for kept, one in found]
            job = str(HERE / "jobs/dedup_warm.py")
            cost = run([sys.executable, job, str(path), str(answer)], folder)
            warm.append(replace(cost, cpu_s=json.loads(answer.read_text())["cpu_s"]))
    words = "5-grams, 21 x 6, pairs by true index, clusters"
    return [
        Line(name=OURS, parameters=words, cost=middle(whole), pairs=pairs),
        Line(name=WARM, parameters="the same, no start, no rows written", cost=middle(warm)),
    ]


def middle(costs: Sequence[Cost]) -> Cost:
    """The run of the median CPU time."""
    return sorted(costs, key=lambda cost: cost.cpu_s)[len(costs) // 2]


def peer(name: str, parameters: str, corpus: Corpus, python: str) -> Line:
    """One peer's run."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "answer.json")
        job = str(HERE / "jobs/dedup_peers.py")
        cost = run([python, job, name, str(corpus.path), str(answer)], folder)
        said = json.loads(answer.read_text())
    cpu_s = cost.cpu_s - said.get("uncounted_s", 0)
    return Line(
        name=f"{name} {said['version']}",
        parameters=parameters,
        cost=replace(cost, cpu_s=cpu_s),
        pairs=said.get("pairs"),
        flags=said.get("flags"),
    )


def roots(count: int, pairs: Iterable[Sequence[int]]) -> list[int]:
    """Which rows the pairs connect: a root for each row."""
    parent = list(range(count))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = row = parent[parent[row]]
        return row

    for left, right in pairs:
        parent[root(left)] = root(right)
    return [root(row) for row in range(count)]


def recalls(line: Line, corpus: Corpus) -> list[float | None]:
    """The share of planted pairs found, level by level."""
    if line.pairs is not None:
        root = roots(len(corpus.texts), line.pairs)
        hits = {lv: [root[a] == root[b] for a, b in corpus.planted[lv]] for lv in LEVELS}
    elif line.flags is not None:
        flagged = set(line.flags)
        hits = {lv: [a in flagged or b in flagged for a, b in corpus.planted[lv]] for lv in LEVELS}
    else:
        return [None] * len(LEVELS)
    return [sum(hits[level]) / len(hits[level]) for level in LEVELS]


def precision(line: Line, corpus: Corpus) -> float | None:
    """The share of reported pairs that are as near as they should be."""
    if not line.pairs:
        return None
    texts = corpus.texts
    near = [jaccard(texts[a].as_py(), texts[b].as_py()) >= THRESHOLD for a, b in line.pairs]
    return sum(near) / len(near)


def show(line: Line, corpus: Corpus, whole_cpu_s: float) -> None:
    """Print a line of the table; the last column is our whole command's speed over this one's."""
    figures = [*recalls(line, corpus), precision(line, corpus)]
    cells = [
        line.name,
        line.parameters,
        f"{corpus.megabytes / line.cost.cpu_s:.1f}",
        f"{line.cost.peak_mb:,.0f}",
        *("-" if figure is None else f"{figure:.3f}" for figure in figures),
        f"{line.cost.cpu_s / whole_cpu_s:.1f}",
    ]
    print("| " + " | ".join(cells) + " |", flush=True)


def compare(corpus: Corpus, peers: dict[str, str], pythons: dict[str, str]) -> None:
    """One table: ours and some peers on one corpus."""
    print(f"\n{len(corpus.texts):,} documents, {corpus.megabytes:.1f} MB of text\n")
    print("| | parameters | MB/s | peak MB | .95 | .85 | .75 | .6 | precision | ours is x |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    lines = ours(corpus)
    for line in lines:
        show(line, corpus, lines[0].cost.cpu_s)
    for name, parameters in peers.items():
        try:
            line = peer(name, parameters, corpus, pythons.get(name, pythons[""]))
        except Failed as failure:
            print(f"{name}: not measured: {str(failure).splitlines()[-1]}")
        else:
            show(line, corpus, lines[0].cost.cpu_s)


def scale(folder: Path, sizes: Sequence[int]) -> None:
    """Ours on corpora of several sizes: what a MB costs, and memory."""
    print("| documents | MB | | CPU ms a MB | peak MB | of it anonymous |")
    print("|---|---|---|---|---|---|")
    for documents in sizes:
        path = grow(folder, documents)
        texts = (batch.column(0) for batch in pq.ParquetFile(path).iter_batches(columns=["text"]))
        megabytes = sum(pc.sum(pc.binary_length(part)).as_py() for part in texts) / 1e6
        for line in ours(path, runs=3):
            cost = line.cost
            print(
                f"| {documents:,} | {megabytes:.0f} | {line.name} "
                f"| {1e3 * cost.cpu_s / megabytes:.2f} "
                f"| {cost.peak_mb:,.0f} | {cost.anonymous_mb:,.0f} |",
                flush=True,
            )


def main() -> None:
    """Grow what is not there, warm up, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--slow-documents", type=int, default=20_000)
    parser.add_argument("--corpus", type=Path, help="one that was grown before")
    parser.add_argument("--folder", type=Path, help="keeps the corpora (default: none are kept)")
    parser.add_argument("--peers", default=sys.executable, help="Python that has them")
    parser.add_argument("--only", help="names of peers, by commas")
    parser.add_argument("--scale", action="store_true")
    options = parser.parse_args()
    only = options.only.split(",") if options.only is not None else [*FAST, *SLOW]
    # datatrove wants newer packages than the others, and is one of our own.
    pythons = {"": options.peers, "datatrove": sys.executable, "datatrove_spaces": sys.executable}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        # Compile the kernels, once for a version of their source.
        ours(grow(folder, 1000))
        if options.scale:
            scale(folder, (50_000, 200_000, 800_000))
            return
        fast = {name: words for name, words in FAST.items() if name in only}
        slow = {name: words for name, words in SLOW.items() if name in only}
        if fast or not slow:
            compare(load(options.corpus or grow(folder, options.documents)), fast, pythons)
        if slow:
            compare(load(grow(folder, options.slow_documents)), slow, pythons)


if __name__ == "__main__":
    main()

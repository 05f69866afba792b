"""Best-fit packing beside its peers: nanoseconds a piece and the room wasted.

    python scripts/bench/packing.py [--pieces 1000000] [--repeats 5]

Log-normal lengths, CPU seconds of one core, medians. Peers (seqpack, trl, axolotl) are measured
where they can be imported and named as missing where not; slow ones get fewer pieces.
"""

from __future__ import annotations

import argparse
import collections
import importlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from datagen.pack.best_fit import Ints, best_fit

CAPACITIES = {4096: (500, 1.0), 294_912: (3000, 1.5), 515_000: (3000, 1.6)}
"""Row length: median and sigma of the log-normal lengths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A packer to measure: `pack` gives the number of rows; `pieces` limits its input."""

    name: str
    module: str | None
    pieces: int
    prepare: Callable[[Any, Ints, int], Callable[[], int]]


def lengths_for(pieces: int, capacity: int) -> Ints:
    """Log-normal document lengths for a row length, in 8..capacity."""
    median, sigma = CAPACITIES[capacity]
    drawn = np.random.default_rng(0).lognormal(np.log(median), sigma, pieces)
    return np.clip(drawn, 8, capacity).astype(np.int64)


def ours(_: Any, lengths: Ints, capacity: int) -> Callable[[], int]:
    """This project's packer, with the assignment of every piece."""
    return lambda: best_fit(lengths, capacity).rows


def seqpack_heap(module: Any, lengths: Ints, capacity: int) -> Callable[[], int]:
    """seqpack's heap packer."""
    values = lengths.tolist()
    return lambda: len(module.heap_pack_sequences(values, capacity))


def seqpack_histogram(module: Any, lengths: Ints, capacity: int) -> Callable[[], int]:
    """seqpack's histogram packer, which gives templates and no assignment."""
    counts = collections.Counter(lengths.tolist())
    return lambda: sum(module.pack_length_histogram(counts, capacity).values())


def trl_tables(batch_rows: int) -> Callable[[Any, Ints, int], Callable[[], int]]:
    """trl's best fit over tables of `batch_rows` rows; it gathers the tokens as it packs."""

    def prepare(module: Any, lengths: Ints, capacity: int) -> Callable[[], int]:
        import pyarrow as pa

        tables = []
        for begin in range(0, len(lengths), batch_rows):
            sizes = lengths[begin : begin + batch_rows]
            tokens = pa.array(np.zeros(sizes.sum(), dtype=np.int32))
            bounds = pa.array(np.cumsum([0, *sizes]), pa.int64())
            tables.append(pa.table({"input_ids": pa.LargeListArray.from_arrays(bounds, tokens)}))
        return lambda: sum(module._pack_bfd(table, capacity).num_rows for table in tables)

    return prepare


def axolotl_multipack(module: Any, lengths: Ints, capacity: int) -> Callable[[], int]:
    """axolotl's first fit in numba, in its default groups of 100,000."""
    return lambda: len(
        module.pack_parallel(lengths, capacity, group_size=100_000, bin_size=200, num_processes=1)
    )


PEERS = [
    Peer(name="datagen, exact", module=None, pieces=1 << 40, prepare=ours),
    Peer(name="seqpack heap", module="seqpack", pieces=1_000_000, prepare=seqpack_heap),
    Peer(
        name="seqpack histogram (no assignment)",
        module="seqpack",
        pieces=1_000_000,
        prepare=seqpack_histogram,
    ),
    Peer(
        name="trl bfd, batches of 1,000",
        module="trl.data_utils",
        pieces=10_000,
        prepare=trl_tables(1000),
    ),
    Peer(
        name="trl bfd, one batch of 10,000",
        module="trl.data_utils",
        pieces=10_000,
        prepare=trl_tables(10_000),
    ),
    Peer(
        name="axolotl multipack",
        module="axolotl.utils.samplers.multipack",
        pieces=200_000,
        prepare=axolotl_multipack,
    ),
]


def measure(pack: Callable[[], int], repeats: int) -> tuple[float, int]:
    """The median CPU seconds of a call, after one that warms up, and its number of rows."""
    rows = pack()
    seconds = []
    for _ in range(repeats):
        begin = time.process_time()
        pack()
        seconds.append(time.process_time() - begin)
    return statistics.median(seconds), rows


def main() -> None:
    """Measure and print one table for each row length."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pieces", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--capacity", type=int, nargs="*", default=list(CAPACITIES))
    arguments = parser.parse_args()
    for capacity in arguments.capacity:
        print(f"\nrows of {capacity:,} tokens")
        print(f"{'packer':36}{'pieces':>12}{'seconds':>10}{'ns/piece':>10}{'waste %':>9}{'x':>8}")
        base = 0.0
        for peer in PEERS:
            try:
                module = importlib.import_module(peer.module) if peer.module else None
            except ImportError as error:
                print(f"{peer.name:36}skipped: {error}")
                continue
            lengths = lengths_for(min(arguments.pieces, peer.pieces), capacity)
            seconds, rows = measure(peer.prepare(module, lengths, capacity), arguments.repeats)
            each = seconds / len(lengths) * 1e9
            base = base or each
            waste = 100 * (1 - lengths.sum() / (rows * capacity))
            print(
                f"{peer.name:36}{len(lengths):12,}{seconds:10.4f}{each:10,.0f}{waste:9.4f}"
                f"{each / base:8,.1f}"
            )


if __name__ == "__main__":
    main()

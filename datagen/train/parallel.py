"""Several processes that train as one: every step's rows shared out, its sums added up.

The first process leads: it starts the others, writes, prints and stops them. Each reads the same
stream and takes every n-th microbatch, so the data's place is one cursor whatever their number.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import TCPStore
from torch.multiprocessing.spawn import spawn

from datagen.errors import WorkspaceError

T = TypeVar("T")
_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux."""
_PATIENCE = timedelta(hours=1)
"""How long the others wait while the first measures, or writes a large checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """Which process this is of how many."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def mine(self, items: Sequence[T]) -> Sequence[T]:
        """Take this process's share: every n-th item."""
        return items[self.rank :: self.count]

    def add(self, *tensors: Tensor) -> None:
        """Replace each tensor by its sum over all processes."""
        if self.count > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    @contextmanager
    def adding_gradients(self, model: nn.Module) -> Iterator[None]:
        """Sum over all processes each gradient that a backward pass in this block completes.

        The sums travel while the pass goes on; the block's end waits for them.
        """
        if self.count == 1:
            yield
            return
        works: list[dist.Work] = []

        def add(parameter: Tensor) -> None:
            work = dist.all_reduce(parameter.grad, async_op=True)
            assert work is not None
            works.append(work)

        hooks = [
            p.register_post_accumulate_grad_hook(add)  # type: ignore[no-untyped-call]
            for p in model.parameters()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        for work in works:
            work.wait()


ALONE = Ranks()


@contextmanager
def together(
    count: int, device: torch.device, follow: Callable[[Ranks], object]
) -> Iterator[Ranks]:
    """Start `count` - 1 processes that call `follow`, join them, and stop them at the block's end.

    `follow` must be picklable, and do what this process does inside the block. On GPUs each process
    has its own, on a CPU they share it. They end with this process however it ends.
    """
    if count == 1:
        yield ALONE
        return
    if device.type == "cuda" and torch.cuda.device_count() < count:
        raise WorkspaceError(
            f"{count} processes, but {torch.cuda.device_count()} GPUs here",
            where="--processes",
            fix="one process a GPU at most",
        )
    store = TCPStore("127.0.0.1", 0, count, is_master=True, wait_for_workers=False)
    # As many threads in each: sums split otherwise would not be the same bits.
    alone = torch.get_num_threads()
    threads = max(1, alone // count)
    arguments = (count, store.port, device.type, threads, follow)
    others = spawn(  # type: ignore[no-untyped-call]
        _follow, args=arguments, nprocs=count - 1, join=False, daemon=True
    )
    try:
        torch.set_num_threads(threads)
        if device.type == "cuda":
            torch.cuda.set_device(0)
        _join(device.type, store, 0, count)
        yield Ranks(rank=0, count=count)
    finally:
        for process in others.processes:
            process.terminate()
            process.join()
        torch.set_num_threads(alone)
        if dist.group.WORLD is not None:
            if device.type == "cuda":
                dist.group.WORLD.abort()  # the others are gone: a polite end would wait for them
            dist.destroy_process_group()


def _join(device: str, store: TCPStore, rank: int, count: int) -> None:
    dist.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        store=store,
        rank=rank,
        world_size=count,
        timeout=_PATIENCE,
    )


def _follow(
    place: int, count: int, port: int, device: str, threads: int, follow: Callable[[Ranks], object]
) -> None:
    """Be one of the other processes: `place` counts them from 0."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() == 1:  # the leader died before it could be watched
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    if device == "cuda":
        torch.cuda.set_device(place + 1)
    store = TCPStore("127.0.0.1", port, count, is_master=False)
    _join(device, store, place + 1, count)
    follow(Ranks(rank=place + 1, count=count))

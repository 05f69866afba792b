"""Packed token shards -> batches that know where documents begin and which tokens are targets.

Shards are read in the order given, one in memory at a time: the packer wrote them in the
mixture's order. Inside a shard the rows of each phase are shuffled by the seed, and phases keep
their order. The place in that order is a `Cursor`, so a run can stop and go on at the same token.

Records kept from training are chosen by their id, so that no other row holds one of them.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import xxhash
from torch import Tensor

from datagen.errors import DataError
from datagen.shards.tokens import read_rows
from datagen.train.documents import IGNORED, PADDING, boundaries

COLUMNS = (
    "input_ids",
    "loss_mask",
    "document_starts",
    "categories",
    "record_ids",
    "record_offsets",
    "phase",
)
HELD_OUT_SHARDS = 16
Ints = npt.NDArray[np.int64]
T = TypeVar("T")


class Batch(NamedTuple):
    """A batch of windows, padded at the end to one length.

    `labels_BT[t]` is the id of token t+1 where that one is a target in the same document, else
    -100. `document_index_BT` numbers a window's documents from 0, padding is -1;
    `positions_BT` counts from 0 in each. `categories` names each document's, by row.
    `boundaries_S`, where known, is `documents.boundaries` of the index; `phases` names each row's.
    """

    inputs_BT: Tensor
    labels_BT: Tensor
    document_index_BT: Tensor
    positions_BT: Tensor
    categories: tuple[tuple[str, ...], ...]
    boundaries_S: Tensor | None = None
    phases: tuple[str, ...] = ()

    def on(self, device: torch.device) -> Batch:
        """Copy to a device; to a GPU from pinned memory, so that nobody waits for it."""
        if device.type == "cpu":
            return self
        inputs_BT, labels_BT, index_BT, positions_BT = (
            part.pin_memory().to(device, non_blocking=True) for part in self[:4]
        )
        begins_S = self.boundaries_S
        if begins_S is not None:
            begins_S = begins_S.pin_memory().to(device, non_blocking=True)
        placed = inputs_BT, labels_BT, index_BT, positions_BT
        return Batch(*placed, self.categories, begins_S, self.phases)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where the next window lies: its place in the seeded order of a shard, in an epoch."""

    epoch: int = 0
    shard: int = 0
    window: int = 0


class Window(NamedTuple):
    """A run of tokens that trains as one sequence; `starts` are its documents' first tokens."""

    ids: Ints
    mask: Ints
    starts: Ints
    categories: tuple[str, ...]
    phase: str = ""


class Row(NamedTuple):
    """A packed row as read: a window, and by document which piece of which record it is."""

    window: Window
    pieces: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The windows of a list of shards, in an order fixed by `seed`.

    Windows have at most `window_tokens`; those without a target are skipped. One record in
    `held_out_every` (0: none), chosen by its hash, serves `held_out` and never `batches`.
    """

    shards: Sequence[Path]
    vocabulary: int
    window_tokens: int
    seed: int
    held_out_every: int = 0

    def batches(self, rows: int, cursor: Cursor) -> Iterator[tuple[Batch, Cursor]]:
        """Yield batches of `rows` windows from `cursor` on, epoch after epoch, without end.

        Each comes with the cursor after it.
        """
        pending: list[Window] = []
        epoch, first_shard, first_window = cursor.epoch, cursor.shard, cursor.window
        while True:
            whole_epoch, seen = first_shard == first_window == 0, 0
            for shard in range(first_shard, len(self.shards)):
                windows = self._ordered(shard, epoch)
                for place in range(first_window, len(windows)):
                    pending.append(windows[place])
                    seen += 1
                    if len(pending) == rows:
                        after = Cursor(epoch=epoch, shard=shard, window=place + 1)
                        yield collate(pending, self.window_tokens), after
                        pending = []
                first_window = 0
            if whole_epoch and not seen:
                raise DataError(
                    "no token here is a training target",
                    where=str(self.shards[0].parent) if self.shards else "training shards",
                    fix="check the loss masks: datagen sql 'select trained_tokens from rows'",
                )
            epoch, first_shard, first_window = epoch + 1, 0, 0

    def count(self) -> int:
        """Count the training windows of one epoch; reads every shard."""
        return sum(len(self._training(shard)) for shard in range(len(self.shards)))

    def held_out(self, limit: int, rows: int) -> list[Batch]:
        """Return windows of the records kept from training, each of one category.

        Categories take turns until there are `limit` windows (one a category at least) or nothing
        is left. A piece that several rows repeat comes once. Reads up to HELD_OUT_SHARDS shards
        spread over all, since every phase has its own categories.
        """
        if not self.held_out_every:
            return []
        pieces: dict[str, dict[tuple[str, int], Window]] = {}
        few = min(len(self.shards), HELD_OUT_SHARDS)
        for shard in np.unique(np.linspace(0, len(self.shards) - 1, few).round().astype(int)):
            for row in self._rows(self.shards[shard]):
                for place in np.flatnonzero(self._is_held_out(row)):
                    found = _documents(row.window, np.array([place]))
                    category = found.categories[0]
                    pieces.setdefault(category, {}).setdefault(row.pieces[place], found)
        queues = [
            [w for w in cut(_joined(list(found.values())), self.window_tokens) if _has_target(w)]
            for _, found in sorted(pieces.items())
        ]
        turns = itertools.zip_longest(*(queue[:limit] for queue in queues))
        windows = [window for turn in turns for window in turn if window is not None]
        windows = windows[: max(limit, sum(map(bool, queues)))]
        return [
            collate(windows[start : start + rows], self.window_tokens)
            for start in range(0, len(windows), rows)
        ]

    def _ordered(self, shard: int, epoch: int) -> list[Window]:
        """Shuffle a shard's training windows inside each phase, phases in order of appearance."""
        by_phase: dict[str, list[Window]] = {}
        for window in self._training(shard):
            by_phase.setdefault(window.phase, []).append(window)
        generator = np.random.default_rng([self.seed, epoch, shard])
        return [
            windows[place]
            for windows in by_phase.values()
            for place in generator.permutation(len(windows))
        ]

    def _training(self, shard: int) -> list[Window]:
        """Cut a shard's rows, without the records that are held out, into windows."""
        windows: list[Window] = []
        for row in self._rows(self.shards[shard]):
            held_out = self._is_held_out(row)
            kept = row.window
            if held_out.any():
                kept = _documents(kept, np.flatnonzero(~held_out))
            windows += [window for window in cut(kept, self.window_tokens) if _has_target(window)]
        return windows

    def _is_held_out(self, row: Row) -> npt.NDArray[np.bool_]:
        every = self.held_out_every
        return np.array(
            [
                every > 0 and xxhash.xxh3_64_intdigest(name.encode()) % every == 0
                for name, _ in row.pieces
            ]
        )

    def _rows(self, path: Path) -> Iterator[Row]:
        number = 0
        for batch in read_rows([path], COLUMNS):
            lists = [_lists(batch.column(name)) for name in COLUMNS[:3]]
            others = [batch.column(name).to_pylist() for name in COLUMNS[3:]]
            for ids, mask, starts, names, records, offsets, phase in zip(
                *lists, *others, strict=True
            ):
                self._check(ids, mask, starts, names, where=f"{path}: row {number}")
                window = Window(ids, mask, starts, tuple(names), phase or "")
                yield Row(window, tuple(zip(records, offsets, strict=True)))
                number += 1

    def _check(
        self, ids: Ints, mask: Ints, starts: Ints, names: Sequence[str], *, where: str
    ) -> None:
        """Refuse a row that would train wrongly without a word."""
        broken = {
            "it has no tokens": len(ids) == 0,
            "loss_mask and input_ids differ in length": len(mask) != len(ids),
            "document_starts do not rise from 0 inside the row": (
                len(starts) == 0
                or starts[0] != 0
                or bool(np.any(np.diff(starts) <= 0))
                or starts[-1] >= len(ids)
            ),
            "categories and document_starts differ in length": len(names) != len(starts),
            f"a token id lies outside the vocabulary of {self.vocabulary}": (
                len(ids) > 0 and (ids.min() < 0 or ids.max() >= self.vocabulary)
            ),
        }
        for problem, is_broken in broken.items():
            if is_broken:
                raise DataError(problem, where=where, fix="datagen verify BUILD, or build it again")


def _lists(column: Any) -> list[Ints]:
    """Split an Arrow list column of integers into one array a row."""
    values = column.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    offsets = column.offsets.to_numpy() - column.offsets[0].as_py()
    return [values[low:high] for low, high in itertools.pairwise(offsets)]


def cut(row: Window, tokens: int) -> Iterator[Window]:
    """Split a row into consecutive windows of at most `tokens`; a document cut through starts anew.

    The first token of a window is predicted by none, whatever came before it.
    """
    for low in range(0, len(row.ids), tokens):
        high = min(low + tokens, len(row.ids))
        first = int(np.searchsorted(row.starts, low, side="right")) - 1
        last = int(np.searchsorted(row.starts, high, side="left"))
        yield Window(
            row.ids[low:high],
            row.mask[low:high],
            np.maximum(row.starts[first:last] - low, 0),
            row.categories[first:last],
            row.phase,
        )


def _documents(row: Window, places: Ints) -> Window:
    """Keep some documents of a row, in their order."""
    bounds = np.append(row.starts, len(row.ids))
    lengths = np.diff(bounds)[places]
    kept = np.concatenate(
        [np.zeros(0, dtype=np.int64), *(np.arange(bounds[p], bounds[p + 1]) for p in places)]
    )
    return Window(
        row.ids[kept],
        row.mask[kept],
        np.cumsum(lengths) - lengths,
        tuple(row.categories[place] for place in places),
        row.phase,
    )


def _joined(windows: Sequence[Window]) -> Window:
    """Lay windows end to end."""
    ends = np.cumsum([len(window.ids) for window in windows])
    return Window(
        np.concatenate([window.ids for window in windows]),
        np.concatenate([window.mask for window in windows]),
        np.concatenate([w.starts + end - len(w.ids) for w, end in zip(windows, ends, strict=True)]),
        tuple(name for window in windows for name in window.categories),
    )


def _has_target(window: Window) -> bool:
    return bool(np.any(_labels(window) != IGNORED))


def _labels(window: Window) -> Ints:
    """Shift ids to the token before them where they are targets and no document begins."""
    target = window.mask == 1
    target[window.starts] = False
    labels = np.full(len(window.ids), IGNORED, dtype=np.int64)
    labels[:-1] = np.where(target[1:], window.ids[1:], IGNORED)
    return labels


def collate(windows: Sequence[Window], tokens: int) -> Batch:
    """Pad windows to `tokens` and lay them side by side."""
    shape = (len(windows), tokens)
    inputs, labels = np.zeros(shape, dtype=np.int64), np.full(shape, IGNORED, dtype=np.int64)
    index, positions = np.full(shape, PADDING, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for row, window in enumerate(windows):
        length = len(window.ids)
        inputs[row, :length] = window.ids
        labels[row, :length] = _labels(window)
        index[row, :length] = document_index(window.starts, length)
        positions[row, :length] = np.arange(length) - window.starts[index[row, :length]]
    return Batch(
        torch.from_numpy(inputs),
        torch.from_numpy(labels),
        torch.from_numpy(index),
        torch.from_numpy(positions),
        tuple(window.categories for window in windows),
        boundaries(torch.from_numpy(index)),
        tuple(window.phase for window in windows),
    )


def document_index(starts: Ints, length: int) -> Ints:
    """Number each token's document: starts [0, 3] of 5 tokens -> [0, 0, 0, 1, 1]."""
    return np.searchsorted(starts, np.arange(length), side="right") - 1


def prefetch(items: Iterator[T], depth: int) -> Generator[T, None, None]:
    """Draw `items` in a thread, up to `depth` ahead; its errors are raised here, at their place.

    Closing the iterator stops the thread.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(item: T | None, error: BaseException | None) -> None:
        while not stopped.is_set():
            try:
                return ready.put((item, error), timeout=0.1)
            except queue.Full:
                continue

    def draw() -> None:
        try:
            for item in items:
                put(item, None)
                if stopped.is_set():
                    return
        except BaseException as error:  # handed to the consumer, which raises it
            put(None, error)
        else:
            put(None, StopIteration())

    thread = threading.Thread(target=draw, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            assert item is not None
            yield item
    finally:
        stopped.set()
        thread.join()

"""Batches say where documents begin, and ask only for what is a target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from datagen.errors import DataError  # noqa: E402
from datagen.train.data import (  # noqa: E402
    Batch,
    Cursor,
    Windows,
    collate,
    cut,
    document_index,
    prefetch,
)

from .oracles import window  # noqa: E402
from .shards import token_row, write_shard  # noqa: E402


def take(windows: Windows, count: int, rows: int = 2, cursor: Cursor | None = None) -> list[Batch]:
    stream = windows.batches(rows, cursor or Cursor())
    return [next(stream)[0] for _ in range(count)]


def test_a_row_by_hand() -> None:
    batch = collate([window([5, 6, 7, 8, 9], [3, 2], mask=[1, 1, 0, 1, 1])], 7)
    assert batch.inputs_BT.tolist() == [[5, 6, 7, 8, 9, 0, 0]]
    # 7 is no target; 8 begins a document, so 7 does not predict it; 9 is the last.
    assert batch.labels_BT.tolist() == [[6, -100, -100, 9, -100, -100, -100]]
    assert batch.document_index_BT.tolist() == [[0, 0, 0, 1, 1, -1, -1]]
    assert batch.positions_BT.tolist() == [[0, 1, 2, 0, 1, 0, 0]]


def test_document_index_numbers_each_token() -> None:
    assert document_index(np.array([0, 3]), 5).tolist() == [0, 0, 0, 1, 1]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(2, 12), st.data())
def test_labels_never_cross_documents_nor_windows(
    lengths: list[int], tokens: int, data: st.DataObject
) -> None:
    total = sum(lengths)
    mask = data.draw(st.lists(st.integers(0, 1), min_size=total, max_size=total))
    row = window(list(range(total)), lengths, mask)
    document = np.repeat(np.arange(len(lengths)), lengths)
    seen = []
    for piece in cut(row, tokens):
        batch = collate([piece], tokens)
        for t in range(tokens):
            index = int(batch.document_index_BT[0, t])
            if index < 0:
                assert batch.labels_BT[0, t] == -100
                continue
            here, label = int(batch.inputs_BT[0, t]), int(batch.labels_BT[0, t])
            seen.append(here)
            assert piece.categories[index] == row.categories[document[here]]
            last_of_window = t == len(piece.ids) - 1
            wanted = (
                not last_of_window and mask[here + 1] == 1 and document[here + 1] == document[here]
            )
            assert label == (here + 1 if wanted else -100)
    assert seen == list(range(total))


def test_order_is_by_seed_phases_stay_in_order_and_every_window_comes_once(tmp_path: Path) -> None:
    rows = [token_row([[i, i, i]], phase="phase1" if i < 6 else "phase2") for i in range(10)]
    shard = write_shard(tmp_path, rows)

    def firsts(seed: int) -> list[int]:
        windows = Windows(shards=[shard], vocabulary=10, window_tokens=4, seed=seed)
        return [int(batch.inputs_BT[row, 0]) for batch in take(windows, 5) for row in (0, 1)]

    assert firsts(1) == firsts(1) != firsts(2)
    assert sorted(firsts(1)) == list(range(10))
    assert set(firsts(1)[:6]) == set(range(6))


@pytest.mark.parametrize("count", [1, 2])
def test_a_cursor_takes_up_the_stream_anywhere_across_shards_and_epochs(
    tmp_path: Path, count: int
) -> None:
    shards = [
        write_shard(tmp_path, [token_row([[s * 3 + i] * 5]) for i in range(3)], name=f"{s:05d}")
        for s in range(count)
    ]
    windows = Windows(shards=shards, vocabulary=8, window_tokens=3, seed=3)
    stream = windows.batches(3, Cursor())
    whole = [next(stream) for _ in range(12)]
    assert whole[-1][1].epoch >= 2
    for place in range(11):
        resumed = take(windows, 1, rows=3, cursor=whole[place][1])[0]
        for part, expected in zip(resumed[:4], whole[place + 1][0][:4], strict=True):
            assert torch.equal(part, expected)


def test_held_out_records_are_never_trained_whatever_rows_repeat_them(tmp_path: Path) -> None:
    documents = [[i] * (2 + i % 3) for i in range(24)]
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(20):
        drawn = rng.permutation(24)[:4]
        rows.append(
            token_row([documents[i] for i in drawn], categories=[f"c{i % 2}" for i in drawn])
        )
    shards = [write_shard(tmp_path, rows[:10]), write_shard(tmp_path, rows[10:], name="00001")]
    windows = Windows(shards=shards, vocabulary=24, window_tokens=99, seed=0, held_out_every=4)
    trained: dict[int, int] = {}
    for batch in take(windows, windows.count(), rows=1):
        for token in batch.inputs_BT[batch.document_index_BT >= 0].tolist():
            trained[token] = trained.get(token, 0) + 1
    held = windows.held_out(100, 3)
    kept = {int(token) for batch in held for token in batch.inputs_BT[batch.document_index_BT >= 0]}
    drawn_all = [token for row in rows for token in row["input_ids"]]
    assert kept and kept.isdisjoint(trained) and kept | set(trained) == set(drawn_all)
    assert trained == {t: drawn_all.count(t) for t in trained}  # no other token is lost
    assert sum(int((b.document_index_BT >= 0).sum()) for b in held) == sum(
        len(documents[token]) for token in kept
    )
    for batch in held:
        for categories in batch.categories:
            assert len(set(categories)) == 1
    first = [batch.categories[0][0] for batch in windows.held_out(2, 1)]
    assert first == ["c0", "c1"]  # categories take turns


def test_windows_without_targets_are_skipped_and_none_at_all_is_an_error(tmp_path: Path) -> None:
    rows = [token_row([[1, 2, 3, 4]], mask=[1, 0, 0, 0]), token_row([[5, 6]])]
    shard = write_shard(tmp_path, rows)
    windows = Windows(shards=[shard], vocabulary=9, window_tokens=4, seed=0)
    assert {int(b.inputs_BT[0, 0]) for b in take(windows, 4, rows=1)} == {5}
    empty = write_shard(tmp_path, rows[:1], name="00001")
    with pytest.raises(DataError, match="no token here is a training target"):
        take(Windows(shards=[empty], vocabulary=9, window_tokens=4, seed=0), 1)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("input_ids", [1, 9], "outside the vocabulary of 9"),
        ("input_ids", [1, -1], "outside the vocabulary"),
        ("loss_mask", [1], "differ in length"),
        ("document_starts", [1], "do not rise from 0"),
        ("document_starts", [0, 2], "do not rise from 0"),
        ("categories", [], "categories and document_starts"),
    ],
)
def test_a_wrong_row_is_refused_by_place(
    tmp_path: Path, field: str, value: list[int], message: str
) -> None:
    shard = write_shard(tmp_path, [token_row([[3, 4]]), token_row([[1, 2]]) | {field: value}])
    with pytest.raises(DataError, match=message) as caught:
        take(Windows(shards=[shard], vocabulary=9, window_tokens=4, seed=0), 1)
    assert caught.value.where == f"{shard}: row 1"


def test_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    shard = write_shard(tmp_path, [token_row([list(range(64))]) for _ in range(8)])
    content = bytearray(shard.read_bytes())
    content[60] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match="cannot read this Parquet file"):
        take(Windows(shards=[shard], vocabulary=64, window_tokens=64, seed=0), 1)


def test_prefetch_keeps_order_and_raises_where_the_source_did() -> None:
    def source() -> object:
        yield from range(5)
        raise DataError("broken", where="here")

    stream = prefetch(source(), 2)
    assert [next(stream) for _ in range(5)] == list(range(5))
    with pytest.raises(DataError, match="broken"):
        next(stream)
    endless = prefetch(iter(int, 1), 2)
    assert next(endless) == 0
    endless.close()

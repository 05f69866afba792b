"""Documents to rows: every token exactly once, phases in order, conversations whole."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.errors import DataError
from datagen.pack.arrange import (
    LEAST_ROWS,
    ORDERED_WINDOWS,
    Rows,
    arrange,
    cut,
    fits_row,
    windows,
)
from datagen.pack.best_fit import Ints
from datagen.pack.rows import Documents, token_rows
from datagen.shards.schema import DOCUMENT_SCHEMA, TOKEN_ROW_SCHEMA

CAPACITY = 32


@st.composite
def draws(draw: st.DrawFn) -> dict[str, Ints]:
    count = draw(st.integers(1, 50))
    column = st.lists(st.integers(1, 90), min_size=count, max_size=count)
    return {
        "lengths": np.array(draw(column)),
        "splittable": np.array(draw(column)) % 2 == 0,
        "prompts": np.array(draw(column)) % 9,
        "phase": np.sort(np.array(draw(column)) % 3),
    }


@settings(max_examples=200, deadline=None)
@given(
    given_=draws(),
    window_rows=st.integers(1, 8),
    seed=st.integers(0, 99),
    ordered=st.sets(st.integers(0, 2)),
)
def test_every_token_lies_in_exactly_one_row(
    given_: dict[str, Ints], window_rows: int, seed: int, ordered: set[int]
) -> None:
    """Texts are covered to the token, conversations whole or too long; rows keep their limits."""
    rows = arrange(**given_, capacity=CAPACITY, seed=seed, window_rows=window_rows, ordered=ordered)
    lengths, splittable = given_["lengths"], given_["splittable"]
    assert rows.too_long.tolist() == np.flatnonzero(~splittable & (lengths > CAPACITY)).tolist()
    pieces = sorted(zip(rows.draw.tolist(), rows.start.tolist(), rows.length.tolist(), strict=True))
    at = dict.fromkeys(range(len(lengths)), 0)
    for draw, start, length in pieces:
        assert start == at[draw]
        assert length > 0
        assert splittable[draw] or length == lengths[draw]
        at[draw] += length
    kept = fits_row(lengths, splittable, CAPACITY)
    assert [at[n] for n in range(len(lengths))] == np.where(kept, lengths, 0).tolist()
    for row in range(len(rows)):
        inside = slice(rows.bounds[row], rows.bounds[row + 1])
        assert 0 < rows.length[inside].sum() <= CAPACITY
        assert (given_["phase"][rows.draw[inside]] == rows.phase[row]).all()
        assert np.all(np.diff(rows.draw[inside]) >= 0)
        asked = given_["prompts"][rows.draw[inside]]
        assert len(set(asked.tolist())) == len(asked)
    assert np.all(np.diff(rows.phase) >= 0)
    assert rows.tokens == lengths[kept].sum()


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60), size=st.integers(50, 400))
def test_windows_are_even_and_keep_phases_apart(lengths: list[int], size: int) -> None:
    """Windows tile the pieces; none crosses a phase; none is much above its size."""
    phase = np.arange(len(lengths)) * 3 // len(lengths)
    bounds = windows(np.array(lengths), phase, size)
    assert bounds[0] == 0
    assert bounds[-1] == len(lengths)
    assert np.all(np.diff(bounds) > 0)
    for begin, end in itertools.pairwise(bounds.tolist()):
        assert len(set(phase[begin:end].tolist())) == 1
        assert sum(lengths[begin:end]) <= 1.5 * size + 100


def _arranged(count: int, *, ordered: tuple[int, ...]) -> Rows:
    """Conversations of log-normal length in two phases of rows of 2048 tokens."""
    lengths = np.clip(np.random.default_rng(0).lognormal(5.5, 1, count), 8, 2048).astype(np.int64)
    return arrange(
        lengths,
        splittable=np.zeros(count, np.bool_),
        prompts=np.arange(count),
        phase=(np.arange(count) >= count // 2).astype(np.int64),
        capacity=2048,
        seed=3,
        ordered=ordered,
    )


@pytest.mark.parametrize("count", [600, 20_000])
def test_a_curriculum_survives_packing(count: int) -> None:
    """In an ordered phase a document lies where the mixture put it, to within one window."""
    rows = _arranged(count, ordered=(1,))
    row_of = np.repeat(np.arange(len(rows)), np.diff(rows.bounds))
    for phase, window in ((0, 1.0), (1, max(1 / ORDERED_WINDOWS, LEAST_ROWS * 2 / len(rows)))):
        inside = rows.phase[row_of] == phase
        drawn = rows.draw[inside] - rows.draw[inside].min()
        moved = np.abs(
            drawn / drawn.max() - (row_of[inside] - row_of[inside].min()) / np.ptp(row_of[inside])
        )
        assert moved.max() <= 2 * window
        falling = [part.mean() for part in np.array_split(drawn, 10)]
        assert (np.diff(falling) > 0).all() == (phase == 1)
    assert rows.waste < (ORDERED_WINDOWS + 2) / len(rows)


def test_phases_without_a_curriculum_stay_as_they_were() -> None:
    """A curriculum in one phase changes no row of the other."""
    plain, ordered = _arranged(600, ordered=()), _arranged(600, ordered=(1,))
    first = int((plain.phase == 0).sum())
    assert first == int((ordered.phase == 0).sum())
    cut_off = int(plain.bounds[first])
    assert (plain.bounds[: first + 1] == ordered.bounds[: first + 1]).all()
    assert (plain.draw[:cut_off] == ordered.draw[:cut_off]).all()


def test_cut_splits_texts_only() -> None:
    """A text of 70 tokens is 32 + 32 + 6; a conversation of 70 is too long."""
    pieces = cut(np.array([70, 70, 32]), np.array([True, False, False]), CAPACITY)
    assert pieces.draw.tolist() == [0, 0, 0, 2]
    assert pieces.start.tolist() == [0, 32, 64, 0]
    assert pieces.length.tolist() == [32, 32, 6, 32]
    assert pieces.too_long.tolist() == [1]


def test_phases_out_of_order_are_refused() -> None:
    """The mixture order must rise in phase."""
    with pytest.raises(DataError, match="phases"):
        arrange(
            np.array([1, 1]),
            splittable=np.array([True, True]),
            prompts=np.array([1, 2]),
            phase=np.array([1, 0]),
            capacity=4,
            seed=0,
        )


def documents(sizes: list[int]) -> list[pa.RecordBatch]:
    """Two batches of documents; token j of document i is 1000 i + j, every third is trained."""
    rows = [
        {
            "record_id": f"r{i}",
            "input_ids": [1000 * i + j for j in range(size)],
            "loss_mask": [int(j % 3 == 0) for j in range(size)],
            "n_tokens": size,
            "splittable": True,
            "prompt_hash": i,
        }
        for i, size in enumerate(sizes)
    ]
    half = len(rows) // 2
    batches = [
        pa.RecordBatch.from_pylist(part, schema=DOCUMENT_SCHEMA)
        for part in (rows[:half], rows[half - 1 :])
    ]
    return [batches[0], batches[1].slice(1)]


def test_token_rows_hold_what_rows_say() -> None:
    """Columns agree with each other and with the documents, over chunks, slices and repeats."""
    sizes = [5, 80, 31, 7, 1, 33, 12]
    store = Documents(documents(sizes))
    assert store.n_tokens.tolist() == sizes
    drawn = np.array([6, 1, 0, 3, 5, 2, 4, 0, 6])
    category = drawn % 2
    rows = arrange(
        store.n_tokens[drawn],
        splittable=store.splittable[drawn],
        prompts=store.prompts[drawn],
        phase=np.array([0] * 7 + [1] * 2),
        capacity=CAPACITY,
        seed=1,
    )
    batches = list(
        token_rows(
            rows,
            store,
            drawn=drawn,
            category=category,
            categories=["even", "odd"],
            phases=["one", "two"],
            batch_rows=3,
        )
    )
    assert all(batch.schema == TOKEN_ROW_SCHEMA for batch in batches)
    assert [batch.num_rows for batch in batches[:-1]] == [3] * (len(batches) - 1)
    found = [row for batch in batches for row in batch.to_pylist()]
    assert [row["phase"] for row in found] == sorted(row["phase"] for row in found)
    for row in found:
        ends = [*row["document_starts"][1:], row["n_tokens"]]
        assert row["document_starts"][0] == 0
        assert row["n_tokens"] == len(row["input_ids"]) == len(row["loss_mask"]) <= CAPACITY
        for n, (begin, end) in enumerate(zip(row["document_starts"], ends, strict=True)):
            document = int(row["record_ids"][n][1:])
            first = row["record_offsets"][n]
            span = range(first, first + end - begin)
            assert row["input_ids"][begin:end] == [1000 * document + j for j in span]
            assert row["loss_mask"][begin:end] == [int(j % 3 == 0) for j in span]
            assert row["trained_tokens"][n] == sum(row["loss_mask"][begin:end])
            assert row["categories"][n] == ("odd" if document % 2 else "even")
    assert sum(row["n_tokens"] for row in found) == sum(sizes[n] for n in drawn)


def test_nothing_to_pack() -> None:
    """No documents give no rows."""
    assert len(Documents([])) == 0
    none = np.zeros(0, dtype=np.int64)
    rows = arrange(none, splittable=none.astype(bool), prompts=none, phase=none, capacity=8, seed=0)
    assert isinstance(rows, Rows)
    assert len(rows) == 0
    assert rows.waste == 0


PROGRAM = """
import hashlib, numpy as np
from datagen.pack.arrange import arrange
rng = np.random.default_rng(0)
lengths = rng.integers(1, 200, 3000)
rows = arrange(lengths, splittable=lengths % 2 == 0, prompts=lengths * 7 % 50,
               phase=np.arange(3000) // 2000, capacity=256, seed=4, window_rows=300)
content = b"".join(column.tobytes() for column in (rows.draw, rows.start, rows.bounds))
print(hashlib.sha256(content).hexdigest())
"""


def test_rows_do_not_depend_on_the_hash_seed() -> None:
    """Equal inputs give equal rows in every process."""
    seen = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(seen) == 1

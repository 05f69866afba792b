"""Tables that somebody brings: every row in, every kept row out as it stood, errors with places."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.errors import DataError
from datagen.shards import tables
from datagen.shards.tables import (
    TextTable,
    find_tables,
    id_hashes,
    read_table,
    refuse_repeated_ids,
    write_rows,
)


def table_of(path: Path, **fields: str) -> TextTable:
    (found,) = find_tables([path], **{"id_field": "id", "text_field": "text", **fields})
    return found


def write_lines(path: Path, lines: list[bytes]) -> TextTable:
    content = b"\n".join(lines) + b"\n"
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return table_of(path)


def texts(table: TextTable) -> list[tuple[str, str]]:
    return [
        pair
        for batch in read_table(table, whole=False)
        for pair in zip(batch.ids.to_pylist(), batch.texts.to_pylist(), strict=True)
    ]


def copy(table: TextTable, directory: Path) -> Path:
    entry = write_rows(table, directory, (batch.rows for batch in read_table(table)))
    return directory / entry.path


rows_of = st.lists(
    st.fixed_dictionaries(
        {"text": st.none() | st.text(st.characters(codec="utf-8"), max_size=20)},
        optional={"more": st.integers(-9, 9) | st.lists(st.text(max_size=3), max_size=2)},
    ),
    min_size=1,
    max_size=8,
)


@given(rows=rows_of, batch=st.integers(1, 60), packed=st.booleans())
def test_lines_come_out_as_they_went_in(
    rows: list[dict[str, Any]], batch: int, packed: bool, tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.mktemp("lines")
    lines = [json.dumps({"id": i, **row}).encode() for i, row in enumerate(rows)]
    table = write_lines(folder / ("in.jsonl.gz" if packed else "in.jsonl"), lines)
    whole = tables.BATCH_BYTES
    try:
        tables.BATCH_BYTES = batch
        assert texts(table) == [(str(i), row["text"] or "") for i, row in enumerate(rows)]
        path = copy(table, folder / "out")
    finally:
        tables.BATCH_BYTES = whole
    content = path.read_bytes()
    assert (gzip.decompress(content) if packed else content).splitlines() == lines


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_parquet_keeps_its_schema_and_all_columns(tmp_path: Path, kind: pa.DataType) -> None:
    columns = {
        "more": pa.array([{"a": [1]}, None, {"a": []}]),
        "id": pa.array([7, 8, 9]),
        "text": pa.array(["one", None, "three"], kind),
    }
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    table = table_of(tmp_path / "in.parquet")
    assert texts(table) == [("7", "one"), ("8", ""), ("9", "three")]
    rows = (b.rows.filter(pa.array([True, False, True])) for b in read_table(table))
    write_rows(table, tmp_path / "out", rows)
    kept = pq.read_table(tmp_path / "out" / "in.parquet")
    if kind != pa.string_view():
        assert kept.schema == pq.read_schema(table.path)
    assert kept.to_pylist() == [pa.table(columns).to_pylist()[i] for i in (0, 2)]


def test_bytes_that_are_no_utf8_are_replaced_and_counted(tmp_path: Path) -> None:
    table = write_lines(tmp_path / "in.jsonl", [b'{"id": "a", "text": "x\xffy"}', b"", b'{"id":1}'])
    (batch,) = read_table(table)
    assert batch.texts.to_pylist() == ["x�y", ""]
    assert batch.mended == 1
    assert json.loads(copy(table, tmp_path / "out").read_text().splitlines()[0])["text"] == "x�y"
    table = write_lines(tmp_path / "half.jsonl", [b'{"id": "a", "text": "x\\ud800"}'])
    assert texts(table)[0][1].startswith("x�")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([b'{"id": 1, "text": "a"}', b"{"], ":2: not JSON"),
        ([b"[1]"], ":1: a JSON list"),
        ([b'{"id": 1, "txt": "a"}'], ":1: no field 'text'; the fields are id, txt"),
        ([b'{"text": "a"}'], ":1: no field 'id'"),
        ([b'{"id": null, "text": "a"}'], ":1: the id in 'id' is null"),
        ([b'{"id": 1.5, "text": "a"}'], ":1: id 1.5"),
        ([b'{"id": 1, "text": ["a"]}'], ":1: field 'text' holds a list"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, lines: list[bytes], said: str) -> None:
    with pytest.raises(DataError) as caught:
        texts(write_lines(tmp_path / "in.jsonl", lines))
    assert f"in.jsonl{said}" in str(caught.value)
    assert caught.value.fix


def test_bad_parquet_and_missing_files_are_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1], "text": [2]}), tmp_path / "in.parquet")
    with pytest.raises(DataError, match="holds int64, which is no text"):
        texts(table_of(tmp_path / "in.parquet"))
    with pytest.raises(DataError, match="no field 'body'; the fields are id, text"):
        texts(table_of(tmp_path / "in.parquet", text_field="body"))
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"cut.parquet: cannot be read"):
        texts(table_of(tmp_path / "cut.parquet"))
    for name, said in (("none.jsonl", "no such file"), ("in.txt", "neither")):
        (tmp_path / "in.txt").touch()
        with pytest.raises(DataError, match=said):
            table_of(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="lies in this folder"):
        find_tables([tmp_path / "empty"], id_field="id", text_field="text")


def test_names_are_distinct_and_do_not_depend_on_order(tmp_path: Path) -> None:
    for name in ("a/x.jsonl", "b/x.jsonl"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text('{"id": 1, "text": "a"}\n')
    given_paths = [tmp_path / "b", tmp_path / "a" / "x.jsonl"]
    found = find_tables(given_paths, id_field="id", text_field="text")
    assert [table.name for table in found] == ["a/x.jsonl", "b/x.jsonl"]
    assert found == find_tables(given_paths[::-1], id_field="id", text_field="text")
    with pytest.raises(DataError, match="comes twice"):
        find_tables([tmp_path, tmp_path / "a"], id_field="id", text_field="text")


def test_an_id_that_stands_twice_is_refused_with_both_places(tmp_path: Path) -> None:
    one = write_lines(tmp_path / "a.jsonl", [b'{"id": "1", "text": ""}', b'{"id": 2, "text": ""}'])
    two = write_lines(tmp_path / "b.jsonl", [b'{"id": 3, "text": ""}', b'{"id": 1, "text": ""}'])
    found = [
        np.concatenate([id_hashes(batch.ids) for batch in read_table(table)])
        for table in (one, two)
    ]
    refuse_repeated_ids([one], found[:1])
    with pytest.raises(DataError, match=r"b.jsonl#1: the id '1' stands at .*a.jsonl#0"):
        refuse_repeated_ids([one, two], found)

"""Reading and drawing: every format gives the same rows, and a draw is a prefix of a larger one."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import csv

from datagen.errors import DataError, WorkspaceError
from datagen.record import Seed
from datagen.shards.records import read_seeds, seed_batch
from datagen.shards.sources import PlacedRow, SourceFile, draw_seeds, read_files, resolve_files

ROWS: list[dict[str, Any]] = [
    {"id": "a", "text": "one, two\nthree", "note": None},
    {"id": "b", "text": 'a "quoted" word', "note": "x"},
    {"id": "c", "text": "größe 東京", "note": None},
]


def _jsonl() -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def _csv(delimiter: str) -> bytes:
    sink = pa.BufferOutputStream()
    options = csv.WriteOptions(delimiter=delimiter, quoting_style="needed")
    csv.write_csv(pa.Table.from_pylist(ROWS), sink, options)
    return bytes(sink.getvalue())


def _zstd(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content).to_pybytes()


def _write(root: Path, name: str, content: bytes) -> list[SourceFile]:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(content)
    return [SourceFile(name, root / name)]


def _parquet(root: Path, rows: list[dict[str, Any]], **options: Any) -> list[SourceFile]:
    pq.write_table(pa.Table.from_pylist(rows), root / "rows.parquet", **options)
    return [SourceFile("rows.parquet", root / "rows.parquet")]


# --- which files ---------------------------------------------------------------------------------


def test_globs_resolve_sorted_and_once(tmp_path: Path) -> None:
    for name in ("data/b.jsonl", "data/a.jsonl", "data/deep/c.jsonl", "data/d.txt"):
        _write(tmp_path, name, b"")
    found = resolve_files(tmp_path, ["data/*.jsonl", "data/**/*.jsonl"], where="s.yaml:3")
    assert [file.name for file in found] == ["data/a.jsonl", "data/b.jsonl", "data/deep/c.jsonl"]
    assert [file.path for file in found] == [tmp_path / file.name for file in found]


@pytest.mark.parametrize(
    "pattern",
    ["../x.jsonl", "a/../../x", "/etc/passwd", "~/x", "a\0b", "", "$HOME/x", "${HOME}", "x/${A}/y"],
)
def test_paths_that_leave_the_workspace_are_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(WorkspaceError, match=r"is not a path inside the workspace") as caught:
        resolve_files(tmp_path, [pattern], where="s.yaml:3")
    assert caught.value.where == "s.yaml:3"
    assert caught.value.fix


def test_links_that_lead_outside_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    _write(tmp_path, "secret/x.jsonl", b"{}")
    _write(root, "data/inside.jsonl", b"{}")
    (root / "data/alias.jsonl").symlink_to(root / "data/inside.jsonl")
    assert len(resolve_files(root, ["data/*.jsonl"], where="s")) == 2
    (root / "data/out.jsonl").symlink_to(tmp_path / "secret/x.jsonl")
    with pytest.raises(WorkspaceError, match=r"leads outside its directory through 'out\.jsonl'"):
        resolve_files(root, ["data/*.jsonl"], where="s")
    (root / "linked").symlink_to(tmp_path / "secret")
    with pytest.raises(WorkspaceError, match="leads outside"):
        resolve_files(root, ["linked/x.jsonl"], where="s")


def test_a_variable_names_a_directory_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path, "wiki/a.jsonl", b"{}")
    monkeypatch.setenv("WIKI_DATA", str(tmp_path / "wiki"))
    (found,) = resolve_files(tmp_path / "none", ["${WIKI_DATA}/*.jsonl"], where="s")
    assert found == SourceFile("${WIKI_DATA}/a.jsonl", tmp_path / "wiki/a.jsonl")
    with pytest.raises(WorkspaceError, match="not a path inside"):
        resolve_files(tmp_path, ["${WIKI_DATA}/../secret"], where="s")
    for value in ("", "wiki", str(tmp_path / "absent")):
        monkeypatch.setenv("WIKI_DATA", value)
        with pytest.raises(WorkspaceError, match="export WIKI_DATA="):
            resolve_files(tmp_path, ["${WIKI_DATA}/*.jsonl"], where="s")


def test_a_pattern_without_a_match_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"no file matches 'none/\*'"):
        resolve_files(tmp_path, ["none/*"], where="s")


# --- their rows ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", _jsonl),
        ("rows.jsonl.gz", lambda: gzip.compress(_jsonl())),
        ("rows.jsonl.zst", lambda: _zstd(_jsonl())),
        ("rows.zst.jsonl", lambda: b"\xef\xbb\xbf" + _jsonl().replace(b"\n", b"\r\n\r\n")),
        ("two.jsonl.gz", lambda: gzip.compress(_jsonl()[:40]) + gzip.compress(_jsonl()[40:])),
        ("rows.csv", lambda: _csv(",")),
        ("rows.CSV.gz", lambda: gzip.compress(_csv(","))),
        ("rows.tsv", lambda: _csv("\t")),
        ("rows.tsv.zst", lambda: _zstd(_csv("\t"))),
    ],
)
def test_every_format_gives_the_same_rows(
    tmp_path: Path, name: str, content: Callable[[], bytes]
) -> None:
    files = _write(tmp_path, name, content())
    rows = list(read_files(files, columns=["id", "text", "note"]))
    assert [row.values for row in rows] == ROWS
    assert [row.place for row in rows] == [f"{name}#{n}" for n in range(3)]


def test_text_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    text = pa.array([b"fine", b"\xff\xfe"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": text}), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match="cannot be read") as caught:
        list(read_files([SourceFile("rows.parquet", tmp_path / "rows.parquet")], columns=["text"]))
    assert caught.value.where == "rows.parquet" and caught.value.fix


def test_places_of_two_directories_differ(tmp_path: Path) -> None:
    """Equal paths below two variables keep the variable in the place, so that keys differ."""
    files = [
        SourceFile(name, _write(tmp_path, f"{at}/rows.jsonl", _jsonl())[0].path)
        for at, name in [("a", "${A}/rows.jsonl"), ("b", "${B}/rows.jsonl")]
    ]
    rows = list(read_files(files, columns=["text"]))
    assert [row.place for row in rows[::3]] == ["${A}/rows.jsonl#0", "${B}/rows.jsonl#0"]
    assert len(list(draw_seeds(rows, source="s", content="text", licence="CC0-1.0"))) == 6
    (alone, *_) = read_files(files[:1], columns=["text"])
    assert alone.place == "rows.jsonl#0"


def test_a_place_that_stands_twice_names_a_remedy() -> None:
    rows = [PlacedRow("x#0", {"text": "one"})] * 2
    with pytest.raises(DataError, match="the key 'x#0' of source 's' stands twice") as caught:
        list(draw_seeds(rows, source="s", content="text", licence="CC0-1.0"))
    assert "None" not in str(caught.value.fix)


def test_parquet_keeps_nesting_and_nulls(tmp_path: Path) -> None:
    rows = [
        {"id": n, "turns": [{"role": "user", "tags": ["x", None]}] if n % 2 else None, "when": None}
        for n in range(1000)
    ]
    rows[0]["when"] = datetime(2024, 1, 2)
    read = list(read_files(_parquet(tmp_path, rows), columns=["id", "turns", "when"]))
    assert [row.values for row in read] == rows


def test_csv_cells_are_text_and_only_unquoted_empty_ones_null(tmp_path: Path) -> None:
    files = _write(tmp_path, "x.csv", b'a,b,c\n007,"",\n1e5,NA,true\n')
    rows = [row.values for row in read_files(files, columns=["a", "b", "c"])]
    assert rows == [{"a": "007", "b": "", "c": None}, {"a": "1e5", "b": "NA", "c": "true"}]


def test_renamed_columns_take_the_manifests_names(tmp_path: Path) -> None:
    files = _write(tmp_path, "x.jsonl", b'{"body": "b", "url": "u", "z": 1}\n')
    (row,) = read_files(files, columns=["text", "url"], rename={"body": "text"})
    assert row.values == {"text": "b", "url": "u"}


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "parquet"])
def test_a_missing_column_names_those_there_are(tmp_path: Path, suffix: str) -> None:
    contents = {"jsonl": _jsonl(), "csv": _csv(","), "tsv": _csv("\t")}
    if suffix == "parquet":
        files = _parquet(tmp_path, ROWS)
    else:
        files = _write(tmp_path, f"rows.{suffix}", contents[suffix])
    with pytest.raises(DataError, match=r"no column 'body'; the columns are id, note, text") as e:
        list(read_files(files, columns=["id", "body"]))
    assert e.value.where == f"rows.{suffix}"
    assert "rename:" in str(e.value.fix)


def test_a_key_that_only_some_lines_have_is_null_elsewhere(tmp_path: Path) -> None:
    files = _write(tmp_path, "x.jsonl", b'{"a": 1}\n{"a": 2, "b": 3}\n')
    assert [row.values["b"] for row in read_files(files, columns=["a", "b"])] == [None, 3]


@pytest.mark.parametrize(
    ("line", "problem"),
    [(b'{"a": ', "not JSON"), (b"[1]", "a JSON list"), (b'{"a": "\xff"}', "not JSON")],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, problem: str) -> None:
    files = _write(tmp_path, "x.jsonl", b'{"a": 1}\n\n' + line + b"\n")
    with pytest.raises(DataError, match=problem) as caught:
        list(read_files(files, columns=["a"]))
    assert caught.value.where == "x.jsonl:3"


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.jsonl.zst", "x.csv.gz"])
def test_a_cut_archive_is_refused(tmp_path: Path, name: str) -> None:
    plain = b"a\n" + os.urandom(3000).hex().encode() if "csv" in name else b'{"a": 1}\n' * 500
    packed = _zstd(plain) if name.endswith("zst") else gzip.compress(plain)
    with pytest.raises(DataError, match="cannot be read"):
        list(read_files(_write(tmp_path, name, packed[:-9]), columns=["a"]))


def test_a_flipped_bit_in_a_checked_parquet_page_is_refused(tmp_path: Path) -> None:
    rows = [{"text": os.urandom(20).hex()} for _ in range(200)]
    files = _parquet(tmp_path, rows, write_page_checksum=True, use_dictionary=False)
    content = bytearray(files[0].path.read_bytes())
    content[len(content) // 2] ^= 16
    files[0].path.write_bytes(content)
    with pytest.raises(DataError, match=r"rows\.parquet: cannot be read"):
        list(read_files(files, columns=["text"]))


def test_bytes_have_no_json_form(tmp_path: Path) -> None:
    files = _parquet(tmp_path, [{"id": 1, "image": {"bytes": b"x"}}])
    with pytest.raises(DataError, match="drop 'image'"):
        list(read_files(files, columns=["id", "image"]))
    assert len(list(read_files(files, columns=["id"]))) == 1


def test_an_unknown_suffix_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no reader for files that end in '\.txt\.gz'"):
        list(read_files(_write(tmp_path, "x.txt.gz", b""), columns=["a"]))


# --- the seeds drawn from them -------------------------------------------------------------------


def _placed(rows: list[dict[str, Any]]) -> list[PlacedRow]:
    return [PlacedRow(f"f#{n}", row) for n, row in enumerate(rows)]


def _draw(rows: list[PlacedRow], content: str = "text", **options: Any) -> list[Seed]:
    return list(draw_seeds(rows, source="s", content=content, licence="MIT", **options))


@settings(max_examples=30, deadline=None)
@given(
    texts=st.lists(st.sampled_from(["", " ", "a", "b"]), max_size=40),
    limit=st.integers(1, 50),
    seed=st.integers(0, 2**32),
)
def test_a_larger_limit_only_appends(texts: list[str], limit: int, seed: int) -> None:
    rows = _placed([{"text": text} for text in texts])
    counts: Counter[str] = Counter()
    every = _draw(rows, seed=seed, counts=counts)
    assert _draw(rows, seed=seed, limit=limit) == every[:limit]
    assert {item.row_key for item in every} == {r.place for r in rows if r.values["text"].strip()}
    assert counts["drawn"] + counts["empty"] == counts["read"] == len(texts)


def test_another_seed_draws_other_rows() -> None:
    rows = _placed([{"text": str(n)} for n in range(500)])
    first, second = ({s.row_key for s in _draw(rows, seed=seed, limit=50)} for seed in (1, 2))
    assert first != second
    assert min(int(key[2:]) for key in first | second) < 100
    assert max(int(key[2:]) for key in first | second) > 400


def test_a_limited_draw_reads_one_block_of_a_stream() -> None:
    def endless() -> Iterator[PlacedRow]:
        number = 0
        while True:
            yield PlacedRow(f"f#{number}", {"text": "x"})
            number += 1

    counts: Counter[str] = Counter()
    draw = draw_seeds(endless(), source="s", content="text", licence="x", limit=3, counts=counts)
    assert len(list(draw)) == 3
    assert counts["read"] == 4096


def test_keys_are_text_and_unique() -> None:
    rows = _placed([{"id": 7, "text": "x"}, {"id": 8, "text": "y"}])
    assert {seed.row_key for seed in _draw(rows, key="id")} == {"7", "8"}
    with pytest.raises(DataError, match="the key 7 of source 's' stands twice") as caught:
        _draw(_placed([*(row.values for row in rows), {"id": 7, "text": "z"}]), key="id")
    assert caught.value.where == "f#2"
    with pytest.raises(DataError, match="is null"):
        _draw(_placed([{"id": None, "text": "z"}]), key="id")


def test_a_rows_own_licence_comes_first() -> None:
    rows = _placed(
        [{"text": str(n), "terms": terms} for n, terms in enumerate(["BSD", None, ["a", "b"]])]
    )
    drawn = {seed.row_key: seed.licence for seed in _draw(rows, licence_column="terms")}
    assert drawn == {"f#0": "BSD", "f#1": "MIT", "f#2": "a, b"}


def test_seeds_survive_the_shard(tmp_path: Path) -> None:
    rows = [{"text": "x", "when": datetime(2024, 1, 2), "n": [1, None]}]
    drawn = _draw(list(read_files(_parquet(tmp_path, rows), columns=["text", "when", "n"])))
    pq.write_table(pa.Table.from_batches([seed_batch(drawn)]), tmp_path / "seeds.parquet")
    (seed,) = read_seeds([tmp_path / "seeds.parquet"])
    assert seed.row == {"text": "x", "when": "2024-01-02T00:00:00", "n": [1, None]}


@pytest.mark.skipif("DATAGEN_DATA" not in os.environ, reason="DATAGEN_DATA is not set")
def test_real_pages(tmp_path: Path) -> None:
    """A draw of 300 of 3,000 real pages sees every size band of the file."""
    files = resolve_files(
        tmp_path, ["${DATAGEN_DATA}/wiki/wikipedia_en_articles.jsonl.gz"], where="s"
    )
    rows = list(read_files(files, columns=["title", "text", "url", "size_band"]))
    drawn = _draw(rows, key="url", limit=300)
    assert len(rows) == 3000
    assert len({seed.row["size_band"] for seed in drawn}) == 5

"""SQL over a finished build: from a token to its seed, and nothing can be written."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.errors import DataError
from datagen.shards.explain import explain
from datagen.shards.manifest import ShardManifest, read_manifest, write_manifest
from datagen.shards.parquet import write_parquet
from datagen.shards.schema import TOKEN_ROW_SCHEMA
from datagen.shards.sql import VIEWS, closure, connect, query
from tests.shards.built import FINGERPRINT, Built, make_build


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return make_build(tmp_path_factory.mktemp("sql") / "out")


@pytest.fixture(scope="module")
def connection(built: Built) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(built.directory, built.out) as opened:
        yield opened


def _tree(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# --- the views -----------------------------------------------------------------------------------


def test_a_token_leads_back_to_its_seed_prompt_and_licence(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    answer = query(
        connection,
        """SELECT d.row, d.position, s.title, r.licence, c.answer
           FROM documents d JOIN records r ON r.id = d.record_id
           JOIN sources s USING (source, row_key) JOIN calls c ON c.key = r.calls[1]
           ORDER BY d.row, d.position""",
    )
    assert answer.columns == ("row", "position", "title", "licence", "answer")
    assert answer.rows == [
        (0, 0, "Granite", "CC-BY-SA-4.0", "answer of call-2"),
        (0, 4, "Lava", "CC-BY-SA-4.0", "answer of call-3"),
        (1, 0, "Lava", "CC-BY-SA-4.0", "answer of call-3"),
        (2, 0, "Granite", "CC-BY-SA-4.0", "answer of call-2"),
    ]


def test_documents_are_the_pieces_of_the_rows(connection: duckdb.DuckDBPyConnection) -> None:
    rows = query(connection, "SELECT row, shard, n_tokens FROM rows ORDER BY row").rows
    assert rows == [
        (0, "shards/0.parquet", 7),
        (1, "shards/1.parquet", 2),
        (2, "shards/1.parquet", 4),
    ]
    pieces = "SELECT row, sum(tokens), sum(trained_tokens) FROM documents GROUP BY row ORDER BY row"
    wholes = "SELECT row, n_tokens, list_sum(loss_mask) FROM rows ORDER BY row"
    assert query(connection, pieces).rows == query(connection, wholes).rows


def test_records_are_the_curated_ones_and_rejects_those_of_every_step(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    ids = query(connection, "SELECT id, metadata->>'kind' FROM records ORDER BY id").rows
    assert ids == [("aaaaaa11", "short_answer"), ("aaaaaa22", None)]
    rejects = query(connection, "SELECT step, reason FROM rejects ORDER BY step").rows
    assert rejects == [("filter/facts@wiki", "too_short"), ("generate/facts@wiki", "no_fact")]
    chain = query(connection, "SELECT extra->>'chain' FROM steps WHERE kind = 'filter'").rows
    assert chain == [("qa",)]
    mixture = query(connection, "SELECT category, realised, epochs FROM mixture").rows
    assert mixture == [("wiki", 58.5, 1.0), ("facts", 41.5, None)]


@pytest.mark.parametrize("view", VIEWS)
def test_a_build_without_a_kind_has_its_view_empty(
    built: Built, connection: duckdb.DuckDBPyConnection, tmp_path: Path, view: str
) -> None:
    manifest = ShardManifest(
        kind="pack", step="pack", fingerprint="0", files=(), inputs={}, code_version="1"
    )
    directory = tmp_path / "pack/0"
    directory.mkdir(parents=True)
    write_manifest(directory, manifest)
    with connect(directory, tmp_path) as empty:
        described = f"SELECT column_name, column_type FROM (DESCRIBE {view})"
        assert query(empty, described) == query(connection, described)
        assert query(empty, f"FROM {view}").rows == [] or view == "steps"


@settings(max_examples=8, deadline=None)
@given(shards=st.lists(st.lists(st.integers(1, 70), max_size=4), min_size=1, max_size=5))
def test_row_numbers_run_through_all_shards_in_order(shards: list[list[int]]) -> None:
    """Row i of the view is the i-th row of the shards, whatever their row groups and threads."""
    with TemporaryDirectory() as name:
        root, entries, number = Path(name), [], 0
        for index, groups in enumerate(shards):
            batches = []
            for rows in groups:
                listed = [{"input_ids": [n], "n_tokens": 1} for n in range(number, number + rows)]
                batches.append(pa.RecordBatch.from_pylist(listed, schema=TOKEN_ROW_SCHEMA))
                number += rows
            path = f"shards/{index}.parquet"
            entries.append(write_parquet(root / "pack/0", path, batches, TOKEN_ROW_SCHEMA))
        manifest = ShardManifest(
            kind="pack",
            step="pack",
            fingerprint="0",
            files=tuple(entries),
            inputs={},
            code_version="1",
        )
        write_manifest(root / "pack/0", manifest)
        with connect(root / "pack/0", root, threads=4) as opened:
            wrong = "SELECT count(*), count(*) FILTER (row <> input_ids[1]) FROM rows"
            assert query(opened, wrong).rows == [(number, 0)]
            last = "SELECT input_ids[1] FROM rows WHERE row = $row"
            assert query(opened, last, values={"row": number - 1}).rows == (
                [(number - 1,)] if number else []
            )


# --- what may be asked ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "-- said first\nWITH a AS (SELECT 1) SELECT * FROM a;",
        "FROM rows",
        "VALUES (1)",
        "DESCRIBE rows",
        "SHOW TABLES",
        "SUMMARIZE documents",
        "EXPLAIN SELECT 1",
        "explain analyze select 1",
        "EXPLAIN (FORMAT json) SELECT 1",
    ],
)
def test_reading_statements_answer(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    assert query(connection, sql).rows


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "SELECT 1; SELECT 2",
        "DROP VIEW rows",
        "CREATE TABLE t (a INT)",
        "COPY (SELECT 1) TO '{shard}'",
        "COPY (SELECT 1) TO '{shard}' (USE_TMP_FILE false)",
        "WITH x AS (COPY (SELECT 1) TO '{shard}' (USE_TMP_FILE false)) SELECT * FROM x",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{shard}'",
        "SELECT * FROM query('COPY (SELECT 1) TO ''{shard}''')",
        "INSERT INTO mixture VALUES ('x', 1, 1, 1, 1)",
        "WITH x AS (INSERT INTO mixture VALUES ('x', 1, 1, 1, 1) RETURNING 1) SELECT * FROM x",
        "DELETE FROM rows",
        "ATTACH '{out}/a.db'",
        "EXPORT DATABASE '{out}/x'",
        "SET threads = 8",
        "SET enable_external_access = true",
        "PRAGMA enable_profiling",
        "INSTALL httpfs",
        "LOAD httpfs",
        "CALL pragma_version()",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '{shard}'",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM read_parquet('https://127.0.0.1:9/x.parquet')",
        "SELECT * FROM built",
    ],
)
def test_nothing_is_written_and_no_other_file_read(
    built: Built, connection: duckdb.DuckDBPyConnection, sql: str
) -> None:
    before = _tree(built.out)
    shard = built.directory / "shards/0.parquet"
    with pytest.raises(DataError) as caught:
        query(connection, sql.format(out=built.out, shard=shard))
    assert caught.value.exit_code == 4
    assert caught.value.fix
    assert _tree(built.out) == before


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT * FROM nope", "nope does not exist"),
        ("SELECT nope FROM rows", "nope"),
        ("SELECT 'a'::INT", "Could not convert"),
    ],
)
def test_wrong_sql_is_said_on_one_screen_with_the_views(
    connection: duckdb.DuckDBPyConnection, sql: str, said: str
) -> None:
    with pytest.raises(DataError, match=said) as caught:
        query(connection, sql)
    assert len(str(caught.value).splitlines()) < 16
    assert all(view in str(caught.value.fix) for view in VIEWS)


def test_a_limit_cuts_the_answer(connection: duckdb.DuckDBPyConnection) -> None:
    assert len(query(connection, "FROM rows", limit=2).rows) == 2


# --- damage --------------------------------------------------------------------------------------


@pytest.fixture
def copied(built: Built, tmp_path: Path) -> Built:
    shutil.copytree(built.out, tmp_path / "out")
    return Built(out=tmp_path / "out", directory=tmp_path / "out/pack" / FINGERPRINT)


def _flip(path: Path, content: bytes, bit: int) -> None:
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(damaged)


def test_a_flipped_bit_anywhere_is_found(copied: Built) -> None:
    shard = copied.directory / "shards/0.parquet"
    content = shard.read_bytes()
    for bit in range(0, len(content) * 8, 1009):
        _flip(shard, content, bit)
        with pytest.raises(DataError, match=r"shards/0\.parquet: sha256"):
            connect(copied.directory, copied.out)


def test_a_flipped_bit_in_a_page_is_found_without_hashing(copied: Built) -> None:
    """Steps too large to hash rest on page checksums, which DuckDB's own reader ignores."""
    shard = copied.directory / "shards/0.parquet"
    content = shard.read_bytes()
    column = pq.ParquetFile(shard).metadata.row_group(0).column(0)
    end = column.data_page_offset + column.total_compressed_size
    for byte in range(end - 10, end):
        _flip(shard, content, byte * 8 + byte % 8)
        with (
            connect(copied.directory, copied.out, hash_bytes=0) as opened,
            pytest.raises(DataError, match="a shard cannot be read"),
        ):
            query(opened, "SELECT input_ids FROM rows")


def test_a_resized_or_missing_file_is_named(copied: Built) -> None:
    shard = copied.out / "generate/facts@wiki" / FINGERPRINT / "calls/0.parquet"
    shard.write_bytes(shard.read_bytes()[:-1])
    for hash_bytes in (0, 1 << 30):
        with pytest.raises(DataError, match=r"calls/0\.parquet: \d+ bytes, the manifest says"):
            connect(copied.directory, copied.out, hash_bytes=hash_bytes)
    shard.unlink()
    for hash_bytes in (0, 1 << 30):
        with pytest.raises(DataError, match=r"calls/0\.parquet: missing"):
            connect(copied.directory, copied.out, hash_bytes=hash_bytes)


def test_a_build_without_its_upstream_is_refused(copied: Built) -> None:
    shutil.rmtree(copied.out / "seeds")
    with pytest.raises(DataError, match="no finished step here"):
        connect(copied.directory, copied.out)


def test_a_link_to_a_build_is_followed(copied: Built) -> None:
    (copied.out / "latest").mkdir()
    (copied.out / "latest/ultra").symlink_to(copied.directory)
    steps = closure(copied.out / "latest/ultra", copied.out)
    assert next(step.manifest.kind for step in steps) == "pack"
    assert len(steps) == 6
    with connect(copied.out / "latest/ultra", copied.out) as opened:
        assert query(opened, "SELECT count(*) FROM rows").rows == [(3,)]


# --- explain -------------------------------------------------------------------------------------


def test_a_kept_record_shows_its_whole_way(connection: duckdb.DuckDBPyConnection) -> None:
    told = explain(connection, "aaaaaa1")
    assert told.record_id == "aaaaaa11"
    assert told.record is not None
    assert told.record["metadata"] == {"kind": "short_answer"}
    assert told.seed is not None
    assert told.seed["row"] == {"text": "Granite is a thing.", "title": "Granite"}
    assert [call["key"] for call in told.calls] == ["call-2", "call-1"]
    assert told.calls[0]["messages"] == [{"role": "user", "content": "What is it?"}]
    assert [stage.kind for stage in told.stages] == ["generate", "filter", "dedup"]
    assert told.stages[1].extra == {"chain": "qa"}
    assert [(p["shard"], p["row"], p["position"], p["tokens"]) for p in told.places] == [
        ("shards/0.parquet", 0, 0, 4),
        ("shards/1.parquet", 2, 0, 4),
    ]
    assert told.rejects == ()


def test_a_rejected_record_shows_where_and_why(connection: duckdb.DuckDBPyConnection) -> None:
    told = explain(connection, "bbbbbb33")
    assert [stage.kind for stage in told.stages] == ["generate"]
    assert told.record is not None
    assert told.record["text"] == "dull"
    assert [(r["step"], r["reason"]) for r in told.rejects] == [("filter/facts@wiki", "too_short")]
    assert told.places == ()


@pytest.mark.parametrize(
    ("record_id", "said"),
    [
        ("aaaaaa", "begins the ids of several records: aaaaaa11, aaaaaa22"),
        ("aaaaa", "too short"),
        ("cccccc", "no record of this build"),
        ("%%%%%%", "no record of this build"),
        ("'; DROP VIEW rows; --", "no record of this build"),
    ],
)
def test_an_id_that_names_no_single_record(
    connection: duckdb.DuckDBPyConnection, record_id: str, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        explain(connection, record_id)


def test_manifests_read_back_as_written(built: Built, tmp_path: Path) -> None:
    manifest = read_manifest(built.directory)
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert replace(manifest, extra={}) != manifest

"""SQL over a finished build and everything it was made from: views in an in-memory DuckDB.

DuckDB never opens a file. It scans Arrow datasets, so that page checksums are verified (its own
reader returns wrong values for a flipped bit) and no statement, however nested, can write.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from datagen.errors import DataError
from datagen.shards.manifest import ShardManifest, read_manifest, verify_files
from datagen.shards.records import json_text
from datagen.shards.schema import (
    CALL_SCHEMA,
    CLUSTER_SCHEMA,
    CONTAMINATION_SCHEMA,
    DIVERSITY_SCHEMA,
    HISTOGRAM_SCHEMA,
    RECORD_SCHEMA,
    REJECT_SCHEMA,
    SEED_SCHEMA,
    TOKEN_ROW_SCHEMA,
)

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

HASH_BYTES = 1 << 30
RECORD_KINDS = ("generate", "filter", "decontaminate", "dedup", "semantic", "repeats", "balance")
FINAL_KINDS = ("balance", "repeats", "semantic", "dedup")
"""Kinds of the steps whose records may go into a build: the first one that a draw has."""
VIEWS = (
    *("rows", "documents", "records", "rejects", "calls", "sources", "mixture", "steps"),
    *("counts", "contamination", "clusters", "diversity", "histograms"),
)

_MIXTURE_SCHEMA = pa.schema(
    [
        ("phase", pa.string()),
        ("category", pa.string()),
        ("requested", pa.float64()),
        ("realised", pa.float64()),
        ("tokens", pa.int64()),
        ("epochs", pa.float64()),
        ("capped", pa.bool_()),
    ]
)
_STEP_SCHEMA = pa.schema(
    [
        ("step", pa.string()),
        ("kind", pa.string()),
        ("fingerprint", pa.string()),
        ("code_version", pa.string()),
        ("rows", pa.int64()),
        ("extra", pa.string()),
    ]
)
_VIEW_SQL = {
    "rows": "SELECT row_number() OVER () - 1 AS row, file AS shard, * EXCLUDE (step, file) "
    "FROM internal.rows",
    "documents": """
        SELECT record_ids[i] AS record_id, row, document_starts[i] AS position,
               coalesce(document_starts[i + 1], n_tokens) - document_starts[i] AS tokens,
               trained_tokens[i] AS trained_tokens, record_offsets[i] AS record_offset,
               categories[i] AS category, phase
        FROM (SELECT row, record_ids, document_starts, n_tokens, trained_tokens, record_offsets,
                     categories, phase, unnest(range(1, len(record_ids) + 1)) AS i FROM rows)""",
    "records": """
        SELECT id, text, messages, lineage.generator, lineage.version, lineage.source,
               lineage.source_revision, lineage.row_key, lineage.licence, lineage.model,
               lineage.model_revision, lineage.model_licence, lineage.prompts, lineage.calls,
               lineage.parents, lineage.fingerprint, metadata::JSON AS metadata, step
        FROM internal.records""",
    "rejects": "SELECT * EXCLUDE (file) FROM internal.rejects",
    "calls": "SELECT * EXCLUDE (file) FROM internal.calls",
    "sources": """
        SELECT source, row_key, licence, json_extract_string(row, '$.title') AS title,
               row::JSON AS row FROM internal.seeds""",
    "mixture": "SELECT * FROM internal.mixture",
    "counts": """
        SELECT NULL AS generator, source, 'seeds' AS stage, 'kept' AS status, NULL AS reason,
               count(*) AS n FROM internal.seeds GROUP BY ALL
        UNION ALL
        SELECT lineage.generator, lineage.source, split_part(step, '/', 1), 'kept', NULL, count(*)
        FROM internal.stages GROUP BY ALL
        UNION ALL
        SELECT nullif(generator, ''), source, split_part(stage, '/', 1), status, reason, count(*)
        FROM internal.rejects GROUP BY ALL""",
    "contamination": "SELECT * EXCLUDE (step, file) FROM internal.contamination",
    "clusters": "SELECT * EXCLUDE (step, file) FROM internal.clusters",
    "diversity": "SELECT * EXCLUDE (step, file) FROM internal.diversity",
    "histograms": "SELECT * EXCLUDE (step, file) FROM internal.histograms",
    "steps": "SELECT * REPLACE (extra::JSON AS extra) FROM internal.steps",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedStep:
    """A step's directory and its manifest."""

    directory: Path
    manifest: ShardManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a query returned: column names and rows, in order."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def closure(build: Path, out: Path) -> list[FinishedStep]:
    """Collect the build's step, first, and all that it was made from, by name.

    Raises DataError where an upstream step is gone.
    """
    first = FinishedStep(directory=build.resolve(), manifest=read_manifest(build.resolve()))
    found: dict[tuple[str, str], FinishedStep] = {}
    waiting = list(first.manifest.inputs.items())
    while waiting:
        name, fingerprint = waiting.pop()
        if (name, fingerprint) in found:
            continue
        directory = out.resolve() / name / fingerprint
        manifest = read_manifest(directory)
        found[name, fingerprint] = FinishedStep(directory=directory, manifest=manifest)
        waiting.extend(manifest.inputs.items())
    return [first, *(found[key] for key in sorted(found))]


def final_records(steps: Iterable[FinishedStep]) -> list[FinishedStep]:
    """The steps whose records go into the build: of each draw the last one."""
    steps = [step for step in steps if step.manifest.kind in FINAL_KINDS]
    finals: dict[str, FinishedStep] = {}
    for step in sorted(steps, key=lambda step: FINAL_KINDS.index(step.manifest.kind)):
        finals.setdefault(_draw(step), step)
    return [step for step in steps if finals[_draw(step)] is step]


def _draw(step: FinishedStep) -> str:
    return step.manifest.step.partition("/")[2]


def connect(
    build: Path,
    out: Path,
    *,
    memory_limit: str = "2GB",
    threads: int | None = None,
    hash_bytes: int = HASH_BYTES,
) -> DuckDBPyConnection:
    """Open an in-memory database with VIEWS over the build in `build` and its upstream in `out`.

    Files are compared with their manifests here, by hash while the steps so far, smallest first,
    sum up to `hash_bytes`, else by size; page checksums are verified whenever a page is read. What
    this leaves open, in steps too large to hash, is a Parquet footer damaged without changing its
    size. Raises DataError for a file that differs.
    """
    import duckdb

    steps = closure(build, out)
    _check_files(steps, hash_bytes)
    settings = {
        "memory_limit": memory_limit,
        "threads": str(threads or min(4, os.cpu_count() or 1)),
        "temp_directory": str(Path(tempfile.gettempdir()) / f"datagen-sql-{os.getpid()}"),
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "python_enable_replacements": "false",
    }
    connection = duckdb.connect(":memory:")
    for name, value in settings.items():
        connection.execute(f"SET {name} = '{value}'")
    connection.execute("CREATE SCHEMA internal")
    connection.execute("USE internal")
    for name, relation in _relations(steps).items():
        connection.from_arrow(relation).create_view(name)
    connection.execute("USE main")
    for name, statement in _VIEW_SQL.items():
        connection.execute(f"CREATE VIEW {name} AS {statement}")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def query(
    connection: DuckDBPyConnection,
    sql: str,
    *,
    values: Mapping[str, Any] | None = None,
    limit: int | None = None,
) -> Answer:
    """Run one reading statement, `$name` taken from `values`; return its rows, at most `limit`.

    SELECT, WITH, FROM, VALUES, DESCRIBE, SHOW, SUMMARIZE and EXPLAIN read; DataError for any other
    statement, for SQL that DuckDB refuses, and for damaged shards.
    """
    import duckdb

    try:
        _refuse_writing(connection, sql)
        cursor = connection.execute(sql, values)
        columns = tuple(column[0] for column in cursor.description or ())
        return Answer(
            columns=columns, rows=cursor.fetchall() if limit is None else cursor.fetchmany(limit)
        )
    except duckdb.Error as error:
        raise _sql_error(error) from error


def _check_files(steps: Iterable[FinishedStep], hash_bytes: int) -> None:
    problems = []
    for step in sorted(steps, key=lambda step: sum(e.bytes for e in step.manifest.files)):
        files = step.manifest.files
        hash_bytes -= sum(entry.bytes for entry in files)
        if hash_bytes >= 0:
            problems += verify_files(step.directory, files)
        else:
            problems += _resized(step)
    if problems:
        raise DataError(
            "\n  ".join(problems[:10]),
            fix="delete the step's directory and build again: the ledger keeps every answer",
        )


def _resized(step: FinishedStep) -> list[str]:
    problems = []
    for entry in step.manifest.files:
        path = step.directory / entry.path
        found = path.stat().st_size if path.is_file() else None
        if found != entry.bytes:
            said = "missing" if found is None else f"{found} bytes"
            problems.append(f"{path}: {said}, the manifest says {entry.bytes}")
    return problems


def _relations(steps: list[FinishedStep]) -> dict[str, Any]:
    build = steps[0].manifest
    mixture = [{name: row.get(name) for name in _MIXTURE_SCHEMA.names} for row in _mixture(build)]
    rows = [
        {name: getattr(s.manifest, name) for name in _STEP_SCHEMA.names if name != "extra"}
        | {"extra": json_text(s.manifest.extra)}
        for s in steps
    ]
    records = [s for s in steps if s.manifest.kind in RECORD_KINDS]
    measured = [s for s in steps if s.manifest.kind == "diversity"]
    joined = [s for s in steps if s.manifest.kind == "clusters"]
    return {
        "rows": _dataset(steps[:1], "shards", TOKEN_ROW_SCHEMA),
        "records": _dataset(final_records(steps), "shards"),
        "stages": _dataset(records, "shards"),
        "rejects": _dataset(steps, "rejects", REJECT_SCHEMA),
        "calls": _dataset(steps, "calls", CALL_SCHEMA),
        "seeds": _dataset([s for s in steps if s.manifest.kind == "seeds"], "shards", SEED_SCHEMA),
        "contamination": _dataset(steps, "contamination", CONTAMINATION_SCHEMA),
        "clusters": _dataset(joined, "shards", CLUSTER_SCHEMA),
        "diversity": _dataset(measured, "shards", DIVERSITY_SCHEMA),
        "histograms": _dataset(measured, "histograms", HISTOGRAM_SCHEMA),
        "mixture": pa.Table.from_pylist(mixture, schema=_MIXTURE_SCHEMA),
        "steps": pa.Table.from_pylist(rows, schema=_STEP_SCHEMA),
    }


def _mixture(build: ShardManifest) -> list[dict[str, Any]]:
    return list(build.extra.get("mixture", ()))


def _dataset(steps: list[FinishedStep], folder: str, schema: pa.Schema = RECORD_SCHEMA) -> Any:
    """The Parquet files of one folder of each step, in order, with columns `step` and `file`."""
    from pyarrow import dataset, fs

    scan = dataset.ParquetFragmentScanOptions(page_checksum_verification=True)
    parquet = dataset.ParquetFileFormat(default_fragment_scan_options=scan)
    local = fs.LocalFileSystem()
    fragments = [
        parquet.make_fragment(
            str(step.directory / entry.path),
            filesystem=local,
            partition_expression=(dataset.field("step") == step.manifest.step)
            & (dataset.field("file") == entry.path),
        )
        for step in steps
        for entry in step.manifest.files_under(folder)
        if entry.path.endswith(".parquet")
    ]
    full = schema.append(pa.field("step", pa.string())).append(pa.field("file", pa.string()))
    return dataset.FileSystemDataset(fragments, full, parquet, filesystem=local)


def _refuse_writing(connection: DuckDBPyConnection, sql: str) -> None:
    import duckdb

    statements = connection.extract_statements(sql)
    kinds = [statement.type for statement in statements]
    if kinds == [duckdb.StatementType.EXPLAIN]:
        body = re.sub(r"(?i)^\s*explain\s+(analyze\s+)?(\([^)]*\)\s*)?", "", sql, count=1)
        kinds = [statement.type for statement in connection.extract_statements(body)]
    if kinds != [duckdb.StatementType.SELECT]:
        said = "no statement" if not kinds else "; ".join(str(k).rpartition(".")[2] for k in kinds)
        raise DataError(
            f"one reading statement is answered, this is: {said}",
            where="SQL",
            fix="ask with SELECT, WITH, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN or VALUES; to write, "
            "open the Parquet files with the duckdb shell",
        )


def _sql_error(error: Exception) -> DataError:
    message = "\n".join(str(error).strip().splitlines()[:12])
    if "IOError" in message or "CRC" in message:
        return DataError(
            f"a shard cannot be read: {message}",
            where="SQL",
            fix="datagen verify BUILD names the file; delete its step directory and build again",
        )
    return DataError(
        message,
        where="SQL",
        fix=f"the views are {', '.join(VIEWS)}; DESCRIBE VIEW lists the columns of one",
    )

"""One record's whole way, as data: its seed, calls, the steps it passed, where its tokens lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from datagen.errors import DataError
from datagen.shards.sql import RECORD_KINDS, query

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MIN_PREFIX = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A step that let the record pass; `extra` holds that step's own figures."""

    step: str
    kind: str
    fingerprint: str
    extra: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """All that a build knows of one record.

    `record` has the columns of the `records` view, `seed` those of `sources`, `calls` those of the
    `calls` view, in the order of use; None or empty where the build does not hold them. `places`
    has those of `documents` with `shard` besides; `rejects` those of `rejects`.
    """

    record_id: str
    record: Mapping[str, Any] | None
    seed: Mapping[str, Any] | None
    calls: tuple[Mapping[str, Any], ...]
    stages: tuple[Stage, ...]
    places: tuple[Mapping[str, Any], ...]
    rejects: tuple[Mapping[str, Any], ...]


def explain(connection: DuckDBPyConnection, record_id: str) -> Explanation:
    """Follow a record through the build that `connection` (of `connect`) shows.

    `record_id` may be cut to its first MIN_PREFIX characters or more. DataError when no record, or
    more than one, begins with it.
    """
    full = _resolve(connection, record_id)
    stages = tuple(
        Stage(
            step=row["step"],
            kind=row["kind"],
            fingerprint=row["fingerprint"],
            extra=orjson.loads(row["extra"]),
        )
        for row in _rows(
            connection,
            "SELECT s.* FROM steps s JOIN internal.stages r USING (step) WHERE r.id = $id",
            id=full,
        )
    )
    stages = tuple(sorted(stages, key=lambda stage: RECORD_KINDS.index(stage.kind)))
    record = _record(connection, full, stages[-1].step) if stages else None
    rejects = _rows(connection, "SELECT * FROM rejects WHERE record_id = $id", id=full)
    origin = record or rejects[0]
    places = _rows(
        connection,
        "SELECT d.*, r.shard FROM documents d JOIN rows r USING (row) WHERE d.record_id = $id "
        "ORDER BY d.row, d.position",
        id=full,
    )
    return Explanation(
        record_id=full,
        record=record,
        seed=_seed(connection, origin),
        calls=_calls(connection, origin),
        stages=stages,
        places=tuple(places),
        rejects=tuple(rejects),
    )


def _rows(connection: DuckDBPyConnection, sql: str, **values: Any) -> list[dict[str, Any]]:
    answer = query(connection, sql, values=values)
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


def _resolve(connection: DuckDBPyConnection, record_id: str) -> str:
    found = [
        row["id"]
        for row in _rows(
            connection,
            "SELECT DISTINCT id FROM (SELECT id FROM internal.stages UNION ALL "
            "SELECT record_id FROM rejects) WHERE starts_with(id, $id) ORDER BY id LIMIT 6",
            id=record_id,
        )
    ]
    if record_id in found or (len(found) == 1 and len(record_id) >= MIN_PREFIX):
        return record_id if record_id in found else str(found[0])
    if len(record_id) < MIN_PREFIX:
        problem = f"{record_id!r} is too short to tell records apart"
        fix = f"give at least {MIN_PREFIX} characters of the id"
    elif found:
        problem = f"{record_id!r} begins the ids of several records: {', '.join(found[:5])}"
        fix = "give more characters of the id"
    else:
        problem = f"no record of this build has the id {record_id!r}"
        fix = 'datagen sql "SELECT id FROM records LIMIT 5" shows ids of kept records'
    raise DataError(problem, where="RECORD_ID", fix=fix)


def _record(connection: DuckDBPyConnection, record_id: str, step: str) -> dict[str, Any]:
    record = _rows(
        connection,
        "SELECT * FROM internal.stages WHERE id = $id AND step = $step",
        id=record_id,
        step=step,
    )[0]
    lineage: dict[str, Any] = record.pop("lineage")
    del record["file"]
    return lineage | record | {"metadata": orjson.loads(record["metadata"])}


def _seed(connection: DuckDBPyConnection, origin: Mapping[str, Any]) -> dict[str, Any] | None:
    seeds = _rows(
        connection,
        "SELECT * FROM sources WHERE source = $source AND row_key = $row_key LIMIT 1",
        source=origin["source"],
        row_key=origin["row_key"],
    )
    return seeds[0] | {"row": orjson.loads(seeds[0]["row"])} if seeds else None


def _calls(
    connection: DuckDBPyConnection, origin: Mapping[str, Any]
) -> tuple[Mapping[str, Any], ...]:
    """The answers that a record names in its lineage, or all those of a rejected draft's row."""
    rows = _rows(
        connection,
        "SELECT * FROM calls WHERE generator = $generator AND source = $source "
        "AND row_key = $row_key",
        generator=origin["generator"],
        source=origin["source"],
        row_key=origin["row_key"],
    )
    calls = [row | {"messages": orjson.loads(row["messages"])} for row in rows]
    if "calls" not in origin:
        return tuple(calls)
    # One request may have been answered by several samples: each is a call of its own.
    return tuple(call for key in origin["calls"] for call in calls if call["key"] == key)

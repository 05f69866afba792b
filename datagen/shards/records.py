"""Records, drafts' messages and lineage to Arrow and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from datagen.record import Lineage, Message, Record, Reject, Seed, ToolCall
from datagen.shards.parquet import read_batches
from datagen.shards.schema import RECORD_SCHEMA, REJECT_SCHEMA, SEED_SCHEMA


def json_text(value: object) -> str:
    """Dump JSON with sorted keys, so that equal values give equal bytes."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def message_row(message: Message) -> dict[str, Any]:
    """One message as the struct that RECORD_SCHEMA stores."""
    return {
        "role": message.role,
        "content": message.content,
        "reasoning": message.reasoning,
        "tool_calls": [
            {"id": c.id, "name": c.name, "arguments": c.arguments} for c in message.tool_calls
        ],
        "tool_call_id": message.tool_call_id,
        "trained": message.trained,
        "masked": message.masked,
    }


def _message(row: Mapping[str, Any]) -> Message:
    return Message(
        role=row["role"],
        content=row["content"],
        reasoning=row["reasoning"],
        tool_calls=tuple(ToolCall(**call) for call in row["tool_calls"] or ()),
        tool_call_id=row["tool_call_id"],
        trained=row["trained"],
        masked=row["masked"],
    )


def _lineage_row(lineage: Lineage) -> dict[str, Any]:
    row = {name: getattr(lineage, name) for name in Lineage.__dataclass_fields__}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in row.items()}


def _lineage(row: Mapping[str, Any]) -> Lineage:
    fields: dict[str, Any] = dict(row)
    for name in ("prompts", "calls", "parents"):
        fields[name] = tuple(fields[name])
    return Lineage(**fields)


def record_batch(records: Sequence[Record]) -> pa.RecordBatch:
    """Records as one Arrow batch of RECORD_SCHEMA."""
    rows = [
        {
            "id": record.id,
            "text": record.text,
            "messages": None
            if record.messages is None
            else [message_row(message) for message in record.messages],
            "lineage": _lineage_row(record.lineage),
            "metadata": json_text(record.metadata),
        }
        for record in records
    ]
    return pa.RecordBatch.from_pylist(rows, schema=RECORD_SCHEMA)


def records_of(batch: pa.RecordBatch) -> Iterator[Record]:
    """The records of a batch of RECORD_SCHEMA."""
    for row in batch.to_pylist():
        yield Record(
            id=row["id"],
            text=row["text"],
            messages=None
            if row["messages"] is None
            else tuple(_message(message) for message in row["messages"]),
            lineage=_lineage(row["lineage"]),
            metadata=orjson.loads(row["metadata"]),
        )


def read_records(paths: Sequence[Path]) -> Iterator[Record]:
    """Read record shards in order; DataError names a damaged file."""
    for batch in read_batches(paths):
        yield from records_of(batch)


def seed_batch(seeds: Iterable[Seed]) -> pa.RecordBatch:
    """Seeds as one Arrow batch of SEED_SCHEMA."""
    rows = [
        {
            "source": seed.source,
            "row_key": seed.row_key,
            "licence": seed.licence,
            "number": seed.number,
            "row": json_text(dict(seed.row)),
        }
        for seed in seeds
    ]
    return pa.RecordBatch.from_pylist(rows, schema=SEED_SCHEMA)


def read_seeds(paths: Sequence[Path]) -> Iterator[Seed]:
    """Read seed shards in order; DataError names a damaged file."""
    for batch in read_batches(paths):
        for row in batch.to_pylist():
            yield Seed(
                source=row["source"],
                row_key=row["row_key"],
                licence=row["licence"],
                number=row["number"],
                row=orjson.loads(row["row"]),
            )


def read_rejects(paths: Sequence[Path]) -> Iterator[Reject]:
    """Read reject shards in order; DataError names a damaged file."""
    for batch in read_batches(paths):
        for row in batch.to_pylist():
            yield Reject(**{**row, "metadata": orjson.loads(row["metadata"])})


def reject_batch(rejects: Iterable[Reject]) -> pa.RecordBatch:
    """Rejects as one Arrow batch of REJECT_SCHEMA."""
    names = [name for name in REJECT_SCHEMA.names if name != "metadata"]
    rows = [
        {**{name: getattr(r, name) for name in names}, "metadata": json_text(dict(r.metadata))}
        for r in rejects
    ]
    return pa.RecordBatch.from_pylist(rows, schema=REJECT_SCHEMA)

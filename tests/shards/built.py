"""A small finished build, written through the room's own writers: two wiki pages, three records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from datagen.record import Lineage, Message, Record, Seed
from datagen.shards.manifest import ShardManifest, write_manifest
from datagen.shards.parquet import FileEntry, file_sha256, write_bytes, write_parquet
from datagen.shards.records import record_batch, seed_batch
from datagen.shards.schema import (
    CALL_SCHEMA,
    DOCUMENT_SCHEMA,
    RECORD_SCHEMA,
    REJECT_SCHEMA,
    SEED_SCHEMA,
    TOKEN_ROW_SCHEMA,
)

FINGERPRINT = "f" * 16
MIXTURE = [
    {"category": "wiki", "requested": 60.0, "realised": 58.5, "tokens": 7, "epochs": 1.0},
    {"category": "facts", "requested": 40.0, "realised": 41.5, "tokens": 5, "epochs": None},
]


@dataclass(frozen=True)
class Built:
    """Where the build lies."""

    out: Path
    directory: Path


def lineage(row_key: str, *, generator: str = "facts", calls: tuple[str, ...] = ()) -> Lineage:
    """A lineage on the source `wiki`."""
    return Lineage(
        generator=generator,
        version="1",
        fingerprint="abc",
        source="wiki",
        source_revision="r" * 40,
        row_key=row_key,
        licence="CC-BY-SA-4.0",
        model="tiny",
        model_revision="sha256:1",
        model_licence="Apache-2.0",
        prompts=("p1",),
        calls=calls,
    )


RECORDS = [
    Record(
        id="aaaaaa11",
        text="Question: what is granite?",
        messages=None,
        lineage=lineage("page-1", calls=("call-2", "call-1")),
        metadata={"kind": "short_answer"},
    ),
    Record(
        id="aaaaaa22",
        text=None,
        messages=(
            Message(role="user", content="What flows?"),
            Message(role="assistant", content="Lava.", trained=True),
        ),
        lineage=lineage("page-2", calls=("call-3",)),
        metadata={},
    ),
    Record(id="bbbbbb33", text="dull", messages=None, lineage=lineage("page-2"), metadata={}),
]


CARD = b"---\nlicense: mit\n---\n# card\n"


def make_build(out: Path, card: bytes = CARD) -> Built:
    """Write seeds -> generate -> filter -> dedup -> tokens -> pack below `out`."""
    seeds = [
        Seed(
            source="wiki",
            row_key=f"page-{n}",
            licence="CC-BY-SA-4.0",
            row={"title": title, "text": f"{title} is a thing."},
        )
        for n, title in [(1, "Granite"), (2, "Lava")]
    ]
    recipe = "facts@wiki"
    _step(out, "seeds", "seeds/wiki", {"shards/0.parquet": (SEED_SCHEMA, [seed_batch(seeds)])})
    calls = [_call("call-1", "page-1"), _call("call-2", "page-1"), _call("call-3", "page-2")]
    _step(
        out,
        "generate",
        f"generate/{recipe}",
        {
            "shards/0.parquet": (RECORD_SCHEMA, [record_batch(RECORDS)]),
            "rejects/0.parquet": _table(REJECT_SCHEMA, [_reject("generate", "no_fact", None)]),
            "calls/0.parquet": _table(CALL_SCHEMA, calls),
        },
        inputs={"seeds/wiki": FINGERPRINT},
    )
    _step(
        out,
        "filter",
        f"filter/{recipe}",
        {
            "shards/0.parquet": (RECORD_SCHEMA, [record_batch(RECORDS[:2])]),
            "rejects/0.parquet": _table(REJECT_SCHEMA, [_reject("qa", "too_short", "bbbbbb33")]),
        },
        inputs={f"generate/{recipe}": FINGERPRINT},
        extra={"chain": "qa"},
    )
    _step(
        out,
        "dedup",
        f"dedup/{recipe}",
        {"shards/0.parquet": (RECORD_SCHEMA, [record_batch(RECORDS[:2])])},
        inputs={f"filter/{recipe}": FINGERPRINT},
    )
    _step(
        out,
        "tokens",
        f"tokens/{recipe}",
        {"shards/0.parquet": _table(DOCUMENT_SCHEMA, [])},
        inputs={f"dedup/{recipe}": FINGERPRINT},
    )
    directory = _step(
        out,
        "pack",
        "pack",
        {
            "shards/0.parquet": _table(TOKEN_ROW_SCHEMA, [_row("aaaaaa11", 4, "aaaaaa22", 3)]),
            "shards/1.parquet": _table(
                TOKEN_ROW_SCHEMA, [_row("aaaaaa22", 2), _row("aaaaaa11", 4)]
            ),
        },
        inputs={f"tokens/{recipe}": FINGERPRINT},
        extra={"mixture": MIXTURE},
        card=card,
    )
    return Built(out=out, directory=directory)


def _step(
    out: Path,
    kind: str,
    step: str,
    files: Mapping[str, tuple[pa.Schema, list[pa.RecordBatch]]],
    *,
    inputs: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
    card: bytes | None = None,
) -> Path:
    directory = out / step / FINGERPRINT
    directory.mkdir(parents=True)
    entries = [write_parquet(directory, path, b, schema) for path, (schema, b) in files.items()]
    if card is not None:
        write_bytes(directory / "README.md", card)
        entries.append(_entry(directory / "README.md"))
    write_manifest(
        directory,
        ShardManifest(
            kind=kind,
            step=step,
            fingerprint=FINGERPRINT,
            files=tuple(entries),
            inputs=inputs or {},
            code_version="1",
            extra=extra or {},
        ),
    )
    return directory


def _entry(path: Path) -> FileEntry:
    size = path.stat().st_size
    return FileEntry(path=path.name, rows=0, tokens=0, bytes=size, sha256=file_sha256(path))


def _table(schema: pa.Schema, rows: list[dict[str, Any]]) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    return schema, [pa.RecordBatch.from_pylist(rows, schema=schema)]


def _call(key: str, row_key: str) -> dict[str, Any]:
    return {
        "key": key,
        "generator": "facts",
        "source": "wiki",
        "row_key": row_key,
        "prompt": "extract",
        "messages": '[{"role":"user","content":"What is it?"}]',
        "answer": f"answer of {key}",
        "prompt_tokens": 5,
        "completion_tokens": 3,
    }


def _reject(stage: str, reason: str, record_id: str | None) -> dict[str, Any]:
    return {
        "stage": stage,
        "status": "rejected",
        "reason": reason,
        "generator": "facts",
        "source": "wiki",
        "row_key": "page-2",
        "record_id": record_id,
        "content": "dull",
        "metadata": "{}",
    }


def _row(*documents: str | int) -> dict[str, Any]:
    """A token row of (record id, length) pairs, every token but a document's first trained."""
    ids = [str(name) for name in documents[::2]]
    lengths = [int(length) for length in documents[1::2]]
    total = sum(lengths)
    return {
        "input_ids": list(range(total)),
        "loss_mask": [int(i > 0) for length in lengths for i in range(length)],
        "document_starts": [sum(lengths[:i]) for i in range(len(lengths))],
        "record_ids": ids,
        "record_offsets": [0] * len(ids),
        "trained_tokens": [length - 1 for length in lengths],
        "categories": ["facts"] * len(ids),
        "n_tokens": total,
        "phase": "phase1",
    }

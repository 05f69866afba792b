"""Draft to record: the engine gives id and lineage, never the author of a method."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from datagen.llm.ask import CallRecord
from datagen.record import Draft, Lineage, Record, Reject, Seed
from datagen.shards.records import json_text, message_row


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What all records of one recipe on one source share.

    `models`: the name of each model that may answer, to its revision and licence.
    """

    generator: str
    version: str
    fingerprint: str
    source_revision: str
    models: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def content_json(draft: Draft | Record) -> str:
    """What a draft says, as canonical JSON: its text, or its messages."""
    if draft.messages is None:
        return json_text({"text": draft.text})
    return json_text({"messages": [message_row(message) for message in draft.messages]})


def record_id(stamp: Stamp, seed: Seed, draft: Draft) -> str:
    """128 bits over generator, source row and content: stable across rebuilds and budgets."""
    parts = (stamp.generator, seed.source, seed.row_key, content_json(draft))
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


def stamp_draft(draft: Draft, seed: Seed, stamp: Stamp, *, calls: Sequence[CallRecord]) -> Record:
    """Give a draft its id and lineage; `calls` are the answers that it rests on.

    Where several models answered, their names stand side by side, and so do their revisions and
    licences.
    """
    models = list(dict.fromkeys(call.model for call in calls))
    terms = [stamp.models[name] for name in models]
    return Record(
        id=record_id(stamp, seed, draft),
        text=draft.text,
        messages=draft.messages,
        lineage=Lineage(
            generator=stamp.generator,
            version=stamp.version,
            fingerprint=stamp.fingerprint,
            source=seed.source,
            source_revision=stamp.source_revision,
            row_key=seed.row_key,
            licence=seed.licence,
            model=", ".join(models) or None,
            model_revision=", ".join(revision for revision, _ in terms) or None,
            model_licence=", ".join(dict.fromkeys(licence for _, licence in terms)) or None,
            prompts=tuple(dict.fromkeys(call.prompt_sha256 for call in calls)),
            calls=tuple(dict.fromkeys(call.key for call in calls)),
        ),
        metadata=draft.metadata,
    )


def reject_draft(draft: Draft, seed: Seed, generator: str, stage: str) -> Reject:
    """A draft that its method refused, with the reason in its two parts."""
    reason, _, detail = (draft.rejected or "").partition(":")
    return Reject(
        stage=stage,
        status="rejected",
        reason=reason.strip(),
        detail=detail.strip(),
        generator=generator,
        source=seed.source,
        row_key=seed.row_key,
        content=None if draft.text is None and draft.messages is None else content_json(draft),
        metadata=draft.metadata,
    )


def reject_seed(
    seed: Seed, generator: str, stage: str, *, status: str, reason: str, detail: str
) -> Reject:
    """A seed that gave no draft at all: refused by the method, or failed by the service."""
    return Reject(
        stage=stage,
        status="failed" if status == "failed" else "rejected",
        reason=reason,
        detail=detail,
        generator=generator,
        source=seed.source,
        row_key=seed.row_key,
    )


def reject_record(record: Record, stage: str, reason: str, detail: str) -> Reject:
    """A stamped record that curation refused."""
    return Reject(
        stage=stage,
        status="rejected",
        reason=reason,
        detail=detail,
        generator=record.lineage.generator,
        source=record.lineage.source,
        row_key=record.lineage.row_key,
        record_id=record.id,
        content=content_json(record),
        metadata=record.metadata,
    )

"""The Arrow schemas of everything a step writes: seeds, records, rejects, calls, token rows."""

from __future__ import annotations

import pyarrow as pa

_TOOL_CALL = pa.struct([("id", pa.string()), ("name", pa.string()), ("arguments", pa.string())])
_MESSAGE = pa.struct(
    [
        ("role", pa.string()),
        ("content", pa.string()),
        ("reasoning", pa.string()),
        ("tool_calls", pa.list_(_TOOL_CALL)),
        ("tool_call_id", pa.string()),
        ("trained", pa.bool_()),
        ("masked", pa.string()),
    ]
)
_LINEAGE = pa.struct(
    [
        ("generator", pa.string()),
        ("version", pa.string()),
        ("fingerprint", pa.string()),
        ("source", pa.string()),
        ("source_revision", pa.string()),
        ("row_key", pa.string()),
        ("licence", pa.string()),
        ("model", pa.string()),
        ("model_revision", pa.string()),
        ("model_licence", pa.string()),
        ("prompts", pa.list_(pa.string())),
        ("calls", pa.list_(pa.string())),
        ("parents", pa.list_(pa.string())),
    ]
)

SEED_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("row_key", pa.string()),
        ("licence", pa.string()),
        ("number", pa.int64()),
        ("row", pa.string()),
    ]
)
"""A seed as drawn; `row` is the source row as JSON."""

RECORD_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("messages", pa.list_(_MESSAGE)),
        ("lineage", _LINEAGE),
        ("metadata", pa.string()),
    ]
)
"""A record; `metadata` is a JSON object."""

REJECT_SCHEMA = pa.schema(
    [
        ("stage", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("generator", pa.string()),
        ("source", pa.string()),
        ("row_key", pa.string()),
        ("record_id", pa.string()),
        ("content", pa.string()),
        ("metadata", pa.string()),
    ]
)
"""A row that ended `rejected` or `failed`: which stage, why, and what it said."""

CLUSTER_SCHEMA = pa.schema(
    [
        ("record_id", pa.string()),
        ("cluster", pa.string()),
        ("size", pa.int64()),
        ("kept", pa.bool_()),
        ("similarity", pa.float32()),
        ("reason", pa.string()),
    ]
)
"""What dedup decided on a record: `cluster` is the id of the record kept in its place, its own
where it is kept; `similarity` is that with the record kept."""

CONTAMINATION_SCHEMA = pa.schema(
    [
        ("record_id", pa.string()),
        ("generator", pa.string()),
        ("source", pa.string()),
        ("benchmark", pa.string()),
        ("item", pa.string()),
        ("tier", pa.string()),
        ("coverage", pa.float64()),
        ("start", pa.int64()),
        ("end", pa.int64()),
    ]
)
"""A benchmark item found in a record: how, how much of it, between which characters of its text."""

DIVERSITY_SCHEMA = pa.schema(
    [
        ("generator", pa.string()),
        ("source", pa.string()),
        ("records", pa.int64()),
        ("sampled", pa.int64()),
        ("distinct_1", pa.float64()),
        ("distinct_2", pa.float64()),
        ("distinct_3", pa.float64()),
        ("self_bleu", pa.float64()),
        ("mean_distance", pa.float64()),
        ("effective_texts", pa.float64()),
        ("clusters", pa.int64()),
        ("largest_cluster", pa.float64()),
        ("openings", pa.int64()),
        ("opening", pa.string()),
        ("opening_share", pa.float64()),
        ("words_p10", pa.int64()),
        ("words_p50", pa.int64()),
        ("words_p90", pa.int64()),
    ]
)
"""How varied a draw's records are: one row, null where there are too few records to say."""

HISTOGRAM_SCHEMA = pa.schema(
    [
        ("generator", pa.string()),
        ("source", pa.string()),
        ("histogram", pa.string()),
        ("value", pa.string()),
        ("records", pa.int64()),
        ("share", pa.float64()),
    ]
)
"""One value of a histogram over a draw's sampled records."""

CALL_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("generator", pa.string()),
        ("source", pa.string()),
        ("row_key", pa.string()),
        ("prompt", pa.string()),
        ("prompt_sha256", pa.string()),
        ("model", pa.string()),
        ("messages", pa.string()),
        ("answer", pa.string()),
        ("reasoning", pa.string()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("completion_tokens", pa.int32()),
    ]
)
"""One model answer that a recipe used; `key` is its ledger key, `messages` the prompt as JSON."""

DOCUMENT_SCHEMA = pa.schema(
    [
        ("record_id", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
        ("loss_mask", pa.list_(pa.int8())),
        ("n_tokens", pa.int32()),
        ("splittable", pa.bool_()),
        ("prompt_hash", pa.int64()),
    ]
)
"""A tokenised record before packing; `prompt_hash` keeps equal prompts out of one row."""

TOKEN_ROW_SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("loss_mask", pa.list_(pa.int8())),
        ("document_starts", pa.list_(pa.int32())),
        ("record_ids", pa.list_(pa.string())),
        ("record_offsets", pa.list_(pa.int32())),
        ("trained_tokens", pa.list_(pa.int32())),
        ("categories", pa.list_(pa.string())),
        ("n_tokens", pa.int32()),
        ("phase", pa.string()),
    ]
)
"""A packed row, unpadded. `loss_mask[i] == 1`: token i is a training target.

`document_starts`: row offset of each document's first token. `record_offsets`: where the piece
begins inside its record's tokens (0 unless a long text was split). The per-document lists are
parallel: record_ids, record_offsets, trained_tokens, categories.
"""

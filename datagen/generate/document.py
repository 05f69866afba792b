"""A row as a record: its text, or its conversation, as the source has it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from datagen.errors import DataError
from datagen.llm.ask import Ask
from datagen.record import Draft, Message, Role, Seed, ToolCall

_ROLES = get_args(Role)


async def document(
    seed: Seed,
    ask: Ask,
    *,
    text: str | None = "text",
    messages: str | None = None,
    metadata: Sequence[str] = (),
) -> list[Draft]:
    """Draft the row's text, or its messages where `messages` names a column; nobody is asked.

    `metadata` names columns to carry along; those that a row lacks are left out. Assistant turns
    are marked as trained. An empty row is rejected.
    """
    carried = {name: seed.row[name] for name in metadata if seed.row.get(name) is not None}
    if messages is not None:
        turns = tuple(_turns(seed, messages))
        if not turns:
            return [Draft(metadata=carried, rejected="empty: no messages")]
        return [Draft(messages=turns, metadata=carried)]
    found = _cell(seed, text or "text")
    if found is None or not str(found).strip():
        return [Draft(metadata=carried, rejected="empty: no text")]
    return [Draft(text=str(found), metadata=carried)]


def _cell(seed: Seed, column: str) -> Any:
    if column not in seed.row:
        raise _wrong(seed, f"no column {column!r}", f"one of: {', '.join(seed.row)}")
    return seed.row[column]


def _turns(seed: Seed, column: str) -> Iterable[Message]:
    rows = _cell(seed, column)
    if isinstance(rows, str):
        try:
            rows = json.loads(rows)
        except json.JSONDecodeError as error:
            raise _wrong(seed, f"column {column!r}: {error}", "give messages as a list") from None
    if rows is not None and not isinstance(rows, list | tuple):
        raise _wrong(seed, f"column {column!r} is no list", "give messages as a list")
    for place, row in enumerate(rows or ()):
        if not isinstance(row, Mapping) or row.get("role") not in _ROLES:
            said = f"column {column!r}: turn {place} has no known role"
            raise _wrong(seed, said, f"role: one of {', '.join(_ROLES)}")
        yield _turn(seed, f"column {column!r}: turn {place}", row)


def _turn(seed: Seed, place: str, row: Mapping[str, Any]) -> Message:
    reasoning = row.get("reasoning_content") or row.get("reasoning")
    calls = tuple(_tool_call(call) for call in row.get("tool_calls") or ())
    content, answers = row.get("content"), row.get("tool_call_id")
    if content is None and calls and row["role"] == "assistant":
        content = ""
    if not isinstance(content, str):
        said = f"{place} has {type(content).__name__} as its content"
        raise _wrong(seed, said, "content: a string (null only beside an assistant's tool_calls)")
    if answers is not None and not isinstance(answers, str):
        said = f"{place} has {type(answers).__name__} as its tool_call_id"
        raise _wrong(seed, said, "tool_call_id: a string, as the call's id")
    return Message(
        role=row["role"],
        content=content,
        reasoning=str(reasoning) if reasoning else None,
        tool_calls=calls,
        tool_call_id=answers,
        trained=row["role"] == "assistant",
    )


def _tool_call(call: Mapping[str, Any]) -> ToolCall:
    """A call as OpenAI writes it, or flat; its arguments as JSON text."""
    said = call.get("function") or call
    arguments = said.get("arguments") or {}
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(id=str(call.get("id") or ""), name=str(said.get("name")), arguments=arguments)


def _wrong(seed: Seed, message: str, fix: str) -> DataError:
    return DataError(message, where=f"{seed.source} row {seed.row_key}", fix=fix)

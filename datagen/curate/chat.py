"""Filters on conversations: who speaks when, and whether somebody answers."""

from __future__ import annotations

from datagen.record import Message, Record


def _says_something(message: Message) -> bool:
    return bool(message.content.strip() or message.tool_calls)


def not_a_chat(record: Record, *, min_turns: int = 2) -> str | None:
    """Refuse a record without messages, or with fewer than this many."""
    turns = len(record.messages or ())
    return f"{turns} messages" if turns < min_turns else None


def unanswered(record: Record) -> str | None:
    """Refuse a conversation whose last word is not the assistant's."""
    last = (record.messages or (None,))[-1]
    if last is None or last.role != "assistant" or not last.content.strip():
        return f"ends with {last.role if last else 'nothing'}"
    return None


def empty_turn(record: Record) -> str | None:
    """Refuse a turn that neither says nor calls anything."""
    for number, message in enumerate(record.messages or (), 1):
        if not _says_something(message):
            return f"turn {number} ({message.role})"
    return None


def roles_out_of_turn(record: Record) -> str | None:
    """Refuse a late system turn, or two turns in a row by the user or by the assistant."""
    before = ""
    for number, message in enumerate(record.messages or (), 1):
        late_system = message.role == "system" and number > 1
        twice = message.role == before and message.role in ("user", "assistant")
        if late_system or twice:
            return f"turn {number} ({message.role})"
        before = message.role
    return None


def nothing_to_learn(record: Record) -> str | None:
    """Refuse a conversation none of whose turns is trained on."""
    trained = any(message.trained for message in record.messages or ())
    return None if trained else "no trained turn"

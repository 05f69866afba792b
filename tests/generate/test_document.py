"""A row stays what it is."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from datagen.errors import DataError
from datagen.generate.document import document
from datagen.llm.ask import Ask
from datagen.record import Draft, Seed

NOBODY = cast(Ask, None)


def _draft(row: dict[str, Any], **arguments: Any) -> Draft:
    seed = Seed(source="pages", row_key="1", row=row, licence="CC0-1.0")
    (draft,) = asyncio.run(document(seed, NOBODY, **arguments))
    return draft


def test_a_page_keeps_its_text_to_the_byte() -> None:
    text = "  # A\r\n\nü \u2028 x\t"
    draft = _draft({"content": text, "url": "u"}, text="content", metadata=["url", "absent"])
    assert draft.text == text
    assert draft.metadata == {"url": "u"}


def test_messages_keep_reasoning_and_tool_calls() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    rows = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "Add."},
        {"role": "tool", "content": "2", "tool_call_id": "c1"},
        {"role": "assistant", "content": "2"},
    ]
    messages = _draft({"messages": rows}, text=None, messages="messages").messages
    assert messages is not None
    assert [turn.trained for turn in messages] == [False, False, True, False, True]
    assert messages[2].reasoning == "Add." and messages[2].content == ""
    assert (messages[2].tool_calls[0].name, messages[2].tool_calls[0].arguments) == (
        "add",
        '{"a": 1}',
    )
    assert messages[3].tool_call_id == "c1"


@pytest.mark.parametrize("row", [{"text": " \n"}, {"text": None}])
def test_an_empty_page_is_rejected(row: dict[str, Any]) -> None:
    assert _draft(row).rejected == "empty: no text"


def test_an_empty_conversation_is_rejected() -> None:
    assert _draft({"messages": []}, messages="messages").rejected == "empty: no messages"


@pytest.mark.parametrize(
    ("row", "arguments"),
    [
        ({"body": "x"}, {}),
        ({"messages": "not json"}, {"messages": "messages"}),
        ({"messages": [{"role": "robot", "content": "x"}]}, {"messages": "messages"}),
        ({"messages": {"role": "user"}}, {"messages": "messages"}),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
            {"messages": "messages"},
        ),
        ({"messages": [{"role": "user", "content": None}]}, {"messages": "messages"}),
        ({"messages": [{"role": "assistant", "content": None}]}, {"messages": "messages"}),
        (
            {"messages": [{"role": "tool", "content": "x", "tool_call_id": 7}]},
            {"messages": "messages"},
        ),
    ],
)
def test_a_wrong_row_names_its_place(row: dict[str, Any], arguments: dict[str, Any]) -> None:
    with pytest.raises(DataError) as caught:
        _draft(row, **arguments)
    assert caught.value.where == "pages row 1" and caught.value.fix

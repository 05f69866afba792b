from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.curate.pii import find_personal_data, has_personal_data, mask
from datagen.record import Message, Record, ToolCall
from tests.curate.support import LINEAGE, PROSE, chat, data_rows, record
from tests.curate.test_chain import chain_of

PERSONAL = [
    ("email", "jo.doe+news@mail.example.co.uk"),
    ("email", "A1@b-c.org"),
    ("iban", "GB82 WEST 1234 5698 7654 32"),
    ("iban", "DE89370400440532013000"),
    ("card", "4111 1111 1111 1111"),
    ("card", "5500-0000-0000-0004"),
    ("card", "378282246310005"),
    ("ip", "151.101.1.69"),
    ("ip", "2a00:1450:4001:82a::200e"),
    ("phone", "+44 20 7946 0958"),
    ("phone", "(212) 555-0123"),
    ("phone", "+1 415-555-0199"),
    ("phone", "415.555.0199"),
]
HARMLESS = [
    "4111 1111 1111 1112",
    "1234 5678 9012 3456",
    "GB82 WEST 1234 5698 7654 33",
    "192.168.0.1",
    "127.0.0.1",
    "10.1.2.3",
    "300.1.2.3",
    "4.1.6.1",
    "0,1.12.62.62,0",
    "use de::a",
    "1.2.3.4.5",
    "version 2.0.0.1-rc",
    "::1",
    "fe80::1",
    "std::vector::size",
    "12:30:45",
    "1914-1918",
    "2024-05-01",
    "978-3-16-148410-0",
    "pages 212-555",
    "3.14159265358979",
    "user@localhost",
    "@handle",
    "a@b",
    "1 000 000 000",
    "555-0123",
]


@pytest.mark.parametrize(("kind", "text"), PERSONAL)
@pytest.mark.parametrize("frame", ["{}", "Write to {}.", "({})", "a: {}, b"])
def test_personal_data_is_found_whole(kind: str, text: str, frame: str) -> None:
    whole = frame.format(text)
    found = [(span.kind, whole[span.start : span.end]) for span in find_personal_data(whole)]
    assert found == [(kind, text)]


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_numbers_are_not(text: str) -> None:
    assert find_personal_data(f"See {text}, please.") == []


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(st.sampled_from([t for _, t in PERSONAL]), st.just("word")), max_size=6))
def test_nothing_is_left_behind_a_mask(parts: list[str]) -> None:
    text = "; ".join(parts)
    masked = mask(record(text, kept=1))
    personal = sum(part != "word" for part in parts)
    if masked is None:
        assert personal == 0
        return
    assert masked.text is not None and not find_personal_data(masked.text)
    assert sum(masked.metadata["masked"].values()) == personal and masked.metadata["kept"] == 1
    assert mask(masked) is None


def test_a_chain_masks_and_refuses() -> None:
    page = record(f"{PROSE} Write to jo@example.org or call (212) 555-0123.")
    assert chain_of("pii.has_personal_data").judge(page) == (
        "has_personal_data",
        "1 email, 1 phone",
    )
    assert chain_of(("pii.has_personal_data", {"max_found": 2})).judge(page) is None
    left = chain_of(("pii.mask", {"kinds": ["email"]}), "pii.has_personal_data").judge(page)
    assert left == ("has_personal_data", "1 phone")
    assert chain_of("pii.mask", "pii.has_personal_data").judge(page) is None
    assert has_personal_data(record(PROSE)) is None


def test_every_part_of_a_conversation_is_masked() -> None:
    call = ToolCall(id="1", name="send", arguments='{"to": ["jo@example.org"], "n": 4}')
    messages = (
        *(chat(("user", "I am jo@example.org")).messages or ()),
        Message(role="assistant", content="", reasoning="So 151.101.1.69.", tool_calls=(call,)),
    )
    found = mask(Record(id="c", text=None, messages=messages, lineage=LINEAGE, metadata={}))
    assert found is not None and found.messages is not None
    assert found.messages[0].content == "I am [email]"
    assert found.messages[1].reasoning == "So [ip]."
    assert json.loads(found.messages[1].tool_calls[0].arguments) == {"to": ["[email]"], "n": 4}
    assert found.metadata["masked"] == {"email": 2, "ip": 1}


def test_real_pages_have_few() -> None:
    rows = data_rows("wiki/wikipedia_en_articles.jsonl.gz", limit=200)
    found = [span for row in rows for span in find_personal_data(row["text"])]
    assert len(found) < 20

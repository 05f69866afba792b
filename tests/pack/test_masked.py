"""Masked reasoning, exact to the token: against an oracle that counts bytes, through packed rows.

The oracle writes each conversation out by hand, chunk by chunk, with what is trained and what is
masked, and finds the bytes of every token in the vocabulary: it uses neither the chat template
nor the tokenizer's offsets.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datagen.errors import WorkspaceError
from datagen.pack.arrange import arrange
from datagen.pack.render import Renderer, prompt_hash
from datagen.pack.rows import Documents, token_rows
from datagen.record import Lineage, Message, Record, ToolCall
from datagen.shards.parquet import file_sha256
from datagen.workspace.load import parse
from datagen.workspace.specs import TokenizerSpec

ROOT = Path(__file__).resolve().parents[2]
SPEC = parse(ROOT / "manifests/tokenizers/datagen-32k.yaml", TokenizerSpec, root=ROOT).spec
LINEAGE = Lineage(
    generator="g",
    version="1",
    fingerprint="f",
    source="s",
    source_revision="r",
    row_key="k",
    licence="CC0-1.0",
)
# A usual template: the reasoning on lines of its own, and only where there is some.
LINES = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|assistant|>\\n' }}{% generation %}"
    "{% if m.reasoning_content %}"
    "{{ '<think>\\n' + m.reasoning_content.strip('\\n') + '\\n</think>\\n\\n' }}{% endif %}"
    "{{ m.content.lstrip('\\n') }}"
    "{% for call in m.tool_calls or [] %}{{ '\\n<tool_call>' }}"
    "{{ {'name': call.function.name, 'arguments': call.function.arguments} | tojson }}"
    "{{ '</tool_call>' }}{% endfor %}{{ '<|end|>' }}{% endgeneration %}{{ '\\n' }}"
    "{% else %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endif %}{% endfor %}"
)
# The reasoning begins in the prompt, before the trained part; an empty one is ended as well.
OPENED = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|assistant|><think>' }}"
    "{% generation %}{{ (m.reasoning_content or '') + '</think>' + m.content }}"
    "{{ '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A run of a conversation's text; `hole`: which masking takes it out of the targets."""

    text: str
    trained: bool = False
    hole: tuple[str, ...] = ()


END = ("reasoning_end", "reasoning")
Chunks = Iterator[Chunk]


def calls(message: Message) -> list[str]:
    return [
        json.dumps({"name": c.name, "arguments": json.loads(c.arguments)}, ensure_ascii=False)
        for c in message.tool_calls
    ]


def own_chunks(m: Message) -> Chunks:
    """What the bundled template writes."""
    if m.role != "assistant":
        yield Chunk(text=f"<|{m.role}|>{m.content}<|end|>")
        return
    yield Chunk(text="<|assistant|>")
    if m.reasoning:
        yield Chunk(text="<think>" + m.reasoning, trained=m.trained, hole=("reasoning",))
        yield Chunk(text="</think>", trained=m.trained, hole=END)
    said = "".join(f"<tool_call>{call}</tool_call>" for call in calls(m))
    yield Chunk(text=f"{m.content}{said}<|end|>", trained=m.trained)


def lines_chunks(m: Message) -> Chunks:
    if m.role != "assistant":
        yield Chunk(text=f"<|{m.role}|>\n{m.content}<|end|>\n")
        return
    yield Chunk(text="<|assistant|>\n")
    if m.reasoning:
        thought = "<think>\n" + m.reasoning.strip("\n") + "\n"
        yield Chunk(text=thought, trained=m.trained, hole=("reasoning",))
        yield Chunk(text="</think>", trained=m.trained, hole=END)
        yield Chunk(text="\n\n", trained=m.trained)
    said = "".join(f"\n<tool_call>{call}</tool_call>" for call in calls(m))
    yield Chunk(text=m.content.lstrip("\n") + said + "<|end|>", trained=m.trained)
    yield Chunk(text="\n")


def opened_chunks(m: Message) -> Chunks:
    if m.role != "assistant":
        yield Chunk(text=f"<|{m.role}|>{m.content}<|end|>")
        return
    yield Chunk(text="<|assistant|><think>")
    yield Chunk(text=m.reasoning or "", trained=m.trained, hole=("reasoning",))
    yield Chunk(text="</think>", trained=m.trained, hole=END)
    yield Chunk(text=m.content + "<|end|>", trained=m.trained)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A tokenizer with a template, and the oracle's knowledge of both."""

    renderer: Renderer
    chunks: Callable[[Message], Chunks]
    bytes_of: dict[int, bytes] = field(repr=False)

    def mask(self, record: Record, ids: list[int]) -> list[int]:
        """The loss mask that the conversation must have; its bytes must be the tokens' bytes."""
        trained: list[bool] = []
        hole: list[bool] = []
        text = b""
        for message in record.messages or ():
            for chunk in self.chunks(message):
                content = chunk.text.encode()
                text += content
                trained += [chunk.trained] * len(content)
                hole += [message.masked in chunk.hole] * len(content)
        assert b"".join(self.bytes_of[i] for i in ids) == text
        found, at = [], 0
        for token in ids:
            span = slice(at, at := at + len(self.bytes_of[token]))
            found.append(int(any(trained[span]) and not any(hole[span])))
        return found


def vocabulary(file: Path) -> dict[int, bytes]:
    """The bytes of each token of a byte-level vocabulary."""
    content = json.loads(file.read_text(encoding="utf-8"))
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable}
    byte_of |= {chr(256 + n): byte for n, byte in enumerate(others)}
    control = {token["id"]: token["content"].encode() for token in content["added_tokens"]}
    words = {
        number: bytes(byte_of[c] for c in word)
        for word, number in content["model"]["vocab"].items()
        if number not in control
    }
    return control | words


def case(folder: Path, source: str | None, chunks: Any, *, plain: bool = False) -> Case:
    """A renderer with a template of its own; `plain`: reasoning marks are ordinary text."""
    target = folder / SPEC.path
    shutil.copytree(ROOT / SPEC.path, target)
    if source is not None:
        (target / "chat_template.jinja").write_text(source, encoding="utf-8")
    if plain:
        content = json.loads((target / "tokenizer.json").read_text(encoding="utf-8"))
        marks = ("<think>", "</think>")
        for token in content["added_tokens"]:
            if token["content"] in marks:
                renamed = f"<|unused_{token['id']}|>"
                content["model"]["vocab"][renamed] = content["model"]["vocab"].pop(token["content"])
                token["content"] = renamed
        (target / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    hashes = {name: file_sha256(target / name) for name in SPEC.sha256}
    renderer = Renderer(SPEC.model_copy(update={"sha256": hashes}), folder)
    return Case(renderer=renderer, chunks=chunks, bytes_of=vocabulary(target / "tokenizer.json"))


CASES = ("own", "own_plain", "lines", "lines_plain", "opened_plain")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    own, lines, opened = (None, own_chunks), (LINES, lines_chunks), (OPENED, opened_chunks)
    templates = {"own": own, "lines": lines, "opened": opened}
    return {
        name: case(
            tmp_path_factory.mktemp(name),
            *templates[name.partition("_")[0]],
            plain=name.endswith("_plain"),
        )
        for name in CASES
    }


pieces = st.sampled_from(
    ["<think>", "</think>", "</think", "<", "/think>", "<|end|>", "<|assistant|>", "\n", "\n\n",
     " ", "\ufdd0", "\ufdd1", "\ufdd2", "\U000f0003", "e\u0301", "👩🏽‍🚀", "好的", ">\n", "1,024",
     "{% raw %}", "{{ x }}", "<tool_call>", "because ", "so x = 3."]
)  # fmt: skip
words = st.lists(pieces | st.text(max_size=6), max_size=7).map("".join)
tool_calls = st.builds(
    ToolCall,
    id=st.just("1"),
    name=words,
    arguments=st.dictionaries(words, words | st.integers(), max_size=2).map(json.dumps),
)
assistants = st.builds(
    Message,
    role=st.just("assistant"),
    content=words,
    reasoning=st.none() | words,
    tool_calls=st.lists(tool_calls, max_size=2).map(tuple),
    trained=st.booleans(),
    masked=st.sampled_from([None, "reasoning_end", "reasoning"]),
)
others = st.builds(Message, role=st.sampled_from(["system", "user", "tool"]), content=words)
conversations = st.lists(assistants | others, min_size=1, max_size=6).map(tuple)


def chat(number: int, messages: tuple[Message, ...]) -> Record:
    return Record(id=f"r{number}", text=None, messages=messages, lineage=LINEAGE, metadata={})


def without_calls(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    return tuple(replace(message, tool_calls=()) for message in messages)


def rendered(renderer: Renderer, record: Record) -> tuple[list[int], list[int]]:
    (row,) = renderer.documents([record]).to_pylist()
    return row["input_ids"], row["loss_mask"]


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(messages=conversations)
def test_exactly_the_intended_tokens_are_masked(
    cases: dict[str, Case], name: str, messages: tuple[Message, ...]
) -> None:
    """Any conversation: the tokens never change, and the mask only where the span is."""
    if name.startswith("opened"):
        messages = without_calls(messages)
    record = chat(0, messages)
    plain = chat(0, tuple(replace(message, masked=None) for message in messages))
    ids, mask = rendered(cases[name].renderer, record)
    before, trained = rendered(cases[name].renderer, plain)
    assert ids == before
    assert trained == cases[name].mask(plain, ids)
    assert mask == cases[name].mask(record, ids)
    assert all(now <= was for now, was in zip(mask, trained, strict=True))


@pytest.mark.parametrize("name", ["own", "lines_plain"])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(many=st.lists(conversations, min_size=1, max_size=8), seed=st.integers(0, 99))
def test_packed_rows_carry_the_mask(
    cases: dict[str, Case], name: str, many: list[tuple[Message, ...]], seed: int
) -> None:
    """After packing, each document of each row has the oracle's mask, and its count of targets."""
    records = {f"r{n}": chat(n, messages) for n, messages in enumerate(many)}
    documents = Documents([cases[name].renderer.documents(list(records.values()))])
    drawn = np.arange(len(documents))
    rows = arrange(
        documents.n_tokens,
        splittable=documents.splittable,
        prompts=documents.prompts,
        phase=np.zeros(len(drawn), np.int64),
        capacity=max(int(documents.n_tokens.max()), 96),
        seed=seed,
    )
    batches = token_rows(
        rows,
        documents,
        drawn=drawn,
        category=np.zeros(len(drawn), np.int64),
        categories=["chat"],
        phases=["one"],
    )
    seen = []
    for row in (row for batch in batches for row in batch.to_pylist()):
        bounds = [*row["document_starts"], row["n_tokens"]]
        for place, key in enumerate(row["record_ids"]):
            part = slice(bounds[place], bounds[place + 1])
            wanted = cases[name].mask(records[key], row["input_ids"][part])
            assert row["loss_mask"][part] == wanted
            assert row["trained_tokens"][place] == sum(wanted)
            seen.append(key)
    assert sorted(seen) == sorted(records)


def test_the_mark_alone_or_the_whole_reasoning(cases: dict[str, Case]) -> None:
    """By example: what a reader of the documentation would expect to see."""
    renderer = cases["own"].renderer
    said = Message(role="assistant", content="Four.", reasoning="2 + 2 </think>", trained=True)

    def parts(masked: Any) -> tuple[str, str]:
        asked = Message(role="user", content="2 + 2?")
        ids, mask = rendered(renderer, chat(0, (asked, replace(said, masked=masked))))
        out = renderer.decode(i for i, m in zip(ids, mask, strict=True) if not m)
        return renderer.decode(i for i, m in zip(ids, mask, strict=True) if m), out

    question = "<|user|>2 + 2?<|end|><|assistant|>"
    reasoning = "<think>2 + 2 </think>"
    assert parts(None) == (f"{reasoning}</think>Four.<|end|>", question)
    assert parts("reasoning_end") == (f"{reasoning}Four.<|end|>", f"{question}</think>")
    assert parts("reasoning") == ("Four.<|end|>", f"{question}{reasoning}</think>")


def test_a_token_over_the_edge_is_masked_whole(cases: dict[str, Case]) -> None:
    """Where `</think>` is text, its `>` shares a token with what follows: it is not learned."""
    own = cases["own_plain"]
    said = Message(
        role="assistant", content="(4)", reasoning="x", trained=True, masked="reasoning_end"
    )
    ids, mask = rendered(own.renderer, chat(0, (said,)))
    tokens = [own.bytes_of[token].decode() for token in ids]
    assert ">(" in tokens
    out = [token for token, trained in zip(tokens, mask, strict=True) if not trained]
    assert "".join(out) == "<|assistant|></think>("


def test_masking_is_no_other_prompt() -> None:
    """Two conversations that ask the same never share a row, however they are masked."""
    earlier = Message(role="assistant", content="b", reasoning="r", trained=True)
    last = Message(role="assistant", content="c", trained=True)
    one = chat(0, (Message(role="user", content="a"), earlier, last))
    other = chat(1, (one.messages[0], replace(earlier, masked="reasoning"), last))  # type: ignore[index]
    assert prompt_hash(one) == prompt_hash(other)


def test_a_template_must_mark_the_reasoning_that_it_writes(tmp_path: Path) -> None:
    """Left out, there is nothing to mask; written between other marks, it is refused."""
    said = Message(
        role="assistant", content="a", reasoning="r", trained=True, masked="reasoning_end"
    )
    block = "{% generation %}BODY{% endgeneration %}"
    left_out = case(tmp_path / "a", block.replace("BODY", "{{ messages[0].content }}"), None)
    assert rendered(left_out.renderer, chat(0, (said,)))[1] == [1]
    other = "[{{ messages[0].reasoning_content }}]{{ messages[0].content }}"
    unmarked = case(tmp_path / "b", block.replace("BODY", other), None)
    with pytest.raises(WorkspaceError, match="ends none") as caught:
        rendered(unmarked.renderer, chat(0, (said,)))
    assert "mask: none" in (caught.value.fix or "")
    assert rendered(unmarked.renderer, chat(0, (replace(said, masked=None),)))[1]

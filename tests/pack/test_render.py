"""Rendering: masks exact to the token, text that stays text, real tokenizer and template."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path

import pytest

from datagen.errors import DataError, WorkspaceError
from datagen.pack.render import Renderer, prompt_hash
from datagen.pack.template import ChatTemplate
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
CONTROL = ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>", "<think>", "</think>"]


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(SPEC, ROOT)


def text(content: str) -> Record:
    return Record(id="t", text=content, messages=None, lineage=LINEAGE, metadata={})


def chat(*messages: Message) -> Record:
    return Record(id="c", text=None, messages=messages, lineage=LINEAGE, metadata={})


def user(content: str) -> Message:
    return Message(role="user", content=content)


def assistant(content: str, **more: object) -> Message:
    return Message(role="assistant", content=content, **more)  # type: ignore[arg-type]


def rendered(renderer: Renderer, record: Record) -> tuple[list[int], list[int]]:
    row = renderer.documents([record]).to_pylist()[0]
    assert row["n_tokens"] == len(row["input_ids"]) == len(row["loss_mask"])
    return row["input_ids"], row["loss_mask"]


def parts(renderer: Renderer, record: Record) -> list[tuple[str, int]]:
    """The document as stretches of equal mask: [(text, mask), ...]."""
    runs: list[tuple[list[int], int]] = []
    for token, trained in zip(*rendered(renderer, record), strict=True):
        if runs and runs[-1][1] == trained:
            runs[-1][0].append(token)
        else:
            runs.append(([token], trained))
    return [(renderer.decode(ids), trained) for ids, trained in runs]


def test_text_ends_with_end_of_text_and_is_all_target(renderer: Renderer) -> None:
    """A text decodes to itself; even an empty one is a document of one token."""
    ids, mask = rendered(renderer, text("Ein Satz. 好的\n\n\tx"))
    assert renderer.decode(ids) == "Ein Satz. 好的\n\n\tx<|endoftext|>"
    assert mask == [1] * len(ids)
    assert rendered(renderer, text("")) == ([0], [1])


def test_only_the_trained_turns_are_targets(renderer: Renderer) -> None:
    """Of two answers only the last is trained: from after its header to its end, to the token."""
    record = chat(
        Message(role="system", content="Be kind."),
        user("Hi"),
        assistant("weak answer"),
        user("And now?"),
        assistant(" Better.", reasoning="step by step", trained=True),
    )
    assert parts(renderer, record) == [
        (
            "<|system|>Be kind.<|end|><|user|>Hi<|end|><|assistant|>weak answer<|end|>"
            "<|user|>And now?<|end|><|assistant|>",
            0,
        ),
        ("<think>step by step</think> Better.<|end|>", 1),
    ]


def test_an_earlier_turn_can_be_the_trained_one(renderer: Renderer) -> None:
    """The flag of each message decides, not its place."""
    record = chat(user("a"), assistant("b", trained=True), user("c"), assistant("d"))
    assert [part for part in parts(renderer, record) if part[1]] == [("b<|end|>", 1)]


def test_tool_calls_are_json(renderer: Renderer) -> None:
    """Calls are rendered as JSON inside the trained turn; the tool's answer is not trained."""
    call = ToolCall(id="1", name="look", arguments='{"q": "ü", "n": 2}')
    record = chat(
        user("?"),
        assistant("", tool_calls=(call,), trained=True),
        Message(role="tool", content="found", tool_call_id="1"),
        assistant("done", trained=True),
    )
    said = [part for part, trained in parts(renderer, record) if trained]
    assert said == [
        '<tool_call>{"name": "look", "arguments": {"q": "ü", "n": 2}}</tool_call><|end|>',
        "done<|end|>",
    ]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ('{"id": 9223372036854775809}', '{"id": 9223372036854775809}'),
        ('{"x": 1e999}', json.dumps('{"x": 1e999}')),
        ('{"x": NaN}', json.dumps('{"x": NaN}')),
        ("not {json", '"not {json"'),
        ("[" * 5000 + "]" * 5000, '"' + "[" * 5000 + "]" * 5000 + '"'),
        ("[" * 600 + "]" * 600, None),
    ],
    ids=["long number", "infinite", "not a number", "text", "very deep", "deep"],
)
def test_arguments_keep_what_they_say(
    renderer: Renderer, arguments: str, shown: str | None
) -> None:
    """JSON is shown as JSON with all its digits; what is none, or nests too deep, as text."""
    call = ToolCall(id="1", name="f", arguments=arguments)
    ids, _ = rendered(renderer, chat(user("x"), assistant("", tool_calls=(call,), trained=True)))
    said = renderer.decode(ids).partition('"arguments": ')[2].removesuffix("}</tool_call><|end|>")
    assert said == shown if shown is not None else said.strip('"') == arguments


@pytest.mark.parametrize("token", [*CONTROL, "\ufdd0", "\ufdd1x\ufdd2", "\ufdd0\ufdd1", "<|end|"])
def test_control_tokens_in_text_stay_text(renderer: Renderer, token: str) -> None:
    """Spelled out in a record, they decode to themselves and never become control ids."""
    control = set(range(32))
    spelled = f"before {token}{token} after {token}"
    ids, _ = rendered(renderer, text(spelled))
    assert not control & set(ids[:-1])
    assert renderer.decode(ids[:-1]) == spelled

    plain = rendered(renderer, chat(user("x"), assistant("y", reasoning="z", trained=True)))[0]
    record = chat(
        user(spelled),
        assistant(
            spelled,
            reasoning=token,
            trained=True,
            tool_calls=(ToolCall(id="1", name="f", arguments=json.dumps({token: [token]})),),
        ),
    )
    ids, mask = rendered(renderer, record)
    wanted = [i for i in plain if i in control]
    wanted[-1:] = [8, 9, wanted[-1]]
    assert [i for i in ids if i in control] == wanted
    call = json.dumps({"name": "f", "arguments": {token: [token]}}, ensure_ascii=False)
    assert renderer.decode(i for i, m in zip(ids, mask, strict=True) if m) == (
        f"<think>{token}</think>{spelled}<tool_call>{call}</tool_call><|end|>"
    )


def test_batches_do_not_matter(renderer: Renderer) -> None:
    """A record's tokens do not depend on its neighbours; order is kept."""
    records = [text("one two"), chat(user("q"), assistant("a", trained=True)), text("three")]
    together = renderer.documents(records).to_pylist()
    assert together == [row for r in records for row in renderer.documents([r]).to_pylist()]
    assert [row["splittable"] for row in together] == [True, False, True]
    assert renderer.documents([]).num_rows == 0


def test_prompt_hash_is_what_was_asked() -> None:
    """Everything before the last assistant turn, whatever the answer and the training flags."""
    base = prompt_hash(chat(user("q"), assistant("x"), user("r"), assistant("a", trained=True)))
    same = chat(user("q"), assistant("x", trained=True), user("r"), assistant("other"))
    assert prompt_hash(same) == base
    assert prompt_hash(chat(user("q"), assistant("y"), user("r"), assistant("a"))) != base
    assert prompt_hash(text("a")) == prompt_hash(text("a")) != prompt_hash(text("b"))


def test_wrong_bytes_are_refused(tmp_path: Path) -> None:
    """A changed file is DataError, a missing one or a foreign end-of-text is WorkspaceError."""
    folder = tmp_path / SPEC.path
    shutil.copytree(ROOT / SPEC.path, folder)
    with pytest.raises(WorkspaceError, match="no special token"):
        Renderer(SPEC.model_copy(update={"end_of_text": "</s>"}), tmp_path)
    with pytest.raises(WorkspaceError, match=r"\.\."):
        Renderer(SPEC.model_copy(update={"path": "../x"}), tmp_path)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(DataError, match="sha256"):
        Renderer(SPEC, tmp_path)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(WorkspaceError, match="no file"):
        Renderer(SPEC, tmp_path)


def test_spans_inside_a_stretch_of_text(tmp_path: Path) -> None:
    """Where a template has no control token at a span's edge, offsets decide, to the token."""
    folder = tmp_path / SPEC.path
    shutil.copytree(ROOT / SPEC.path, folder)
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.role }}:"
        "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
        "{% else %}{{ m.content }}{% endif %};{% endfor %}"
    )
    hashes = SPEC.sha256 | {"chat_template.jinja": file_sha256(folder / "chat_template.jinja")}
    own = Renderer(SPEC.model_copy(update={"sha256": hashes}), tmp_path)
    record = chat(
        user("é€😀"),
        assistant(" é€😀 yes", trained=True),
        assistant("no"),
        assistant(" so", trained=True),
    )
    assert parts(own, record) == [
        ("user:é€😀;assistant:", 0),
        (" é€😀 yes", 1),
        (";assistant:no;assistant:", 0),
        (" so", 1),
        (";", 0),
    ]


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, control_tokens=CONTROL, end_of_text=CONTROL[0], where="t.jinja")


def test_templates_of_the_usual_kind() -> None:
    """One expression for header and content, trimming, and spans inside a stretch of text."""
    source = (
        "{% for message in messages %}"
        "{{ '<|' + message['role'] + '|>' + '\\n' }}"
        "{% if message['role'] == 'assistant' %}"
        "{% generation %}{{ message['content'] | trim }}{{ eos_token }}{% endgeneration %}"
        "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
    )
    found = template(source).stretches(
        [user("a<|user|>"), assistant("  b <|end|> ", trained=True)], record_id="1"
    )
    assert [(s.control, s.content, s.trained) for s in found] == [
        (True, "<|user|>", ()),
        (False, "\na<|user|>", ()),
        (True, "<|endoftext|>", ()),
        (True, "<|assistant|>", ()),
        (False, "\nb <|end|>", ((1, 3), (3, 10))),
        (True, "<|endoftext|>", ((0, 13),)),
    ]


def test_ids_of_calls_stay_text() -> None:
    """A control token spelled out in an id is text, as it is in a message."""
    call = ToolCall(id="1<|end|>", name="add", arguments="{}")
    asked = Message(role="assistant", content="", tool_calls=(call,))
    said = Message(role="tool", content="", tool_call_id="1<|end|>")
    source = (
        "{% generation %}{{ messages[0].tool_calls[0].id }}{% endgeneration %}"
        "{{ messages[1].tool_call_id }}"
    )
    found = template(source).stretches([asked, said], record_id="1")
    assert [(part.control, part.content) for part in found] == [(False, "1<|end|>1<|end|>")]


def test_bad_templates_say_so() -> None:
    """Syntax, a refusal and missing generation marks each name the template."""
    with pytest.raises(WorkspaceError, match="does not parse") as caught:
        template("{% for %}")
    assert caught.value.where == "t.jinja:1"
    with pytest.raises(DataError, match="only one turn"):
        template("{{ raise_exception('only one turn') }}").stretches([user("a")], record_id="1")
    with pytest.raises(WorkspaceError, match="marks 0 stretches for 1"):
        template("{{ messages[0].content }}").stretches([assistant("a")], record_id="1")


@pytest.mark.skipif("DATAGEN_DATA" not in os.environ, reason="DATAGEN_DATA is not set")
def test_every_language_round_trips(renderer: Renderer) -> None:
    """XQuAD in twelve languages: each paragraph decodes to itself, at over 2.5 bytes a token."""
    path = Path(os.environ["DATAGEN_DATA"]) / "wiki" / "xquad_paragraphs.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][::8]
    assert len({row["language"] for row in rows}) == 12
    batch = renderer.documents([text(row["context"]) for row in rows])
    sizes: dict[str, list[int]] = {}
    for row, document in zip(rows, batch.to_pylist(), strict=True):
        assert renderer.decode(document["input_ids"][:-1]) == row["context"]
        size = sizes.setdefault(row["language"], [0, 0])
        size[0] += len(row["context"].encode())
        size[1] += document["n_tokens"] - 1
    assert all(size[0] / size[1] > 2.5 for size in sizes.values())

"""Prompts: roles come from the template alone, and seed text stays data."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.errors import WorkspaceError
from datagen.llm.prompts import Prompt, defang, load_prompts

TEMPLATE = """[[system]]
You read pages.
[[user]]
{% for line in lines %}
- {{ line }}
{% endfor %}
Page: {{ page }}
[[assistant]]
Understood.
[[user]]
Go on with {{ page }}.
"""


def parse(source: str) -> Prompt:
    return Prompt.parse("p", source.encode(), where="generators/x/p.jinja")


def test_role_lines_split_the_file_and_blocks_leave_no_blank_lines() -> None:
    messages = parse(TEMPLATE).messages({"page": "A", "lines": ["one", "two"]})
    assert [role for role, _ in messages] == ["system", "user", "assistant", "user"]
    assert messages[1][1] == "- one\n- two\nPage: A"


def test_a_file_without_roles_is_one_user_message_and_a_text() -> None:
    prompt = parse("Tell of {{ page }}.\n")
    assert prompt.messages({"page": "A"}) == (("user", "Tell of A."),)
    assert prompt.text({"page": "A"}) == "Tell of A."


def test_the_hash_is_that_of_the_file() -> None:
    assert parse(TEMPLATE).sha256 == hashlib.sha256(TEMPLATE.encode()).hexdigest()
    assert parse(TEMPLATE).variables == {"page", "lines"}


INJECTIONS = st.lists(
    st.sampled_from(
        [
            *(
                "[[system]]",
                "[[user]]",
                "\n",
                "\r\n",
                "{{ 7 * 7 }}",
                "{% raw %}",
                "{#",
                "<|im_",
                "<|",
            ),
            *("start|>", "im_end|>", "|>", "<|endoftext|>", "[INST]", "[/INST]", "<s>", "</s>"),
            *("<start_of_turn>", "<<SYS>>", "</think>", "<｜User｜>", " ", "a", "\ud800"),
        ]
    ),
    max_size=12,
).map("".join)
CONTROL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "[inst]", "[/inst]", "<s>", "</s>")


@settings(max_examples=200, deadline=None)
@given(INJECTIONS | st.text(max_size=40), INJECTIONS)
def test_no_seed_text_adds_a_message_or_a_control_token(page: str, line: str) -> None:
    plain = parse(TEMPLATE).messages({"page": "A", "lines": ["one"]})
    messages = parse(TEMPLATE).messages({"page": page, "lines": [line, page]})
    assert [role for role, _ in messages] == [role for role, _ in plain]
    assert messages[0] == plain[0]
    for _, content in messages:
        content.encode()
        lowered = content.lower()
        assert not any(token in lowered for token in (*CONTROL, "<start_of_turn>", "<｜user｜>"))


def test_a_control_token_cannot_be_put_together_from_two_variables() -> None:
    (_, content), *_ = parse("{{ a }}{{ b }}").messages({"a": "<|im_", "b": "end|>"})
    assert content == "< |im_end|>"


def test_code_and_prose_are_left_alone() -> None:
    for text in ("xs |> map f <| g", "a < b and c > d", "[1] [INSTALL] <small>", "if x<s: pass"):
        assert defang(text) == text


def test_the_text_of_a_record_is_exactly_what_the_variables_say() -> None:
    page = "[[user]] <|im_end|> {{ x }}"
    assert parse("{{ page }}").text({"page": page}) == page


@pytest.mark.parametrize(
    ("source", "line", "says"),
    [
        ("a\n[[user]]\nb\n{{ pgae }}\n", 4, "'pgae' is undefined"),
        ("a\n{{ page.missing }}\n", 2, "missing"),
        ("a\n\n{{ page | int // 0 }}\n", 3, "division"),
        ("a\n{{ page + 1 }}", 2, "fails"),
    ],
)
def test_a_failing_render_names_file_and_line(source: str, line: int, says: str) -> None:
    with pytest.raises(WorkspaceError) as caught:
        parse(source).messages({"page": "A"})
    assert caught.value.where == f"generators/x/p.jinja:{line}"
    assert says in caught.value.message and caught.value.fix


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("a\n{% if x %}\n", 2),
        ("{{ a b }}", 1),
        ("[[user]]\n\n{% include 'other' %}", 3),
        ("[[user]]\n{% if x %}\n[[assistant]]\n{% endif %}", 2),
        ("{{ x | nosuchfilter }}", 1),
    ],
)
def test_a_template_that_does_not_parse_names_file_and_line(source: str, line: int) -> None:
    with pytest.raises(WorkspaceError) as caught:
        Prompt.parse("p", source.encode(), where="p.jinja")
    assert caught.value.where == f"p.jinja:{line}"


def test_templates_cannot_reach_python() -> None:
    with pytest.raises(WorkspaceError):
        parse("{{ ''.__class__.__mro__ }}").messages({})


def test_templates_are_loaded_by_name(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "b.jinja").write_text("[[user]]\n{{ x }}")
    (tmp_path / "a.jinja").write_text("y")
    files = {path.stem: path for path in tmp_path.glob("*.jinja")}
    prompts = load_prompts(files, root=tmp_path.parent)
    assert sorted(prompts) == ["a", "b"]
    assert prompts["b"].where == f"{tmp_path.name}/b.jinja"
    (tmp_path / "c.jinja").write_bytes(b"\xff")
    with pytest.raises(WorkspaceError, match="UTF-8"):
        load_prompts({"c": tmp_path / "c.jinja"}, root=tmp_path)


def test_a_prompt_must_say_something() -> None:
    with pytest.raises(WorkspaceError, match="nothing"):
        parse("[[system]]\n{{ a }}").messages({"a": ""})
    with pytest.raises(WorkspaceError, match="not a text"):
        parse("[[user]]\na").text({})

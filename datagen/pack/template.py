"""Chat templates in the Hugging Face convention, rendered so that text stays text.

Two things must survive rendering to a string: which stretches are trained (the template wraps
them in `{% generation %}...{% endgeneration %}`), and that a control token spelled out inside a
message is text. Both travel as noncharacters of Unicode: marks around trained stretches, and an
escape that stands for each control token or mark that a message itself holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox
import orjson

from datagen.errors import DataError, WorkspaceError
from datagen.record import Message

_ESCAPE, _BEGIN, _END = "\ufdd0", "\ufdd1", "\ufdd2"
_FIRST_CODE = 0xF0000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Part of a rendered conversation: a control token, or text; with its trained char spans."""

    control: bool
    content: str
    trained: tuple[tuple[int, int], ...]


class _Generation(jinja2.ext.Extension):
    """`{% generation %}...{% endgeneration %}`: mark what it renders."""

    tags = {"generation"}  # noqa: RUF012 - the name and type that jinja2 reads

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        """Turn the block into a call of `_marked` on its body."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_marked")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _marked(self, caller: Any) -> str:
        return f"{_BEGIN}{caller()}{_END}"


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


class ChatTemplate:
    """A compiled chat template of one tokenizer; `where` names its file in errors."""

    def __init__(
        self, source: str, *, control_tokens: Iterable[str], end_of_text: str, where: str
    ) -> None:
        self._where = where
        self._end_of_text = end_of_text
        unsafe = [_ESCAPE, _BEGIN, _END, *sorted(control_tokens, key=lambda t: (-len(t), t))]
        self._code = {word: chr(_FIRST_CODE + number) for number, word in enumerate(unsafe)}
        self._meaning = {code: word for word, code in self._code.items()}
        words = "|".join(map(re.escape, unsafe))
        self._unsafe = re.compile(words)
        self._marks = re.compile(f"{_ESCAPE}.|{words}", flags=re.DOTALL)
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, "jinja2.ext.loopcontrols"],
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise WorkspaceError(
                f"the chat template does not parse: {error.message}",
                where=f"{where}:{error.lineno}",
                fix="correct the template, or name another tokenizer in the profile",
            ) from error

    def stretches(self, messages: Sequence[Message], *, record_id: str) -> list[Stretch]:
        """Render a conversation; only messages with `trained` have trained spans.

        Raises DataError when the template refuses the messages, WorkspaceError when it does not
        mark every assistant message once.
        """
        try:
            rendered = self._template.render(
                messages=[self._message(message) for message in messages],
                add_generation_prompt=False,
                bos_token="",
                eos_token=self._end_of_text,
            )
        except jinja2.TemplateError as error:
            raise DataError(
                f"the chat template refuses record {record_id}: {error.message}",
                where=self._where,
                fix="filter such conversations, or change the template",
            ) from error
        return self._split(rendered, [m.trained for m in messages if m.role == "assistant"])

    def _safe(self, value: Any) -> Any:
        """Escape every string inside a message, so that none of it reads as control or mark."""
        if isinstance(value, dict):
            return {self._safe(key): self._safe(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._safe(inner) for inner in value]
        if not isinstance(value, str):
            return value
        return self._unsafe.sub(lambda found: _ESCAPE + self._code[found[0]], value)

    def _message(self, message: Message) -> dict[str, Any]:
        row: dict[str, Any] = {"role": message.role, "content": self._safe(message.content)}
        if message.reasoning is not None:
            row["reasoning_content"] = self._safe(message.reasoning)
        if message.tool_calls:
            row["tool_calls"] = [
                {
                    "id": self._safe(call.id),
                    "type": "function",
                    "function": {
                        "name": self._safe(call.name),
                        "arguments": self._safe(_parsed(call.arguments)),
                    },
                }
                for call in message.tool_calls
            ]
        if message.tool_call_id is not None:
            row["tool_call_id"] = self._safe(message.tool_call_id)
        return row

    def _split(self, rendered: str, trained: Sequence[bool]) -> list[Stretch]:
        if rendered.count(_BEGIN) != len(trained):
            raise WorkspaceError(
                f"the chat template marks {rendered.count(_BEGIN)} stretches for "
                f"{len(trained)} assistant messages",
                where=self._where,
                fix="wrap each assistant message in {% generation %}...{% endgeneration %}",
            )
        found: list[Stretch] = []
        text: list[tuple[str, bool]] = []
        wanted = iter(trained)
        active = False
        at = 0
        for mark in self._marks.finditer(rendered):
            text.append((rendered[at : mark.start()], active))
            at = mark.end()
            if mark[0] == _BEGIN:
                active = next(wanted)
            elif mark[0] == _END:
                active = False
            elif mark[0][0] == _ESCAPE:
                text.append((self._meaning[mark[0][1]], active))
            else:
                found += _text(text)
                text.clear()
                spans = ((0, len(mark[0])),) if active else ()
                found.append(Stretch(control=True, content=mark[0], trained=spans))
        text.append((rendered[at:], active))
        return found + _text(text)


def _text(parts: Sequence[tuple[str, bool]]) -> list[Stretch]:
    """Join parts (content, trained) to one stretch of text, or to none if they are empty."""
    content = "".join(part for part, _ in parts)
    spans: list[tuple[int, int]] = []
    at = 0
    for part, trained in parts:
        if trained and part:
            spans.append((at, at + len(part)))
        at += len(part)
    return [Stretch(control=False, content=content, trained=tuple(spans))] if content else []


def _parsed(arguments: str) -> Any:
    """Tool arguments as an object, as templates expect them; text that is no JSON stays text."""
    try:
        return orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return arguments

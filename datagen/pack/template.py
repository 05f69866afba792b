"""Chat templates in the Hugging Face convention, rendered so that text stays text.

Two things must survive rendering to a string: which stretches are trained (the template wraps
them in `{% generation %}...{% endgeneration %}`), and that a control token spelled out inside a
message is text. Both travel as noncharacters of Unicode: marks around trained stretches, and an
escape that stands for each control token or mark that a message itself holds.

So a `<think>` or `</think>` in the rendered string is the template's own, whether or not the
tokenizer has a token for it: that is how `Message.masked` finds its span, without a second
rendering that could differ in the text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from datagen.errors import DataError, WorkspaceError
from datagen.record import Message

_ESCAPE, _BEGIN, _END = "\ufdd0", "\ufdd1", "\ufdd2"
_FIRST_CODE = 0xF0000
_THINK, _END_THINK = "<think>", "</think>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Part of a rendered conversation: a control token, or text.

    `trained`: char spans whose tokens are targets; `masked`: char spans of them whose tokens are
    none after all.
    """

    control: bool
    content: str
    trained: tuple[tuple[int, int], ...]
    masked: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """A run of the rendered string; `turn`: which assistant message it is the trained part of.

    `own`: it is a reasoning mark that the template itself wrote.
    """

    content: str
    turn: int | None
    control: bool = False
    own: bool = False


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
        self._control = frozenset(control_tokens)
        spelled = sorted(self._control | {_THINK, _END_THINK}, key=lambda t: (-len(t), t))
        unsafe = [_ESCAPE, _BEGIN, _END, *spelled]
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

        What `masked` names is cut out of them: every `</think>` of the template's in that turn,
        or all from the first `<think>` (where the template writes it before the trained part: from
        its beginning) to the last `</think>`. Raises DataError when the template refuses the
        messages, WorkspaceError when it does not mark every assistant message once, or renders a
        masked reasoning without `</think>`.
        """
        rendered = self._rendered(messages, record_id)
        turns = [message for message in messages if message.role == "assistant"]
        if rendered.count(_BEGIN) != len(turns):
            raise WorkspaceError(
                f"the chat template marks {rendered.count(_BEGIN)} stretches for "
                f"{len(turns)} assistant messages",
                where=self._where,
                fix="wrap each assistant message in {% generation %}...{% endgeneration %}",
            )
        pieces = self._pieces(rendered)
        masked = _masked(pieces, turns)
        ended = {piece.turn for piece in pieces if piece.own and piece.content == _END_THINK}
        for number, turn in enumerate(turns):
            if turn.trained and turn.masked and turn.reasoning and number not in ended:
                self._require_left_out(turn, messages, rendered, record_id)
        trained = [piece.turn is not None and turns[piece.turn].trained for piece in pieces]
        return _stretches(pieces, trained, masked)

    def _rendered(self, messages: Sequence[Message], record_id: str) -> str:
        try:
            return self._template.render(
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

    def _require_left_out(
        self, turn: Message, messages: Sequence[Message], rendered: str, record_id: str
    ) -> None:
        """A template may leave out an earlier turn's reasoning, but not write it unmarked."""
        without = [replace(m, reasoning=None) if m is turn else m for m in messages]
        if self._rendered(without, record_id) != rendered:
            raise WorkspaceError(
                f"record {record_id} masks its reasoning, and the chat template ends none "
                f"with {_END_THINK}",
                where=self._where,
                fix=f"write reasoning between {_THINK} and {_END_THINK}, or set 'mask: none'",
            )

    def _safe(self, value: Any) -> Any:
        """Escape every string inside a message, so that none of it reads as control or mark."""
        if isinstance(value, dict):
            return {self._safe(key): self._safe(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._safe(inner) for inner in value]
        if not isinstance(value, str):
            return value
        return self._unsafe.sub(lambda found: _ESCAPE + self._code[found[0]], value)

    def _arguments(self, text: str) -> Any:
        """Tool arguments as an object, as templates expect them; text that is no JSON stays text.

        Whole numbers keep all their digits.
        """
        try:
            return self._safe(json.loads(text, parse_float=_finite, parse_constant=_finite))
        except (ValueError, RecursionError):
            return self._safe(text)

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
                        "arguments": self._arguments(call.arguments),
                    },
                }
                for call in message.tool_calls
            ]
        if message.tool_call_id is not None:
            row["tool_call_id"] = self._safe(message.tool_call_id)
        return row

    def _pieces(self, rendered: str) -> list[_Piece]:
        """Cut a rendered string at its marks, and turn what was escaped back into text."""
        found: list[_Piece] = []
        turn, turns, at = None, 0, 0
        for mark in self._marks.finditer(rendered):
            found.append(_Piece(content=rendered[at : mark.start()], turn=turn))
            at = mark.end()
            if mark[0] == _BEGIN:
                turn, turns = turns, turns + 1
            elif mark[0] == _END:
                turn = None
            elif mark[0][0] == _ESCAPE:
                found.append(_Piece(content=self._meaning[mark[0][1]], turn=turn))
            else:
                found.append(
                    _Piece(
                        content=mark[0],
                        turn=turn,
                        control=mark[0] in self._control,
                        own=mark[0] in (_THINK, _END_THINK),
                    )
                )
        found.append(_Piece(content=rendered[at:], turn=turn))
        return [piece for piece in found if piece.content]


def _masked(pieces: Sequence[_Piece], turns: Sequence[Message]) -> list[bool]:
    """Which pieces `Message.masked` takes out of the targets of their turn."""
    places: dict[int, list[int]] = {}
    for place, piece in enumerate(pieces):
        if piece.turn is not None:
            places.setdefault(piece.turn, []).append(place)
    found = [False] * len(pieces)
    for turn, inside in places.items():
        ends = [p for p in inside if pieces[p].own and pieces[p].content == _END_THINK]
        if turns[turn].masked is None or not ends:
            continue
        if turns[turn].masked == "reasoning":
            begins = [p for p in inside if pieces[p].own and pieces[p].content == _THINK]
            first = begins[0] if begins and begins[0] < ends[0] else inside[0]
            ends = list(range(first, ends[-1] + 1))
        for place in ends:
            found[place] = True
    return found


def _stretches(
    pieces: Sequence[_Piece], trained: Sequence[bool], masked: Sequence[bool]
) -> list[Stretch]:
    """Join what is text between control tokens, each stretch with its spans."""
    found: list[Stretch] = []
    content = ""
    targets: list[tuple[int, int]] = []
    holes: list[tuple[int, int]] = []

    def close() -> None:
        nonlocal content
        if content:
            found.append(
                Stretch(control=False, content=content, trained=tuple(targets), masked=tuple(holes))
            )
        content = ""
        targets.clear()
        holes.clear()

    for piece, target, hole in zip(pieces, trained, masked, strict=True):
        if piece.control:
            close()
            spans = ((0, len(piece.content)),) if target and not hole else ()
            found.append(Stretch(control=True, content=piece.content, trained=spans))
            continue
        span = (len(content), len(content) + len(piece.content))
        content += piece.content
        if target:
            targets.append(span)
            if hole:
                holes.append(span)
    close()
    return found


def _finite(number: str) -> float:
    if not math.isfinite(found := float(number)):
        raise ValueError(f"{number} is no JSON number")
    return found

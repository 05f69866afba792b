"""Reading an answer as a type: the schema a server is given, and the validation of what it says."""

from __future__ import annotations

import json
from collections.abc import Hashable
from functools import lru_cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from datagen.llm.wire import Choice

T = TypeVar("T")

_MOST_OBJECTS = 32
_SHOWN_ERRORS = 3


class Invalid(Exception):
    """An answer that does not say what was asked for: a stable reason, and a detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def json_schema(into: type[Any]) -> dict[str, Any] | None:
    """The JSON schema that an answer of this type follows; None for free text."""
    return None if into is str else _schema(cast(Hashable, into))


def read_answer(into: type[T], choice: Choice) -> T:
    """Validate a sample; raises `Invalid`: refused, empty, truncated, invalid_json or schema.

    JSON that is complete counts even where the server ran on in white space to `max_tokens`.
    """
    text = choice.text.strip()
    cut = choice.finish_reason == "length"
    if choice.refusal is not None or choice.finish_reason == "content_filter":
        raise Invalid("refused", choice.refusal or "the server's content filter")
    if not text:
        raise Invalid("truncated" if cut else "empty", "no text")
    if into is str:
        if cut:
            raise Invalid("truncated", f"cut at max_tokens after {len(text)} characters")
        return cast(T, text)
    return cast(T, _read_json(_adapter(cast(Hashable, into)), text, cut))


def _read_json(adapter: TypeAdapter[Any], text: str, cut: bool) -> Any:
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        if error.errors(include_url=False)[0]["type"] != "json_invalid":
            raise Invalid("schema", _summary(error)) from None
        syntax = _summary(error)
    found = _first_object(text)
    if found is None:
        if cut:
            raise Invalid("truncated", f"JSON cut at max_tokens after {len(text)} characters")
        raise Invalid("invalid_json", syntax)
    try:
        return adapter.validate_json(found)
    except ValidationError as error:
        raise Invalid("schema", _summary(error)) from None


def _first_object(text: str) -> str | None:
    """The first whole JSON object within prose or a fenced block.

    What a broken object has used up is skipped, so that an object inside it never stands for it.
    """
    decoder = json.JSONDecoder()
    start = text.find("{")
    for _ in range(_MOST_OBJECTS):
        if start < 0:
            return None
        try:
            return text[start : decoder.raw_decode(text, start)[1]]
        except RecursionError:
            return None
        except json.JSONDecodeError as error:
            if error.msg.startswith("Unterminated"):
                return None
            start = text.find("{", max(error.pos, start + 1))
    return None


def _summary(error: ValidationError) -> str:
    """The first few mistakes as `place: message`, without repeating the input."""
    rows = error.errors(include_url=False, include_input=False, include_context=False)
    shown = [
        f"{'.'.join(str(part) for part in row['loc']) or 'answer'}: {row['msg']}"
        for row in rows[:_SHOWN_ERRORS]
    ]
    more = len(rows) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


@lru_cache(maxsize=256)
def _adapter(into: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(cast(Any, into))


@lru_cache(maxsize=256)
def _schema(into: Hashable) -> dict[str, Any]:
    return _adapter(into).json_schema()

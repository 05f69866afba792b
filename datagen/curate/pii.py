"""Personal data in a text: addresses of mail and machines, telephone, card and account numbers.

A number counts only where its own check says so: a card by Luhn and its issuer's range, an account
by ISO 13616, a machine by being publicly routed. `pii.mask` writes the kind in its place.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import orjson

from datagen.curate.words import record_text
from datagen.record import Message, Record

Kind = Literal["email", "iban", "card", "ip", "phone"]

_ALL: tuple[Kind, ...] = ("email", "iban", "card", "ip", "phone")
_EMAIL = re.compile(
    r"(?<![\w.+%-])[A-Za-z0-9][\w.+%-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+"
    r"[A-Za-z]{2,24}(?![\w@])",
    re.ASCII,
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
_CARD = re.compile(r"(?<![\w.,/+-])\d(?:[ -]?\d){12,18}(?![\w/-]|[.,]\d)", re.ASCII)
_IP4 = re.compile(r"(?<![\w.,-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|[.,]\d)", re.ASCII)
_IP6 = re.compile(
    r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:|:){2,7}(?:[0-9A-Fa-f]{1,4})?(?![\w:]|\.\d)", re.ASCII
)
_PHONE = re.compile(
    r"(?<![\w.+/-])(?:"
    r"\+[1-9]\d{0,2}(?:[ .-]?(?:\(\d{1,4}\)|\d{1,4})){2,6}"
    r"|(?:\+?1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ .-])[2-9]\d{2}[.-]\d{4}"
    r")(?![\w-]|[.,]\d)",
    re.ASCII,
)
_IBAN_LENGTHS = {
    **{"AT": 20, "BE": 16, "BG": 22, "CH": 21, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "EE": 20},
    **{"ES": 24, "FI": 18, "FR": 27, "GB": 22, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IS": 26},
    **{"IT": 27, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MT": 31, "NL": 18, "NO": 15},
    **{"PL": 28, "PT": 25, "RO": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TR": 26, "UA": 29},
    **{"AE": 23, "BR": 29, "IL": 23, "KW": 30, "QA": 29, "SA": 24},
}
_PHONE_DIGITS = range(8, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Where a text holds personal data, in characters, end exclusive."""

    kind: Kind
    start: int
    end: int


def find_personal_data(text: str, kinds: Sequence[Kind] = _ALL) -> list[Span]:
    """Every place of the kinds, in order; where two overlap, the one named first in `Kind`."""
    found: list[Span] = []
    for kind in _ALL:
        if kind in kinds:
            new = [
                Span(kind=kind, start=start, end=end)
                for start, end in _FINDERS[kind](text)
                if not any(span.start < end and start < span.end for span in found)
            ]
            found += new
    return sorted(found, key=lambda span: span.start)


def _emails(text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in _EMAIL.finditer(text)) if "@" in text else iter(())


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    for match in _IBAN.finditer(text):
        # What follows an account may look like more of it: its country says how long it is.
        wanted = _IBAN_LENGTHS.get(match.group()[:2])
        place = end = match.start()
        while wanted and end < match.end():
            wanted -= text[end] != " "
            end += 1
        plain = text[place:end].replace(" ", "")
        if wanted == 0 and not text[end : end + 1].isalnum() and _iban_holds(plain):
            yield place, end


def _iban_holds(plain: str) -> bool:
    turned = plain[4:] + plain[:4]
    return int("".join(str(int(character, 36)) for character in turned)) % 97 == 1


def _cards(text: str) -> Iterator[tuple[int, int]]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match.group())
        if _issued(digits) and _luhn(digits):
            yield match.span()


def _issued(digits: str) -> bool:
    """Whether a number has the beginning and the length of a card that somebody issues."""
    size, two, four = len(digits), int(digits[:2]), int(digits[:4])
    return (
        (digits[0] == "4" and size in (13, 16, 19))
        or ((51 <= two <= 55 or 2221 <= four <= 2720) and size == 16)
        or (two in (34, 37) and size == 15)
        or ((two == 65 or four == 6011 or 644 <= four // 10 <= 649) and size in (16, 19))
        or (3528 <= four <= 3589 and size in (16, 19))
        or ((300 <= four // 10 <= 305 or two in (36, 38, 39)) and size in (14, 16, 19))
        or (two == 62 and size in range(16, 20))
    )


def _luhn(digits: str) -> bool:
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[::-2])) + sum(doubled)) % 10 == 0


def _machines(text: str) -> Iterator[tuple[int, int]]:
    patterns = [_IP4] if "::" not in text and text.count(":") < 7 else [_IP4, _IP6]
    for pattern in patterns:
        for match in pattern.finditer(text):
            try:
                address = ipaddress.ip_address(match.group())
            except ValueError:
                continue
            if address.is_global and not address.is_multicast and not _is_a_number(match.group()):
                yield match.span()


def _is_a_number(address: str) -> bool:
    """Whether an address is likelier a section or a version: `4.1.6.1`, `std::`.

    One in 4,096 addresses has four parts below 32 by chance; of six groups few have but two.
    """
    if ":" in address:
        return len(list(filter(None, address.split(":")))) < 3
    return all(int(part) < 32 for part in address.split("."))


def _phones(text: str) -> Iterator[tuple[int, int]]:
    for match in _PHONE.finditer(text):
        if sum(map(str.isdigit, match.group())) in _PHONE_DIGITS:
            yield match.span()


_FINDERS: dict[Kind, Callable[[str], Iterator[tuple[int, int]]]] = {
    "email": _emails,
    "iban": _ibans,
    "card": _cards,
    "ip": _machines,
    "phone": _phones,
}


def _masked(text: str, kinds: Sequence[Kind], counts: Counter[str]) -> str:
    parts, place = [], 0
    for span in find_personal_data(text, kinds):
        parts += [text[place : span.start], f"[{span.kind}]"]
        place = span.end
        counts[span.kind] += 1
    return "".join([*parts, text[place:]]) if parts else text


def _masked_message(message: Message, kinds: Sequence[Kind], counts: Counter[str]) -> Message:
    reasoning = message.reasoning
    calls = tuple(
        replace(call, arguments=_masked_json(call.arguments, kinds, counts))
        for call in message.tool_calls
    )
    return replace(
        message,
        content=_masked(message.content, kinds, counts),
        reasoning=None if reasoning is None else _masked(reasoning, kinds, counts),
        tool_calls=calls,
    )


def _masked_json(arguments: str, kinds: Sequence[Kind], counts: Counter[str]) -> str:
    """JSON with its strings masked, as it was where none is; what is no JSON is masked as text."""

    def inside(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: inside(item) for key, item in value.items()}
        if isinstance(value, list):
            return [inside(item) for item in value]
        return _masked(value, kinds, counts) if isinstance(value, str) else value

    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return _masked(arguments, kinds, counts)
    masked = inside(value)
    return arguments if masked == value else orjson.dumps(masked).decode()


def has_personal_data(
    record: Record, *, kinds: tuple[Kind, ...] = _ALL, max_found: int = 0
) -> str | None:
    """Refuse mail and public IP addresses, telephone, card and account numbers beyond a number."""
    found = Counter(span.kind for span in find_personal_data(record_text(record), kinds))
    if found.total() <= max_found:
        return None
    return ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))


def mask(record: Record, *, kinds: tuple[Kind, ...] = _ALL) -> Record | None:
    """Write `[email]`, `[ip]`, `[phone]`, `[card]`, `[iban]` in their places; count in metadata."""
    counts: Counter[str] = Counter()
    messages = record.messages
    if messages is not None:
        messages = tuple(_masked_message(message, kinds, counts) for message in messages)
    text = None if record.text is None else _masked(record.text, kinds, counts)
    if not counts:
        return None
    said = {"masked": dict(sorted(counts.items()))}
    return replace(record, text=text, messages=messages, metadata={**record.metadata, **said})

"""Bytes of a page to text: gzip unpacked within a bound, declared and undeclared character sets."""

from __future__ import annotations

import codecs
import re
import zlib

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = re.compile(
    rb"""<meta[^>]{0,400}?charset\s*=\s*["']?\s*([\w:.+-]+)|<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.-]+)""",
    re.IGNORECASE,
)
_DECLARED_WITHIN = 4096
# What browsers read under these names (WHATWG Encoding), and a name of the publisher EUR-Lex.
_READ_AS = {
    "iso-8859-1": "cp1252",
    "iso8859-1": "cp1252",
    "latin1": "cp1252",
    "latin-1": "cp1252",
    "us-ascii": "cp1252",
    "ascii": "cp1252",
    "unicode-1-1-utf-8": "utf-8",
    "unicode": "utf-8",
    "utf-16": "utf-8",
    "utf-16le": "utf-8",
    "utf-16be": "utf-8",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso-8859-9": "cp1254",
    "shift_jis": "cp932",
}
# UTF-8 that somebody read as Latin-1: a lead byte and its followers as characters, often among the
# C1 controls, which no text means.
_MISREAD = re.compile("[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_C1 = re.compile("[\x80-\x9f]")


class TooLarge(ValueError):
    """A page unpacks to more than it may."""


def unpack(data: bytes, *, most: int) -> bytes:
    """Undo gzip where the page is packed; TooLarge beyond `most` bytes, found while unpacking."""
    if data[:2] != b"\x1f\x8b":
        return data
    stream = zlib.decompressobj(wbits=31)
    unpacked = stream.decompress(data, most + 1)
    if len(unpacked) > most:
        raise TooLarge(f"unpacks to more than {most} bytes")
    return unpacked


def decode(data: bytes) -> tuple[str, str]:
    """Text and the character set it was read by: byte order mark, declared, UTF-8, Windows-1252."""
    for mark, name in _BOMS:
        if data.startswith(mark):
            return data.decode(name, errors="replace").lstrip("\ufeff"), name
    declared = _DECLARED.search(data[:_DECLARED_WITHIN])
    if declared is not None:
        label = (declared[1] or declared[2]).decode("ascii", errors="ignore").lower()
        name = _READ_AS.get(label, label)
        try:
            return data.decode(name), name
        except (LookupError, UnicodeDecodeError):
            pass
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace"), "cp1252"


def mend(text: str) -> str:
    """Undo a wrong decoding that left C1 controls: UTF-8 read as Latin-1, Windows-1252 likewise.

    One such sequence shows how the whole page was read; the others are undone with it.
    """
    if _C1.search(text) is None:
        return text
    if any(
        _C1.search(found[0]) and _as_utf8(found) != found[0] for found in _MISREAD.finditer(text)
    ):
        text = _MISREAD.sub(_as_utf8, text)
    return _C1.sub(_as_windows, text)


def _as_utf8(found: re.Match[str]) -> str:
    try:
        return found[0].encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return found[0]


def _as_windows(found: re.Match[str]) -> str:
    return found[0].encode("latin-1").decode("cp1252", errors="ignore")

"""Lines, paragraphs and prompts that many records share: found over a corpus, cut from all but one.

A line or a paragraph is known by 64 bits of its normalised form (`exact.normalise`): case, spacing
and punctuation at word edges are free. Keys of a record cost one pass, and 8 bytes a passage.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from datagen.curate.exact import keys_of_bytes
from datagen.record import Record

Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]
Passage = Literal["line", "paragraph"]

_NEWLINE = ord("\n")
_BLANK_LINES = re.compile(r"\n{3,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Passages:
    """The passages of some texts that are long enough to count.

    `bounds` (m, 2) are begin and end of each in its text's UTF-8 bytes, an end's newlines included,
    and `texts` (n + 1,) says where the passages of each text begin.
    """

    keys: Hashes
    bounds: Places
    texts: Places

    def of(self, text: int) -> slice:
        """Which passages are those of a text."""
        return slice(int(self.texts[text]), int(self.texts[text + 1]))


def passages(texts: Sequence[str], kind: Passage, min_characters: int = 0) -> Passages:
    """Key every line, or every paragraph between blank lines, of at least so many characters."""
    parts = [text.encode(errors="replace") for text in texts]
    offsets = np.concatenate(([0], np.cumsum([len(part) for part in parts], dtype=np.int64)))
    data = np.frombuffer(b"".join(parts), np.uint8)
    begins = _begins(data, offsets, kind)
    keys = keys_of_bytes(data, np.append(begins, len(data)))[:, 0]
    ends = np.append(begins[1:], len(data))
    # A byte that continues a character is none; nor is a newline.
    counted = ((data & 0xC0) != 0x80) & (data != _NEWLINE)
    characters = np.concatenate(([0], np.cumsum(counted)))
    chosen = characters[ends] - characters[begins] >= max(min_characters, 1)
    begins, ends, keys = begins[chosen], ends[chosen], keys[chosen]
    first = np.searchsorted(begins, offsets)
    shift = np.repeat(offsets[:-1], np.diff(first))
    bounds = np.stack((begins - shift, ends - shift), axis=1)
    return Passages(keys=keys, bounds=bounds, texts=first)


def _begins(data: npt.NDArray[np.uint8], offsets: Places, kind: Passage) -> Places:
    """Where each passage begins: at each text's begin, and behind each separator."""
    newline = data == _NEWLINE
    if kind == "line":
        behind = np.flatnonzero(newline) + 1
    else:
        # Behind a run of newlines with at least two of them.
        last = newline[1:-1] & newline[:-2] & ~newline[2:]
        behind = np.flatnonzero(last) + 2
    return np.unique(
        np.concatenate((offsets[:-1][np.diff(offsets) > 0], behind[behind < len(data)]))
    )


def shared(
    keys: Hashes, owners: Places, ranks: Places, min_documents: int
) -> tuple[Hashes, Places, Places]:
    """The keys that at least so many records hold: sorted, the record of the best rank, how many.

    `owners` (m,) are the records of the keys, `ranks` (n,) those of the records, 0 the best. A key
    that a record holds twice counts once, in whatever order they come.
    """
    order = np.lexsort((ranks[owners], keys))
    keys, owners = keys[order], owners[order]
    fresh = np.ones(len(keys), np.bool_)
    fresh[1:] = (keys[1:] != keys[:-1]) | (owners[1:] != owners[:-1])
    keys, owners = keys[fresh], owners[fresh]
    begins = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1]))[: len(keys)])
    counts = np.diff(np.append(begins, len(keys)))
    chosen = counts >= min_documents
    return keys[begins][chosen], owners[begins][chosen], counts[chosen]


def cut(text: str, bounds: Places) -> str:
    """A text without some of its passages, by their bounds in its UTF-8 bytes.

    Blank lines that a cut leaves side by side become one.
    """
    data = text.encode(errors="replace")
    kept, place = [], 0
    for begin, end in bounds.tolist():
        kept.append(data[place:begin])
        place = end
    kept.append(data[place:])
    return _BLANK_LINES.sub("\n\n", b"".join(kept).decode()).strip("\n")


def first_prompt(record: Record) -> str | None:
    """What the user says first in a conversation; None where nobody asks."""
    for message in record.messages or ():
        if message.role == "user":
            return message.content if message.content.strip() else None
    return None

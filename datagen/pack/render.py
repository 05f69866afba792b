"""Records to token ids and loss mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from datagen.errors import DataError, WorkspaceError
from datagen.pack.template import ChatTemplate, Stretch
from datagen.record import Message, Record
from datagen.shards.parquet import file_sha256
from datagen.shards.records import json_text, message_row
from datagen.shards.schema import DOCUMENT_SCHEMA
from datagen.workspace.locate import inside
from datagen.workspace.specs import TokenizerSpec

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

TOKENIZER_FILE = "tokenizer.json"
TEMPLATE_FILE = "chat_template.jinja"


def prompt_hash(record: Record) -> int:
    """64 signed bits over what the record asks: its text, or all before the last assistant turn.

    Two records of equal prompt never share a row.
    """
    if record.messages is None:
        asked = record.text or ""
    else:
        turns = [n for n, m in enumerate(record.messages) if m.role == "assistant"]
        before = record.messages[: turns[-1]] if turns else record.messages
        asked = json_text([_untrained(message) for message in before])
    return int(np.uint64(xxhash.xxh3_64_intdigest(asked.encode())).astype(np.int64))


def _untrained(message: Message) -> dict[str, object]:
    return message_row(message) | {"trained": False, "masked": None}


def _verified(directory: Path, spec: TokenizerSpec, used: str) -> None:
    for name, expected in sorted(spec.sha256.items()):
        path = directory / name
        if not path.is_file():
            raise WorkspaceError(
                f"tokenizer {spec.name!r} has no file {name}",
                where=used,
                fix="correct 'path' in its manifest, or restore the file",
            )
        if (found := file_sha256(path)) != expected:
            raise DataError(
                f"sha256 is {found}, the manifest of tokenizer {spec.name!r} says {expected}",
                where=str(path),
                fix="restore the file, or pin the new bytes in the manifest",
            )
    if TOKENIZER_FILE not in spec.sha256:
        raise WorkspaceError(
            f"tokenizer {spec.name!r} does not pin {TOKENIZER_FILE}",
            where=used,
            fix=f"list {TOKENIZER_FILE} with its hash under 'sha256'",
        )


class Renderer:
    """A pinned tokenizer with its chat template: records to rows of DOCUMENT_SCHEMA.

    Nothing inside a record's text becomes a control token, however it is spelled.
    """

    def __init__(self, spec: TokenizerSpec, root: Path, *, used: str | None = None) -> None:
        """Load from `root / spec.path`; DataError when a file is not the pinned one."""
        from tokenizers import Tokenizer, processors

        used = used or f"manifests/tokenizers/{spec.name}.yaml"
        directory = inside(root, spec.path, where=used)
        _verified(directory, spec, used)
        content = orjson.loads((directory / TOKENIZER_FILE).read_bytes())
        self._control = {token["content"]: token["id"] for token in content["added_tokens"]}
        # only tokens named special are kept out of text by `encode_special_tokens`
        content["added_tokens"] = [{**token, "special": True} for token in content["added_tokens"]]
        self._tokenizer: Tokenizer = Tokenizer.from_str(json_text(content))
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # offsets must cover the blanks that a token begins with
        self._tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
        if spec.end_of_text not in self._control:
            raise WorkspaceError(
                f"{spec.end_of_text!r} is no special token of tokenizer {spec.name!r}",
                where=used,
                fix=f"end_of_text: one of {', '.join(sorted(self._control)[:8])}",
            )
        self._end_of_text = self._control[spec.end_of_text]
        self._template: ChatTemplate | None = None
        if TEMPLATE_FILE in spec.sha256:
            self._template = ChatTemplate(
                (directory / TEMPLATE_FILE).read_text(encoding="utf-8"),
                control_tokens=self._control,
                end_of_text=spec.end_of_text,
                where=f"{spec.path}/{TEMPLATE_FILE}",
            )
        self._used = used

    @property
    def vocabulary(self) -> int:
        """One more than the largest token id."""
        return max(self._tokenizer.get_vocab().values()) + 1

    def decode(self, ids: Iterable[int]) -> str:
        """Token ids back to text, control tokens included."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text

    def count(self, text: str) -> int:
        """Count the tokens of a text; marks spelled out in it are text."""
        return len(self._tokenizer.encode(text, add_special_tokens=False))

    def cut(self, text: str, budget_tokens: int) -> str:
        """The longest beginning of at most `budget_tokens` tokens that ends with a token.

        A character is never cut in two; cut text counts no more than its budget on its own.
        """
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        if len(offsets) <= budget_tokens:
            return text
        for last in range(budget_tokens - 1, -1, -1):
            end = offsets[last][1]
            if end <= offsets[last + 1][0] and self.count(text[:end]) <= budget_tokens:
                return text[:end]
        return ""

    def documents(self, records: Sequence[Record]) -> pa.RecordBatch:
        """Tokenise records to one batch of DOCUMENT_SCHEMA, in their order.

        A text ends with the end-of-text token, and every token of it is a target. A conversation
        follows the chat template, and the tokens of its trained messages are targets, but for
        those of what `Message.masked` names.
        """
        texts = [record.text for record in records if record.text is not None]
        encoded = iter(self._tokenizer.encode_batch_fast(texts, add_special_tokens=False))
        chats = iter(self._conversations([r for r in records if r.messages is not None]))
        ids: list[NDArray[np.int32]] = []
        masks: list[NDArray[np.int8]] = []
        for record in records:
            if record.text is not None:
                tokens = np.array([*next(encoded).ids, self._end_of_text], dtype=np.int32)
                ids.append(tokens)
                masks.append(np.ones(len(tokens), dtype=np.int8))
            else:
                tokens, mask = next(chats)
                ids.append(tokens)
                masks.append(mask)
        sizes = [len(tokens) for tokens in ids]
        bounds = pa.array(np.cumsum([0, *sizes]), pa.int32())
        columns = {
            "record_id": pa.array([record.id for record in records], pa.string()),
            "input_ids": pa.ListArray.from_arrays(
                bounds, pa.array(np.concatenate([np.zeros(0, np.int32), *ids]))
            ),
            "loss_mask": pa.ListArray.from_arrays(
                bounds, pa.array(np.concatenate([np.zeros(0, np.int8), *masks]))
            ),
            "n_tokens": pa.array(sizes, pa.int32()),
            "splittable": pa.array([record.text is not None for record in records]),
            "prompt_hash": pa.array([prompt_hash(record) for record in records], pa.int64()),
        }
        return pa.RecordBatch.from_arrays(
            [columns[name] for name in DOCUMENT_SCHEMA.names], schema=DOCUMENT_SCHEMA
        )

    def _conversations(
        self, records: Sequence[Record]
    ) -> list[tuple[NDArray[np.int32], NDArray[np.int8]]]:
        if not records:
            return []
        if self._template is None:
            raise WorkspaceError(
                f"record {records[0].id} is a conversation, the tokenizer has no chat template",
                where=self._used,
                fix=f"add {TEMPLATE_FILE} beside {TOKENIZER_FILE}, with its hash",
            )
        rendered = [
            self._template.stretches(record.messages or (), record_id=record.id)
            for record in records
        ]
        texts = [s.content for stretches in rendered for s in stretches if not s.control]
        encoded = iter(self._tokenizer.encode_batch(texts, add_special_tokens=False))
        found = []
        for stretches in rendered:
            ids: list[int] = []
            mask: list[int] = []
            for stretch in stretches:
                if stretch.control:
                    ids.append(self._control[stretch.content])
                    mask.append(1 if stretch.trained else 0)
                else:
                    encoding = next(encoded)
                    ids += encoding.ids
                    mask += _targets(encoding, stretch)
            found.append((np.array(ids, dtype=np.int32), np.array(mask, dtype=np.int8)))
        return found


def _targets(encoding: Encoding, stretch: Stretch) -> list[int]:
    """1 for each token that overlaps a trained span and no masked one, 0 for the others.

    So a token that reaches over the edge of a trained span is a target, and one that reaches over
    the edge of a masked span is none: no part of what is masked is ever learned.
    """
    if not stretch.trained:
        return [0] * len(encoding)
    if stretch.trained == ((0, len(stretch.content)),) and not stretch.masked:
        return [1] * len(encoding)
    return [
        int(_overlaps(begin, end, stretch.trained) and not _overlaps(begin, end, stretch.masked))
        for begin, end in encoding.offsets
    ]


def _overlaps(begin: int, end: int, spans: Sequence[tuple[int, int]]) -> bool:
    return any(begin < high and end > low for low, high in spans)

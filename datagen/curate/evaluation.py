"""Recognise evaluation items in seed rows by hashes alone, so that no item's text need be at hand.

A benchmark is kept as one entry an item. The entry of a question that says enough by itself holds
the hash of its words, and one of at least RUN_WORDS words also that of its beginning, so that it
is found whole inside any text of a row. A question that several items ask, or of a few words,
counts only with its options: as a set, so that shuffled options are the same item. Words are those
of words.py: case, punctuation and layout are free; another wording is another question.

Costs about 20 MB/s a core; 31,000 items take 0.3 MB.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from datagen.curate.words import Hashes, Offsets, mix64, ngram_ladder, word_hashes

RUN_WORDS = 13
# A cell of fewer words is a title or a stem ("Fossil fuels") before it is a question.
_TELLING_WORDS = 4
_WHOLE_WORDS = 1024
_OPTION_COLUMNS = 6
_LEAVES = 16
_TABLE_BITS = 22
_BASE = 0xC2B2AE3D27D4EB4F
_OPTIONS = np.uint64(0x165667B19E3779F9)

ITEM_SCHEMA = pa.schema(
    [
        ("benchmark", pa.string()),
        ("anchor", pa.uint32()),
        ("words", pa.uint16()),
        ("key", pa.uint64()),
    ]
)
"""An item's hash; `words` is 0 where only a whole cell counts, `anchor` then too."""


class Item(NamedTuple):
    """A benchmark's question with its options, in any order; none where it has none."""

    question: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Texts:
    """Word hashes of texts, end to end, with the hash of each text as a whole, shape (n,)."""

    hashes: Hashes
    begins: Offsets
    whole: Hashes


def _powers(count: int) -> Hashes:
    table = np.full(count, _BASE, np.uint64)
    table[0] = 1
    return np.cumprod(table, out=table)


_POWERS = _powers(_WHOLE_WORDS)


def _read(texts: Sequence[str]) -> _Texts:
    """Hash texts by their words; what lies beyond the first _WHOLE_WORDS is not in `whole`."""
    hashes, begins = word_hashes(texts)
    place = np.arange(len(hashes)) - np.repeat(begins[:-1], np.diff(begins))
    terms = hashes * _POWERS[np.minimum(place, _WHOLE_WORDS - 1)]
    terms[place >= _WHOLE_WORDS] = 0
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)))
    return _Texts(hashes=hashes, begins=begins, whole=mix64(sums[begins[1:]] - sums[begins[:-1]]))


def _with_options(question: Hashes, options: Hashes) -> Hashes:
    """The key of questions with the sums of their options' mixed hashes."""
    return mix64(question + mix64(options) * _OPTIONS)


def hash_items(benchmark: str, items: Iterable[Item]) -> pa.Table:
    """The entries of a benchmark, sorted, each once: columns of ITEM_SCHEMA.

    An item of a few words, or that others ask as well, and that has no options, has no entry.
    """
    read = list(items)
    questions = _read([item.question for item in read])
    options = _read([option for item in read for option in item.options])
    counts = np.array([len(item.options) for item in read], np.int64)
    ends = np.cumsum(counts)
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(mix64(options.whole))))
    together = _with_options(questions.whole, sums[ends] - sums[ends - counts])
    words = np.diff(questions.begins)
    asked = Counter(questions.whole.tolist())
    alone = np.array([asked[key] == 1 for key in questions.whole.tolist()], np.bool_)
    telling = (words >= _TELLING_WORDS) & (alone | (counts == 0))
    run = telling & (words >= RUN_WORDS) & (words <= _WHOLE_WORDS)
    anchors = np.zeros(len(read), np.uint32)
    if run.any():
        keys = next(ngram_ladder(questions.hashes, (RUN_WORDS,)))[1]
        anchors[run] = _anchor(keys[questions.begins[:-1][run]])
    has_entry = telling | (counts > 0)
    table = pa.table(
        {
            "benchmark": pa.array([benchmark] * int(has_entry.sum()), pa.string()),
            "anchor": anchors[has_entry],
            "words": np.where(run, words, 0).astype(np.uint16)[has_entry],
            "key": np.where(telling, questions.whole, together)[has_entry],
        },
        schema=ITEM_SCHEMA,
    )
    return (
        table.group_by(ITEM_SCHEMA.names)
        .aggregate([])
        .sort_by([("anchor", "ascending"), ("key", "ascending")])
    )


def _anchor(keys: Hashes) -> npt.NDArray[np.uint32]:
    return (mix64(keys) >> np.uint64(32)).astype(np.uint32)


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemIndex:
    """What `find_items` looks up: entries sorted by key, and those of runs sorted by anchor."""

    names: tuple[str, ...]
    keys: Hashes
    owners: npt.NDArray[np.int32]
    anchors: npt.NDArray[np.uint32]
    words: npt.NDArray[np.int64]
    run_keys: Hashes
    run_owners: npt.NDArray[np.int32]
    table: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, tables: Sequence[pa.Table]) -> ItemIndex:
        """Index the entries of some tables of ITEM_SCHEMA; an entry of two benchmarks has two."""
        items = pa.concat_tables([ITEM_SCHEMA.empty_table(), *tables])
        encoded = items.column("benchmark").combine_chunks().dictionary_encode()
        owners = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
        keys, anchors, words = (
            items.column(name).to_numpy().astype(kind)
            for name, kind in (("key", np.uint64), ("anchor", np.uint32), ("words", np.int64))
        )
        runs = np.flatnonzero(words)
        by_key, by_anchor = np.argsort(keys, kind="stable"), runs[np.argsort(anchors[runs])]
        table = np.zeros(1 << _TABLE_BITS, np.bool_)
        table[anchors[by_anchor] >> np.uint32(32 - _TABLE_BITS)] = True
        return cls(
            names=tuple(encoded.dictionary.to_pylist()),
            keys=keys[by_key],
            owners=owners[by_key],
            anchors=anchors[by_anchor],
            words=words[by_anchor],
            run_keys=keys[by_anchor],
            run_owners=owners[by_anchor],
            table=table,
        )

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(slots=True)
class _Cells:
    """The texts of some rows in order, whose they are, and what may be a question with options.

    A candidate is (text of the question, first option, end of the options), all numbers of texts.
    """

    texts: list[str]
    rows: list[int]
    candidates: list[tuple[int, int, int]]

    def add(self, number: int, row: Mapping[str, Any]) -> None:
        """Take in a row: every text, and which of them a list or neighbouring columns group."""
        plain: list[int] = []
        groups: list[tuple[int, int]] = []
        self._walk(number, row, plain, groups)
        self.candidates += [(q, *group) for q in plain[:_LEAVES] for group in groups[:_LEAVES]]
        neighbours = set(plain)
        for question in plain[:_LEAVES]:
            end = question + 2
            while end in neighbours and end <= question + _OPTION_COLUMNS:
                end += 1
                self.candidates.append((question, question + 1, end))

    def _walk(
        self, number: int, value: Any, plain: list[int], groups: list[tuple[int, int]]
    ) -> None:
        if isinstance(value, str):
            plain.append(len(self.texts))
            self._text(number, value)
        elif isinstance(value, Mapping):
            for inner in value.values():
                self._walk(number, inner, plain, groups)
        elif isinstance(value, list | tuple):
            if len(value) > 1 and all(isinstance(inner, str) for inner in value):
                groups.append((len(self.texts), len(self.texts) + len(value)))
                for inner in value:
                    self._text(number, inner)
            else:
                for inner in value:
                    self._walk(number, inner, plain, groups)

    def _text(self, number: int, text: str) -> None:
        self.texts.append(text)
        self.rows.append(number)


def find_items(rows: Sequence[Mapping[str, Any]], index: ItemIndex) -> list[str | None]:
    """The benchmark that each row holds an item of; None where it holds none.

    Looked at is every text in a row, at any depth of lists and tables. Rows of a few MB at once
    are a good batch: memory is some 60 bytes a word.
    """
    cells = _Cells([], [], [])
    for number, row in enumerate(rows):
        cells.add(number, row)
    found: list[str | None] = [None] * len(rows)
    if not len(index) or not cells.texts:
        return found
    texts = _read(cells.texts)
    for text, owner in _runs(texts, index):
        found[cells.rows[text]] = index.names[owner]
    question, start, end = np.array(cells.candidates, np.int64).reshape(-1, 3).T
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(mix64(texts.whole))))
    together = _with_options(texts.whole[question], sums[end] - sums[start])
    for keys, whose in ((texts.whole, np.arange(len(cells.texts))), (together, question)):
        place = np.minimum(np.searchsorted(index.keys, keys), len(index.keys) - 1)
        for hit in np.flatnonzero(index.keys[place] == keys):
            found[cells.rows[whose[hit]]] = index.names[index.owners[place[hit]]]
    return found


def _runs(texts: _Texts, index: ItemIndex) -> Iterator[tuple[int, int]]:
    """Texts that hold a whole question somewhere, with the benchmark's number."""
    grams = next(ngram_ladder(texts.hashes, (RUN_WORDS,)))[1]
    anchors = _anchor(grams)
    places = np.flatnonzero(index.table[anchors >> np.uint32(32 - _TABLE_BITS)])
    low = np.searchsorted(index.anchors, anchors[places], side="left")
    high = np.searchsorted(index.anchors, anchors[places], side="right")
    for place, first, last in zip(places, low, high, strict=True):
        if first == last:
            continue
        text = int(np.searchsorted(texts.begins, place, side="right")) - 1
        words = index.words[first:last]
        fits = place + words <= texts.begins[text + 1]
        if not fits.any():
            continue
        longest = int(words[fits].max())
        sums = np.cumsum(texts.hashes[place : place + longest] * _POWERS[:longest], dtype=np.uint64)
        same = mix64(sums[np.minimum(words, longest) - 1]) == index.run_keys[first:last]
        for entry in np.flatnonzero(same & fits):
            yield text, int(index.run_owners[first + entry])

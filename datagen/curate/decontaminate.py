"""Find benchmark items in training text: by n-grams of the question, or whole where it is short.

Only questions are looked for; an answer alone never matches. A question of at least `ngram_words`
words is found when the text holds `min_coverage` of its distinct n-grams (tier `ngram`). A shorter
one counts where it stands whole: followed by its answer (tier `question_answer`), or as a phrase
of its own (tier `question`). One of a few words, or one that several items ask ("Which is true?"),
needs its answer close by as well, unless it is all that the text says. Words are those of
words.py: case, punctuation and layout are free.

Costs about 20 MB/s a core, and some 50 bytes an n-gram of the benchmarks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from datagen.curate.benchmarks import benchmark_rows, options_of
from datagen.curate.exact import Rows
from datagen.curate.words import Hashes, Offsets, ngram_ladder, word_hashes, word_spans
from datagen.errors import DataError
from datagen.shards.sources import SourceFile
from datagen.workspace.specs import BenchmarkFields, BenchmarkSpec, DecontaminateSpec

Tier = Literal["ngram", "question", "question_answer"]

_TILE_WORDS = 1 << 15
_PROBES_PER_KEY = 16
# A phrase of fewer words is said by chance; one of many is not, wherever it stands.
_PHRASE_WORDS = 4
_TELLING_WORDS = 8
_ANSWER_WINDOW_WORDS = 64
_TEMPLATE_ITEMS = 10
_BOUNDARY = re.compile(r"[^\w\s,'’–—-]|[\n\r\t]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A benchmark item found in a text.

    `item` is `file#row`; `start` and `end` are character offsets around all that matched;
    `coverage` is the share of the question's distinct n-grams, 1 for a whole short question.
    """

    benchmark: str
    item: str
    tier: Tier
    start: int
    end: int
    coverage: float

    def __str__(self) -> str:
        """Name item, tier, share and place on one line."""
        share = f"{self.coverage:.0%} of its n-grams" if self.tier == "ngram" else self.tier
        return f"{self.benchmark} {self.item}: {share} at {self.start}-{self.end}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    benchmark: str
    name: str
    answer: Hashes
    shared: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keys:
    """Sorted keys of one n-gram length with the item of each, behind a table of first bits."""

    keys: Hashes
    items: Rows
    table: npt.NDArray[np.bool_]
    shift: np.uint64

    @classmethod
    def of(cls, keys: Hashes, items: Rows) -> _Keys:
        order = np.lexsort((items, keys))
        bits = max(10, (len(keys) * _PROBES_PER_KEY).bit_length())
        shift = np.uint64(64 - bits)
        table = np.zeros(1 << bits, np.bool_)
        table[keys >> shift] = True
        return cls(keys=keys[order], items=items[order], table=table, shift=shift)

    def find(self, probes: Hashes) -> tuple[Rows, Rows]:
        """Places in `probes` and the entries equal to them, one pair an item."""
        places = np.flatnonzero(self.table[probes >> self.shift])
        low = np.searchsorted(self.keys, probes[places])
        equal = self.keys.take(low, mode="clip") == probes[places] if len(self.keys) else low > 0
        places, low = places[equal], low[equal]
        counts = np.searchsorted(self.keys, probes[places], side="right") - low
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(places, counts), np.repeat(low, counts) + within


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkIndex:
    """What `find_hits` looks up: n-grams of long questions, whole short ones by length."""

    spec: DecontaminateSpec
    items: tuple[_Item, ...]
    grams: Rows
    by_length: Mapping[int, _Keys]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Matches:
    """Entries found in a batch: n-gram length, place in its words, entry, item; parallel (m,)."""

    length: Rows
    place: Rows
    entry: Rows
    item: Rows


def _answer_text(row: Mapping[str, Any], fields: BenchmarkFields, where: str) -> str:
    """The answer as text: an option by its number from 0 or its letter, or the answer itself."""
    answer = None if fields.answer is None else row[fields.answer]
    if answer is None:
        return ""
    if fields.choices is None:
        return str(answer)
    choices = options_of(row, fields)
    text = str(answer).strip()
    if text in choices and not isinstance(answer, int):
        return text
    place = int(text) if text.isdecimal() else ord(text.upper()) - 65 if len(text) == 1 else -1
    if not 0 <= place < len(choices):
        raise DataError(
            f"answer {answer!r} is none of {len(choices)} choices",
            where=where,
            fix="give the answer as a number from 0, as a letter from A, or as the choice itself",
        )
    return choices[place]


def _rows(spec: BenchmarkSpec, files: Sequence[SourceFile]) -> Iterator[tuple[str, str, str]]:
    """Place, question and answer of each item."""
    for place, row in benchmark_rows(spec, files):
        question = str(row[spec.fields.question] or "")
        yield place, question, _answer_text(row, spec.fields, place)


def load_benchmarks(
    benchmarks: Sequence[tuple[BenchmarkSpec, Sequence[SourceFile]]], spec: DecontaminateSpec
) -> BenchmarkIndex:
    """Index the items of each benchmark from its resolved files, in any format of a source.

    Raises DataError naming file and row for a missing column or an answer that is no choice.
    """
    read = [
        (benchmark, place, question, answer)
        for benchmark, files in benchmarks
        for place, question, answer in _rows(benchmark, files)
    ]
    n = spec.ngram_words
    questions, begins = word_hashes([question for _, _, question, _ in read])
    answers, answer_begins = word_hashes([answer for _, _, _, answer in read])
    words = np.diff(begins)
    short: dict[int, list[tuple[int, int]]] = {}
    for row in np.flatnonzero((words > 0) & (words < n)):
        if read[row][0].short_items == "exact":
            length = int(words[row])
            whole = next(ngram_ladder(questions[begins[row] : begins[row + 1]], (length,)))[1]
            short.setdefault(length, []).append((int(whole[0]), int(row)))
    times = Counter(key for entries in short.values() for key, _ in entries)
    shared = {row for entries in short.values() for key, row in entries if times[key] > 1}
    keys, owners = _distinct_grams(questions, begins, n)
    by_length = {n: _Keys.of(keys, owners)}
    for length, entries in short.items():
        by_length[length] = _Keys.of(
            np.array([key for key, _ in entries], np.uint64),
            np.array([row for _, row in entries], np.int64),
        )
    return BenchmarkIndex(
        spec=spec,
        items=tuple(
            _Item(
                benchmark=benchmark.name,
                name=place,
                answer=answers[answer_begins[row] : answer_begins[row + 1]],
                shared=row in shared,
            )
            for row, (benchmark, place, _, _) in enumerate(read)
        ),
        grams=np.bincount(owners, minlength=len(read)),
        by_length=by_length,
    )


def _distinct_grams(hashes: Hashes, begins: Offsets, n: int) -> tuple[Hashes, Rows]:
    """Each item's distinct n-gram keys and the item of each, without those of a template.

    What more than a few items share is a form of words ("For which of these two scenarios ...").
    """
    grams = next(ngram_ladder(hashes, (n,)))[1]
    ends = np.repeat(begins[1:], np.diff(begins))[: len(grams)]
    owners = np.repeat(np.arange(len(begins) - 1), np.diff(begins))[: len(grams)]
    inside = ends - np.arange(len(grams)) >= n
    pairs = np.unique(np.stack((grams[inside], owners[inside].astype(np.uint64))), axis=1)
    keys, items = pairs[0], pairs[1].astype(np.int64)
    _, key_of, times = np.unique(keys, return_inverse=True, return_counts=True)
    own = times[key_of] <= _TEMPLATE_ITEMS
    # An item that is nothing but template keeps its n-grams: better a false flag than a leak.
    has_own = np.bincount(items[own], minlength=len(begins)) > 0
    counted = own | ~has_own[items]
    return keys[counted], items[counted]


def _matches(hashes: Hashes, begins: Offsets, index: BenchmarkIndex) -> _Matches:
    """Every entry of the index that lies within one text of the batch."""
    longest = max(index.by_length)
    found: list[tuple[Rows, ...]] = []
    for low in range(0, len(hashes), _TILE_WORDS):
        tile = hashes[low : low + _TILE_WORDS + longest - 1]
        for length, probes in ngram_ladder(tile, index.by_length):
            keys = index.by_length[length]
            places, entries = keys.find(probes[:_TILE_WORDS])
            text = np.searchsorted(begins, places + low, side="right")
            inside = places + low + length <= begins[text]
            places, entries = places[inside] + low, entries[inside]
            found.append((np.full(len(places), length), places, entries, keys.items[entries]))
    parts = [np.concatenate(part) for part in zip(*found, strict=True)]
    parts = parts or [np.zeros(0, np.int64)] * 4
    return _Matches(length=parts[0], place=parts[1], entry=parts[2], item=parts[3])


def _long_hits(
    text: str, matches: _Matches, chosen: Rows, first: int, index: BenchmarkIndex
) -> Iterator[Hit]:
    """Hits by coverage among the chosen n-gram matches of one text, whose words begin at first."""
    items, own = np.unique(matches.item[chosen], return_inverse=True)
    place = matches.place[chosen] - first
    low, high = np.full(len(items), len(text)), np.zeros(len(items), np.int64)
    np.minimum.at(low, own, place)
    np.maximum.at(high, own, place)
    distinct = np.unique(np.stack((own, matches.entry[chosen])), axis=1)[0]
    coverage = np.bincount(distinct, minlength=len(items)) / index.grams[items]
    enough = np.flatnonzero(coverage >= index.spec.min_coverage)
    spans = word_spans(text) if len(enough) else []
    for k in enough:
        start, end = _span(text, spans, int(low[k]), int(high[k]), index.spec.ngram_words)
        yield Hit(
            benchmark=index.items[items[k]].benchmark,
            item=index.items[items[k]].name,
            tier="ngram",
            start=start,
            end=end,
            coverage=float(coverage[k]),
        )


def _span(
    text: str, spans: Sequence[tuple[int, int]], low: int, high: int, length: int
) -> tuple[int, int]:
    """Characters from the word `low` to the end of the n-gram at `high`; all if spans are off."""
    if high + length > len(spans):
        return 0, len(text)
    return spans[low][0], spans[high + length - 1][1]


def _holds(words: Hashes, part: Hashes) -> bool:
    """Whether `part` runs through `words`; an empty one does not."""
    return len(part) > 0 and any(
        np.array_equal(words[i : i + len(part)], part) for i in np.flatnonzero(words == part[0])
    )


def _stands_alone(text: str, spans: Sequence[tuple[int, int]], place: int, length: int) -> bool:
    """Whether punctuation or a line's end sets the words off from their neighbours."""
    if place + length > len(spans):
        return False
    before = text[spans[place - 1][1] : spans[place][0]] if place else "\n"
    last = place + length - 1
    after = text[spans[last][1] : spans[last + 1][0]] if last + 1 < len(spans) else "\n"
    return bool(_BOUNDARY.search(before) and _BOUNDARY.search(after))


def _short_hits(
    text: str,
    words: Hashes,
    candidates: Iterable[tuple[int, int, int]],
    index: BenchmarkIndex,
) -> Iterator[Hit]:
    """Hits among whole short questions of one text: (place in its words, length, item)."""
    spans: list[tuple[int, int]] | None = None
    seen: set[int] = set()
    answered_anywhere: dict[int, bool] = {}
    for place, length, number in candidates:
        item = index.items[number]
        answer = item.answer
        whole = length == len(words)
        vague = not whole and (length < _PHRASE_WORDS or item.shared)
        if vague and number not in answered_anywhere:
            answered_anywhere[number] = _holds(words, answer)
        if number in seen or (vague and not answered_anywhere[number]):
            continue
        after = words[place + length : place + length + _ANSWER_WINDOW_WORDS]
        answered = np.array_equal(after[: len(answer)], answer)
        tier: Tier = "question"
        if vague and (length + len(answer) < _PHRASE_WORDS or not _holds(after, answer)):
            continue
        if len(answer) and answered:
            tier = "question_answer"
        spans = word_spans(text) if spans is None else spans
        telling = tier == "question_answer" or (length >= _TELLING_WORDS and not vague)
        if not telling and not _stands_alone(text, spans, place, length):
            continue
        seen.add(number)
        start, end = _span(text, spans, place, place, length)
        yield Hit(
            benchmark=item.benchmark, item=item.name, tier=tier, start=start, end=end, coverage=1.0
        )


def find_hits(texts: Sequence[str], index: BenchmarkIndex) -> list[list[Hit]]:
    """The benchmark items in each text, by item; an empty list where a text is clean.

    A shard's texts at once is a good batch: memory is some 30 bytes a word.
    """
    hashes, begins = word_hashes(texts)
    matches = _matches(hashes, begins, index)
    owners = np.searchsorted(begins, matches.place, side="right") - 1
    hits: list[list[Hit]] = [[] for _ in texts]
    order = np.argsort(owners, kind="stable")
    numbers, starts = np.unique(owners[order], return_index=True)
    for number, mine in zip(numbers, np.split(order, starts[1:]), strict=False):
        text, first = texts[number], int(begins[number])
        is_long = matches.length[mine] == index.spec.ngram_words
        short = mine[~is_long]
        candidates = zip(
            (matches.place[short] - first).tolist(),
            matches.length[short].tolist(),
            matches.item[short].tolist(),
            strict=True,
        )
        words = hashes[first : begins[number + 1]]
        hits[number] = [
            *_long_hits(text, matches, mine[is_long], first, index),
            *_short_hits(text, words, candidates, index),
        ]
    return hits

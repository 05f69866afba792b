"""What decontamination looks for: each distinct question once, with the items that ask it.

The words of questions lie in one array, behind tables that the scan looks up. Costs some 60 bytes
a word of the benchmarks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from datagen.curate.benchmarks import benchmark_rows, options_of
from datagen.curate.exact import Rows
from datagen.curate.words import (
    Hashes,
    Offsets,
    random_words,
    text_bytes,
    word_form,
    word_hashes,
    word_spans,
)
from datagen.errors import DataError
from datagen.shards.sources import SourceFile
from datagen.workspace.specs import BenchmarkFields, BenchmarkSpec, DecontaminateSpec

if TYPE_CHECKING:
    from datagen.curate.kernels.scan import Questions, Seeds

Mask = npt.NDArray[np.bool_]

_BASE = random_words(8, 1)[0] | np.uint64(1)
PARTS_FROM = 0.3
"""Share of a question in runs from which on it is looked at."""
_TEMPLATE_QUESTIONS = 3
# In scripts without spaces two characters say about as much as one word.
_SPACELESS_WEIGHT = 0.5
_QUOTE = re.compile(
    r"“[^“”]{60,}”|«[^«»]{60,}»|„[^„“]{60,}“|(?<!\")\"[^\"]{60,}\"(?!\")|「[^「」]{25,}」"
)
_PASSAGE = re.compile(
    r"(refers? to|based on|read|consider|use|using) the (following|given)\s+(information|passage|"
    r"excerpt|extract|text|document|article|paragraph|quotation|source|poem|speech|letter)s?\b.*"
    r"(?=\n\s*\S)",
    re.IGNORECASE | re.DOTALL,
)
_CODE = re.compile(r"^\s*(def|class|import|from|return|function|public|fn|func|#include)\b", re.M)
_ASKS = re.compile("[?？؟]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One item of a benchmark that asks a question; `name` is `file#row`, texts are hashed words.

    `code`: its answer is a program.
    """

    benchmark: str
    name: str
    answer: Hashes
    choices: tuple[Hashes, ...]
    code: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A distinct question: its words, which of them are its own, and the items that ask it.

    `own` leaves out forms of words that several questions share and passages that it quotes.
    `weight` counts words, in scripts without spaces two characters as one. `asks`: it has a
    question mark. `common`: several other questions say it too.
    """

    text: str
    words: Hashes
    own: Mask
    weight: float
    asks: bool
    common: bool
    items: tuple[Item, ...]

    @property
    def names(self) -> Mask:
        """Which words hold a digit, or a capital where none is due: another makes another question.

        None where the words cannot be told apart as text.
        """
        spans = word_spans(self.text)
        if len(spans) != len(self.words):
            return np.zeros(len(self.words), np.bool_)
        return np.array([_is_name(self.text, *span) for span in spans], np.bool_)


def _is_name(text: str, start: int, end: int) -> bool:
    if any(map(str.isdigit, text[start:end])):
        return True
    before = text[:start].rstrip(" ")
    return text[start].isupper() and bool(before) and (before[-1].isalnum() or before[-1] in ",;")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkIndex:
    """The questions of all benchmarks, and the tables of the scan.

    In the tables stand the questions, and then `extras`: (question, item) of those that are looked
    for with the item's answer behind them. `least` (questions,) are the fewest words in runs that
    can come to something; `tiny` are the questions that a text can only be as a whole.
    """

    spec: DecontaminateSpec
    questions: tuple[Question, ...]
    tables: Questions
    extras: tuple[tuple[int, int], ...]
    least: npt.NDArray[np.float64]
    tiny: Mapping[bytes, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    benchmark: str
    name: str
    question: str
    answer: str
    choices: tuple[str, ...]
    ignore_short: bool


def _answer_text(
    row: Mapping[str, Any], fields: BenchmarkFields, choices: Sequence[str], where: str
) -> str:
    """The answer as text: an option by its number from 0 or its letter, or the answer itself."""
    answer = None if fields.answer is None else row[fields.answer]
    if answer is None:
        return ""
    if fields.choices is None:
        return str(answer)
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


def _rows(spec: BenchmarkSpec, files: Sequence[SourceFile]) -> Iterator[_Read]:
    for place, row in benchmark_rows(spec, files):
        choices = options_of(row, spec.fields)
        yield _Read(
            benchmark=spec.name,
            name=place,
            question=str(row[spec.fields.question] or ""),
            answer=_answer_text(row, spec.fields, choices, place),
            choices=tuple(choices),
            ignore_short=spec.short_items == "ignore",
        )


def load_benchmarks(
    benchmarks: Sequence[tuple[BenchmarkSpec, Sequence[SourceFile]]], spec: DecontaminateSpec
) -> BenchmarkIndex:
    """Index the items of each benchmark from its resolved files, in any format of a source.

    Raises DataError naming file and row for a missing column or an answer that is no choice.
    """
    from datagen.curate.kernels.scan import SHORT_WORDS

    read = [row for benchmark, files in benchmarks for row in _rows(benchmark, files)]
    hashes, begins = word_hashes([row.question for row in read])
    groups: dict[bytes, list[int]] = {}
    for number, row in enumerate(read):
        words = hashes[begins[number] : begins[number + 1]]
        if len(words) and not (row.ignore_short and len(words) < spec.ngram_words):
            groups.setdefault(words.tobytes(), []).append(number)
    firsts = [read[numbers[0]].question for numbers in groups.values()]
    hashes, begins = word_hashes(firsts)
    own = _own_words(firsts, hashes, begins)
    items = _items(read)
    questions = tuple(
        Question(
            text=text,
            words=hashes[begins[place] : begins[place + 1]],
            own=own[begins[place] : begins[place + 1]],
            weight=_weight(text, int(begins[place + 1] - begins[place])),
            asks=_ASKS.search(text) is not None,
            common=False,
            items=tuple(items[number] for number in numbers),
        )
        for place, (text, numbers) in enumerate(zip(firsts, groups.values(), strict=True))
    )
    tables, extras = _tables(hashes, begins, questions)
    questions = _with_common(questions, tables)
    share = min(PARTS_FROM, spec.min_coverage)
    least = np.array(
        [
            0 if any(item.code for item in question.items) else share * question.own.sum()
            for question in questions
        ]
    )
    return BenchmarkIndex(
        spec=spec,
        questions=questions,
        tables=tables,
        extras=extras,
        least=least,
        tiny={
            question.words.tobytes(): number
            for number, question in enumerate(questions)
            if len(question.words) < SHORT_WORDS
        },
    )


def _items(read: Sequence[_Read]) -> list[Item]:
    answers, ends = word_hashes([row.answer for row in read])
    choices, places = word_hashes([choice for row in read for choice in row.choices])
    parts = [choices[low:high] for low, high in pairwise(places)]
    first = np.concatenate(([0], np.cumsum([len(row.choices) for row in read], dtype=np.int64)))
    return [
        Item(
            benchmark=row.benchmark,
            name=row.name,
            answer=answers[ends[number] : ends[number + 1]],
            choices=tuple(parts[first[number] : first[number + 1]]),
            code=_CODE.search(row.answer) is not None,
        )
        for number, row in enumerate(read)
    ]


def _weight(text: str, words: int) -> float:
    if text.isascii():
        return float(words)
    spaceless = sum(len(word) == 1 and ord(word) >= 0x0E00 for word in word_form(text).split())
    return words - (1 - _SPACELESS_WEIGHT) * spaceless


# --- their own words -----------------------------------------------------------------------------


def _grams(hashes: Hashes, begins: Offsets, n: int) -> tuple[Hashes, Offsets, Offsets]:
    """Keys of all n-grams that lie within one question, their questions, and their places."""
    base_keys = _rolled(hashes, n)
    owners = np.repeat(np.arange(len(begins) - 1), np.diff(begins))[: len(base_keys)]
    inside = begins[owners + 1] - np.arange(len(base_keys)) >= n
    places = np.flatnonzero(inside)
    return base_keys[places], owners[places], places


def _rolled(hashes: Hashes, n: int) -> Hashes:
    """Polynomial keys of all windows of n words, as the scan makes them."""
    rolled = hashes[: max(len(hashes) - n + 1, 0)].copy()
    for shift in range(1, n):
        rolled *= _BASE
        rolled += hashes[shift : shift + len(rolled)]
    return rolled


def _own_grams(keys: Hashes, owners: Offsets, count: int, known: Mask | None = None) -> Mask:
    """Which of the `known` n-grams few questions share; all of a question without such ones."""
    known = np.ones(len(keys), np.bool_) if known is None else known
    pairs = np.unique(np.stack((keys, owners.astype(np.uint64))), axis=1)
    distinct, times = np.unique(pairs[0], return_counts=True)
    own = known & (times[np.searchsorted(distinct, keys)] <= _TEMPLATE_QUESTIONS)
    # A question that is nothing but template is looked for all the same: better a false flag.
    has_own = np.bincount(owners[own], minlength=count) > 0
    return np.asarray(own | (known & ~has_own[owners]))


def _own_words(texts: Sequence[str], hashes: Hashes, begins: Offsets) -> Mask:
    """Which words of each question lie in an n-gram of its own and in no passage that it quotes."""
    from datagen.curate.kernels.scan import RUN_WORDS, SHORT_WORDS

    keys, owners, places = _grams(hashes, begins, RUN_WORDS)
    chosen = places[_own_grams(keys, owners, len(texts))]
    edges = np.zeros(len(hashes) + 1, np.int64)
    np.add.at(edges, chosen, 1)
    np.add.at(edges, chosen + RUN_WORDS, -1)
    own = np.asarray(np.cumsum(edges)[:-1] > 0)
    own[np.repeat(np.diff(begins) < RUN_WORDS, np.diff(begins))] = True
    for number, text in enumerate(texts):
        mine = own[begins[number] : begins[number + 1]]
        unquoted = mine.copy()
        for quote in (*_QUOTE.finditer(text), *_PASSAGE.finditer(text)):
            counts = np.diff(word_hashes([text[: quote.start()], quote.group()])[1])
            unquoted[counts[0] : counts.sum()] = False
        if unquoted.sum() >= SHORT_WORDS:
            mine[:] = unquoted
    return own


# --- the tables of the scan ----------------------------------------------------------------------


def _tables(
    hashes: Hashes, begins: Offsets, questions: Sequence[Question]
) -> tuple[Questions, tuple[tuple[int, int], ...]]:
    from datagen.curate.kernels.scan import RUN_WORDS, SEED_WORDS, STRIDE, Questions, make_seeds

    keys, owners, places = _grams(hashes, begins, SEED_WORDS)
    lengths = np.diff(begins)
    known = ((places - begins[owners]) % STRIDE == 0) & (lengths[owners] >= RUN_WORDS)
    chosen = _own_grams(keys, owners, len(questions), known)
    keys, owners, places = keys[chosen], owners[chosen], places[chosen]
    # Of an n-gram that stands in a question several times, the first place.
    pairs = np.stack((keys, owners.astype(np.uint64)))
    first = np.unique(pairs, axis=1, return_index=True)[1]
    keys, owners, places = keys[first], owners[first], places[first]
    extras, added = _with_answers(questions)
    words = np.concatenate([hashes, *added])
    ends = len(hashes) + np.cumsum([len(one) for one in added], dtype=np.int64)
    all_begins = np.concatenate((begins, ends))
    # Those that have none to be found by are looked for whole.
    unseeded = np.flatnonzero(np.bincount(owners, minlength=len(questions)) == 0)
    answered = len(questions) + np.arange(len(extras))
    tables = Questions(
        words=words,
        begins=all_begins,
        short=_anchors(words, all_begins, np.concatenate((unseeded, answered))),
        long=make_seeds(keys, owners, places - begins[owners]),
        base=_BASE,
    )
    return tables, extras


def _with_common(questions: tuple[Question, ...], tables: Questions) -> tuple[Question, ...]:
    """The questions, `common` where several others hold one as a whole."""
    from datagen.curate.kernels.scan import find_runs

    runs, _ = find_runs(*text_bytes([question.text for question in questions]), tables)
    sizes = np.diff(tables.begins)
    whole = runs[(runs[:, 4] == sizes[runs[:, 1]]) & (runs[:, 0] != runs[:, 1])]
    pairs = np.unique(whole[:, :2], axis=0)
    times = np.bincount(pairs[:, 1], minlength=len(sizes))[: len(questions)]
    return tuple(
        replace(question, common=True) if count > _TEMPLATE_QUESTIONS else question
        for question, count in zip(questions, times.tolist(), strict=True)
    )


def _with_answers(
    questions: Sequence[Question],
) -> tuple[tuple[tuple[int, int], ...], list[Hashes]]:
    """Questions too short to be looked for alone, each item's with its answer behind it."""
    from datagen.curate.kernels.scan import SHORT_WORDS

    extras, added = [], []
    for number, question in enumerate(questions):
        if len(question.words) >= SHORT_WORDS:
            continue
        for place, item in enumerate(question.items):
            if len(item.answer) and len(question.words) + len(item.answer) > SHORT_WORDS:
                extras.append((number, place))
                added.append(np.concatenate((question.words, item.answer)))
    return tuple(extras), added


def _anchors(words: Hashes, begins: Offsets, which: Rows) -> Seeds:
    """For each entry that has to be looked for whole the three of its words that are rarest.

    In a row, and rarest in the benchmarks.
    """
    from datagen.curate.kernels.scan import SHORT_WORDS, make_seeds

    _, number, times = np.unique(words, return_inverse=True, return_counts=True)
    rarity = np.log(times)[number]
    sums = np.convolve(rarity, np.ones(SHORT_WORDS), "valid") if len(words) >= 3 else rarity[:0]
    lengths = np.diff(begins)
    which = which[lengths[which] >= SHORT_WORDS]
    offsets = np.array(
        [
            np.argmin(sums[begins[one] : begins[one + 1] - SHORT_WORDS + 1])
            for one in which.tolist()
        ],
        np.int64,
    )
    keys = _rolled(words, SHORT_WORDS)
    return make_seeds(keys[begins[which] + offsets], which, offsets)

"""Find benchmark items in training text, by tiers, and say where and how much of each.

Only questions are looked for; an answer alone never matches. The tiers, the surest first:

- `question_answer`, `options`, `question`: the question stands whole, followed by its answer, with
  all its options close by in any order, or alone. One of a few words has to be set off by
  punctuation; one of very few, or one that several items ask, needs its answer or options.
- `ngram_13`: `min_coverage` of its 13-word n-grams.
- `ngram_8`: `cut_coverage` of its words in runs of eight or more, or `near_coverage` of them in
  order, all its numbers among them.
- `code`: half of question and program together, a run of the question among them.

Words are those of words.py: case, punctuation and layout are free. A name or a number that differs
in place makes another question; what a question quotes, and forms of words that several questions
share, are not its own and do not count.

Costs one pass: about twice that of reading the words. Memory: 60 bytes a word of the benchmarks,
and 12 bytes a byte of the longest text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from datagen.curate.exact import Rows
from datagen.curate.matches import Text, Tier, matches
from datagen.curate.questions import BenchmarkIndex
from datagen.curate.words import Offsets, arrow_bytes, text_bytes, word_hashes
from datagen.workspace.specs import DecontaminateSpec

if TYPE_CHECKING:
    import pyarrow as pa

Bytes = npt.NDArray[np.uint8]
ItemKey = tuple[str, str]
"""Benchmark and item."""

SHORT_WORDS = 3


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Hit:
    """A benchmark item found in a text.

    `item` is `file#row`; `start` and `end` are character offsets around all that matched;
    `coverage` is the share of the question, 1 where it stands whole. `firm` says that a form of
    words cannot be the cause: its answer or its options stand there too, or it asks something.
    """

    benchmark: str
    item: str
    tier: Tier
    start: int
    end: int
    coverage: float
    firm: bool = True

    def __str__(self) -> str:
        """Name item, tier, share and place on one line."""
        share = self.tier if self.coverage == 1 else f"{self.tier}, {self.coverage:.0%} of it"
        return f"{self.benchmark} {self.item}: {share} at {self.start}-{self.end}"


def find_hits(texts: Sequence[str], index: BenchmarkIndex) -> list[list[Hit]]:
    """The benchmark items in each text, in order; an empty list where a text is clean."""
    found = _find(*text_bytes(texts), index)
    return [found.get(number, []) for number in range(len(texts))]


def find_hits_arrow(texts: pa.Array, index: BenchmarkIndex) -> dict[int, list[Hit]]:
    """The same for an Arrow array of strings, read where it lies; only the texts with hits.

    The global interpreter lock is free while bytes are read, so that threads share the work.
    """
    return _find(*arrow_bytes(texts), index)


def _find(
    data: Bytes, offsets: Offsets, index: BenchmarkIndex, *, everywhere: bool = False
) -> dict[int, list[Hit]]:
    runs = _runs(data, offsets, index)
    found: dict[int, list[Hit]] = {}
    for number, mine in _grouped(runs):
        text = Text(data[offsets[number] : offsets[number + 1]].tobytes().decode(errors="replace"))
        hits: set[Hit] = set()
        for place, parts in _grouped(mine):
            question = index.questions[place]
            found_here = matches(text, question, parts, index.spec, everywhere=everywhere)
            for item, match in found_here:
                start, end = text.span(match.low, match.high)
                hits.add(
                    Hit(
                        benchmark=item.benchmark,
                        item=item.name,
                        tier=match.tier,
                        start=start,
                        end=end,
                        coverage=match.coverage,
                        firm=match.firm,
                    )
                )
        if hits:
            found[number] = sorted(hits)
    return found


def _grouped(rows: Rows) -> Iterable[tuple[int, Rows]]:
    """Rows by their first column, which is taken off; they are ordered by it."""
    numbers, starts = np.unique(rows[:, 0], return_index=True)
    groups = np.split(rows[:, 1:], starts[1:])
    return zip(numbers.tolist(), groups, strict=False)


def _runs(data: Bytes, offsets: Offsets, index: BenchmarkIndex) -> Rows:
    """Runs (m, 5) of questions in texts: text, question, offset, place, words; in order.

    Runs that cannot come to a hit, however they lie, are left out.
    """
    from datagen.curate.kernels.scan import find_runs

    runs, counts = find_runs(data, offsets, index.tables)
    runs = np.concatenate((runs, _tiny(data, offsets, counts, index)))
    # Of an entry with an answer behind its question, the question is what counts.
    questions = len(index.questions)
    extra = runs[:, 1] >= questions
    for row in np.flatnonzero(extra):
        number = index.extras[runs[row, 1] - questions][0]
        runs[row, 1], runs[row, 4] = number, len(index.questions[number].words)
    runs = np.unique(runs, axis=0)
    if not len(runs):
        return runs
    pairs, of_pair = np.unique(runs[:, :2], axis=0, return_inverse=True)
    covered = np.bincount(of_pair.ravel(), runs[:, 4])
    return runs[(covered >= index.least[pairs[:, 1]])[of_pair.ravel()]]


def _tiny(data: Bytes, offsets: Offsets, counts: Rows, index: BenchmarkIndex) -> Rows:
    """Texts that are nothing but a question of one or two words."""
    runs = []
    for number in np.flatnonzero((counts > 0) & (counts < SHORT_WORDS)).tolist():
        text = data[offsets[number] : offsets[number + 1]].tobytes().decode(errors="replace")
        question = index.tiny.get(word_hashes([text])[0].tobytes())
        if question is not None:
            runs.append((number, question, 0, 0, int(counts[number])))
    return np.array(runs, np.int64).reshape(-1, 5)


def formulas(found: Iterable[Iterable[Hit]], texts: int, spec: DecontaminateSpec) -> set[ItemKey]:
    """Items that so many of the texts hold, without anything that makes a hit firm.

    A clause that opens every act, or a template, is found in many texts and is no leak; what an
    item shares with it does not count. `found` are the hits of each text.
    """
    times = Counter(key for hits in found for key in {_key(hit) for hit in hits if not hit.firm})
    most = max(spec.formula_texts, spec.formula_share * texts)
    return {key for key, count in times.items() if count > most}


def without(hits: Iterable[Hit], forms: Container[ItemKey]) -> list[Hit]:
    """The hits but for those of formulas."""
    return [hit for hit in hits if hit.firm or _key(hit) not in forms]


def cut(
    text: str, hits: Sequence[Hit], index: BenchmarkIndex, forms: Container[ItemKey] = ()
) -> str | None:
    """The text without what the hits span, and without what is then found again; None if empty."""
    while hits:
        rest = []
        end = 0
        for hit in _apart([*hits, *_everywhere(text, index, forms)]):
            rest.append(text[end : hit.start].strip())
            end = hit.end
        text = "\n".join([*rest, text[end:].strip()])
        hits = _everywhere(text, index, forms)
    return text.strip() or None


def _everywhere(text: str, index: BenchmarkIndex, forms: Container[ItemKey]) -> list[Hit]:
    """The hits of a text at every place, up to some hundreds an item."""
    return without(_find(*text_bytes([text]), index, everywhere=True).get(0, ()), forms)


def _key(hit: Hit) -> ItemKey:
    return hit.benchmark, hit.item


def _apart(hits: Sequence[Hit]) -> list[Hit]:
    """Hits in order, joined where they overlap."""
    joined: list[Hit] = []
    for hit in sorted(hits, key=lambda hit: (hit.start, hit.end)):
        if joined and hit.start < joined[-1].end:
            joined[-1] = replace(joined[-1], end=max(hit.end, joined[-1].end))
        else:
            joined.append(hit)
    return joined

"""What the runs of a question in one text amount to: a tier, a place and how much of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise

import numpy as np

from datagen.curate.exact import Rows
from datagen.curate.questions import PARTS_FROM, Item, Mask, Question
from datagen.curate.words import Hashes, word_hashes, word_spans
from datagen.workspace.specs import DecontaminateSpec

Tier = str
"""`question`, `question_answer`, `options`, `ngram_13`, `ngram_8` or `code`."""

# A phrase of fewer words is said by chance; one of many is not, wherever it stands.
_PHRASE_WORDS = 4
_TELLING_WORDS = 8
_UNMISTAKABLE_WORDS = 13
_TELLING_ANSWER_WORDS = 3
_ANSWER_WINDOW_WORDS = 64
_ANSWER_GAP_WORDS = 2
_RUN_WORDS = 8
_CUT_WORDS = 12
_NEAR_WORDS = 16
_ALIGNED_WORDS = 1000
_SLACK_WORDS = 16
_LONG_ANSWER_WORDS = 8
_CODE_RUN_WORDS = 5
_CODE_COVERAGE = 0.5
_PIECE_CHARACTERS = 1 << 12
_BOUNDARY = re.compile(r"[^\w\s,'’–—-]|[\n\r\t]")
_MARK = re.compile(r"([?？؟;])\W*$")
_SENTENCE = re.compile(r"[.!?？؟。！]\s|[。！？\n]")
_MARK_CHARACTERS = 40
_MARK_WORDS = 2
_SPACELESS = 0.6
_NO_DIGIT = re.compile(r"\D+")
_SPACE = re.compile(r"[ \n\t]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A question in a text: the places of its first word and past its last, how much of it.

    `firm`: a form of words cannot be the cause, for its answer or options stand there too, or it
    is a question that is asked whole.
    """

    low: int
    high: int
    tier: Tier
    coverage: float
    firm: bool


class Text:
    """A text with something in it: its words, and where they lie in it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words = word_hashes([text])[0]
        self._spans: dict[int, list[tuple[int, int]]] = {}

    def span(self, low: int, high: int) -> tuple[int, int]:
        """Characters from the word `low` to the end of the word before `high`."""
        return self._place(low)[0], self._place(high - 1)[1]

    def stands_alone(self, low: int, high: int) -> bool:
        """Whether punctuation or a line's end sets the words off from their neighbours."""
        start, end = self.span(low, high)
        before = self.text[self._place(low - 1)[1] : start] if low else "\n"
        after = self.text[end : self._place(high)[0]] if high < len(self.words) else "\n"
        return bool(_BOUNDARY.search(before) and _BOUNDARY.search(after))

    @cached_property
    def _pieces(self) -> tuple[list[int], Rows]:
        """Where pieces of the text begin, and how many words lie before each."""
        begins = [0]
        while begins[-1] < len(self.text):
            space = _SPACE.search(self.text, begins[-1] + _PIECE_CHARACTERS)
            begins.append(space.start() if space else len(self.text))
        pieces = [self.text[a:b] for a, b in pairwise(begins)]
        return begins, word_hashes(pieces)[1]

    def _place(self, word: int) -> tuple[int, int]:
        begins, counts = self._pieces
        if counts[-1] != len(self.words):
            # A mark joined a symbol across two pieces: nothing can be said of its words' places.
            return 0, len(self.text)
        piece = int(np.searchsorted(counts, word, side="right")) - 1
        begin, end = begins[piece], begins[piece + 1]
        if piece not in self._spans:
            self._spans[piece] = word_spans(self.text[begin:end])
        spans = self._spans[piece]
        if len(spans) != counts[piece + 1] - counts[piece]:
            return begin, end
        start, stop = spans[word - int(counts[piece])]
        return begin + start, begin + stop


def matches(
    text: Text,
    question: Question,
    runs: Rows,
    spec: DecontaminateSpec,
    *,
    everywhere: bool = False,
) -> Iterator[tuple[Item, Match]]:
    """The items of a question that a text holds, each once, or at every place.

    runs (m, 3): offset in the question, place in the text and words of each run of equal words;
    one of another length than the question's is a part of it, or, where the question is shorter
    than three words, the question with an answer behind it.
    """
    size = len(question.words)
    places = [int(place) for _, place, length in runs if length >= size]
    if places:
        for item in question.items:
            found = _wholes(text, question, item, places)
            yield from ((item, whole) for whole in (found if everywhere else islice(found, 1)))
        return
    while len(runs):
        chosen = _closest(question, runs)
        part = _part(text, question, chosen, spec)
        for item in question.items:
            match = part or _with_solution(text, question, item, chosen)
            if match is not None:
                yield item, match
        if not everywhere:
            return
        low, high = chosen[0, 1], chosen[-1, 1]
        runs = runs[(runs[:, 1] < low) | (runs[:, 1] > high)]


def _wholes(text: Text, question: Question, item: Item, places: Sequence[int]) -> Iterator[Match]:
    """The places where the whole question counts for an item."""
    size = len(question.words)
    alone = size == len(text.words)
    answers = {other.answer.tobytes() for other in question.items}
    shared = len(answers) > 1 and question.weight < _UNMISTAKABLE_WORDS
    vague = not alone and (question.weight < _PHRASE_WORDS or shared or question.common)
    for place in places:
        after = text.words[place + size :]
        tier = _evidence(after, item, question)
        if tier == "question" and not alone:
            telling = question.weight >= _TELLING_WORDS and not vague
            if vague and not _answered(after, item):
                continue
            if not telling and not text.stands_alone(place, place + size):
                continue
        firm = tier != "question" or alone or question.asks
        yield Match(low=place, high=place + size, tier=tier, coverage=1.0, firm=firm)


def _evidence(after: Hashes, item: Item, question: Question) -> Tier:
    """What follows a question: its answer, all its options, or neither."""
    answer = item.answer
    if len(answer) and question.weight + len(answer) >= _PHRASE_WORDS:
        for gap in range(_ANSWER_GAP_WORDS + 1):
            if np.array_equal(after[gap : gap + len(answer)], answer):
                return "question_answer"
    words = sum(map(len, item.choices))
    if len(item.choices) > 1 and words >= _TELLING_WORDS:
        window = after[: _ANSWER_WINDOW_WORDS + 2 * words]
        if all(_holds(window, choice) for choice in item.choices):
            return "options"
    return "question"


def _answered(after: Hashes, item: Item) -> bool:
    """Whether an answer that says something stands close by."""
    window = after[: _ANSWER_WINDOW_WORDS + len(item.answer)]
    return len(item.answer) >= _TELLING_ANSWER_WORDS and _holds(window, item.answer)


def _holds(words: Hashes, part: Hashes) -> bool:
    """Whether `part` runs through `words`; an empty one does not."""
    return len(part) > 0 and any(
        np.array_equal(words[i : i + len(part)], part) for i in np.flatnonzero(words == part[0])
    )


# --- parts of a question -------------------------------------------------------------------------


def _part(text: Text, question: Question, chosen: Rows, spec: DecontaminateSpec) -> Match | None:
    """The part of a question that counts, or None: n-grams, words in runs, then words in order."""
    low, high = int(chosen[:, 1].min()), int((chosen[:, 1] + chosen[:, 2]).max())
    covered = _covered(question, chosen) & question.own
    cut = coverage = float(covered.sum() / question.own.sum())
    if coverage < min(PARTS_FROM, spec.min_coverage):
        return None
    tier = f"ngram_{spec.ngram_words}"
    grams = _gram_coverage(question, chosen, spec.ngram_words)
    enough = covered.sum() * question.weight >= _CUT_WORDS * len(question.words)
    if grams is not None and grams >= spec.min_coverage:
        coverage = grams
    elif coverage >= spec.cut_coverage and enough:
        tier = "ngram_8"
    elif question.weight < _NEAR_WORDS or len(question.words) > _ALIGNED_WORDS:
        return None
    if len(question.words) <= _ALIGNED_WORDS:
        places = _aligned(text, question, chosen)
        matched, names = places >= 0, question.names
        if _is_changed(text, question, places):
            return None
        if tier != "ngram_8" and coverage != grams:
            tier, coverage = "ngram_8", float((matched & question.own).sum() / question.own.sum())
            if coverage < spec.near_coverage or not matched[names].all():
                return None
            low, high = int(places[matched][0]), int(places[matched][-1]) + 1
    near = tier == "ngram_8" and coverage != cut
    if _only_tells(text, question, chosen[:0] if near else chosen, low, high):
        return None
    firm = any(
        _evidence(text.words[high:], item, question) != "question" for item in question.items
    )
    return Match(low=low, high=high, tier=tier, coverage=coverage, firm=firm)


def _only_tells(text: Text, question: Question, runs: Rows, low: int, high: int) -> bool:
    """Whether a text tells what a question of one sentence asks, as the page that it is about does.

    The text has no question mark by the end of the part, nor does a run of words begin as the
    question does.
    """
    mark = _MARK.search(question.text)
    if mark is None and question.weight < _SPACELESS * len(question.words):
        # Thai asks without a mark.
        return bool(runs[:, 0].min(initial=1) > 0)
    if mark is None or _SENTENCE.search(question.text.rstrip()[:-1]):
        return False
    if any(_before(text.words, question.words, int(offset), int(at)) for offset, at, _ in runs):
        return False
    start, end = text.span(low, high)
    return mark.group(1) not in text.text[start : end + _MARK_CHARACTERS]


def _before(words: Hashes, question: Hashes, offset: int, at: int) -> bool:
    """Whether the question's first word stands before a run where it should, or nearly."""
    begin = max(at - offset - _MARK_WORDS, 0)
    return bool(np.any(words[begin : at - offset + _MARK_WORDS + 1] == question[0]))


def _closest(question: Question, runs: Rows) -> Rows:
    """The runs, among all in a text, that cover most within a stretch of the question's size."""
    reach = 2 * len(question.words) + _ANSWER_WINDOW_WORDS
    runs = runs[np.argsort(runs[:, 1], kind="stable")]
    ends = runs[:, 1] + runs[:, 2]
    if ends.max() - runs[0, 1] <= reach:
        return runs
    groups = [runs[(runs[:, 1] >= place) & (ends <= place + reach)] for place in runs[:, 1]]
    return max(groups, key=lambda group: int(_covered(question, group).sum()))


def _covered(question: Question, runs: Rows) -> Mask:
    """Which words of the question lie in a run."""
    covered = np.zeros(len(question.words), np.bool_)
    for offset, _, length in runs:
        covered[offset : offset + length] = True
    return covered


def _gram_coverage(question: Question, runs: Rows, n: int) -> float | None:
    """Share of the question's own n-grams that lie in a run; None where it has none.

    One is its own when at least half of its words are.
    """
    count = len(question.words) - n + 1
    if count <= 0:
        return None
    sums = np.concatenate(([0], np.cumsum(question.own)))
    own = 2 * (sums[n:] - sums[:-n]) >= n
    covered = np.zeros(count, np.bool_)
    for offset, _, length in runs:
        covered[offset : max(offset + length - n + 1, offset)] = True
    return float((covered & own).sum() / own.sum()) if own.any() else None


def _aligned(text: Text, question: Question, runs: Rows) -> Rows:
    """The place in the text of each of the question's words, in order; -1 for one that lacks."""
    from datagen.curate.kernels.scan import align

    size = len(question.words)
    starts = runs[:, 1] - runs[:, 0]
    begin = max(int(starts.min()) - _SLACK_WORDS, 0)
    window = text.words[begin : begin + min(int(np.ptp(starts)), size) + size + 2 * _SLACK_WORDS]
    found = np.empty(size, np.int32)
    align(question.words, window, found)
    return np.where(found >= 0, found.astype(np.int64) + begin, -1)


def _is_changed(text: Text, question: Question, places: Rows) -> bool:
    """Whether a name or number lacks between words that stand where they should: another question.

    A number that is only written in another way, 1,000 as 1000, is the same.
    """
    matched, names = places >= 0, question.names
    others = np.flatnonzero(~names)
    spans: list[tuple[int, int]] = []
    for place in np.flatnonzero(names & ~matched).tolist():
        at = int(np.searchsorted(others, place))
        if not 0 < at < len(others):
            continue
        left, right = int(others[at - 1]), int(others[at])
        low, high = int(places[left]), int(places[right])
        if min(low, high) < 0 or high - low > right - left + _MARK_WORDS:
            continue
        spans = spans or word_spans(question.text)
        asked = question.text[spans[left][1] : spans[right][0]]
        told = text.text[text.span(low, low + 1)[1] : text.span(high, high + 1)[0]]
        if _NO_DIGIT.sub("", asked) != _NO_DIGIT.sub("", told) or not _NO_DIGIT.sub("", asked):
            return True
    return False


def _with_solution(text: Text, question: Question, item: Item, chosen: Rows) -> Match | None:
    """Code: a run of the question, and half of it and its solution together.

    Words of the solution count in runs of five, so that the words of every program do not.
    """
    from datagen.curate.kernels.scan import align

    own = _covered(question, chosen) & question.own
    if not item.code or own.sum() < _RUN_WORDS:
        return None
    answer = item.answer[:_ALIGNED_WORDS]
    low = int(chosen[:, 1].min())
    window = text.words[low : low + 2 * (len(question.words) + len(answer)) + _ANSWER_WINDOW_WORDS]
    found = np.empty(len(answer), np.int32)
    align(answer, window[: 4 * _ALIGNED_WORDS], found)
    steps = np.flatnonzero((found[1:] != found[:-1] + 1) | (found[1:] < 0) | (found[:-1] < 0)) + 1
    long = np.zeros(len(answer), np.bool_)
    for start, end in zip([0, *steps], [*steps, len(answer)], strict=True):
        long[start:end] = end - start >= _CODE_RUN_WORDS and found[start] >= 0
    total = int(own.sum() + long.sum()) / (int(question.own.sum()) + len(answer))
    if total < _CODE_COVERAGE or long.sum() < _CODE_COVERAGE * len(answer):
        return None
    high = low + max(int(found[long].max()) + 1, int((chosen[:, 1] + chosen[:, 2]).max()) - low)
    return Match(low=low, high=high, tier="code", coverage=total, firm=True)

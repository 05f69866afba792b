"""How much the records of a recipe differ from one another, in figures that need no model.

All of it looks at a seeded sample, and at the first `WORDS` words of each text: the cost does not
grow with a build, and long pages weigh no more than short ones. Words are those of words.py.

`distinct_n`: distinct word n-grams by all of them (Li et al. 2016); falls with the size of the
sample, so compare equal sizes. `self_bleu`: the mean BLEU-4 of a text against all the others (Zhu
et al. 2018, smoothing 0.1 as there); 1 is one text over and over. Cluster spread is that of hashed
TF-IDF vectors: `mean_distance`, the mean cosine distance of two texts; `effective_texts`, how many
wholly different texts would be as spread (the Vendi score, Friedman and Dieng 2023); `clusters`,
the groups that form when each text joins the first one at a cosine of 0.5 or more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from datagen.curate.words import Hashes, mix64, ngram_ladder, record_text, word_form, word_hashes
from datagen.record import Record

SAMPLE = 1000
COMPARED = 400
WORDS = 256
LABELS = ("answer_letter", "label", "form", "difficulty")
_BLEU_ORDERS = (1, 2, 3, 4)
_SMOOTHING = 0.1
_DIMENSIONS = 1 << 12
_JOINS = 0.5
_OPENING_WORDS = 3
_SHOWN = 20
_DIGITS = 4

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diversity:
    """The figures of a sample; those of two texts or more are None where there are fewer.

    `opening` is the commonest beginning of three words, `opening_share` the share of records that
    begin so, `openings` how many different ones there are.
    """

    records: int
    sampled: int
    distinct_1: float | None
    distinct_2: float | None
    distinct_3: float | None
    self_bleu: float | None
    mean_distance: float | None
    effective_texts: float | None
    clusters: int
    largest_cluster: float | None
    openings: int
    opening: str | None
    opening_share: float | None
    words_p10: int | None
    words_p50: int | None
    words_p90: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One value of a histogram: how many of the sampled records have it."""

    histogram: str
    value: str
    records: int
    share: float


def draw_sample(ids: Sequence[str], size: int, seed: int) -> list[int]:
    """The places of `size` records, those whose id hashes lowest: the same whatever the order."""
    keys = [(xxhash.xxh3_64_intdigest(one.encode(), seed), one) for one in ids]
    return sorted(sorted(range(len(ids)), key=keys.__getitem__)[:size])


def measure(
    records: Sequence[Record], total: int, *, labels: Sequence[str] = LABELS
) -> tuple[Diversity, list[Bar]]:
    """Measure a sample of `total` records; the histograms of openings, lengths and `labels`."""
    texts = [record_text(record) for record in records]
    lengths = np.diff(word_hashes(texts)[1]).tolist()
    cut = [_beginning(text, WORDS) for text in texts]
    openings = Counter(map(_opening, records))
    commonest = sorted(openings.items(), key=lambda item: (-item[1], item[0]))
    compared = cut[:COMPARED]
    near = similarity(compared)
    groups = cluster_sizes(near)
    distinct = distinct_ngrams(cut)
    deciles = _deciles(lengths)
    figures = Diversity(
        records=total,
        sampled=len(records),
        distinct_1=distinct[0],
        distinct_2=distinct[1],
        distinct_3=distinct[2],
        self_bleu=self_bleu(compared),
        mean_distance=mean_distance(near),
        effective_texts=effective_texts(near),
        clusters=len(groups),
        largest_cluster=_share(max(groups), len(near)) if groups else None,
        openings=len(openings),
        opening=commonest[0][0] if commonest else None,
        opening_share=_share(commonest[0][1], len(records)) if commonest else None,
        words_p10=deciles[1] if deciles else None,
        words_p50=deciles[5] if deciles else None,
        words_p90=deciles[9] if deciles else None,
    )
    return figures, list(_bars(records, openings, lengths, labels))


def _share(part: int, whole: int) -> float:
    return round(part / whole, _DIGITS)


def _opening(record: Record) -> str:
    """How what was asked begins: the question a method names, else the first turn, or the text."""
    question = record.metadata.get("question")
    if isinstance(question, str) and question.strip():
        text = question
    elif record.messages:
        turns = [m.content for m in record.messages if m.role == "user"]
        text = turns[0] if turns else record.messages[0].content
    else:
        text = record.text or ""
    return _beginning(text, _OPENING_WORDS)


def _beginning(text: str, words: int) -> str:
    """The first words of a text; of words longer than 24 letters on average, fewer."""
    return " ".join(word_form(text[: 24 * words]).split()[:words])


def _deciles(lengths: Sequence[int]) -> list[int]:
    """The shortest, nine deciles and the longest, each a length that occurs; empty for none."""
    ordered = sorted(lengths)
    return [ordered[round(k * (len(ordered) - 1) / 10)] for k in range(11)] if ordered else []


def _bars(
    records: Sequence[Record],
    openings: Mapping[str, int],
    lengths: Sequence[int],
    labels: Sequence[str],
) -> Iterator[Bar]:
    """Openings and labels by frequency, what is beyond the first 20 as `other`; words by powers."""
    counted: dict[str, Mapping[str, int]] = {"opening": openings}
    for label in dict.fromkeys(labels):
        values = [record.metadata.get(label) for record in records]
        said = Counter(str(v) for v in values if isinstance(v, str | int | float | bool))
        if said:
            counted[label] = said
    for name, counts in counted.items():
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        rest = sum(count for _, count in ordered[_SHOWN:])
        for value, count in [*ordered[:_SHOWN], *([("other", rest)] if rest else [])]:
            yield Bar(histogram=name, value=value, records=count, share=_share(count, len(records)))
    buckets = Counter(max(length, 1).bit_length() - 1 for length in lengths)
    for bucket in sorted(buckets):
        low, count = 1 << bucket, buckets[bucket]
        yield Bar(
            histogram="words",
            value=f"{low}-{2 * low - 1}",
            records=count,
            share=_share(count, len(records)),
        )


def _grams(texts: Sequence[str], n: int) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """The n-gram keys inside each text, and the text of each; parallel."""
    hashes, begins = word_hashes(texts)
    keys = mix64(next(ngram_ladder(hashes, (n,)))[1])
    owners = np.repeat(np.arange(len(texts)), np.diff(begins))[: len(keys)]
    inside = begins[owners + 1] - np.arange(len(keys)) >= n
    return keys[inside], owners[inside]


def distinct_ngrams(texts: Sequence[str]) -> list[float | None]:
    """Distinct n-grams by all n-grams, for n of 1, 2 and 3; None where no text is long enough."""
    found = (_grams(texts, n)[0] for n in (1, 2, 3))
    return [_share(len(np.unique(keys)), len(keys)) if len(keys) else None for keys in found]


def self_bleu(texts: Sequence[str]) -> float | None:
    """The mean BLEU-4 of each text against all the others; None for fewer than two texts.

    Matches are clipped at the most that any one other text says; orders longer than the text do
    not count; an order without a match counts as 0.1 of one; the brevity penalty takes the other
    text nearest in length, the shorter of two. Texts without words are left out.
    """
    lengths = np.diff(word_hashes(texts)[1])
    texts = [text for text, length in zip(texts, lengths, strict=True) if length]
    lengths = lengths[lengths > 0]
    if len(texts) < 2:
        return None
    logs = np.zeros(len(texts))
    orders = np.zeros(len(texts))
    for n in _BLEU_ORDERS:
        total = np.maximum(lengths - n + 1, 0)
        clipped = _clipped(texts, n)
        used = total > 0
        precision = np.where(clipped > 0, clipped, _SMOOTHING)[used] / total[used]
        logs[used] += np.log(precision)
        orders += used
    scores = np.exp(logs / orders) * _brevity(lengths)
    return round(float(scores.mean()), _DIGITS)


def _clipped(texts: Sequence[str], n: int) -> Floats:
    """For each text, how many of its n-grams another text says, each as often as one of them."""
    keys, owners = _grams(texts, n)
    matched = np.zeros(len(texts))
    if not len(keys):
        return matched
    _, numbers = np.unique(keys, return_inverse=True)
    pairs, counts = np.unique(
        numbers * len(texts) + owners, return_counts=True
    )  # one entry a (key, text), by key
    key, text = pairs // len(texts), pairs % len(texts)
    order = np.lexsort((counts, key))
    last = np.flatnonzero(np.diff(key[order], append=-1))
    first = np.concatenate(([0], last[:-1] + 1))
    best = np.repeat(counts[order][last], last - first + 1)
    second_place = np.maximum(last - 1, first)
    second = np.where(last > first, counts[order][second_place], 0)
    others = best.copy()
    others[last] = second
    np.add.at(matched, text[order], np.minimum(counts[order], others))
    return matched


def _brevity(lengths: npt.NDArray[np.int64]) -> Floats:
    penalties = np.ones(len(lengths))
    for number, length in enumerate(lengths.tolist()):
        rest = np.delete(lengths, number)
        nearest = int(min(rest.tolist(), key=lambda other: (abs(other - length), other)))
        if length < nearest:
            penalties[number] = np.exp(1 - nearest / length)
    return penalties


def similarity(texts: Sequence[str]) -> Floats:
    """Cosines of hashed TF-IDF vectors, shape (n, n), over the texts that have words.

    A word falls into one of 4,096 dimensions with a sign and weighs 1 + log(count) times the root
    of log((1 + n) / (1 + texts with it)) + 1, so that a shared word counts by its rarity once, and
    one word changed in a sentence does not make another text of it. A vector has length 1.
    """
    keys, owners = _grams(texts, 1)
    present, rows = np.unique(owners, return_inverse=True)
    words, numbers = np.unique(keys, return_inverse=True)
    if not len(words):
        return np.zeros((0, 0))
    pairs, counts = np.unique(rows * len(words) + numbers, return_counts=True)
    row, word = pairs // len(words), pairs % len(words)
    spread = np.sqrt(np.log((1 + len(present)) / (1 + np.bincount(word))) + 1)
    sign = np.where(words >> np.uint64(63), 1.0, -1.0)
    place = (words % np.uint64(_DIMENSIONS)).astype(np.int64)
    vectors = np.zeros((len(present), _DIMENSIONS))
    np.add.at(vectors, (row, place[word]), sign[word] * (1 + np.log(counts)) * spread[word])
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    cosines: Floats = np.clip(vectors @ vectors.T, -1.0, 1.0)
    return cosines


def mean_distance(near: Floats) -> float | None:
    """The mean of 1 - cosine over all pairs; None for fewer than two texts."""
    count = len(near)
    if count < 2:
        return None
    return round(float(1 - (near.sum() - np.trace(near)) / (count * (count - 1))), _DIGITS)


def effective_texts(near: Floats) -> float | None:
    """The exponential of the entropy of the eigenvalues of near / n: from 1 to n."""
    if not len(near):
        return None
    values = np.linalg.eigvalsh(near / len(near))
    values = values[values > 1e-12]
    return round(float(np.exp(-(values * np.log(values)).sum())), 2)


def cluster_sizes(near: Floats) -> list[int]:
    """Sizes of the groups: each text joins the first leader it is near, or leads from then on."""
    leaders: list[int] = []
    sizes: list[int] = []
    for text in range(len(near)):
        close = np.flatnonzero(near[text, leaders] >= _JOINS) if leaders else np.zeros(0, np.int64)
        if len(close):
            sizes[close[0]] += 1
        else:
            leaders.append(text)
            sizes.append(1)
    return sizes

"""Diversity figures: small truths, properties, and self-BLEU against a plain reference."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.curate.diversity import (
    Bar,
    cluster_sizes,
    distinct_ngrams,
    draw_sample,
    effective_texts,
    mean_distance,
    measure,
    self_bleu,
    similarity,
)
from tests.conftest import prose
from tests.curate.support import chat, record

TEXTS = st.lists(
    st.lists(st.sampled_from("pear plum crate ferry lamp door".split()), max_size=9).map(" ".join),
    min_size=2,
    max_size=6,
)


def plain_bleu(texts: list[list[str]]) -> float:
    """Self-BLEU as its definition says it, one text and one n-gram after another."""
    scores = []
    for number, text in enumerate(texts):
        others = texts[:number] + texts[number + 1 :]
        logs = []
        for n in range(1, 5):
            own = Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1))
            if not own:
                continue
            said = [Counter(tuple(o[i : i + n]) for i in range(len(o) - n + 1)) for o in others]
            matched = sum(min(c, max(s[gram] for s in said)) for gram, c in own.items())
            logs.append(math.log((matched or 0.1) / own.total()))
        nearest = min((abs(len(o) - len(text)), len(o)) for o in others)[1]
        penalty = 1.0 if len(text) >= nearest else math.exp(1 - nearest / len(text))
        scores.append(penalty * math.exp(sum(logs) / len(logs)))
    return sum(scores) / len(scores)


@given(TEXTS)
@settings(max_examples=80, deadline=None)
def test_self_bleu_is_its_definition(texts: list[str]) -> None:
    """Equal to the reference to the last digit kept; texts without words do not count."""
    words = [text.split() for text in texts if text]
    if len(words) < 2:
        assert self_bleu(texts) is None
    else:
        assert self_bleu(texts) == pytest.approx(plain_bleu(words), abs=6e-5)


def test_self_bleu_of_known_texts() -> None:
    """One text over and over is 1; texts that share nothing are near 0."""
    assert self_bleu(["a ferry leaves the harbour at noon"] * 5) == 1
    apart = self_bleu([prose(f"bleu-{n}", 40) for n in range(6)])
    assert apart is not None and apart < 0.02
    assert self_bleu(["alone"]) is None


def test_distinct_ngrams_by_hand() -> None:
    """Six words of which four differ, four pairs of which three; n-grams never cross texts."""
    assert distinct_ngrams(["pear plum pear", "pear plum door"]) == [0.5, 0.75, 1.0]
    assert distinct_ngrams(["pear", "plum"]) == [1.0, None, None]
    assert distinct_ngrams([]) == [None, None, None]


def test_cluster_spread_of_known_texts() -> None:
    """Two themes of three copies each: two clusters, two effective texts, 3 in 5 pairs apart."""
    near = similarity([prose("one", 30)] * 3 + [prose("two", 30)] * 3)
    assert cluster_sizes(near) == [3, 3]
    assert effective_texts(near) == pytest.approx(2, abs=0.05)
    assert mean_distance(near) == pytest.approx(0.6, abs=0.03)


@given(TEXTS)
@settings(max_examples=40, deadline=None)
def test_cluster_spread_keeps_its_bounds(texts: list[str]) -> None:
    """From 1 to n texts; each text is in one cluster; the order of texts changes no distance."""
    near = similarity(texts)
    count = sum(bool(text) for text in texts)
    assert near.shape == (count, count) and np.allclose(np.diag(near), 1)
    assert sum(cluster_sizes(near)) == count
    if count > 1:
        effective = effective_texts(near)
        assert effective is not None and 0.99 <= effective <= count + 0.01
        assert mean_distance(near) == pytest.approx(
            mean_distance(similarity(texts[::-1])), abs=2e-4
        )


@given(st.sets(st.text(min_size=1, max_size=6), max_size=40), st.integers(0, 3))
def test_a_sample_depends_on_ids_alone(ids: set[str], seed: int) -> None:
    """The same records whatever their order, and those of a smaller sample among them."""
    ordered = sorted(ids)
    drawn = {ordered[place] for place in draw_sample(ordered, 7, seed)}
    again = {ordered[::-1][place] for place in draw_sample(ordered[::-1], 7, seed)}
    fewer = {ordered[place] for place in draw_sample(ordered, 3, seed)}
    assert drawn == again and fewer <= drawn and len(drawn) == min(7, len(ids))


def bars(found: list[Bar], histogram: str) -> dict[str, tuple[int, float]]:
    return {bar.value: (bar.records, bar.share) for bar in found if bar.histogram == histogram}


def test_histograms() -> None:
    """Letters, classes, openings and lengths, with shares of the sample."""
    records = [
        record(
            text=f"Question {n}: {'which' if n % 4 else 'where'} lamp is number {n}?",
            answer_letter="AB"[n % 2],
            direction=n % 3 == 0,
            options=["a"],
        )
        for n in range(8)
    ]
    figures, found = measure(records, 800, labels=["answer_letter", "direction", "options", "x"])
    assert (figures.records, figures.sampled) == (800, 8)
    assert bars(found, "answer_letter") == {"A": (4, 0.5), "B": (4, 0.5)}
    assert bars(found, "direction") == {"False": (5, 0.625), "True": (3, 0.375)}
    assert bars(found, "words") == {"4-7": (8, 1.0)}
    assert {bar.histogram for bar in found} == {"opening", "answer_letter", "direction", "words"}
    assert (figures.words_p10, figures.words_p50, figures.words_p90) == (7, 7, 7)


def test_openings_are_those_of_what_is_asked() -> None:
    """The question that metadata names goes before the template's first words; turns likewise."""
    asked = [record(text="Question: x", question=f"Which lamp is {n}?") for n in "ab"]
    figures, _ = measure(asked, 2)
    assert (figures.opening, figures.opening_share, figures.openings) == ("which lamp is", 1.0, 1)
    turns = chat(("system", "You are kind."), ("user", "Please, tell me why."))
    assert measure([turns], 1)[0].opening == "please tell me"


def test_many_values_are_cut_and_counted() -> None:
    """The first 20 values stand by name, the others as one."""
    records = [record(text=f"w{n}", label=f"v{n % 30:02}") for n in range(60)]
    found = bars(measure(records, 60)[1], "label")
    assert len(found) == 21 and found["other"] == (20, 0.3333)


def test_too_few_records_have_no_figures() -> None:
    """None stands for what cannot be said, also of a draw that kept nothing."""
    empty, found = measure([], 0)
    assert (empty.self_bleu, empty.opening, empty.words_p50, empty.clusters) == (None,) * 3 + (0,)
    assert found == []
    one, _ = measure([record(text="A single text.")], 1)
    assert (one.self_bleu, one.mean_distance, one.effective_texts) == (None, None, 1.0)
    assert (one.distinct_1, one.distinct_3, one.largest_cluster) == (1.0, 1.0, 1.0)


def test_word_order_and_templates_show() -> None:
    """A recipe that says one sentence with other numbers is far less varied than prose."""
    same = [
        record(text=f"The ferry leaves the old harbour of the town at noon, says man {n}.")
        for n in range(60)
    ]
    free = [record(text=prose(f"free-{n}", 13)) for n in range(60)]
    poor, rich = measure(same, 60)[0], measure(free, 60)[0]
    assert poor.self_bleu is not None and rich.self_bleu is not None
    assert poor.self_bleu > 0.5 > 0.1 > rich.self_bleu
    assert poor.distinct_2 is not None and rich.distinct_2 is not None
    assert poor.distinct_2 < 0.5 < rich.distinct_2
    assert poor.clusters < rich.clusters == 60

"""Spans, words and the patterns that turn a statement into a question."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.generate.passages.spans import answer_spans, find_spans, shape
from datagen.generate.passages.topic import Topic
from datagen.generate.passages.wording import askable, literal, statement_pattern
from datagen.generate.passages.words import base_forms, new_names, new_words, runs_in, stem

ORLA = Topic(
    subject="Orla Brandt", inside="Orla Brandt", names=("Orla Brandt",), pronouns=frozenset()
)
BRIDGE = Topic(
    subject="The Alder Bridge", inside="the Alder Bridge", names=(), pronouns=frozenset()
)


def _answers(statement: str, topic: Topic = ORLA) -> list[str]:
    return [span.text for span in answer_spans(statement, topic.subject)]


@pytest.mark.parametrize(
    ("statement", "answers"),
    [
        ("Orla Brandt joined the Linden Observatory in 1948.", ["Linden Observatory", "1948"]),
        ("Orla Brandt died on 3 May 1990 in Lyon, France.", ["3 May 1990", "Lyon, France"]),
        ("Orla Brandt was born in 1920 and died in 1990.", []),
        ("Orla Brandt was a French geologist.", []),
        ("Orla Brandt was born in Tokyo 1982.", ["1982"]),
        ("Orla Brandt lived in Selby and Otterby.", []),
        ("Orla Brandt wrote 14 books about stone.", ["14"]),
        ("Orla Brandt won at the 1948 Otterby Games.", ["Otterby Games"]),
    ],
)
def test_answer_spans(statement: str, answers: list[str]) -> None:
    assert _answers(statement) == answers


@given(st.text(max_size=200))
def test_spans_lie_in_the_text_in_order_and_apart(text: str) -> None:
    spans = find_spans(text)
    assert all(text[span.start : span.end] == span.text for span in spans)
    assert all(a.end <= b.start for a, b in itertools.pairwise(spans))


@given(st.text(max_size=60))
def test_a_literal_matches_itself_alone(text: str) -> None:
    assert re.fullmatch(literal(text), text)
    assert not re.fullmatch(literal(text), text + "x")


@pytest.mark.parametrize(
    ("statement", "answer", "question"),
    [
        (
            "Orla Brandt joined the Linden Observatory in 1948.",
            "1948",
            "In what year did Orla Brandt join the Linden Observatory?",
        ),
        ("Orla Brandt was born May 3, 1920.", "May 3, 1920", "When was Orla Brandt born?"),
        ("Orla Brandt was born in Otterby.", "Otterby", "Where was Orla Brandt born?"),
        ("Orla Brandt writes in Tamil.", "Tamil", "In which language does Orla Brandt write?"),
        (
            "Orla Brandt was appointed director by Tom Hay in 1950.",
            "Tom Hay",
            "Who appointed Orla Brandt director in 1950?",
        ),
        (
            "Orla Brandt was appointed director by Tom Hay in 1950.",
            "Tom Hay",
            "By whom was Orla Brandt appointed director?",
        ),
        ("Orla Brandt has 14 books in print.", "14", "How many books does Orla Brandt have?"),
        ("Orla Brandt drew more than 14 maps.", "14", "How many maps did Orla Brandt draw?"),
        (
            "Orla Brandt has been advised by Tom Hay since 1950.",
            "Tom Hay",
            "By whom has Orla Brandt been advised since 1950?",
        ),
        ("Orla Brandt is a small town in Selby.", "Selby", "Where is Orla Brandt located?"),
        (
            "Orla Brandt has been elected to the Academy in 1971.",
            "1971",
            "When has Orla Brandt been elected to the Academy?",
        ),
        (
            "Orla Brandt worked with geologist Bruno Hase.",
            "Bruno Hase",
            "With which geologist did Orla Brandt work?",
        ),
        (
            "Orla Brandt won silver at the Otterby Games.",
            "Otterby Games",
            "At which event did Orla Brandt win silver?",
        ),
    ],
)
def test_a_good_question_fits_the_pattern(statement: str, answer: str, question: str) -> None:
    patterns = {clause.span.text: pattern for clause, pattern in askable(statement, ORLA)}
    assert re.fullmatch(patterns[answer], question)
    assert not re.fullmatch(patterns[answer], question.replace("Orla Brandt", "Ida Hay"))


@pytest.mark.parametrize(
    "statement",
    [
        "Orla Brandt is a geologist from Otterby.",
        "Orla Brandt and Bruno Hase met in 1948.",
        "Orla Brandt taught, and in 1948 she met him.",
        "Orla Brandt was not born in 1948 or so they say.",
        "Orla Brandt appeared in Hamlet.",
        "Orla Brandt was born in Tokyo 1982.",
        "Orla Brandt taught until her retirement in 1985.",
        "Orla Brandt travelled with famous Bruno Hase.",
        "Orla Brandt worked on a map left by Bruno Hase.",
        "Orla Brandt was drawn by Bruno and later painted by Hase.",
        "Orla Brandt built Old College in Otterby.",
        "Orla Brandt studied Engineering in depth.",
    ],
)
def test_what_is_not_plain_is_not_asked(statement: str) -> None:
    assert askable(statement, ORLA) == []


def test_an_article_falls_in_the_middle_of_a_question() -> None:
    ((_, pattern),) = askable("The Alder Bridge was opened in 1871.", BRIDGE)
    assert re.fullmatch(pattern, "When was the Alder Bridge opened?")


def test_a_question_cannot_hold_its_answer() -> None:
    for clause, pattern in askable("Orla Brandt moved to Selby in 1948 by train.", ORLA):
        assert clause.span.text not in pattern


def test_statements_are_held_to_the_subject() -> None:
    pattern = statement_pattern("C++ (I.)")
    assert re.fullmatch(pattern, "C++ (I.) is an old language.")
    assert not re.fullmatch(pattern, "Java is an old language.")


@pytest.mark.parametrize(
    ("answer", "same", "other"),
    [
        ("1948", "2001", "48"),
        ("3 May 1990", "17 June 1991", "May 3, 1990"),
        ("May 3, 1990", "June 17, 1991", "June 1991"),
        ("May 1990", "June 1991", "1991"),
        ("14", "7", "seven"),
        ("12,500", "9,800", "9800"),
        ("Tom Hay", "Ida Brand", "somebody"),
    ],
)
def test_a_shape_tells_forms_apart(answer: str, same: str, other: str) -> None:
    assert re.fullmatch(shape(answer), answer)
    assert re.fullmatch(shape(answer), same)
    assert not re.fullmatch(shape(answer), other)


@pytest.mark.parametrize(
    "forms",
    ["begin begins began begun", "join joins joined", "study studies studied", "stop stopped"],
)
def test_forms_of_a_word_share_a_stem(forms: str) -> None:
    assert len({stem(word) for word in forms.split()}) == 1


def test_base_forms_hold_the_right_one() -> None:
    pairs = {"joined": "join", "moved": "move", "wrote": "write", "stopped": "stop"}
    pairs |= {"studied": "study", "lies": "lie", "reaches": "reach", "called": "call"}
    assert all(base in base_forms(verb) for verb, base in pairs.items())


def test_what_a_source_does_not_say_is_new() -> None:
    source = "In 1948 Orla Brandt joined the Linden Observatory."
    assert new_words("Orla Brandt joins the observatory", source) == []
    assert new_words("Orla Brandt left Selby", source) == ["left", "selby"]
    assert new_names("The one in Selby joined in 1949.", source) == ["Selby", "1949"]
    assert runs_in("the Linden", source) and not runs_in("Lind", source)

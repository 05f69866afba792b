"""What is refused of facts, questions and options, and why."""

from __future__ import annotations

import pytest

from datagen.generate.passages.excerpts import Excerpt, plain_excerpts, unfronted, whole_excerpts
from datagen.generate.passages.facts import (
    Fact,
    option_problem,
    own_fact,
    passage_fact,
    question_problem,
)
from datagen.generate.passages.topic import Topic

ORLA = Topic(
    subject="Orla Brandt", inside="Orla Brandt", names=("Orla Brandt",), pronouns=frozenset()
)
SHOWN = (
    "In 1948, Orla Brandt joined the Linden Observatory.",
    "Orla Brandt married Bruno Hase on 3 May 1950 in Selby.",
)
PASSAGE = Excerpt(context=" ".join(SHOWN), shown=SHOWN)


@pytest.mark.parametrize(
    ("statement", "answer", "reason"),
    [
        ("Orla Brandt joined the Linden Observatory.", "Selby", "answer_not_in_statement"),
        ("Orla Brandt joined the Otterby Observatory.", "Otterby Observatory", "unfaithful"),
        ("Orla Brandt joined the Linden Observatory in 1949.", "1949", "unfaithful"),
        ("Orla Brandt was a joyful spirit.", "joyful spirit", "answer_not_in_passage"),
        ("Orla Brandt " + "very " * 50 + "1948.", "1948", "long_statement"),
    ],
)
def test_own_words_must_name_what_the_passage_names(
    statement: str, answer: str, reason: str
) -> None:
    problem = own_fact(statement, answer, PASSAGE, ORLA)
    assert isinstance(problem, str) and problem.startswith(f"{reason}: ")


def test_own_words_are_free() -> None:
    fact = own_fact("It was in 1948 that the observatory hired Orla Brandt.", "1948", PASSAGE, ORLA)
    assert isinstance(fact, Fact)
    assert fact.gapped == "It was in ____ that the observatory hired Orla Brandt."
    ask = "When did Orla Brandt come to the observatory?"
    assert question_problem(ask, fact, PASSAGE, ORLA) is None


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("Orla Brandt joined the Otterby Observatory in 1948.", "unfaithful"),
        ("Orla Brandt married Bruno Hase in 1948.", "unfaithful"),
        ("Orla Brandt in Selby joined Bruno Hase on 3 May 1950.", "unfaithful"),
        ("Orla Brandt married Bruno Hase.", "no_plain_answer"),
        ("Orla Brandt " + "married " * 30 + "Bruno.", "long_statement"),
    ],
)
def test_the_passages_words_must_be_those_of_one_sentence(statement: str, reason: str) -> None:
    problem = passage_fact(statement, "1948", PASSAGE, ORLA)
    assert isinstance(problem, str) and problem.startswith(f"{reason}: ")


def test_another_answer_stands_in_for_one_that_cannot_be_asked_for() -> None:
    statement = "Orla Brandt joined the Linden Observatory in 1948."
    fact = passage_fact(statement, "Linden Observatory", PASSAGE, ORLA)
    assert isinstance(fact, Fact) and fact.answer == "1948"
    assert fact.key != passage_fact(SHOWN[1], "3 May 1950", PASSAGE, ORLA)


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("When did Orla Brandt join the Linden Observatory?", None),
        ("When did Orla Brandt join the?", "broken_question"),
        ("When did Orla Brandt join?", "leaves_out"),
        ("When did Orla Brandt leave the Linden Observatory?", "other_words"),
        ("In 1948, did Orla Brandt join the Linden Observatory?", "gives_answer_away"),
        ("When did Orla Brandt, by this passage, join?", "points_at_passage"),
        ("When did Orla Brandt join the Linden Observatory", "not_a_question"),
        ("When?", "not_a_question"),
    ],
)
def test_questions_in_the_passages_words(question: str, reason: str | None) -> None:
    fact = passage_fact("Orla Brandt joined the Linden Observatory in 1948.", "", PASSAGE, ORLA)
    assert isinstance(fact, Fact)
    problem = question_problem(question, fact, PASSAGE, ORLA)
    assert (problem or "").partition(":")[0] == (reason or "")


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("Otterby", None),
        ("selby", "same_option"),
        ("Old Selby", "same_option"),
        ("Lyon", "same_option"),
        ("Brandt Hill", "option_names_subject"),
        ("Bruno Hase", "option_in_passage"),
        ("...", "odd_option"),
        ("A town that is very much longer than the answer itself", "odd_option"),
    ],
)
def test_options(option: str, reason: str | None) -> None:
    fact = Fact(statement="Orla Brandt lived in Selby.", answer="Selby", start=20, pattern="")
    problem = option_problem(option, fact, PASSAGE, ORLA, ["Lyon"])
    assert (problem or "").partition(":")[0] == (reason or "")


def test_a_fronted_date_goes_to_the_end() -> None:
    assert unfronted(SHOWN[0], ORLA) == "Orla Brandt joined the Linden Observatory in 1948."
    assert unfronted(SHOWN[1], ORLA) == SHOWN[1]


def test_plain_excerpts_show_sentences_that_can_be_asked_about() -> None:
    text = (
        "Orla Brandt (born 3 May 1920) was a geologist. In 1948, she joined the Linden "
        "Observatory. She liked stone. Her work was praised by many who knew it."
    )
    _, (excerpt,) = plain_excerpts(text, "Orla Brandt", words=30)
    assert excerpt.shown == ("In 1948, Orla Brandt joined the Linden Observatory.",)
    assert excerpt.context == text


def test_a_page_without_plain_sentences_shows_life_dates() -> None:
    lead = "Orla Brandt (3 May 1920, Otterby – 9 June 1990) was a geologist of some fame."
    _, (excerpt,) = plain_excerpts(lead, "Orla Brandt", words=30)
    assert excerpt.shown == (
        "Orla Brandt was born on 3 May 1920.",
        "Orla Brandt died on 9 June 1990.",
    )


def test_whole_excerpts_show_all_prose() -> None:
    text = "# A\n\n" + "One two three four five six seven eight nine ten. " * 20
    _, excerpts = whole_excerpts(text, "A", words=50)
    assert len(excerpts) == 4
    assert all(excerpt.context == excerpt.text for excerpt in excerpts)

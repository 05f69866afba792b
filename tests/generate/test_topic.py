"""Pronouns give way to the subject only where they can mean nothing else."""

from __future__ import annotations

from datagen.generate.passages.prose import paragraphs
from datagen.generate.passages.topic import standalone, topic_of


def _sentences(text: str, title: str) -> list[str]:
    passages = paragraphs(text, title)
    topic = topic_of(passages, title)
    return [sentence for passage in passages for sentence in standalone(passage, topic)]


def test_a_person_is_named_for_pronoun_and_surname() -> None:
    text = (
        "Orla Brandt (born 3 May 1920) was a geologist from Otterby. She joined the Observatory in "
        "1948. Her map was printed in 1952. In 1960, she moved to Selby.\n\n"
        "Brandt received the Hase Medal in 1971 and went on to teach in Selby."
    )
    assert _sentences(text, "Orla Brandt")[1:] == [
        "Orla Brandt joined the Observatory in 1948.",
        "Orla Brandt's map was printed in 1952.",
        "In 1960, Orla Brandt moved to Selby.",
        "Orla Brandt received the Hase Medal in 1971 and went on to teach in Selby.",
    ]


def test_a_pronoun_after_somebody_else_is_left_alone() -> None:
    text = (
        "Orla Brandt (born 3 May 1920) was a geologist from Otterby. Her sister Ida was a painter. "
        "Tom Hay was her teacher in Selby. She died in 1990."
    )
    assert not any("1990" in sentence for sentence in _sentences(text, "Orla Brandt"))


def test_he_and_she_on_one_page_name_nobody() -> None:
    text = (
        "Brandt and Hay (born 1920) were painters from Otterby in the north. He was born in 1920. "
        "She was born in 1921. He died in 1990. She died in 1991."
    )
    assert _sentences(text, "Brandt Hay") == []


def test_a_thing_is_it_and_its_kind() -> None:
    text = (
        "The Alder Bridge is a stone bridge in Otterby. It was opened in 1871. It was said in 1880 "
        "that nobody would cross. The bridge has 14 arches. It was announced in 1890 that it was "
        "safe. The Alder Bridge has two towers. In 1990, it was closed."
    )
    assert _sentences(text, "Alder Bridge") == [
        "The Alder Bridge is a stone bridge in Otterby.",
        "The Alder Bridge was opened in 1871.",
        "The Alder Bridge has 14 arches.",
        "The Alder Bridge has two towers.",
        "In 1990, the Alder Bridge was closed.",
    ]

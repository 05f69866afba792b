"""The parts of a page that a model is shown, one at a time."""

from __future__ import annotations

import re
from dataclasses import dataclass

from datagen.generate.passages.prose import paragraphs, windows
from datagen.generate.passages.spans import MONTHS
from datagen.generate.passages.topic import Topic, standalone, topic_of
from datagen.generate.passages.wording import askable

_MAX_SENTENCE_WORDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """A passage as the page has it, and the sentences of it that are shown to the model."""

    context: str
    shown: tuple[str, ...]

    @property
    def text(self) -> str:
        """The shown sentences as one paragraph."""
        return " ".join(self.shown)


def whole_excerpts(text: str, title: str, *, words: int) -> tuple[Topic, list[Excerpt]]:
    """The page's prose in passages of about `words`, shown as it is."""
    passages = paragraphs(text, title)
    excerpts = [
        Excerpt(context=window.text, shown=window.sentences) for window in windows(passages, words)
    ]
    return topic_of(passages, title), excerpts


def plain_excerpts(text: str, title: str, *, words: int) -> tuple[Topic, list[Excerpt]]:
    """The page's short, plain sentences about its subject, each made to name it.

    Only sentences that `wording.askable` can turn into a question are shown. A page that has none
    shows the dates of birth and death that its lead holds in parentheses.
    """
    passages = paragraphs(text, title)
    topic = topic_of(passages, title)
    excerpts = []
    for passage in passages:
        shown: list[str] = []
        for sentence in standalone(passage, topic):
            if len(sentence.split()) > _MAX_SENTENCE_WORDS or not askable(
                unfronted(sentence, topic), topic
            ):
                continue
            if shown and len(f"{' '.join(shown)} {sentence}".split()) > words:
                excerpts.append(Excerpt(context=passage.text, shown=tuple(shown)))
                shown = []
            shown.append(sentence)
        if shown:
            excerpts.append(Excerpt(context=passage.text, shown=tuple(shown)))
    if passages and not excerpts and (dated := _life_dates(passages[0].sentences[0], topic)):
        excerpts = [Excerpt(context=passages[0].text, shown=tuple(dated))]
    return topic, excerpts


def _life_dates(lead: str, topic: Topic) -> list[str]:
    """`Orla (3 May 1920 – 9 June 1990) was ...` -> when she was born, when she died."""
    match = re.match(rf"{re.escape(topic.subject)} \(([^()]*)\)", lead)
    if match is None:
        return []
    date = rf"\b(\d{{1,2}} (?:{MONTHS}) \d{{4}}|(?:{MONTHS}) \d{{1,2}}, \d{{4}})\b"
    life = re.fullmatch(rf"(?:[^–;]*[,;] )?{date}(?:, [^–]*)? [–-] {date}(?:, .*)?", match[1])
    birth = re.search(rf"\bborn (?:on )?{date}", match[1])
    if life is not None:
        return [f"{topic.subject} was born on {life[1]}.", f"{topic.subject} died on {life[2]}."]
    return [f"{topic.subject} was born on {birth[1]}."] if birth else []


def unfronted(sentence: str, topic: Topic) -> str:
    """`In 1948, Orla joined them.` -> `Orla joined them in 1948.`"""
    if sentence.startswith(topic.subject):
        return sentence
    front, _, rest = sentence.partition(topic.inside)
    front = front.strip().rstrip(",")
    return f"{topic.subject}{rest.rstrip('.')} {front[:1].lower()}{front[1:]}."

"""What is checked of a stated fact, of the question for it, and of its wrong options.

Problems are `"reason: detail"`, as a rejected draft carries them; None means no problem.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from datagen.generate.passages.excerpts import Excerpt
from datagen.generate.passages.spans import find_spans
from datagen.generate.passages.topic import Topic
from datagen.generate.passages.wording import GAP, Clause, askable
from datagen.generate.passages.words import content_stems, new_names, new_words, runs_in, words

_MAX_STATEMENT_WORDS = 40
_MAX_PLAIN_WORDS = 24
_MAX_NEW_PAIRS = 2
_MIN_KEPT = 0.7
_PREPOSITION = r"(?:in|of|for|at|on|by|to|with|from|as|and|or|near|into|than)"
_BROKEN = re.compile(
    rf"\b(?:{_PREPOSITION}|the|an?|his|her|its|their|also|between)\?$"
    rf"|\b(?:the|an?) {_PREPOSITION}\b|\b{_PREPOSITION} {_PREPOSITION}\b"
)
_VAGUE = re.compile(
    r"\bthe (?:same|latter|former|other|young|old)\b"
    r"|\b(?:he|she|it|they|him|them|there|this|that|these|those|such)\b"
)
_POINTS = re.compile(
    r"\b(?:the|this|that|given|above) (?:passage|text|article|statement|sentence|context)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A statement and the answer in it, by offsets; the last two hold a question to its words."""

    statement: str
    answer: str
    start: int
    clause: Clause | None = None
    pattern: str | None = None

    @property
    def gapped(self) -> str:
        """The statement with a gap in the answer's place."""
        return self.statement[: self.start] + GAP + self.statement[self.start + len(self.answer) :]

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two facts of a page the same: the answer, and the verb or the statement."""
        rest = [self.clause.verb] if self.clause else sorted(set(content_stems(self.statement)))
        return (*words(self.answer), "|", *rest)


def own_fact(statement: str, answer: str, excerpt: Excerpt, topic: Topic) -> Fact | str:
    """A fact in the teacher's own words: what it names, dates or counts must be in the passage."""
    statement, answer = statement.strip(), answer.strip().rstrip(".")
    start = statement.casefold().find(answer.casefold())
    if not answer or start < 0 or not runs_in(answer, statement):
        return f"answer_not_in_statement: {answer}"
    if len(words(statement)) > _MAX_STATEMENT_WORDS:
        return f"long_statement: {len(words(statement))} words"
    new = new_names(statement, f"{excerpt.context} {topic.subject}")
    if new:
        return f"unfaithful: {', '.join(new)}"
    missing = new_words(answer, f"{excerpt.context} {topic.subject}")
    if missing:
        return f"answer_not_in_passage: {', '.join(missing)}"
    return Fact(statement=statement, answer=statement[start : start + len(answer)], start=start)


def passage_fact(statement: str, answer: str, excerpt: Excerpt, topic: Topic) -> Fact | str:
    """A fact in the words of one shown sentence, with another answer where this one is no good."""
    if len(words(statement)) > _MAX_PLAIN_WORDS:
        return f"long_statement: {len(words(statement))} words"
    sources = [s for s in excerpt.shown if not new_words(statement, f"{s} {topic.subject}")]
    if not sources:
        new = new_words(statement, f"{excerpt.text} {topic.subject}")
        return f"unfaithful: {', '.join(new) or 'joins two sentences'}"
    source = min(sources, key=lambda sentence: len(_new_pairs(statement, sentence)))
    pairs = _new_pairs(statement, source)
    if len(pairs) > _MAX_NEW_PAIRS:
        return f"unfaithful: reworded, {pairs[0][0]} {pairs[0][1]}"
    options = [
        (clause, pattern)
        for clause, pattern in askable(statement, topic)
        if _stands_there(clause, statement, source, topic)
    ]
    if not options:
        return "no_plain_answer: no date, count, name or place that one question can ask for"
    clause, pattern = next((o for o in options if o[0].span.text == answer), options[0])
    span = clause.span
    return Fact(
        statement=statement, answer=span.text, start=span.start, clause=clause, pattern=pattern
    )


def _new_pairs(statement: str, source: str) -> list[tuple[str, str]]:
    said, known = words(statement), words(source)
    pairs = set(itertools.pairwise(known))
    return [pair for pair in itertools.pairwise(said) if pair not in pairs]


def _stands_there(clause: Clause, statement: str, source: str, topic: Topic) -> bool:
    """Whether the answer follows the same words in the source, or opens the sentence there.

    Two words, or one where the source has no other span of the answer's kind.
    """
    span = clause.span
    alone = sum(other.kind == span.kind for other in find_spans(source)) == 1
    led_by = " ".join(words(statement[: span.start])[-1 if alone else -2 :])
    opening = source.partition(topic.inside)[0] if not source.startswith(topic.subject) else ""
    return runs_in(f"{led_by} {span.text}", source) or runs_in(span.text, opening)


def question_problem(question: str, fact: Fact, excerpt: Excerpt, topic: Topic) -> str | None:
    """Why a question for a fact cannot be kept."""
    if not question.endswith("?") or not 4 <= len(words(question)) <= 40:
        return f"not_a_question: {question[:60]}"
    if runs_in(fact.answer, question):
        return "gives_answer_away"
    if _POINTS.search(question):
        return "points_at_passage"
    if fact.clause is not None and fact.pattern is not None:
        return _plain_problem(question, fact.clause, fact.pattern)
    new = new_names(question, f"{excerpt.context} {fact.statement} {topic.subject}")
    if new:
        return f"unfaithful_question: {', '.join(new)}"
    names = f"{topic.subject} {fact.statement}"
    if not set(content_stems(question)) & set(content_stems(names)):
        return "subject_unnamed"
    return None


def _plain_problem(question: str, clause: Clause, pattern: str) -> str | None:
    if not re.fullmatch(pattern, question):
        return "other_words"
    counted = question.startswith("How many ") and question.endswith(" of?")
    if _BROKEN.search(question.removesuffix(" of?") if counted else question):
        return "broken_question"
    if vague := _VAGUE.search(question):
        return f"vague_question: {vague[0]}"
    once = clause.verb in ("born", "died")
    if not once and kept_share(question, clause.before) < _MIN_KEPT:
        return "leaves_out"
    return None


def kept_share(question: str, text: str) -> float:
    """What share of the content words of `text` a question keeps; 1 where there are none."""
    wanted, kept = content_stems(text), set(content_stems(question))
    return sum(word in kept for word in wanted) / len(wanted) if wanted else 1.0


def option_problem(
    option: str, fact: Fact, excerpt: Excerpt, topic: Topic, taken: Sequence[str]
) -> str | None:
    """Why a wrong option cannot stand beside the answer and the options already taken."""
    for other in (fact.answer, *taken):
        if runs_in(option, other) or runs_in(other, option):
            return f"same_option: {option}"
    if not words(option) or len(option) > 3 * len(fact.answer) + 20:
        return f"odd_option: {option[:60]}"
    if set(words(option)) & set(words(topic.subject)):
        return f"option_names_subject: {option}"
    if fact.pattern is not None and runs_in(option, excerpt.context):
        return f"option_in_passage: {option}"
    return None

"""Passages of a text that bear a mark, and as many that do not, as labelled items.

A mark is a pattern of the recipe: how a court disposes of an appeal, how a sentence defines a term.
A passage with a mark carries its label; one without is drawn from the same text, and must not even
come near one (`leaks`). The prompt `confirm`, which is not told the label, must see it too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datagen.errors import WorkspaceError
from datagen.generate.legal.choices import confirmed, finished
from datagen.generate.legal.patterns import compiled
from datagen.generate.legal.rows import on_one_line, text_cell
from datagen.generate.legal.sentences import sentences
from datagen.generate.passages.words import words
from datagen.llm.ask import AnswerRejected, Ask
from datagen.record import Draft, Seed

_TERM = "term"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Passage:
    """Neighbouring sentences of a text and the label that they bear."""

    text: str
    label: str
    term: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """What is looked for: patterns by label, patterns of what comes near, and the sizes."""

    marks: Mapping[str, Sequence[re.Pattern[str]]]
    leaks: Sequence[re.Pattern[str]]
    none_label: str
    before: int
    after: int
    min_words: int
    max_words: int

    def labels(self, sentence: str) -> dict[str, re.Match[str]]:
        """The labels whose marks stand in a sentence, each with the first match."""
        found = {}
        for label, patterns in self.marks.items():
            match = next((m for p in patterns if (m := p.search(sentence))), None)
            if match is not None:
                found[label] = match
        return found

    def near(self, text: str) -> bool:
        """Whether a text bears a mark or comes near one."""
        return bool(self.labels(text)) or any(leak.search(text) for leak in self.leaks)

    def passage(self, said: Sequence[str], place: int) -> str | None:
        """The passage around a sentence, or None where it is too short or too long."""
        low = max(place - self.before, 0)
        text = on_one_line(" ".join(said[low : place + self.after + 1]))
        return text if self.min_words <= len(words(text)) <= self.max_words else None


async def marked_passages(
    seed: Seed,
    ask: Ask,
    *,
    question: str,
    marks: Mapping[str, Sequence[str]],
    leaks: Sequence[str],
    none_label: str,
    answers: Mapping[str, str],
    text: str = "text",
    before: int = 0,
    after: int = 0,
    marks_from: float = 0.0,
    none_until: float = 1.0,
    per_text: int = 2,
    none_every: int = 1,
    min_words: int = 8,
    max_words: int = 200,
    confirm_share: float | None = 0.5,
    texts: Sequence[str] = ("text_answer",),
) -> list[Draft]:
    """Draft up to `per_text` marked passages of a text, and unmarked ones beside them.

    `marks` are patterns by label (a group `term` goes into the metadata), `leaks` those that an
    unmarked passage must not hold either; a sentence with the marks of two labels counts for
    neither. `before` and `after` are sentences around the marked one. Marks count from the share
    `marks_from` of the text on, unmarked passages end before `none_until` of it. An unmarked one is
    drawn for every `none_every`-th text. `answers` says what each label is answered with, and may
    name `{term}`. `confirm_share` of the model's samples must agree; null asks nobody.
    """
    if missing := {*marks, none_label} - answers.keys():
        raise WorkspaceError(
            f"no answer for the label {sorted(missing)[0]!r}",
            where="arguments: answers",
            fix="say what every label is answered with",
        )
    search = _Search(
        marks={label: [compiled(one) for one in some] for label, some in marks.items()},
        leaks=[compiled(one) for one in leaks],
        none_label=none_label,
        before=before,
        after=after,
        min_words=min_words,
        max_words=max_words,
    )
    said = sentences(text_cell(seed, text))
    found, problems = _marked(search, said, int(marks_from * len(said)), per_text)
    drafts = [Draft(rejected=problem) for problem in problems]
    if not found:
        return [*drafts, Draft(rejected="no_mark: no passage bears a mark")]
    if ask.balanced(none_every, "none") == 0:
        plain = _unmarked(ask, search, said[: int(none_until * len(said))], len(found))
        if short := len(found) - len(plain):
            missing_ones = f"{short} of {len(found)} have no passage far from any mark"
            drafts.append(Draft(rejected=f"no_unmarked: {missing_ones}"))
        found += plain
    labels = [*marks, none_label]
    made = [
        await _item(ask, passage, question, answers, labels, confirm_share, texts)
        for passage in found
    ]
    return [*drafts, *made]


def _marked(
    search: _Search, said: Sequence[str], start: int, most: int
) -> tuple[list[_Passage], list[str]]:
    """The marked passages from a sentence on, no two overlapping; and why others are none."""
    found: list[_Passage] = []
    problems: list[str] = []
    free = 0
    for place in range(start, len(said)):
        if len(found) == most:
            break
        labels = search.labels(said[place])
        if not labels or max(place - search.before, 0) < free:
            continue
        around = said[max(place - search.before, 0) : place + search.after + 1]
        borne = {label for sentence in around for label in search.labels(sentence)}
        if len(borne) > 1:
            problems.append(f"two_labels: {', '.join(sorted(borne))} in {said[place][:60]!r}")
            continue
        ((label, match),) = labels.items()
        text = search.passage(said, place)
        if text is None:
            problems.append(f"length: {len(words(' '.join(around)))} words")
            continue
        term = match.groupdict().get(_TERM)
        found.append(_Passage(text=text, label=label, term=term))
        free = place + search.after + 1
    return found, problems


def _unmarked(ask: Ask, search: _Search, said: Sequence[str], most: int) -> list[_Passage]:
    """Passages of the same size that bear no mark and come near none, drawn from all of them."""
    size = search.before + 1 + search.after
    starts = range(0, len(said) - size + 1, size)
    clean = [
        place + search.before
        for place in starts
        if not any(search.near(sentence) for sentence in said[place : place + size])
    ]
    clean.sort(key=lambda place: ask.draw("unmarked", str(place)))
    texts = [text for place in clean if (text := search.passage(said, place)) is not None]
    return [_Passage(text=text, label=search.none_label) for text in texts[:most]]


async def _item(
    ask: Ask,
    passage: _Passage,
    question: str,
    answers: Mapping[str, str],
    labels: Sequence[str],
    share: float | None,
    texts: Sequence[str],
) -> Draft:
    """The item of a passage, if the model who reads it alone sees the same label."""
    metadata: dict[str, Any] = {
        "form": "classification",
        "context": passage.text,
        "question": question,
        "label": passage.label,
        "answer": answers[passage.label].replace(f"{{{_TERM}}}", passage.term or ""),
    }
    if passage.term:
        metadata[_TERM] = passage.term
    calls: tuple[str, ...] = ()
    if share is not None:
        try:
            problem, key = await confirmed(
                ask,
                "confirm",
                passage.label,
                labels,
                share=share,
                passage=passage.text,
                question=question,
            )
        except AnswerRejected as error:
            said = f"confirm_{error.reason}: {error.detail}"
            return Draft(metadata=metadata, calls=error.calls, rejected=said)
        calls = (key,)
        if problem is not None:
            return Draft(metadata=metadata, calls=calls, rejected=problem)
    return finished(ask, metadata, texts, passage.text, calls=calls)

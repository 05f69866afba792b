"""A statement with the passage it rests on, as a question whose answer is yes, or no.

Which answer is wanted is balanced over the seeds. `question` asks whether the statement holds, or
whether its opposite does; `confirm` answers from the passage alone, where it may also find the
passage unclear, and must say what is wanted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from datagen.generate.legal.choices import confirmed, finished
from datagen.generate.legal.held import added, negations
from datagen.generate.legal.rows import on_one_line, text_cell
from datagen.generate.passages.facts import kept_share
from datagen.generate.passages.words import content_stems, words
from datagen.llm.ask import AnswerRejected, Ask
from datagen.record import Draft, Seed

_OPENINGS = (
    "Does", "Do", "Can", "Could", "May", "Is", "Are", "Will", "Would", "Must", "Has", "Have",
    "Should",
)  # fmt: skip
_POINTS = re.compile(
    r"\b(?:this|the|that|above|following) (?:passage|quote|statement|excerpt|text|clause|sentence)",
    re.IGNORECASE,
)


class _Question(BaseModel):
    """A question that is answered with yes or no."""

    question: str


async def yes_no_qa(
    seed: Seed,
    ask: Ask,
    *,
    statement: str,
    evidence: str,
    subject: str,
    min_kept: float = 0.3,
    min_shared: int = 2,
    min_words: int = 5,
    max_words: int = 40,
    confirm_share: float = 1.0,
    texts: Sequence[str] = ("text_yes_no",),
) -> list[Draft]:
    """Draft one question on a row; the three names are columns.

    The question names the subject, denies nothing, says no name or number that the row lacks, and
    shares `min_shared` content words with statement or passage. Where the wanted answer is yes, it
    keeps `min_kept` of the statement's.
    """
    said = on_one_line(text_cell(seed, statement))
    passage = on_one_line(text_cell(seed, evidence))
    about = on_one_line(text_cell(seed, subject))
    wanted = ("yes", "no")[ask.balanced(2, "direction")]
    metadata: dict[str, Any] = {
        "form": "yes_no",
        "title": about,
        "statement": said,
        "context": passage,
        "label": wanted,
        "answer": wanted.capitalize(),
    }
    if not (said and passage and about):
        return [Draft(metadata=metadata, rejected="empty: statement, passage or subject")]
    calls: list[str] = []
    try:
        question = await _asked(ask, metadata, calls)
        metadata["question"] = question
        problem = (
            _problem(question, about, f"{said} {passage} {about}", min_words, max_words)
            or _beside(question, metadata, min_shared)
            or (_departed(question, said, min_kept) if wanted == "yes" else None)
        )
        if problem is None:
            problem, key = await confirmed(
                ask,
                "confirm",
                wanted,
                ["yes", "no", "unclear"],
                share=confirm_share,
                passage=passage,
                question=question,
            )
            calls.append(key)
    except AnswerRejected as error:
        calls += error.calls
        problem = f"{error.reason}: {error.detail}"
    if problem is not None:
        return [Draft(metadata=metadata, calls=tuple(calls), rejected=problem)]
    return [finished(ask, metadata, texts, calls=calls)]


async def _asked(ask: Ask, metadata: Mapping[str, Any], calls: list[str]) -> str:
    """The model's question, whose answer should be the wanted one."""
    pattern = f"^({'|'.join(_OPENINGS)}) [^?]{{12,180}}\\?$"
    schema = {
        "type": "object",
        "properties": {"question": {"type": "string", "pattern": pattern}},
        "required": ["question"],
        "additionalProperties": False,
    }
    (answer, *_) = await ask.answers(
        "question",
        into=_Question,
        schema=schema,
        statement=metadata["statement"],
        passage=metadata["context"],
        subject=metadata["title"],
        wanted=metadata["label"],
    )
    calls.append(answer.key)
    return on_one_line(answer.value.question)


def _beside(question: str, metadata: Mapping[str, Any], least: int) -> str | None:
    """Why a question is on something else than statement and passage, its subject apart."""
    known = set(content_stems(f"{metadata['statement']} {metadata['context']}"))
    shared = set(content_stems(question)) & known - set(content_stems(metadata["title"]))
    if len(shared) < least:
        return f"beside_the_point: {len(shared)} words of statement or passage"
    return None


def _departed(question: str, statement: str, least: float) -> str | None:
    """Why a question that the statement should answer with yes is on another statement."""
    if (kept := kept_share(question, statement)) < least:
        return f"other_statement: keeps {kept:.0%} of its words"
    return None


def _problem(question: str, subject: str, source: str, least: int, most: int) -> str | None:
    """Why a question cannot be kept, whatever its answer."""
    if not question.endswith("?") or question.partition(" ")[0] not in _OPENINGS:
        return f"not_a_yes_no_question: {question[:60]}"
    if not least <= len(words(question)) <= most:
        return f"length: {len(words(question))} words"
    if subject.casefold() not in question.casefold():
        return f"subject_unnamed: {subject}"
    if negations(question):
        return "negated_question: yes and no would both deny it"
    if found := _POINTS.search(question):
        return f"points_at_passage: {found[0]}"
    return added(question, source)

"""A statement with the passage it rests on, as a question whose answer is yes, or no.

Which answer is wanted is balanced over the seeds. `question` asks whether the statement holds, or
whether its opposite does; `confirm` answers from the passage alone, where it may also find the
passage unclear, and must say what is wanted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
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
    pattern = f"^({'|'.join(_OPENINGS)}) [^?]{{12,180}}\\?$"
    schema = {
        "type": "object",
        "properties": {"question": {"type": "string", "pattern": pattern}},
        "required": ["question"],
        "additionalProperties": False,
    }
    calls: list[str] = []
    try:
        (answer, *_) = await ask.answers(
            "question",
            into=_Question,
            schema=schema,
            statement=said,
            passage=passage,
            subject=about,
            wanted=wanted,
        )
        calls.append(answer.key)
        question = on_one_line(answer.value.question)
        metadata["question"] = question
        source = f"{said} {passage} {about}"
        problem = _problem(question, about, source, min_words, max_words)
        shared = set(content_stems(question)) & set(content_stems(f"{said} {passage}"))
        if problem is None and len(shared - set(content_stems(about))) < min_shared:
            problem = f"beside_the_point: {len(shared)} words of statement or passage"
        if problem is None and wanted == "yes" and kept_share(question, said) < min_kept:
            problem = f"other_statement: keeps {kept_share(question, said):.0%} of its words"
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

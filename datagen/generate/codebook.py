"""Coded rows as questions: a codebook says what each code answers, a model rewords the question.

The answer is looked up, never asked. `rephrase` words the question anew; country, year and the
words on which the answer hangs must survive.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from datagen.errors import WorkspaceError
from datagen.generate.legal.choices import finished
from datagen.generate.legal.held import rephrasing_problem
from datagen.generate.legal.rows import on_one_line, text_cell
from datagen.llm.ask import AnswerRejected, Ask
from datagen.record import Draft, Seed

_PLACE = re.compile(r"\{(\w+)\}")


class _Questions(BaseModel):
    """Rewordings of a question."""

    questions: list[str]


async def codebook(
    seed: Seed,
    ask: Ask,
    *,
    entries: Sequence[Mapping[str, Any]],
    variable: str = "variable",
    code: str = "code",
    unknown: Sequence[str] = ("",),
    kept: Sequence[str] = (),
    rephrasings: int = 3,
    texts: Sequence[str] = ("text_answer",),
) -> list[Draft]:
    """Draft the question of a row's codebook entry with its answer, and `rephrasings` of it.

    An entry is a table: `variable` (as the row's column of that name says), `question` with
    `{column}` for cells of the row, `answers` (code to `answer` and `says`), and `terms`, groups of
    words of which every rewording keeps one. `kept` are columns whose cells a rewording keeps;
    `unknown` are codes that say nothing; a code that is in neither place rejects the row.
    """
    entry = _entry(entries, text_cell(seed, variable))
    said = text_cell(seed, code)
    if entry is None:
        return [Draft(rejected=f"no_entry: the codebook lacks {text_cell(seed, variable)!r}")]
    cells = {name: text_cell(seed, name) for name in entry["places"]}
    metadata: dict[str, Any] = {
        "form": "yes_no",
        "variable": entry["variable"],
        "code": said,
        "question": _filled(entry["question"], cells),
    }
    if said in unknown:
        return [Draft(metadata=metadata, rejected=f"no_code: {said!r} answers nothing")]
    if said not in entry["answers"]:
        listed = ", ".join(entry["answers"])
        why = f"unknown_code: {said!r} of {entry['variable']}, the codebook has {listed}"
        return [Draft(metadata=metadata, rejected=why)]
    found = entry["answers"][said]
    metadata |= {
        "label": str(found["answer"]).lower(),
        "answer": str(found["answer"]),
        "says": _filled(found["says"], cells),
        "wording": "codebook",
    }
    drafts = [finished(ask, metadata, texts, metadata["question"])]
    if rephrasings:
        must = [text_cell(seed, column) for column in kept]
        drafts += await _rephrased(ask, metadata, entry, must, rephrasings, texts)
    return drafts


def _entry(entries: Sequence[Mapping[str, Any]], variable: str) -> dict[str, Any] | None:
    """The codebook's entry for a variable, with the columns that its question names."""
    for entry in entries:
        if missing := {"variable", "question", "answers"} - entry.keys():
            raise WorkspaceError(
                f"an entry of the codebook has no {sorted(missing)[0]!r}",
                where="arguments: entries",
                fix="give it variable, question and answers",
            )
        if str(entry["variable"]) == variable:
            answers = {str(code): answer for code, answer in entry["answers"].items()}
            wordings = [entry["question"], *(answer["says"] for answer in answers.values())]
            places = sorted({place for line in wordings for place in _PLACE.findall(line)})
            return {**entry, "answers": answers, "places": places}
    return None


def _filled(wording: str, cells: Mapping[str, str]) -> str:
    """A wording with the row's cells in its places; braces within a cell are no place."""
    return _PLACE.sub(lambda place: cells[place[1]], wording)


async def _rephrased(
    ask: Ask,
    metadata: dict[str, Any],
    entry: Mapping[str, Any],
    kept: Sequence[str],
    count: int,
    texts: Sequence[str],
) -> list[Draft]:
    """A draft for each rewording, kept or with what it changed."""
    original = str(metadata["question"])
    told = {**metadata, "wording": "rephrased"}
    question = {"type": "string", "pattern": "^[A-Z][^?]{14,280}\\?$"}
    listed = {"type": "array", "items": question, "minItems": count, "maxItems": count}
    schema = {
        "type": "object",
        "properties": {"questions": listed},
        "required": ["questions"],
        "additionalProperties": False,
    }
    try:
        (answer, *_) = await ask.answers(
            "rephrase",
            into=_Questions,
            schema=schema,
            question=original,
            count=count,
            kept=list(kept),
        )
    except AnswerRejected as error:
        said = f"rephrase_{error.reason}: {error.detail}"
        return [Draft(metadata=told, calls=error.calls, rejected=said)]
    drafts: list[Draft] = []
    taken: list[str] = []
    for new in map(on_one_line, answer.value.questions[:count]):
        mine = {**told, "question": new}
        problem = _problem(new, original, kept, entry.get("terms") or (), taken)
        taken.append(new)
        if problem is not None:
            drafts.append(Draft(metadata=mine, calls=(answer.key,), rejected=problem))
        else:
            drafts.append(finished(ask, mine, texts, new, calls=(answer.key,)))
    return drafts


def _problem(
    new: str,
    original: str,
    kept: Sequence[str],
    terms: Sequence[Sequence[str]],
    taken: Sequence[str],
) -> str | None:
    if not new.endswith("?"):
        return f"not_a_question: {new[:60]}"
    lower = new.lower()
    for group in terms:
        if not any(term in lower for term in group):
            return f"term_lost: {' or '.join(group)}"
    return rephrasing_problem(new, original, kept=kept, taken=taken)

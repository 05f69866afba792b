"""Clauses of contracts and whether they are of a type: the clause itself, and one negative each.

Reads rows in the layout of CUAD (a contract, and for every clause type a question with the marked
answers). The first qualifying clause of each type is asked for twice: with its own type, and with
another one that no marked span of this contract shares with it. Nobody is asked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datagen.generate.legal.choices import finished, one_of
from datagen.generate.legal.rows import cell, on_one_line, rows_cell
from datagen.generate.passages.words import words
from datagen.llm.ask import Ask
from datagen.record import Draft, Seed, TokenCutter

_TYPE = re.compile(r"related to [\"“](.+?)[\"”]")
_DETAILS = re.compile(r"Details:\s*(.+)", re.DOTALL)
# Redactions, blanks to fill in, and signs of a page that was read badly.
_UNCLEAN = re.compile(r"\[\*+\]|\*{3,}|_{4,}|\[\s*\]|\ufffd|\.{6,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Marked:
    """A clause type, what it asks, and where the contract has it: (start, end) of every answer."""

    name: str
    details: str
    places: tuple[tuple[int, int], ...]


async def clause_type(
    seed: Seed,
    ask: Ask,
    *,
    tokenizer: TokenCutter,
    text: str = "context",
    questions: str = "qas",
    title: str = "title",
    max_tokens: int = 8000,
    max_unclean: int = 0,
    min_words: int = 12,
    max_words: int = 220,
    alike: Sequence[Sequence[str]] = (),
    texts: Sequence[str] = ("text_yes_no",),
) -> list[Draft]:
    """Draft two yes/no items for the first qualifying clause of every type of a clean contract.

    A clause qualifies with `min_words` to `max_words` that stand in the contract as marked. Types
    that stand together in a list of `alike` are never each other's negatives; a type whose answers
    do not stand where the row says is nobody's.
    """
    contract = str(cell(seed, text) or "")
    found = len(_UNCLEAN.findall(contract))
    if found > max_unclean:
        return [Draft(rejected=f"unclean_contract: {found} redactions, blanks or broken marks")]
    length = tokenizer.count(contract)
    if length > max_tokens:
        return [Draft(rejected=f"long_contract: {length} tokens")]
    read = [_marked(contract, row) for row in rows_cell(seed, questions)]
    marked, problems = _usable(read)
    near = {name: {other for group in alike if name in group for other in group} for name in (
        one.name for one in marked
    )}  # fmt: skip
    drafts: list[Draft] = []
    shared = {"form": "yes_no", "title": str(seed.row.get(title) or "")}
    for one in marked:
        place = next((p for p in one.places if _fits(contract, p, min_words, max_words)), None)
        if place is None:
            continue
        clause = on_one_line(contract[slice(*place)])
        told = {**shared, "context": clause, "clause_type": one.name}
        drafts.append(_item(ask, told, one, "yes", texts))
        strangers = sorted(
            other.name
            for other in marked
            if other.name not in {one.name, *near[one.name]} and not _meets(place, other)
        )
        if not strangers:
            drafts.append(Draft(metadata=told, rejected="no_negative: it may be of every type"))
            continue
        name = one_of(ask, strangers, "negative", one.name)
        (other,) = (candidate for candidate in marked if candidate.name == name)
        drafts.append(_item(ask, told, other, "no", texts))
    none = Draft(rejected="no_clause: no marked clause is of a fitting length")
    return [*(Draft(rejected=problem) for problem in problems), *(drafts or [none])]


def _marked(contract: str, row: Mapping[str, Any]) -> _Marked | str:
    """One question with its answers, or why not all of them stand where it says."""
    question = str(row.get("question") or "")
    name = _TYPE.search(question)
    if name is None:
        return f"row_unusable: a question names no clause type: {question[:60]!r}"
    places = []
    for answer in row.get("answers") or ():
        start, said = answer.get("answer_start"), answer.get("text")
        if not isinstance(start, int) or not isinstance(said, str) or not said or start < 0:
            return f"row_unusable: an answer for {name[1]} has no place or no text"
        if contract[start : start + len(said)] != said:
            return f"row_unusable: {said[:40]!r} does not stand at {start}"
        places.append((start, start + len(said)))
    details = _DETAILS.search(question)
    return _Marked(
        name=name[1],
        details=on_one_line(details[1]) if details else "",
        places=tuple(sorted(places)),
    )


def _usable(read: Sequence[_Marked | str]) -> tuple[list[_Marked], list[str]]:
    """The types that can be read and are asked for once, and why others cannot be used."""
    marked = [one for one in read if not isinstance(one, str)]
    problems = [one for one in read if isinstance(one, str)]
    times = Counter(one.name for one in marked)
    problems += [f"row_unusable: {name} is asked for twice" for name, n in times.items() if n > 1]
    return [one for one in marked if times[one.name] == 1], problems


def _fits(contract: str, place: tuple[int, int], least: int, most: int) -> bool:
    return least <= len(words(contract[slice(*place)])) <= most


def _meets(place: tuple[int, int], other: _Marked) -> bool:
    return any(start < place[1] and place[0] < end for start, end in other.places)


def _item(
    ask: Ask, told: dict[str, Any], asked: _Marked, label: str, texts: Sequence[str]
) -> Draft:
    metadata = {
        **told,
        "asked_type": asked.name,
        "details": asked.details,
        "question": f'Is this clause of the type "{asked.name}"?',
        "label": label,
        "answer": label.capitalize(),
    }
    return finished(ask, metadata, texts, asked.name, told["clause_type"])

"""Methods of a small extension, for builds that tests kill, cut off and fill up.

`ask_twice` needs several answers a page and notes each ledger key in the file that
DATAGEN_ACKNOWLEDGED names once `ask` has returned: what stands there was acknowledged.
"""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

from pydantic import BaseModel, Field

from datagen.llm.ask import Answer, Ask
from datagen.record import Draft, Seed

NOTES = "DATAGEN_ACKNOWLEDGED"


class Facts(BaseModel):
    """The first call's answer."""

    items: Annotated[list[str], Field(min_length=1, max_length=4)]


class Question(BaseModel):
    """The second call's answer."""

    question: str
    answer: str


async def ask_twice(seed: Seed, ask: Ask, *, text: str = "text") -> list[Draft]:
    """Facts of a page, then a question for each of the first two, both at the same time."""
    page = seed.row[text][:600]
    (facts,) = await ask.answers("extract", into=Facts, key=seed.row_key, page=page)
    _note(facts)

    async def question(fact: str) -> Draft:
        (asked,) = await ask.answers("question", into=Question, key=seed.row_key, fact=fact)
        _note(asked)
        return Draft(
            text=ask.text("text", question=asked.value.question, answer=asked.value.answer),
            calls=(facts.key, asked.key),
        )

    return await asyncio.gather(*(question(fact) for fact in facts.value.items[:2]))


async def keep(seed: Seed, ask: Ask, *, text: str = "text") -> list[Draft]:
    """The page as it is."""
    return [Draft(text=seed.row[text])]


def _note(answer: Answer[Facts] | Answer[Question]) -> None:
    """Append the key in one write, which a kill cannot take back."""
    path = os.environ.get(NOTES)
    if path is None:
        return
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, f"{answer.key}\n".encode())
    finally:
        os.close(handle)

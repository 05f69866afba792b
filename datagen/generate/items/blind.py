"""A finished question asked blind: samples that see neither key nor explanation.

The options stand in several orders, so that a model with a favourite letter agrees with no key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, Field

from datagen.generate.items.agreement import Agreement, agreement, joined
from datagen.generate.items.normalise import LETTERS, answer_form, read_letter, same_answer
from datagen.generate.items.options import lettered, rotated
from datagen.llm.ask import AnswerRejected, Ask
from datagen.workspace.specs import Positive, Spec


class Consistency(Spec):
    """How a question is asked blind: samples over so many orders of its options, and what passes.

    `reasoned` lets each sample reason before it answers.
    """

    samples: Positive = 4
    agreement: Annotated[float, Field(gt=0, le=1)] = 0.75
    orders: Positive = 2
    reasoned: bool = False


class Solved(BaseModel):
    """An answer, after the reasoning that leads to it where that is asked for."""

    reasoning: str = ""
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A finished question with its key: options and letter for multiple choice, else the answer.

    `given` are the only answers that an open question may have, such as yes and no.
    """

    question: str
    answer: str
    passage: str = ""
    options: tuple[str, ...] = ()
    letter: str = ""
    given: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What an answer must say: the letter, or the answer itself."""
        return self.letter or self.answer

    def read(self, said: str, shown: Sequence[str]) -> str | None:
        """What an answer says in one form: the text of the option it chooses, or its own."""
        if shown:
            letter = read_letter(said, shown)
            return None if letter is None else shown[LETTERS.index(letter)]
        return self.answer if same_answer(said, self.answer) else answer_form(said) or None


def solved_schema(item: Item, *, first: str = "") -> dict[str, Any]:
    """JSON with an answer that the question allows, after a text called `first`."""
    if item.options:
        answer: dict[str, Any] = {"enum": list(LETTERS[: len(item.options)])}
    else:
        answer = {"enum": list(item.given)} if item.given else {"type": "string", "minLength": 1}
    before = {first: {"type": "string", "minLength": 1}} if first else {}
    properties = {**before, "answer": answer}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


async def blind_agreement(
    ask: Ask, item: Item, how: Consistency, *, calls: list[str], knowledge: str = ""
) -> Agreement:
    """Ask prompt `solve` until all samples are in, or too few can agree; keys go to `calls`."""
    orders = min(how.orders, len(item.options), how.samples) if item.options else 1
    parts: list[Agreement] = []
    for order in range(orders):
        shown = rotated(item.options, order * len(item.options) // orders) if item.options else []
        count = how.samples // orders + (order < how.samples % orders)
        said: list[str | None] = []
        try:
            answers = await ask.answers(
                "solve",
                into=Solved,
                n=count,
                schema=solved_schema(item, first="reasoning" if how.reasoned else ""),
                passage=item.passage,
                question=item.question,
                options=lettered(shown),
                given=list(item.given),
                knowledge=knowledge,
                reasoned=how.reasoned,
            )
        except AnswerRejected as error:
            calls += error.calls
        else:
            calls += [answer.key for answer in answers]
            said = [item.read(answer.value.answer, shown) for answer in answers]
        parts.append(agreement(said, item.answer, asked=count))
        if not joined(parts).reachable(how.agreement, total=how.samples):
            break
    return joined(parts)

"""Lettered options, labels that a model confirms without knowing them, and finished items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from datagen.generate.items.normalise import LETTERS
from datagen.generate.items.options import lettered, placed
from datagen.llm.ask import Ask
from datagen.record import Draft


class _Labelled(BaseModel):
    """A label that the model gives."""

    label: str


def balanced_options(ask: Ask, right: str, wrong: Sequence[str], *parts: str) -> dict[str, Any]:
    """Options with the right one at a balanced place: `options`, `answer_letter`, `answer`."""
    place = ask.balanced(len(wrong) + 1, "letter", *parts)
    return {
        "options": placed(right, wrong, place),
        "answer": right,
        "answer_letter": LETTERS[place],
    }


def shuffled(ask: Ask, items: Sequence[str], *parts: str) -> list[str]:
    """The items in an order that the seed and `parts` fix."""
    return sorted(items, key=lambda item: (ask.draw(*parts, item), item))


def one_of(ask: Ask, items: Sequence[str], *parts: str) -> str:
    """One of the items, fixed by the seed and `parts`."""
    return items[ask.draw(*parts) % len(items)]


def finished(
    ask: Ask,
    metadata: Mapping[str, Any],
    texts: Sequence[str],
    *parts: str,
    calls: Sequence[str] = (),
) -> Draft:
    """An item set by one of the templates `texts`, which may use all of its metadata.

    `options` are lettered for the template; `parts` tell the items of a seed apart. `calls` are the
    answers that the item rests on; without any it has no model in its lineage.
    """
    template = one_of(ask, texts, "template", *parts)
    variables = {**metadata, "options": lettered(metadata.get("options", ()))}
    return Draft(
        text=ask.text(template, **variables),
        metadata={**metadata, "template": template},
        calls=tuple(calls),
    )


async def confirmed(
    ask: Ask, prompt: str, label: str, labels: Sequence[str], *, share: float, **variables: Any
) -> tuple[str | None, str]:
    """Why the model, who is not told `label`, does not see it; and the key of its answer.

    At least `share` of the valid samples must give the label. Raises `AnswerRejected` where no
    sample is valid.
    """
    answer = {"label": {"enum": list(labels)}}
    schema = {
        "type": "object",
        "properties": answer,
        "required": ["label"],
        "additionalProperties": False,
    }
    samples = await ask.answers(
        prompt, into=_Labelled, schema=schema, labels=list(labels), **variables
    )
    said = [sample.value.label.strip() for sample in samples]
    agreed = sum(one == label for one in said) / len(said)
    if agreed >= share:
        return None, samples[0].key
    other = next(one for one in said if one != label)
    return f"unconfirmed: {label}, the model says {other} ({agreed:.0%} agree)", samples[0].key

"""What a passage does in a decision: a function is drawn, found in the text, and seen blind.

The function to look for is balanced over the seeds. `find` names the paragraph of a text that
serves it, `confirm` reads that paragraph alone and must give it the same function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from datagen.generate.legal.choices import confirmed, finished
from datagen.generate.legal.rows import on_one_line, text_cell
from datagen.generate.legal.sentences import paragraphs
from datagen.generate.passages.words import words
from datagen.llm.ask import AnswerRejected, Ask
from datagen.record import Draft, Seed


class _Found(BaseModel):
    """The number of a paragraph, 0 for none."""

    number: int


async def function_of_passage(
    seed: Seed,
    ask: Ask,
    *,
    question: str,
    functions: Mapping[str, str],
    text: str = "text",
    per_text: int = 2,
    min_words: int = 15,
    max_words: int = 220,
    most_paragraphs: int = 16,
    shown_words: int = 60,
    confirm_share: float = 0.5,
    texts: Sequence[str] = ("text_answer",),
) -> list[Draft]:
    """Draft up to `per_text` paragraphs of a text, each with the function that it serves.

    `functions` are names with what they mean, for the prompts. A long text is shown by
    `most_paragraphs` evenly taken paragraphs, each by its first `shown_words` words; paragraphs of
    fewer or more words than the bounds are not shown.
    """
    blocks = [on_one_line(block) for block in paragraphs(text_cell(seed, text))]
    fitting = [block for block in blocks if min_words <= len(words(block)) <= max_words]
    if len(fitting) < 2:
        return [Draft(rejected=f"few_paragraphs: {len(fitting)} of a fitting length")]
    shown = _evenly(fitting, most_paragraphs)
    names = list(functions)
    first = ask.balanced(len(names), "function")
    drafts: list[Draft] = []
    used: set[int] = set()
    for turn in range(min(per_text, len(names))):
        function = names[(first + turn) % len(names)]
        metadata: dict[str, Any] = {
            "form": "classification",
            "question": question,
            "label": function,
            "answer": function.replace("_", " ").capitalize(),
            "classes": [name.replace("_", " ") for name in names],
        }
        drafts.append(
            await _item(ask, metadata, shown, used, functions, shown_words, confirm_share, texts)
        )
    return drafts


def _evenly(items: Sequence[str], most: int) -> list[str]:
    """At most `most` of the items in order, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


async def _item(
    ask: Ask,
    metadata: dict[str, Any],
    shown: Sequence[str],
    used: set[int],
    functions: Mapping[str, str],
    shown_words: int,
    share: float,
    texts: Sequence[str],
) -> Draft:
    """Find a paragraph for a function and see it confirmed; `used` grows by the one found."""
    function = str(metadata["label"])
    cut = [" ".join(block.split()[:shown_words]) for block in shown]
    schema = {
        "type": "object",
        "properties": {"number": {"enum": list(range(len(shown) + 1))}},
        "required": ["number"],
        "additionalProperties": False,
    }
    calls: list[str] = []
    try:
        (answer, *_) = await ask.answers(
            "find",
            into=_Found,
            schema=schema,
            paragraphs=cut,
            function=function.replace("_", " "),
            meaning=functions[function],
        )
        calls.append(answer.key)
        number = answer.value.number
        if not 0 < number <= len(shown):
            said = f"not_found: no paragraph is said to serve as {function}"
            return Draft(metadata=metadata, calls=tuple(calls), rejected=said)
        metadata = {**metadata, "context": shown[number - 1]}
        if number in used:
            said = "found_twice: the paragraph already serves another function"
            return Draft(metadata=metadata, calls=tuple(calls), rejected=said)
        problem, key = await confirmed(
            ask,
            "confirm",
            function,
            list(functions),
            share=share,
            passage=shown[number - 1],
            functions=[{"name": name, "meaning": said} for name, said in functions.items()],
        )
    except AnswerRejected as error:
        said = f"{error.reason}: {error.detail}"
        return Draft(metadata=metadata, calls=(*calls, *error.calls), rejected=said)
    calls.append(key)
    if problem is not None:
        return Draft(metadata=metadata, calls=tuple(calls), rejected=problem)
    used.add(number)
    return finished(ask, metadata, texts, function, calls=calls)

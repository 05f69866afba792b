"""Reasoning cut at a random token budget, with the answer unchanged (the report's budget control).

A model that has seen such rows answers when its thinking is ended for it. The `</think>` that the
cut put in is masked from the loss: ending there is not to be learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

from datagen.errors import WorkspaceError
from datagen.generate.document import document
from datagen.generate.reasoned import (
    answer_problem,
    expected_answer,
    reasoned,
    with_reasoning,
)
from datagen.generate.verify.exact import final_answer
from datagen.llm.ask import Ask
from datagen.record import Draft, Message, Seed, TokenCutter

Mask = Literal["reasoning_end", "reasoning", "none"]


async def budget_cut(
    seed: Seed,
    ask: Ask,
    *,
    tokenizer: TokenCutter,
    text: str | None = "text",
    messages: str | None = None,
    answer: str | None = None,
    unreasoned: Literal["reject", "ask"] = "reject",
    budget_tokens: Sequence[int] = (64, 8192),
    uncut_share: float = 0.1,
    mask: Mask = "reasoning_end",
    metadata: Sequence[str] = (),
) -> list[Draft]:
    """Draft the row with the reasoning of its last turn cut to a budget drawn for it.

    `text`, `messages`, `metadata` are those of `document`, `answer` is that of `reasoned`.

    The budget is drawn evenly between the bounds, the upper one no more than one token less than
    the whole: so every row that is meant to be cut is. `uncut_share` of the rows stay whole; of
    the others, those whose reasoning is no longer than the lower bound are refused. `mask` takes
    the mark put in by the cut out of the loss, or the whole cut reasoning, or nothing. A row whose
    last turn has no reasoning is refused, or asked anew as `reasoned` does.
    """
    low, high = _checked(budget_tokens, uncut_share, mask)
    row = await _row(seed, ask, text, messages, expected_answer(seed, answer), metadata)
    if row.rejected is None and not _reasoning(row) and unreasoned == "ask":
        (row,) = await reasoned(
            seed, ask, text=text, messages=messages, answer=answer, metadata=metadata
        )
    if row.rejected is not None:
        return [row]
    reasoning = _reasoning(row)
    if not reasoning or row.messages is None:
        return [_refused(row, "no_reasoning: the last turn has none to cut")]
    whole = tokenizer.count(reasoning)
    found = {"full_reasoning_tokens": whole, "reasoning_tokens": whole, "budget_tokens": None}
    if ask.draw("uncut") < uncut_share * 2**64:
        return [replace(row, metadata={**row.metadata, **found, "cut": False, "mask": "none"})]
    if whole <= low:
        return [_refused(row, f"too_short_to_cut: {whole} tokens, the least budget is {low}")]
    budget = low + ask.draw("budget") % (min(high, whole - 1) - low + 1)
    kept = tokenizer.cut(reasoning, budget)
    if not kept.strip():
        return [_refused(row, f"nothing_left: {budget} tokens hold no whole character")]
    last: Message = replace(
        row.messages[-1], reasoning=kept, masked=None if mask == "none" else mask
    )
    found |= {"reasoning_tokens": tokenizer.count(kept), "budget_tokens": budget}
    return [
        replace(
            row,
            messages=(*row.messages[:-1], last),
            metadata={**row.metadata, **found, "cut": True, "mask": mask},
        )
    ]


async def _row(
    seed: Seed,
    ask: Ask,
    text: str | None,
    messages: str | None,
    expected: str | None,
    metadata: Sequence[str],
) -> Draft:
    """The row as a conversation, its thoughts apart from its answers, the last one checked."""
    (row,) = await document(seed, ask, text=text, messages=messages, metadata=metadata)
    turns = tuple(map(with_reasoning, row.messages or ()))
    if not _has_answer(turns):
        return row
    said = turns[-1].content
    found = {
        **row.metadata,
        "form": "reasoning",
        "question": next((turn.content for turn in reversed(turns) if turn.role == "user"), ""),
        "answer": final_answer(said, marked=True) or said,
        "expected": expected,
        "verified": expected is not None,
        "reasoning_from": "source",
    }
    return replace(row, messages=turns, metadata=found, rejected=answer_problem(said, expected))


def _has_answer(turns: Sequence[Message]) -> bool:
    return bool(turns) and turns[-1].role == "assistant"


def _reasoning(row: Draft) -> str:
    """The reasoning of the last turn, where that is an answer; otherwise nothing."""
    turns = row.messages or ()
    return (turns[-1].reasoning or "") if _has_answer(turns) else ""


def _refused(row: Draft, reason: str) -> Draft:
    return replace(row, rejected=reason)


def _checked(budget_tokens: Sequence[int], uncut_share: float, mask: str) -> tuple[int, int]:
    """The bounds; WorkspaceError where bounds, share or mask cannot be meant."""
    if len(budget_tokens) != 2 or not 0 < budget_tokens[0] <= budget_tokens[1]:
        raise WorkspaceError(
            f"{list(budget_tokens)} are no bounds",
            where="arguments: budget_tokens",
            fix="write [fewest tokens, most tokens], from 1 up",
        )
    if not 0 <= uncut_share <= 1:
        raise WorkspaceError(
            f"{uncut_share:g} is no share",
            where="arguments: uncut_share",
            fix="write a number from 0 to 1",
        )
    if mask not in get_args(Mask):
        raise WorkspaceError(
            f"no mask {mask!r}", where="arguments: mask", fix=f"one of {', '.join(get_args(Mask))}"
        )
    return budget_tokens[0], budget_tokens[1]

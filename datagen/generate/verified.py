"""Answers that a source brings along, kept where a program finds them right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datagen.generate.verify.rows import column, row_spec
from datagen.generate.verify.verdict import Kind, spec_problem, verify
from datagen.llm.ask import Ask
from datagen.record import Draft, Seed

_LONGEST_SHOWN = 200


async def verified(
    seed: Seed,
    ask: Ask,
    *,
    verifier: Kind,
    answer: str,
    expected: str,
    question: str = "question",
    expected_after: str | None = None,
    setup: str | None = None,
    spec: Mapping[str, Any] | None = None,
    text: str = "text",
) -> list[Draft]:
    """Draft a row's question and answer, set by template `text`, if the answer verifies.

    `answer`, `question` and `expected` name columns; `expected_after`, `setup` and `spec` are as
    in `rl_prompts`. Nobody is asked. Rejected: unusable_spec, wrong. WorkspaceError where code has
    no sandbox to run in.
    """
    said, asked = str(column(seed, answer) or ""), str(column(seed, question) or "").strip()
    wanted = row_spec(
        seed, verifier, expected=expected, expected_after=expected_after, setup=setup, more=spec
    )
    metadata = {"question": asked, "answer": said, "verifier": verifier, "expected": wanted}
    if problem := spec_problem(verifier, wanted):
        return [Draft(metadata=metadata, rejected=f"unusable_spec: {problem[:_LONGEST_SHOWN]}")]
    verdict = await verify(verifier, said, wanted)
    if not verdict.passed:
        return [Draft(metadata=metadata, rejected=f"wrong: {verdict.detail[:_LONGEST_SHOWN]}")]
    drafted = ask.text(text, question=asked, answer=said, row=dict(seed.row))
    return [Draft(text=drafted, metadata=metadata)]

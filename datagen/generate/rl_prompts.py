"""Prompts for reinforcement learning, each with a program that verifies answers and a pass rate.

A student answers the task k times, each answer is verified, and the share that pass decides: a
task that it always or never solves teaches nothing. The record is the task alone, one user turn
with nothing to train on; the verifier, its spec and the profile stand in the metadata.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datagen.agent.sandbox import require_sandbox
from datagen.errors import WorkspaceError
from datagen.generate.verify.rows import column, row_spec
from datagen.generate.verify.verdict import Kind, Verdict, spec_problem, verify
from datagen.llm.ask import Answer, AnswerRejected, Ask
from datagen.record import Draft, Message, Seed

_LONGEST_SHOWN = 200
_LONGEST_PROBLEM = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How a student did on a task: `passes` of `samples`, and why the others failed."""

    samples: int
    passes: int
    problems: Mapping[str, int]
    example: str | None

    @property
    def pass_rate(self) -> float:
        """The share of samples that passed."""
        return round(self.passes / self.samples, 4)


async def rl_prompts(
    seed: Seed,
    ask: Ask,
    *,
    verifier: Kind,
    expected: str,
    question: str = "question",
    expected_after: str | None = None,
    setup: str | None = None,
    spec: Mapping[str, Any] | None = None,
    samples: int = 8,
    min_pass_rate: float = 0.1,
    max_pass_rate: float = 0.9,
) -> list[Draft]:
    """Draft a row's task where a student's pass rate over `samples` answers lies in the range.

    `question` and `expected` name columns: the task, and what the verifier holds an answer against
    (the answer after the last `expected_after`, tests, a JSON Schema, rules; JSON text is read).
    `setup` names a column with code that runs before each test, `spec` says the rest. Prompt
    `task` words the task from `question` and `row`, prompt `solve` asks the student with `task`.
    Rejected: unusable_spec, unfinished (half of the answers or more have no end, so that their
    share says nothing), too_hard, too_easy. WorkspaceError where code has no sandbox to run in.
    """
    _check(samples, min_pass_rate, max_pass_rate, where=f"recipe on {seed.source}")
    wanted = row_spec(
        seed, verifier, expected=expected, expected_after=expected_after, setup=setup, more=spec
    )
    asked = str(column(seed, question) or "").strip()
    metadata: dict[str, Any] = {"question": asked, "verifier": verifier, "expected": wanted}
    problem = "no task" if not asked else spec_problem(verifier, wanted)
    if problem is not None:
        return [Draft(metadata=metadata, rejected=f"unusable_spec: {problem[:_LONGEST_SHOWN]}")]
    if verifier == "code":
        require_sandbox()  # before the first token is paid for
    task = ask.text("task", question=asked, row=dict(seed.row)).strip()
    metadata["prompt"] = task
    try:
        answers = await ask.answers("solve", into=str, n=samples, task=task)
    except AnswerRejected as error:
        said = f"unfinished: {error.reason}: {error.detail}"
        return [Draft(metadata=metadata, calls=error.calls, rejected=said)]
    keys = tuple(dict.fromkeys(answer.key for answer in answers))
    # Where none was valid, one more was asked for: the lucky one of five is no sample of four.
    if 2 * len(answers) <= samples:
        said = f"unfinished: {samples - len(answers)} of {samples} answers"
        return [Draft(metadata=metadata, calls=keys, rejected=said)]
    found = await _profile(verifier, wanted, answers, samples)
    metadata |= {
        "samples": found.samples,
        "passes": found.passes,
        "pass_rate": found.pass_rate,
        "difficulty": round(1 - found.pass_rate, 4),
        "problems": dict(found.problems),
    }
    if found.example is not None:
        metadata["answer"] = found.example
    rejected = None
    if found.pass_rate < min_pass_rate:
        rejected = f"too_hard: {found.passes} of {found.samples} pass"
    elif found.pass_rate > max_pass_rate:
        rejected = f"too_easy: {found.passes} of {found.samples} pass"
    return [
        Draft(
            messages=(Message(role="user", content=task),),
            metadata=metadata,
            calls=keys,
            rejected=rejected,
        )
    ]


async def _profile(
    verifier: Kind, spec: Mapping[str, Any], answers: list[Answer[str]], samples: int
) -> Profile:
    """Verify every answer; equal answers are verified once, one without an end has failed."""
    verdicts: dict[str, Verdict] = {}
    passes, problems = 0, Counter(unfinished=samples - len(answers))
    example = None
    for answer in answers:
        if answer.value not in verdicts:
            verdicts[answer.value] = await verify(verifier, answer.value, spec)
        verdict = verdicts[answer.value]
        if verdict.passed:
            passes += 1
            example = example or answer.value
        else:
            problems[verdict.detail.partition(":")[0][:_LONGEST_PROBLEM]] += 1
    return Profile(samples=samples, passes=passes, problems=dict(+problems), example=example)


def _check(samples: int, low: float, high: float, *, where: str) -> None:
    if samples < 2:
        raise WorkspaceError(
            f"{samples} samples tell no pass rate", where=where, fix="samples: 2 or more"
        )
    if not 0 <= low <= high <= 1:
        raise WorkspaceError(
            f"pass rates from {low} to {high} keep nothing",
            where=where,
            fix="min_pass_rate <= max_pass_rate, both from 0 to 1",
        )

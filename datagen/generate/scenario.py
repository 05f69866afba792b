"""Moral scenarios: multiple choice from stories with a norm, and reasoning that leads to the key.

The label comes from the row, never from a model: who asks no reasoning needs none. A reasoned
answer is kept where its final letter is the label; blind, the model is not told what that is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from datagen.errors import DataError, WorkspaceError
from datagen.generate.items.normalise import LETTERS
from datagen.generate.items.options import lettered, placed
from datagen.generate.scenes.cases import (
    FIXED,
    NEEDS,
    Case,
    Cell,
    Design,
    case_of,
    layout,
    usable_forms,
)
from datagen.generate.scenes.verdict import Expected, Verdict, judge_answer
from datagen.llm.ask import AnswerRejected, Ask
from datagen.record import Draft, Message, Seed

_SHOWN = ("norm", "situation", "intention", "action", "outcome")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """A question as it is put: the scene as told, the options in order, the letter of the key."""

    scene: str
    question: str
    options: list[str]
    letter: str
    answer: str

    def variables(self) -> dict[str, Any]:
        """What the template of a text may use."""
        return {**self.asked(), "answer_letter": self.letter, "answer": self.answer}

    def asked(self) -> dict[str, Any]:
        """What a prompt may use that must not know the key."""
        return {
            "scene": self.scene,
            "question": self.question,
            "options": lettered(self.options),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reasoning:
    """How a chain of thought is asked for, what it must be, and where it goes."""

    place: Literal["text", "messages"]
    blind: bool
    texts: Sequence[str]
    replies: Sequence[str]
    examples: Sequence[Mapping[str, Any]]
    min_words: int
    min_agreeing: float


async def scenario(
    seed: Seed,
    ask: Ask,
    *,
    forms: Mapping[str, Sequence[str]],
    wordings: Mapping[str, Sequence[Mapping[str, str]]],
    scenes: Sequence[str],
    texts: Sequence[str],
    show: Sequence[str] = ("norm", "situation", "intention"),
    norms: Sequence[str] = (),
    norm_options: int = 2,
    min_agreement: float = 3.0,
    reasoning: Literal["none", "text", "messages"] = "none",
    blind: bool = True,
    replies: Sequence[str] = ("text_reply",),
    examples: Sequence[Mapping[str, Any]] = (),
    min_words: int = 15,
    min_agreeing: float = 0.5,
) -> list[Draft]:
    """Draft one multiple-choice question from a row, with reasoning where that is wanted.

    `forms` maps each form (see `NEEDS`) to the templates of its question; a row is asked by those
    whose columns it has. `wordings` gives fixed options by label, `scenes` and `texts` name
    templates. `reasoning` says where a chain of thought goes: nowhere, into the text, or into the
    assistant's turn, whose content is one of the `replies`. With `blind` the prompt `reason` asks
    for it, else `explain`, which is told the key; both get `examples`, whose `reasoning` no answer
    may repeat. `min_agreeing` is the share of samples that must end at the label, `min_words` the
    length of a reasoning. `min_agreement` is the column of Social Chemistry 101, 0 to 4.
    """
    _check_forms(forms, wordings, norm_options)
    design = Design(
        wordings=wordings,
        show=show,
        norms=norms,
        norm_options=norm_options,
        min_agreement=min_agreement,
        draw=ask.draw,
    )
    usable = usable_forms(seed.row, list(forms))
    if not usable:
        return [Draft(rejected=_missing(seed, forms))]
    cells = layout(usable, design)
    cell = cells[ask.balanced(len(cells), "cell")]
    case = case_of(seed.row, cell, design)
    if isinstance(case, str):
        return [Draft(metadata={"form": cell.form}, rejected=case)]
    question = _put(ask, case, cell, forms[cell.form], scenes)
    metadata = _metadata(case, question)
    if reasoning == "none":
        template = texts[ask.draw("text") % len(texts)]
        text = ask.text(template, **question.variables())
        return [Draft(text=text, metadata={**metadata, "template": template})]
    how = _Reasoning(
        place=reasoning,
        blind=blind,
        texts=texts,
        replies=replies,
        examples=examples,
        min_words=min_words,
        min_agreeing=min_agreeing,
    )
    return [await _reasoned(ask, question, metadata, how)]


def _check_forms(
    forms: Mapping[str, Sequence[str]],
    wordings: Mapping[str, Sequence[Mapping[str, str]]],
    norm_options: int,
) -> None:
    """Raise WorkspaceError for forms that do not exist, and for options that nobody worded."""
    for form, questions in forms.items():
        problem = fix = None
        if form not in NEEDS:
            problem, fix = f"no form {form!r}", f"name some of: {', '.join(NEEDS)}"
        elif not questions:
            problem, fix = f"form {form!r} has no question", "name a template for it"
        elif form in FIXED and not (
            wordings.get(form) and all(set(words) == FIXED[form] for words in wordings[form])
        ):
            problem = f"the options of form {form!r} are not worded"
            fix = f"wordings: {{{form}: [...]}}, each with {', '.join(sorted(FIXED[form]))}"
        elif form == "choose_norm" and norm_options < 2:
            problem, fix = f"norm_options is {norm_options}", "write 2 or more"
        if problem is not None:
            raise WorkspaceError(problem, where="arguments of the recipe", fix=fix)


def _missing(seed: Seed, forms: Mapping[str, Sequence[str]]) -> str:
    """Why no form fits a row whose cells are empty; DataError where it lacks the columns."""
    if not any(all(name in seed.row for name in NEEDS[form]) for form in forms):
        wanted = "; or ".join(dict.fromkeys(", ".join(NEEDS[form]) for form in forms))
        raise DataError(
            f"no form can be asked with the columns {', '.join(seed.row)}",
            where=f"{seed.source} row {seed.row_key}",
            fix=f"read a source with the columns {wanted}",
        )
    empty = [name for name, value in seed.row.items() if value in (None, "")]
    return f"missing_field: {', '.join(empty) or 'blank cells'}"


def _put(
    ask: Ask, case: Case, cell: Cell, questions: Sequence[str], scenes: Sequence[str]
) -> _Question:
    """Word the scene and the question, and give the options their order."""
    shown = {name: case.shown.get(name, "") for name in _SHOWN}
    variables = {**shown, "form": case.form, "direction": case.direction}
    scene = ask.text(scenes[ask.draw("scene") % len(scenes)], **variables)
    question = ask.text(questions[ask.draw("question") % len(questions)], **variables)
    turn = ask.draw("order") % len(case.wrong)
    wrong = [*case.wrong[turn:], *case.wrong[:turn]]
    return _Question(
        scene="\n".join(line.rstrip() for line in scene.strip().splitlines()),
        question=question.strip(),
        options=placed(case.right, wrong, cell.place),
        letter=LETTERS[cell.place],
        answer=case.right,
    )


def _metadata(case: Case, question: _Question) -> dict[str, Any]:
    return {
        "form": case.form,
        "direction": case.direction,
        "label": case.label,
        "norm": case.norm,
        "context": question.scene,
        "question": question.question,
        "options": question.options,
        "answer": question.answer,
        "answer_letter": question.letter,
    }


async def _reasoned(
    ask: Ask, question: _Question, metadata: Mapping[str, Any], how: _Reasoning
) -> Draft:
    """The first sample whose reasoning ends at the label, as a draft; else the first's problem."""
    prompt, known = ("reason", question.asked()) if how.blind else ("explain", question.variables())
    metadata = {**metadata, "blind": how.blind}
    try:
        samples = await ask.answers(prompt, into=str, examples=how.examples, **known)
    except AnswerRejected as error:
        said = f"reasoning_{error.reason}: {error.detail}"
        return Draft(metadata=metadata, calls=error.calls, rejected=said)
    expected = Expected(
        letter=question.letter,
        options=question.options,
        fixed=metadata["form"] in FIXED,
        scene=f"{question.scene} {question.question}",
        examples=[str(example.get("reasoning", "")) for example in how.examples],
        fewest_words=how.min_words,
    )
    verdicts = [judge_answer(sample.value, sample.reasoning, expected) for sample in samples]
    agreeing = sum(verdict.letter == question.letter for verdict in verdicts)
    metadata |= {"samples": len(verdicts), "agreeing": agreeing}
    good = [n for n, verdict in enumerate(verdicts) if verdict.problem is None]
    problem = None if good else verdicts[0].problem
    if good and agreeing < how.min_agreeing * len(verdicts):
        problem = f"letter_disagrees: {agreeing} of {len(verdicts)} samples end at the label"
    kept = good[0] if good else 0
    calls = (samples[kept].key,)
    if problem is not None:
        said = samples[kept].value
        return Draft(metadata={**metadata, "said": said}, calls=calls, rejected=problem)
    metadata |= {"reasoning_words": len(verdicts[kept].reasoning.split())}
    return _told(ask, question, verdicts[kept], metadata, calls, how)


def _told(
    ask: Ask,
    question: _Question,
    verdict: Verdict,
    metadata: Mapping[str, Any],
    calls: tuple[str, ...],
    how: _Reasoning,
) -> Draft:
    """A question with its reasoning, as one text or as a conversation of two turns."""
    template = how.texts[ask.draw("text") % len(how.texts)]
    metadata = {**metadata, "template": template}
    variables = {**question.variables(), "remark": verdict.remark}
    if how.place == "text":
        text = ask.text(template, reasoning=verdict.reasoning, **variables)
        return Draft(text=text, metadata=metadata, calls=calls)
    reply = how.replies[ask.draw("reply") % len(how.replies)]
    turns = (
        Message(role="user", content=ask.text(template, **question.asked()).strip()),
        Message(
            role="assistant",
            content=ask.text(reply, **variables).strip(),
            reasoning=verdict.reasoning,
            trained=True,
        ),
    )
    return Draft(messages=turns, metadata=metadata, calls=calls)

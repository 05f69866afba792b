"""New examples of a task: a training row lends structure, domain, difficulty and answer format.

The row is shown as one example in the form wanted; `write` asks for another one. What comes back
is a draft: kept, or rejected with its reason. A copy of the row is never kept. An answer is not
believed where it can be had otherwise: sums are computed by a program, programs run against their
tests, and any other question is asked blind (`solve`) until enough samples agree with its key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from datagen.errors import WorkspaceError
from datagen.generate.items.blind import Consistency, Item, blind_agreement
from datagen.generate.items.checks import (
    Limits,
)
from datagen.generate.items.enrich import enriched
from datagen.generate.items.normalise import signed_words
from datagen.generate.items.options import lettered
from datagen.generate.items.programs import (
    blind_programs,
    tests_problem,
)
from datagen.generate.items.settings import known_names, nested, weights
from datagen.generate.items.settle import Wanted, settle
from datagen.generate.items.written import (
    Columns,
    Written,
    cell,
    fields_of,
    read_seed,
    read_strings,
    written_schema,
)
from datagen.llm.ask import AnswerRejected, Ask
from datagen.record import Draft, Message, Seed

_FORMS = ("multiple_choice", "generative", "completion")
_ENRICHMENTS = ("none", "knowledge", "reasoning", "explanation")
_CHECKS = ("consistency", "grounded", "answer_format", "script", "code")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """How a recipe wants its examples."""

    seed: Seed
    ask: Ask
    forms: Mapping[str, int]
    enrich: Mapping[str, int]
    solution: str
    answers: tuple[str, ...]
    options: int | None
    examples: Mapping[str, Sequence[Written]]
    draws: Mapping[str, Sequence[str]]
    carried: Mapping[str, Any]
    verify: tuple[str, ...]
    consistency: Consistency
    limits: Limits
    passage: bool
    output: str
    texts: Mapping[str, Sequence[str]]


@dataclass(slots=True, kw_only=True)
class _Made:
    """What is known of one new example so far; becomes its draft."""

    form: str
    enrichment: str
    place: int
    calls: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    added: dict[str, str] = field(default_factory=dict)
    written: Written = field(default_factory=Written)
    item: Item | None = None

    def rejected(self, reason: str) -> Draft:
        """The draft of an example that is not good enough."""
        return Draft(metadata=self.metadata, calls=self.used, rejected=reason)

    @property
    def used(self) -> tuple[str, ...]:
        """Keys of the answers that this example rests on."""
        return tuple(dict.fromkeys(self.calls))


async def task_seeded(
    seed: Seed,
    ask: Ask,
    *,
    columns: Mapping[str, Any],
    forms: Mapping[str, int],
    texts: Mapping[str, Sequence[str]],
    enrich: Mapping[str, int] | None = None,
    solution: Literal["answer", "steps", "code"] = "answer",
    answers: Sequence[str] = (),
    options: int | None = None,
    examples: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    draws: Mapping[str, str | Sequence[str]] | None = None,
    metadata: Sequence[str] = (),
    per_seed: int = 1,
    verify: Sequence[str] = ("consistency",),
    consistency: Mapping[str, Any] | None = None,
    limits: Mapping[str, Any] | None = None,
    output: Literal["text", "messages"] = "text",
) -> list[Draft]:
    """Draft `per_seed` new examples of the task that a training row is an example of.

    `columns` (see `Columns`) says how the row is read, `forms` and `enrich` in which whole-number
    weights its forms come, `texts` which templates each form is set by. The other arguments are
    told in docs/task_seeded.md.
    """
    read_columns = nested(Columns, columns, "columns")
    task = _Task(
        seed=seed,
        ask=ask,
        forms=weights(forms, _FORMS, "forms"),
        enrich=weights(enrich or {"none": 1}, _ENRICHMENTS, "enrich"),
        solution=solution,
        answers=tuple(answers),
        options=options,
        examples={
            form: [nested(Written, example, f"examples: {form}") for example in given]
            for form, given in (examples or {}).items()
        },
        draws={
            name: read_strings(seed, values) if isinstance(values, str) else values
            for name, values in (draws or {}).items()
        },
        carried={name: cell(seed, name) for name in metadata},
        verify=known_names(verify, _CHECKS, "verify"),
        consistency=nested(Consistency, consistency or {}, "consistency"),
        limits=nested(Limits, limits or {}, "limits"),
        passage=read_columns.passage is not None,
        output=output,
        texts=texts,
    )
    old = read_seed(seed, read_columns)
    if isinstance(old, str):
        return [Draft(rejected=old)]
    return _mark_repeats([await _example(task, old, place) for place in range(per_seed)])


async def _example(task: _Task, old: Written, place: int) -> Draft:
    """One new example; what the model cannot answer rejects it alone."""
    made = _Made(
        form=_weighted(task, task.forms, "form", place),
        enrichment=_weighted(task, task.enrich, "enrichment", place),
        place=place,
    )
    made.metadata = {**task.carried, "form": made.form, "enrichment": made.enrichment}
    stage = "write"
    try:
        problem = await _write(task, old, made)
        if problem is None:
            stage = "verify"
            problem = await _verify(task, made)
        if problem is None:
            stage = made.enrichment
            problem = await _enrich(task, made)
    except AnswerRejected as error:
        made.calls += error.calls
        problem = f"{stage}_{error.reason}: {error.detail}"
    return made.rejected(problem) if problem else _draft(task, made)


async def _write(task: _Task, old: Written, made: _Made) -> str | None:
    """Have a new example written; the first sample that stands goes into `made`."""
    fields = fields_of(made.form, task.solution, passage=task.passage, given=bool(task.answers))
    example = _shown_example(task, old, fields, made)
    if isinstance(example, str):
        return example
    count = len(task.answers) or task.options or len(example.wrong) + 1
    given = ""
    if task.answers:
        given = task.answers[_balanced(task, len(task.answers), "answer", made.place)]
    drawn = {
        name: values[_balanced(task, len(values), f"draw {name}", made.place)]
        for name, values in task.draws.items()
        if values
    }
    limits = task.limits
    samples = await task.ask.answers(
        "write",
        into=Written,
        schema=written_schema(fields, options=count, steps=limits.steps, patterns=limits.patterns),
        sampling={"seed": made.place} if made.place else None,
        example=example.shown(fields),
        example_answer=example.answer,
        example_steps=len(example.steps),
        answer=given,
        drawn=drawn,
        form=made.form,
        options=count,
        wrong_options=count - 1,
        row=task.seed.row,
    )
    wanted = Wanted(
        form=made.form,
        fields=fields,
        options=count,
        place=_balanced(task, count, "letter", made.place),
        turn=task.ask.draw("slips", str(made.place)),
        given=task.answers,
        limits=limits,
        verify=task.verify,
    )
    made.metadata |= drawn
    found = []
    for sample in samples:
        made.calls.append(sample.key)
        new = sample.value.model_copy(update={"answer": given} if given else {})
        found.append(settle(new, example, wanted))
        if found[-1].problem is None:
            break
    best = found[-1] if found[-1].problem is None else found[0]
    made.written, made.item = best.written, best.item
    made.metadata |= best.metadata
    return best.problem


def _shown_example(task: _Task, old: Written, fields: Sequence[str], made: _Made) -> Written | str:
    """The row as an example of the form, or one of the recipe's where the row lacks a field."""
    words = len(f"{old.passage} {old.question} {old.code}".split())
    if words > task.limits.seed_words:
        return f"seed_too_long: {words} words"
    own = task.examples.get(made.form, ())
    if lacking := old.lacks(fields):
        if not own:
            return f"seed_unfit: no {' and no '.join(lacking)} for {made.form}"
        return own[_balanced(task, len(own), "example", made.place)]
    return old


async def _verify(task: _Task, made: _Made) -> str | None:
    """Hold the item against what can be had without believing the model."""
    item, new, how = made.item, made.written, task.consistency
    assert item is not None
    code = task.solution == "code"
    if code and "code" in task.verify:
        problem = await tests_problem(new.code, new.tests, timeout_s=task.limits.code_s)
        if problem is not None:
            return problem
    if "consistency" not in task.verify:
        return None
    if code:
        found = await blind_programs(
            task.ask,
            item.question,
            new.tests,
            samples=how.samples,
            timeout_s=task.limits.code_s,
            calls=made.calls,
        )
    else:
        found = await blind_agreement(task.ask, item, how, calls=made.calls)
    made.metadata |= {"agreement": round(found.share, 4), "samples": found.asked}
    if found.share >= how.agreement:
        return None
    return f"disagreement: {found.agreed} of {found.asked} samples agree, others: {found.favourite}"


async def _enrich(task: _Task, made: _Made) -> str | None:
    """Add what the enrichment asks for; worked steps are reasoning already."""
    assert made.item is not None
    kind = made.enrichment
    if kind == "none":
        return None
    if kind == "reasoning" and task.solution == "steps":
        made.added[kind] = made.metadata["solution"]
        return None
    found = await enriched(
        task.ask,
        kind,
        made.item,
        consistency=task.consistency if "consistency" in task.verify else None,
        code=made.written.code,
        calls=made.calls,
    )
    made.added[kind] = found.text
    made.metadata |= {kind: found.text, **found.metadata}
    return found.problem


def _draft(task: _Task, made: _Made) -> Draft:
    """The record: a text in one of the form's layouts, or a question and an answer as turns."""
    item = made.item
    assert item is not None
    names = task.texts.get(made.form, ())
    if not names:
        raise WorkspaceError(
            f"no text is named for the form {made.form!r}",
            where=f"task_seeded on {task.seed.source}",
            fix=f"arguments: texts: {{{made.form}: [text_...]}}",
        )
    name = names[_balanced(task, len(names), "text", made.place)]
    made.metadata["template"] = name
    if made.form == "completion":
        # Its options are not in the text, so that no letter is right in it.
        del made.metadata["answer_letter"]
        made.metadata["wrong_options"] = [
            o for o in made.metadata.pop("options") if o != item.answer
        ]
    variables = {
        **dict.fromkeys(_ENRICHMENTS[1:], ""),
        **made.added,
        "passage": item.passage,
        "question": item.question,
        "options": lettered(item.options),
        "letter": item.letter,
        "answer": made.metadata["answer"],
        "tests": made.written.tests,
        "row": task.seed.row,
    }
    if task.output == "text":
        text = task.ask.text(name, **variables).strip()
        return Draft(text=text, metadata=made.metadata, calls=made.used)
    turns = [task.ask.text(f"{name}_{role}", **variables).strip() for role in ("user", "assistant")]
    messages = (
        Message(role="user", content=turns[0]),
        Message(role="assistant", content=turns[1], trained=True),
    )
    return Draft(messages=messages, metadata=made.metadata, calls=made.used)


def _mark_repeats(drafts: Sequence[Draft]) -> list[Draft]:
    """Of two examples of one row that ask the same, the first is kept."""
    seen: set[tuple[str, ...]] = set()
    marked = []
    for draft in drafts:
        said = f"{draft.metadata.get('context', '')} {draft.metadata.get('question', '')}"
        key = tuple(signed_words(said))
        if draft.rejected is None and key in seen:
            draft = replace(draft, rejected="repeated_question: asked of this row before")
        if draft.rejected is None:
            seen.add(key)
        marked.append(draft)
    return marked


def _balanced(task: _Task, ways: int, what: str, place: int) -> int:
    """A choice that comes equally often among seeds in a row, and among one seed's examples."""
    return (task.ask.balanced(ways, what) + place) % ways


def _weighted(task: _Task, weights: Mapping[str, int], what: str, place: int) -> str:
    """A name in its share of seeds drawn in a row: weights {a: 1, b: 3} give b three in four."""
    slots = [name for name, weight in weights.items() for _ in range(weight)]
    return slots[_balanced(task, len(slots), what, place)]

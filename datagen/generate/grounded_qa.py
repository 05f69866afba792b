"""Fact-seeking questions: facts stated on a page, each asked for by one question.

A page is shown in passages. `extract` lists facts of a passage, each with the answer that a quiz
would ask for; `question` asks for that answer; `answer` answers it from the passage, to confirm
it; `options` writes wrong options for multiple choice. Every fact ends as a draft: kept, or
rejected with its reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

from datagen.errors import DataError
from datagen.generate.passages.excerpts import Excerpt, plain_excerpts, whole_excerpts
from datagen.generate.passages.facts import (
    Fact,
    kept_share,
    option_problem,
    own_fact,
    passage_fact,
    question_problem,
)
from datagen.generate.passages.spans import find_spans, shape
from datagen.generate.passages.topic import Topic
from datagen.generate.passages.wording import statement_pattern
from datagen.generate.passages.words import runs_in
from datagen.llm.ask import AnswerRejected, Ask
from datagen.record import Draft, Seed

_LETTERS = "ABCDEFGHIJ"


class StatedFact(BaseModel):
    """A fact as the model states it, and the part of the statement to ask for."""

    statement: str
    answer: str


class StatedFacts(BaseModel):
    """The facts of a passage."""

    facts: list[StatedFact]


class Question(BaseModel):
    """A question for a statement."""

    question: str


class WrongOptions(BaseModel):
    """Options that are wrong, and of the same kind as the right one."""

    wrong: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """A page being asked about, and how."""

    ask: Ask
    title: str
    topic: Topic
    own: bool
    limit: int
    check_answers: bool
    multiple_choice_share: float
    options: int
    short_answer_texts: tuple[str, ...]
    multiple_choice_texts: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class _Found:
    """What is known of one fact so far; becomes its draft."""

    excerpt: Excerpt
    fact: Fact | None = None
    problem: str | None = None
    calls: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)

    def draft(self, *, text: str | None = None, rejected: str | None = None) -> Draft:
        """The draft that this fact becomes."""
        calls = tuple(dict.fromkeys(self.calls))
        return Draft(text=text, metadata=self.metadata, calls=calls, rejected=rejected)


async def grounded_qa(
    seed: Seed,
    ask: Ask,
    *,
    text: str = "text",
    title: str = "title",
    wording: Literal["own", "passage"] = "own",
    passage_words: int = 500,
    passages_per_page: int = 8,
    facts_per_passage: int = 8,
    check_answers: bool = True,
    multiple_choice_share: float = 0.5,
    options: int = 4,
    short_answer_texts: Sequence[str] = ("text_question_answer",),
    multiple_choice_texts: Sequence[str] = ("text_choice_letters",),
) -> list[Draft]:
    """Draft one question for each fact that the model finds on a page.

    `text` and `title` name columns. With `wording: own` the teacher words statements and questions
    freely, and names, dates and numbers are checked against the passage. With `passage` both keep
    to the passage's words, by constrained decoding and by check: for small models. The `..._texts`
    name templates; a record's form and template are seeded draws.
    """
    name = _column(seed, title)
    own = wording == "own"
    cut = whole_excerpts if own else plain_excerpts
    topic, excerpts = cut(_column(seed, text), name, words=passage_words)
    if not excerpts:
        said = "no prose" if own else "no plain sentence about the page's subject"
        return [Draft(metadata={"title": name}, rejected=f"no_passage: {said}")]
    task = _Task(
        ask=ask,
        title=name,
        topic=topic,
        own=own,
        limit=facts_per_passage,
        check_answers=check_answers,
        multiple_choice_share=multiple_choice_share,
        options=options,
        short_answer_texts=tuple(short_answer_texts),
        multiple_choice_texts=tuple(multiple_choice_texts),
    )
    shown = excerpts[:passages_per_page]
    found = [
        item for items in await asyncio.gather(*(_facts(task, e) for e in shown)) for item in items
    ]
    _mark_repeats(found)
    return _mark_same_questions(await asyncio.gather(*(_draft(task, item) for item in found)))


async def _facts(task: _Task, excerpt: Excerpt) -> list[_Found]:
    """Ask for the facts of one passage, and check each against it."""
    found = []
    limit = task.limit if task.own else min(task.limit, len(excerpt.shown))
    try:
        (answer, *_) = await task.ask.answers(
            "extract",
            into=StatedFacts,
            schema=None if task.own else _facts_schema(task.topic, excerpt, limit),
            subject=task.topic.subject,
            passage=excerpt.text,
            limit=limit,
        )
    except AnswerRejected as error:
        item = _Found(excerpt=excerpt, calls=list(error.calls))
        item.problem = f"facts_{error.reason}: {error.detail}"
        return [item]
    for stated in answer.value.facts[:limit]:
        item = _Found(excerpt=excerpt, calls=[answer.key])
        item.metadata = {"title": task.title, "fact": stated.statement, "context": excerpt.context}
        check = own_fact if task.own else passage_fact
        fact = check(stated.statement, stated.answer, excerpt, task.topic)
        if isinstance(fact, Fact):
            item.fact = fact
        else:
            item.problem = fact
        found.append(item)
    return found


def _facts_schema(topic: Topic, excerpt: Excerpt, limit: int) -> dict[str, Any]:
    """JSON whose statements begin with the subject, with answers that stand in the passage."""
    spans = [span.text for span in find_spans(excerpt.text) if span.text not in topic.subject]
    statement = {"type": "string", "pattern": statement_pattern(topic.subject)}
    item = _object({"statement": statement, "answer": {"enum": list(dict.fromkeys(spans))}})
    return _object({"facts": {"type": "array", "minItems": 1, "maxItems": limit, "items": item}})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _mark_repeats(found: Sequence[_Found]) -> None:
    """A fact stated twice on a page is asked for once."""
    seen: set[tuple[str, ...]] = set()
    for item in found:
        if item.fact is not None:
            if item.fact.key in seen:
                item.problem = f"repeated_fact: {item.fact.statement}"
            seen.add(item.fact.key)


async def _draft(task: _Task, item: _Found) -> Draft:
    """The draft of one fact; what the model cannot answer rejects the fact alone."""
    if item.problem is not None or item.fact is None:
        return item.draft(rejected=item.problem)
    try:
        item.problem = await _ask_question(task, item, item.fact)
        if item.problem is None and task.check_answers:
            item.problem = await _confirm(task, item, item.fact)
        if item.problem is None:
            await _choose_form(task, item, item.fact)
    except AnswerRejected as error:
        item.calls += error.calls
        item.problem = f"question_{error.reason}: {error.detail}"
    if item.problem is not None:
        return item.draft(rejected=item.problem)
    multiple = item.metadata["form"] == "multiple_choice"
    texts = task.multiple_choice_texts if multiple else task.short_answer_texts
    template = texts[task.ask.draw("template", item.fact.statement) % len(texts)]
    item.metadata["template"] = template
    return item.draft(text=task.ask.text(template, **_text_variables(item)))


async def _ask_question(task: _Task, item: _Found, fact: Fact) -> str | None:
    """Put the best of the sampled questions into the metadata; else say what is wrong with it."""
    pattern = fact.pattern and {"question": {"type": "string", "pattern": fact.pattern}}
    samples = await task.ask.answers(
        "question",
        into=Question,
        schema=_object(pattern) if pattern else None,
        passage=item.excerpt.text,
        statement=fact.statement,
        gapped=fact.gapped,
        answer=fact.answer,
    )
    item.calls.append(samples[0].key)
    problems = []
    kept: list[str] = []
    for question in dict.fromkeys(sample.value.question.strip() for sample in samples):
        problem = question_problem(question, fact, item.excerpt, task.topic)
        if problem is None:
            kept.append(question)
        else:
            problems.append((problem, question))
    if not kept:
        item.metadata["question"] = problems[0][1]
        return problems[0][0]
    item.metadata |= {
        "question": max(kept, key=lambda question: kept_share(question, fact.statement)),
        "answer": fact.answer,
    }
    return None


async def _confirm(task: _Task, item: _Found, fact: Fact) -> str | None:
    """Let the model answer from the passage; one of its samples must hold the expected answer."""
    answers = await task.ask.answers(
        "answer", into=str, passage=item.excerpt.text, question=item.metadata["question"]
    )
    item.calls.append(answers[0].key)
    said = [answer.value.strip() for answer in answers]
    if any(
        runs_in(fact.answer, text) or (task.own and runs_in(text, fact.answer)) for text in said
    ):
        return None
    return f"unconfirmed: answered {said[0][:80]!r}"


async def _choose_form(task: _Task, item: _Found, fact: Fact) -> None:
    """Draw the form; a question without enough wrong options stays a short-answer question."""
    item.metadata["form"] = "short_answer"
    if task.ask.draw("form", fact.statement) >= task.multiple_choice_share * 2**64:
        return
    count = task.options - 1
    form = {"type": "string", "pattern": f"^{shape(fact.answer)}$"}
    wrong = {"type": "array", "minItems": count, "maxItems": count, "items": form}
    try:
        samples = await task.ask.answers(
            "options",
            into=WrongOptions,
            schema=None if task.own else _object({"wrong": wrong}),
            question=item.metadata["question"],
            answer=fact.answer,
            count=count,
        )
    except AnswerRejected:
        return
    taken: list[str] = []
    for option in (option.strip() for sample in samples for option in sample.value.wrong):
        if (
            option_problem(option, fact, item.excerpt, task.topic, taken) is None
            and len(taken) < count
        ):
            taken.append(option)
    if len(taken) < count:
        return
    item.calls.append(samples[0].key)
    place = task.ask.draw("place", fact.statement) % task.options
    item.metadata |= {
        "form": "multiple_choice",
        "options": [*taken[:place], fact.answer, *taken[place:]],
        "answer_letter": _LETTERS[place],
    }


def _text_variables(item: _Found) -> dict[str, Any]:
    """What a text template may use."""
    found = item.metadata
    lettered = [
        {"letter": letter, "text": text}
        for letter, text in zip(_LETTERS, found.get("options", []), strict=False)
    ]
    names = ("title", "context", "question", "answer")
    return {
        **{name: found[name] for name in names},
        "statement": found["fact"],
        "options": lettered,
        "answer_letter": found.get("answer_letter", ""),
    }


def _mark_same_questions(drafts: Sequence[Draft]) -> list[Draft]:
    """Of two drafts of a page with one question, the first is kept."""
    seen: set[str] = set()
    marked = []
    for draft in drafts:
        question = str(draft.metadata.get("question", "")).casefold()
        if draft.rejected is None and question in seen:
            said = f"repeated_question: {question}"
            draft = Draft(metadata=draft.metadata, calls=draft.calls, rejected=said)
        if draft.rejected is None:
            seen.add(question)
        marked.append(draft)
    return marked


def _column(seed: Seed, name: str) -> str:
    """A text column of the row; DataError where the row has none of that name."""
    if name not in seed.row:
        raise DataError(
            f"no column {name!r}",
            where=f"{seed.source} row {seed.row_key}",
            fix=f"name one of the columns in the recipe's arguments: {', '.join(seed.row)}",
        )
    return str(seed.row[name] or "")

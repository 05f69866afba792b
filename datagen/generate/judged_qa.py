"""Questions of several kinds on a text, each with an answer that a judge has scored.

The kind is balanced over the seeds, so is the answer of a yes/no question and the letter of a
right option. `question` writes question and answer; what a program can check is checked; then
`judge` scores them by the criteria of the recipe, whose thresholds decide. For multiple choice
`select` is shown the options without the key, and names every one that is right: it must name the
key alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from datagen.errors import WorkspaceError
from datagen.generate.items.options import lettered
from datagen.generate.judge import judged
from datagen.generate.legal.choices import balanced_options, finished
from datagen.generate.legal.held import added
from datagen.generate.legal.rows import on_one_line, text_cell
from datagen.generate.passages.words import new_words, words
from datagen.llm.ask import AnswerRejected, Ask
from datagen.record import Draft, Seed

_FORMS = ("yes_no", "multiple_choice", "short_answer", "open")
_POINTS = re.compile(
    r"\b(?:this|the|that|above|following|given|provided) "
    r"(?:passage|text|excerpt|document|paragraph|snippet|context)\b"
    r"|\baccording to (?:this|above)\b",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"\b(?:what|which|who|whom|whose|when|where|why|how)\b"
    r"|(?:^|, )(?:may|must|can|could|does|do|did|is|are|was|will|would|should|has|have)\b",
    re.IGNORECASE,
)
_LONGEST = {"yes_no": 3, "short_answer": 100, "multiple_choice": 120, "open": 400}
"""Characters of an answer by form."""


class _Written(BaseModel):
    """A question with its answer, and wrong options where they are asked for."""

    question: str
    answer: str
    wrong: list[str] = []


class _Selected(BaseModel):
    """The letters of all options that are right."""

    right: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limits:
    """What is asked of questions and answers."""

    options: int
    short_words: int
    max_new_share: float
    thresholds: Mapping[str, float]


async def judged_qa(
    seed: Seed,
    ask: Ask,
    *,
    kinds: Sequence[Mapping[str, Any]],
    thresholds: Mapping[str, float],
    text: str = "text",
    title: str = "title",
    per_text: int = 2,
    options: int = 4,
    min_words: int = 40,
    max_words: int = 1500,
    short_words: int = 12,
    max_new_share: float = 0.5,
    texts: Mapping[str, Sequence[str]],
) -> list[Draft]:
    """Draft up to `per_text` questions of different kinds on a text of a fitting length.

    A kind is a table: `name`, `form` (yes_no, multiple_choice, short_answer or open) and `asks`,
    which tells the model what to ask. `texts` names templates by form. A short answer has at most
    `short_words` words, all of them the text's; an open one at most `max_new_share` new ones.
    """
    _require(kinds, texts)
    context, name = text_cell(seed, text), on_one_line(text_cell(seed, title))
    length = len(words(context))
    if not min_words <= length <= max_words:
        return [Draft(metadata={"title": name}, rejected=f"length: {length} words")]
    limits = _Limits(
        options=options,
        short_words=short_words,
        max_new_share=max_new_share,
        thresholds=thresholds,
    )
    first = ask.balanced(len(kinds), "kind")
    drafts: list[Draft] = []
    asked: set[str] = set()
    for turn in range(min(per_text, len(kinds))):
        kind = kinds[(first + turn) % len(kinds)]
        metadata = {
            "form": kind["form"],
            "kind": kind["name"],
            "title": name,
            "context": context,
        }
        drafts.append(await _item(ask, metadata, kind, limits, asked, texts[kind["form"]]))
    return drafts


async def _item(
    ask: Ask,
    metadata: dict[str, Any],
    kind: Mapping[str, Any],
    limits: _Limits,
    asked: set[str],
    texts: Sequence[str],
) -> Draft:
    """A question of one kind, finished or with the first thing that is wrong with it.

    `asked` are the questions on this text so far; it goes there, too.
    """
    calls: list[str] = []
    try:
        written = await _written(ask, metadata, kind, limits.options, calls)
        problem = _problem(written, metadata, limits)
        if problem is None and str(metadata["question"]).casefold() in asked:
            problem = "repeated_question: asked before"
        asked.add(str(metadata["question"]).casefold())
        if problem is None:
            shown = {n: metadata[n] for n in ("title", "context", "question", "answer", "form")}
            verdict = await judged(ask, "judge", thresholds=limits.thresholds, **shown)
            calls.append(verdict.key)
            metadata |= verdict.metadata
            problem = None if verdict.passed else f"below_threshold: {verdict.failed}"
        if problem is None and kind["form"] == "multiple_choice":
            name = str(kind["name"])
            metadata |= balanced_options(ask, metadata["answer"], written.wrong, name)
            problem = await _selected(ask, metadata, calls)
    except AnswerRejected as error:
        calls += error.calls
        problem = f"{error.reason}: {error.detail}"
    if problem is not None:
        return Draft(metadata=metadata, calls=tuple(calls), rejected=problem)
    return finished(ask, metadata, texts, kind["name"], calls=calls)


async def _selected(ask: Ask, metadata: Mapping[str, Any], calls: list[str]) -> str | None:
    """Why a model that is not told the key does not name it alone, in every sample."""
    options = lettered(metadata["options"])
    letters = {"type": "array", "items": {"enum": [option["letter"] for option in options]}}
    schema = {
        "type": "object",
        "properties": {"right": {**letters, "maxItems": len(options)}},
        "required": ["right"],
        "additionalProperties": False,
    }
    samples = await ask.answers(
        "select",
        into=_Selected,
        schema=schema,
        title=metadata["title"],
        context=metadata["context"],
        question=metadata["question"],
        options=options,
    )
    calls.append(samples[0].key)
    key = metadata["answer_letter"]
    for sample in samples:
        said = sorted(set(sample.value.right))
        if key in said and len(said) > 1:
            return f"several_right: {', '.join(said)}"
        if said != [key]:
            return f"unconfirmed: {key}, the model says {', '.join(said) or 'none'}"
    return None


def _require(kinds: Sequence[Mapping[str, Any]], texts: Mapping[str, Sequence[str]]) -> None:
    """WorkspaceError for a kind that says too little, or whose form has no template."""
    for kind in kinds:
        form = kind.get("form")
        if {"name", "form", "asks"} - kind.keys() or form not in _FORMS or form not in texts:
            raise WorkspaceError(
                f"the kind {dict(kind)!r} cannot be asked",
                where="arguments: kinds",
                fix=f"give it name, asks and a form ({', '.join(_FORMS)}) that 'texts' has, too",
            )


async def _written(
    ask: Ask,
    metadata: dict[str, Any],
    kind: Mapping[str, Any],
    options: int,
    calls: list[str],
) -> _Written:
    """Question and answer by the model; both go into the metadata."""
    form = kind["form"]
    wanted = ("Yes", "No")[ask.balanced(2, "answer", str(kind["name"]))]
    answer: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": _LONGEST[form]}
    properties: dict[str, Any] = {
        "question": {"type": "string", "pattern": "^[A-Z][^?]{14,220}\\?$"},
        "answer": {"enum": [wanted]} if form == "yes_no" else answer,
    }
    if form == "multiple_choice":
        count = options - 1
        wrong = {"type": "string", "minLength": 1, "maxLength": _LONGEST[form]}
        properties["wrong"] = {
            "type": "array",
            "items": wrong,
            "minItems": count,
            "maxItems": count,
        }
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    (found, *_) = await ask.answers(
        "question",
        into=_Written,
        schema=schema,
        title=metadata["title"],
        text=metadata["context"],
        asks=kind["asks"],
        form=form,
        wanted=wanted,
        count=options - 1,
    )
    calls.append(found.key)
    metadata["question"] = on_one_line(found.value.question)
    metadata["answer"] = on_one_line(found.value.answer)
    if form == "yes_no":
        metadata["label"] = wanted.lower()
        if metadata["answer"].rstrip(".") != wanted:
            raise AnswerRejected("other_answer", f"{wanted} was asked for", calls=(found.key,))
        metadata["answer"] = wanted
    wrong_options = [on_one_line(option) for option in found.value.wrong]
    return found.value.model_copy(update={"wrong": wrong_options})


def _problem(written: _Written, metadata: Mapping[str, Any], limits: _Limits) -> str | None:
    """What a program can say against question and answer; the judge sees only what it cannot."""
    question, answer, form = metadata["question"], metadata["answer"], metadata["form"]
    source = f"{metadata['title']} {metadata['context']}"
    if (
        not question.endswith("?")
        or not _ASKS.search(question)
        or not 4 <= len(words(question)) <= 60
    ):
        return f"not_a_question: {question[:60]}"
    if found := _POINTS.search(f"{question} {answer}"):
        return f"points_at_passage: {found[0]}"
    if problem := added(question, source) or (form != "yes_no" and added(answer, source)) or None:
        return problem
    fresh = new_words(answer, source)
    if form in ("short_answer", "multiple_choice") and fresh:
        return f"answer_not_in_text: {', '.join(fresh)}"
    if form == "short_answer" and len(words(answer)) > limits.short_words:
        return f"long_answer: {len(words(answer))} words"
    if form == "open" and len(fresh) > limits.max_new_share * len(words(answer)):
        return f"answer_not_in_text: {len(fresh)} of {len(words(answer))} words are new"
    if form == "multiple_choice":
        forms = [tuple(words(option)) for option in (answer, *written.wrong)]
        if len(forms) != limits.options or len(set(forms)) != limits.options or not all(forms):
            return "options_alike: an option is missing, or two say the same"
    return None

"""A labelled row as multiple choice: its own options, or descriptions of labels to choose from.

The right option is the row's; the others are the row's too (`option_columns`), or describe labels
that the row does not bear (`labels`). Nobody is asked, unless the answer is to be explained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datagen.errors import WorkspaceError
from datagen.generate.items.normalise import LETTERS
from datagen.generate.judge import judged
from datagen.generate.legal.choices import balanced_options, finished, shuffled
from datagen.generate.legal.held import added
from datagen.generate.legal.patterns import compiled
from datagen.generate.legal.rows import cell, on_one_line, text_cell
from datagen.generate.passages.words import words
from datagen.llm.ask import AnswerRejected, Ask
from datagen.record import Draft, Seed

_NOTHING = "none"
_Choice = tuple[str, str, list[str]]
"""The label, the right option, and the others."""


async def labelled_choice(
    seed: Seed,
    ask: Ask,
    *,
    question: str,
    text: str = "text",
    label: str = "label",
    option_columns: Sequence[str] = (),
    labels: Sequence[Mapping[str, Any]] = (),
    nothing: str | None = None,
    options: int = 5,
    must_hold: str | None = None,
    min_words: int = 8,
    explained_share: float = 0.0,
    explanation_words: int = 60,
    thresholds: Mapping[str, float] | None = None,
    texts: Sequence[str] = ("text_choice",),
    explained_texts: Sequence[str] = ("text_explained",),
) -> list[Draft]:
    """Draft a row's text, a question on it and lettered options, the right one's place balanced.

    With `option_columns` the cell `label` is the place of the right one among them, from 0. With
    `labels` (each `code`, `name`, `says` and, as patterns, `cues`) it is one code or a list;
    `nothing` describes a row without a label, and is offered always. A label that the row does not
    bear but whose cues its text has is not offered, and a row without a label is rejected for it.
    `must_hold` is what the text must contain. For a share of the rows the prompt `explain` says
    why, in words held to the text; with `thresholds` the prompt `judge` scores what it says.
    """
    _require(option_columns, labels, options)
    context = on_one_line(text_cell(seed, text))
    metadata: dict[str, Any] = {
        "form": "multiple_choice",
        "context": context,
        "question": question,
    }
    found: _Choice | str = _text_problem(context, min_words, must_hold) or (
        _own_options(seed, label, option_columns)
        if option_columns
        else _described(seed, ask, context, label, labels, nothing, options)
    )
    problem = found if isinstance(found, str) else _options_problem(found)
    if isinstance(found, str) or problem is not None:
        return [Draft(metadata=metadata, rejected=problem)]
    name, right, others = found
    metadata |= {"label": name, **balanced_options(ask, right, others)}
    if ask.draw("explained") >= explained_share * 2**64:
        return [finished(ask, metadata, texts)]
    try:
        draft = await _explained(
            ask, metadata, labels, explanation_words, thresholds, explained_texts
        )
        return [draft]
    except AnswerRejected as error:
        said = f"explanation_{error.reason}: {error.detail}"
        return [Draft(metadata=metadata, calls=error.calls, rejected=said)]


def _require(
    option_columns: Sequence[str], labels: Sequence[Mapping[str, Any]], options: int
) -> None:
    """WorkspaceError for arguments that give no options, or more than there are letters."""
    if bool(option_columns) == bool(labels):
        raise WorkspaceError(
            "either the row's own options or labels",
            where="arguments",
            fix="name 'option_columns' or 'labels', not both",
        )
    if (len(option_columns) or options) > len(LETTERS):
        raise WorkspaceError(
            f"more than {len(LETTERS)} options",
            where="arguments",
            fix=f"offer fewer: their letters go from {LETTERS[0]} to {LETTERS[-1]}",
        )


def _text_problem(context: str, min_words: int, must_hold: str | None) -> str | None:
    if len(words(context)) < min_words:
        return f"short_text: {len(words(context))} words"
    if must_hold is not None and must_hold not in context:
        return f"no_mark: the text does not hold {must_hold}"
    return None


def _options_problem(found: _Choice) -> str | None:
    _, right, others = found
    forms = [tuple(words(option)) for option in (right, *others)]
    if not all(forms):
        return "empty_option: an option has no words"
    if len(set(forms)) < len(forms):
        return "options_alike: two options say the same"
    return None


def _own_options(seed: Seed, label: str, columns: Sequence[str]) -> _Choice | str:
    """The place of the right option as its label, the right one, and the others; or why none is."""
    said = text_cell(seed, label)
    found = [on_one_line(text_cell(seed, column)) for column in columns]
    if not said.isdecimal() or int(said) >= len(columns):
        return f"no_right_option: column {label!r} says {said!r}, of {len(columns)} options"
    place = int(said)
    return str(place), found[place], found[:place] + found[place + 1 :]


def _described(
    seed: Seed,
    ask: Ask,
    context: str,
    label: str,
    labels: Sequence[Mapping[str, Any]],
    nothing: str | None,
    options: int,
) -> _Choice | str:
    """The row's label, its description and those of others; or why the row has not one label."""
    value = cell(seed, label)
    codes = [str(code) for code in (value if isinstance(value, list | tuple) else [value])]
    known = {one["code"]: one for one in labels}
    if unknown := [code for code in codes if code not in known]:
        return f"unknown_label: column {label!r} has {unknown[0]!r}, not {', '.join(known)}"
    if len(codes) > 1:
        return f"several_labels: {', '.join(known[code]['name'] for code in codes)}"
    if not codes and nothing is None:
        return "no_label: the row bears none"
    cued = {code: said for code, one in known.items() if (said := _cue(context, one)) is not None}
    if not codes and cued:
        code, said = next(iter(cued.items()))
        return f"cue_of_a_label: {said!r} may make it {known[code]['name']}"
    others = [one["says"] for code, one in known.items() if code not in (*codes, *cued)]
    right = known[codes[0]]["says"] if codes else str(nothing)
    offered = [nothing] if codes and nothing is not None else []
    offered += shuffled(ask, others, "others")[: options - 1 - len(offered)]
    if len(offered) < options - 1:
        return f"few_options: {len(offered)} that are surely wrong"
    name = known[codes[0]]["name"] if codes else _NOTHING
    return name, right, shuffled(ask, offered, "order")


def _cue(context: str, label: Mapping[str, Any]) -> str | None:
    """What in a text speaks of a label, whoever labelled it."""
    found = (compiled(cue).search(context) for cue in label.get("cues", ()))
    return next((match[0] for match in found if match), None)


async def _explained(
    ask: Ask,
    metadata: dict[str, Any],
    labels: Sequence[Mapping[str, Any]],
    most_words: int,
    thresholds: Mapping[str, float] | None,
    texts: Sequence[str],
) -> Draft:
    """The item with a reason for its answer, which adds nothing to the text and names no other."""
    shown = {name: metadata[name] for name in ("context", "question", "answer")}
    (answer, *_) = await ask.answers("explain", into=str, **shown)
    said = on_one_line(answer.value)
    metadata = {**metadata, "explanation": said}
    calls = [answer.key]
    others = [one["name"].replace("_", " ") for one in labels if one["name"] != metadata["label"]]
    problem = added(said, f"{metadata['context']} {metadata['answer']}")
    if problem is None and not 6 <= len(words(said)) <= most_words:
        problem = f"length: {len(words(said))} words"
    if problem is None and (named := [other for other in others if other in said.lower()]):
        problem = f"names_another: {named[0]}"
    if problem is None and thresholds is not None:
        verdict = await judged(ask, "judge", thresholds=thresholds, explanation=said, **shown)
        calls.append(verdict.key)
        metadata |= verdict.metadata
        problem = None if verdict.passed else f"below_threshold: {verdict.failed}"
    if problem is not None:
        return Draft(metadata=metadata, calls=tuple(calls), rejected=f"explanation_{problem}")
    return finished(ask, metadata, texts, calls=calls)

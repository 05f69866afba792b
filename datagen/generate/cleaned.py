"""A text cleaned by a model and held to its source: nothing added, nothing of weight lost.

The text is cleaned in pieces of whole sentences by the prompt `clean`. Every number, name and
quotation of a cleaned piece must stand in its source, most of the source's must stand in it, and
the lengths must be near each other; a text with one bad piece, or one that is still dirty, is
rejected whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from datagen.generate.legal.choices import finished
from datagen.generate.legal.held import added, names, negations, numbers
from datagen.generate.legal.patterns import compiled
from datagen.generate.legal.repairs import unmended
from datagen.generate.legal.rows import on_one_line, text_cell
from datagen.generate.legal.sentences import sentences
from datagen.generate.passages.facts import kept_share
from datagen.generate.passages.words import content_stems, runs_in, words
from datagen.llm.ask import AnswerRejected, Ask
from datagen.record import Draft, Seed

_PREFACE = re.compile(
    r"^(?:sure|certainly|of course|here (?:is|are)|below is|the cleaned|cleaned text)\b",
    re.IGNORECASE,
)
# What a cleaned text no longer has: digits inside words, marks, spaces before full stops.
_NOISE = re.compile(r"[a-z]\d+[a-z]|\b\d[a-z]{3,}|\|\||\[\*|\s[.,;](?=\s|$)|\ufffd|[a-z]-\s[a-z]")
_SPLIT_WORD = re.compile(r"(?<=[a-z])-\s*\n\s*(?=[a-z])")


async def cleaned(
    seed: Seed,
    ask: Ask,
    *,
    text: str = "text",
    title: str | None = None,
    noise: Sequence[str] = (),
    piece_words: int = 120,
    most_pieces: int = 12,
    min_ratio: float = 0.6,
    max_ratio: float = 1.2,
    min_kept: float = 0.95,
    max_new_share: float = 0.1,
    texts: Sequence[str] = ("text_cleaned",),
) -> list[Draft]:
    """Draft a row's text as the model cleans it.

    `noise` are patterns taken out before: page marks, key numbers. `min_kept` is the least share of
    a piece's content words, and of its names and numbers, that must survive, `max_new_share` the
    largest of words that are new; mended words count as neither lost nor new. The ratios bound the
    length of a cleaned piece in words of its source. With `n` above 1 in the prompt's sampling, the
    first sample that holds is taken.
    """
    raw = _SPLIT_WORD.sub("", text_cell(seed, text))
    source = raw
    for pattern in noise:
        source = compiled(pattern).sub(" ", source)
    metadata: dict[str, Any] = {"form": "document", "source_words": len(words(source))}
    if title is not None:
        metadata["title"] = on_one_line(text_cell(seed, title))
    pieces = _pieces(source, piece_words)
    if not pieces:
        return [Draft(metadata=metadata, rejected="empty: no text")]
    if len(pieces) > most_pieces:
        return [Draft(metadata=metadata, rejected=f"long_text: {len(pieces)} pieces")]
    calls: list[str] = []
    done: list[str] = []
    for number, piece in enumerate(pieces):
        try:
            samples = await ask.answers("clean", into=str, text=piece)
        except AnswerRejected as error:
            said = f"clean_{error.reason}: {error.detail}"
            return [Draft(metadata=metadata, calls=(*calls, *error.calls), rejected=said)]
        calls.append(samples[0].key)
        tried = [on_one_line(sample.value) for sample in samples]
        bounds = (min_ratio, max_ratio, min_kept, max_new_share)
        problems = [_problem(one, piece, *bounds) for one in tried]
        new = next((one for one, bad in zip(tried, problems, strict=True) if bad is None), None)
        if new is None:
            told = {**metadata, "piece": number, "source_piece": piece, "cleaned_piece": tried[0]}
            return [Draft(metadata=told, calls=tuple(calls), rejected=problems[0])]
        done.append(new)
    whole = " ".join(done)
    metadata |= {
        "context": whole,
        "words": len(words(whole)),
        "kept_share": round(kept_share(whole, source), 3),
    }
    return [finished(ask, metadata, texts, calls=calls)]


def _pieces(text: str, most_words: int) -> list[str]:
    """Whole sentences joined up to a number of words; a longer sentence stands alone."""
    found: list[str] = []
    for sentence in map(on_one_line, sentences(text)):
        joined = f"{found[-1]} {sentence}" if found else sentence
        if found and len(joined.split()) <= most_words:
            found[-1] = joined
        else:
            found.append(sentence)
    return found


def _problem(
    new: str, source: str, low: float, high: float, least: float, most_new: float
) -> str | None:
    """What a cleaned piece adds to its source, or loses of it."""
    if _PREFACE.match(new):
        return f"preface: {new[:40]}"
    if noise := _NOISE.search(new):
        return f"still_dirty: {new[max(noise.start() - 10, 0) : noise.end() + 10]!r}"
    ratio = len(words(new)) / max(len(words(source)), 1)
    if not low <= ratio <= high:
        return f"length: {ratio:.2f} of the source"
    if problem := added(new, source):
        return problem
    counted, called = numbers(source), dict.fromkeys(names(source))
    missing = [*(counted.keys() - numbers(new).keys())]
    missing = sorted(missing) + [name for name in called if not runs_in(name, new)]
    wanted = [*counted, *called]
    if wanted and 1 - len(missing) / len(wanted) < least:
        return f"lost_facts: {', '.join(missing[:5])}"
    if negations(new) != negations(source):
        return f"negation_changed: {negations(source)} before, {negations(new)} after"
    fresh, gone = unmended(new, source)
    count = max(len(set(content_stems(source))), 1)
    if 1 - len(gone) / count < least:
        return f"lost_words: {', '.join(gone[:5])}"
    if len(fresh) / count > most_new:
        return f"new_words: {', '.join(fresh[:5])}"
    return None

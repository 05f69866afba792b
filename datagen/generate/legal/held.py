"""Is one text held to another? Numbers, names and quotations that were added, lost or changed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from datagen.generate.legal.sentences import sentences
from datagen.generate.passages.spans import find_spans
from datagen.generate.passages.words import new_names, words

# A digit inside a word is a misread letter, unless it makes an ordinal: 2d, 5th.
_NUMBER = re.compile(
    r"(?<![A-Za-z\d])(\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)(?=(?:st|nd|rd|th|d)?(?![A-Za-z\d]))"
)
_QUOTED = re.compile(r"“([^“”]{3,})”|\"([^\"]{3,})\"")
_NEGATION = re.compile(
    r"\b(?:not|never|no|none|neither|nor|cannot|without|unless|except|fail\w*|refus\w*|den(?:y|ies|ied|ying|ials?))\b"
    r"|n['’]t\b",
    re.IGNORECASE,
)


def numbers(text: str) -> Counter[str]:
    """Every number of a text and how often it stands there; thousands separators do not count."""
    return Counter(match[1].replace(",", "") for match in _NUMBER.finditer(text))


def names(text: str) -> list[str]:
    """The capitalised names within the sentences of a text; a sentence's first word is none."""
    return [
        span.text
        for sentence in sentences(text)
        for span in find_spans(sentence)
        if span.kind == "name" and (span.start > 0 or " " in span.text)
    ]


def stands_in(part: str, text: str) -> bool:
    """Whether `part` stands in `text` as whole words, exactly as it is written."""
    return re.search(rf"(?<![\w$]){re.escape(part)}(?!\w|,\d|\.\d)", text) is not None


def added(text: str, source: str) -> str | None:
    """What a text says that its source does not: a number, a name, or words in quotation marks."""
    if new := sorted(numbers(text).keys() - numbers(source).keys()):
        return f"new_numbers: {', '.join(new)}"
    called = (name for sentence in sentences(text) for name in new_names(sentence, source))
    if strangers := [name for name in called if any(map(str.isalpha, name))]:
        return f"new_names: {', '.join(dict.fromkeys(strangers))}"
    known = " ".join(words(source))
    for match in _QUOTED.finditer(text):
        quoted = match[1] or match[2]
        if " ".join(words(quoted)) not in known:
            return f"new_quote: {quoted[:60]}"
    return None


def lost(text: str, wanted: Iterable[str]) -> list[str]:
    """Which of the wanted words are missing, in order."""
    return [part for part in dict.fromkeys(wanted) if not stands_in(part, text)]


def negations(text: str) -> int:
    """How many words of a text deny something."""
    return len(_NEGATION.findall(text))


def rephrasing_problem(
    new: str,
    old: str,
    *,
    kept: Sequence[str],
    min_ratio: float = 0.5,
    max_ratio: float = 2.0,
    taken: Sequence[str] = (),
) -> str | None:
    """Why a text is no rewording of another, with `kept` and all numbers exactly as they were.

    A rewording of `taken` texts that only differs in case and punctuation is none either.
    """
    if missing := lost(new, kept):
        return f"lost: {', '.join(missing)}"
    if numbers(new) != numbers(old):
        changed = (numbers(new) - numbers(old)) + (numbers(old) - numbers(new))
        return f"numbers_changed: {', '.join(sorted(changed))}"
    if problem := added(new, old):
        return problem
    if negations(new) % 2 != negations(old) % 2:
        return "negation_changed"
    ratio = len(words(new)) / max(len(words(old)), 1)
    if not min_ratio <= ratio <= max_ratio:
        return f"length: {ratio:.2f} of the original"
    if words(new) in [words(text) for text in (old, *taken)]:
        return "not_reworded"
    return None

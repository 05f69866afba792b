"""Filters on any text: length, word shape, repetition, symbols, broken bytes, model remarks."""

from __future__ import annotations

import re

import numpy as np

from datagen.curate.words import ngram_hashes, record_text, word_form, word_hashes
from datagen.record import Record

_REMARK = re.compile(
    r"\bas an? (?:ai|artificial intelligence|large language|language)\b[\w ]{0,20}\b"
    r"(?:model|assistant)\b"
    r"|\bas an ai\b[, ]+i\b"
    r"|\bi(?: am|['’]m) (?:sorry|afraid)[,;]? (?:but )?(?:i|as)\b.{0,40}"
    r"(?:can(?:not|['’]t| not)|unable|language model|\bai\b)"
    r"|\bi (?:cannot|can['’]t|am unable to|['’]m unable to) (?:assist|help|comply|fulfil)\w*\b"
    r"|\bmy (?:knowledge|training)(?: data)? (?:cut-?off|only goes)",
    re.IGNORECASE,
)
_LETTERS_AND_DIGITS = re.compile(r"[^\W_]")
_MOJIBAKE = re.compile(r"\ufffd|[\x00-\x08\x0b\x0e-\x1f]|â€[\x80-\xbf™œ]|Ã[\x80-\xbf]")


def too_short(record: Record, *, min_words: int = 20) -> str | None:
    """Refuse a text of fewer words; a character counts as a word in scripts without spaces."""
    words = len(word_form(record_text(record)).split())
    return f"{words} words" if words < min_words else None


def too_long(record: Record, *, max_words: int = 100_000) -> str | None:
    """Refuse a text of more words than a document of its kind should have."""
    words = len(word_form(record_text(record)).split())
    return f"{words} words" if words > max_words else None


def mean_word_length(record: Record, *, minimum: float = 3.0, maximum: float = 10.0) -> str | None:
    """Refuse a mean word length, in characters, that no prose of spaced words has."""
    words = word_form(record_text(record)).split()
    mean = sum(map(len, words)) / max(len(words), 1)
    return None if minimum <= mean <= maximum else f"mean {mean:.1f} characters"


def repetition(record: Record, *, ngram_words: int = 6, max_share: float = 0.25) -> str | None:
    """Refuse a text that goes round in circles: the share of word n-grams seen before in it."""
    grams = ngram_hashes(word_hashes([record_text(record)])[0], ngram_words)
    if not len(grams):
        return None
    share = 1 - len(np.unique(grams)) / len(grams)
    return f"{share:.0%} of {ngram_words}-grams repeat" if share > max_share else None


def mostly_symbols(record: Record, *, max_share: float = 0.35) -> str | None:
    """Refuse a text in which too many printed characters are neither letter, mark nor digit."""
    text = "".join(record_text(record).split())
    if text.isascii():
        words = len(_LETTERS_AND_DIGITS.findall(text))
    else:
        words = len(word_form(text).replace(" ", ""))
    share = 1 - min(words / max(len(text), 1), 1.0)
    return f"{share:.0%} symbols" if share > max_share else None


def broken_encoding(record: Record, *, max_per_thousand: float = 1.0) -> str | None:
    """Refuse replacement and control characters and UTF-8 that was read as Latin-1."""
    text = record_text(record)
    broken = len(_MOJIBAKE.findall(text))
    rate = 1000 * broken / max(len(text), 1)
    return f"{broken} broken characters" if rate > max_per_thousand else None


def model_remark(record: Record) -> str | None:
    """Refuse a model speaking of itself or declining, which no source page says."""
    found = _REMARK.search(record_text(record))
    return found.group()[:80] if found else None

"""One form for answers that say the same: letters, numbers, words."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

LETTERS = "ABCDEFGHIJ"

_ARTICLES = frozenset(("a", "an", "the"))
_NUMBER = re.compile(r"[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[-+−]?\.\d+")
_AFFIXES = re.compile(r"^[$€£¥\s]+|[\s%.]+$")
_UNIT = re.compile(r"[$€£¥]|(?<=[\d.])\s*(?:%|°[CF]?|[a-zµ]{1,12}(?:\s[a-z]{1,12})?)\.?$", re.I)
_SPACELESS = re.compile(r"[\u0e00-\u0e30\u3040-\u30ff\u3400-\u9fff]")
_LETTER = re.compile(
    r"^\W*(?:(?:the\s+)?(?:correct\s+|right\s+|final\s+)?(?:answer|option|choice)(?:\s+is)?\W*)?"
    r"(?:option\s+)?[\(\[]?\s*([A-Ja-j])\s*(?:[\)\].:\-]|\s*$)",
    re.IGNORECASE,
)


def plain_words(text: str) -> list[str]:
    """The words of a text, case folded and without marks; a letter each where nothing is spaced.

    Ideographs, kana and Thai are written without spaces, so that each character is a word there.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    if not folded.isascii():
        folded = "".join(_in_words(character) for character in folded)
    return re.findall(r"[^\W_](?:[^\W_]|(?![\s\x00-\x7f])\W)*", folded)


def _in_words(character: str) -> str:
    """A character as words hold it: letters, vowel signs and digits stay, others are space."""
    if _SPACELESS.match(character):
        return f" {character} "
    return character if unicodedata.category(character)[0] in "LMN" else " "


def answer_form(text: str) -> str:
    """A form under which answers that differ in case, marks or articles fall together.

    Numbers lose thousands separators and closing zeros: `$1,000.00` and `1000` are one answer.
    """
    value = number_of(text)
    if value is not None:
        return str(value)
    words = plain_words(text)
    return " ".join([word for word in words if word not in _ARTICLES] or words)


def number_of(text: str) -> Fraction | None:
    """The number that a text is, whatever its currency, per cent sign or thousands separators."""
    bare = _AFFIXES.sub("", unicodedata.normalize("NFKC", text).strip()).strip()
    if not _NUMBER.fullmatch(bare):
        return None
    return Fraction(bare.replace(",", "").replace("−", "-"))


def same_answer(said: str, expected: str) -> bool:
    """Whether two answers say the same; a unit beside a number does not count."""
    wanted = number_of(expected)
    if wanted is not None:
        found = number_of(said)
        if found is None:
            found = number_of(_UNIT.sub("", said.strip()))
        return found == wanted
    return bool(answer_form(said)) and answer_form(said) == answer_form(expected)


def read_letter(text: str, options: Sequence[str]) -> str | None:
    """The letter that an answer chooses: "B", "(b) Mars", "The answer is B.", or "Mars".

    None where it names no option, or a letter beyond the last.
    """
    matching = [LETTERS[place] for place, option in enumerate(options) if same_answer(text, option)]
    if len(matching) == 1:
        return matching[0]
    found = _LETTER.match(text.strip())
    letter = found[1].upper() if found else ""
    return letter if letter and letter in LETTERS[: len(options)] else None


def script_of(text: str) -> str:
    """The script that most letters of a text are written in, by its Unicode name: `LATIN`.

    Ideographs and kana count as one, for Japanese mixes them. Empty for a text without letters.
    """
    counts: Counter[str] = Counter()
    for character in text:
        if character.isalpha():
            script = unicodedata.name(character, "").partition(" ")[0].partition("-")[0]
            counts["CJK" if script in ("HIRAGANA", "KATAKANA") else script] += 1
    return max(counts, key=lambda script: counts[script], default="")

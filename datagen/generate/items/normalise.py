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
_SCALES = {
    "hundred": 10**2,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
_SCALED = re.compile(rf"(.*[\d.])\s*({'|'.join(_SCALES)})", re.IGNORECASE)
_MEASURED = re.compile(
    rf"(.*?[\d.](?:\s*(?:{'|'.join(_SCALES)})\b)?)"
    r"\s*(%|°[CF]?|(?!(?:x|y|k)\b)[a-zµ]{1,12}(?:\s[a-z]{1,12})?)\.?",
    re.IGNORECASE,
)
# Words that change a number which they stand behind; anything else is its unit.
_NO_UNITS = frozenset(
    (*_SCALES, *"and or more less fewer than plus minus times dozen squared cubed half".split())
)
_SUPERSCRIPT = re.compile(r"[⁺⁻]?[⁰¹²³⁴-⁹]+")
_SIGNS = (
    ("<=", "≤"), (">=", "≥"), ("!=", "≠"),
    ("−", "-"), ("–", "-"), ("×", "*"), ("·", "*"), ("⋅", "*"), ("÷", "/"), ("⁄", "/"),
)  # fmt: skip
# No emphasis, as in `**Mars** is`.
_POWER = re.compile(r"(?<![^\W\d_]{2})(?<=[\w)])(\s*)\*\*\1(?=[\w(-])")
_JOINS = "-/*"
_SPACELESS = re.compile(r"[\u0e00-\u0e30\u3040-\u30ff\u3400-\u9fff]")
_ALONE = re.compile(r"[(\[]?([A-J])[)\].:]?")
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
    Operators and signs stay: `x > 2`, `x < 2` and `-x`, `C` and `C++` are different answers.
    """
    value = number_of(text)
    if value is not None:
        return str(value)
    words = signed_words(text)
    return " ".join([word for word in words if word not in _ARTICLES] or words)


def signed_words(text: str) -> list[str]:
    """The words of a text as `plain_words`, with its operators and signs as words between them.

    A hyphen, slash or asterisk is one between numbers or letters that stand alone, and before or
    behind one: `x - 1`, `-x`, `A-`; in `Mars-bound`, `and/or` and `**Mars**` it is a mark.
    """
    raised = _SUPERSCRIPT.sub(lambda found: f"^{found[0]}", _POWER.sub("^", text))
    for sign, plain in _SIGNS:
        raised = raised.replace(sign, plain)
    words: list[str] = []
    pieces = re.split(r"([-/*]|[()\[\]]|[%#^]|[^\w\s\x00-\x7f]|[+<>=~|])", raised)
    for place, piece in enumerate(pieces):
        if place % 2 == 0:
            words += plain_words(piece)
        elif _is_sign(piece, "".join(pieces[:place]), "".join(pieces[place + 1 :])):
            words.append("percent" if piece == "%" else piece)
    return words


def _is_sign(mark: str, before: str, after: str) -> bool:
    """Whether a mark between two parts of a text belongs to what the text says."""
    if mark in _JOINS:
        left = re.search(r"([^\W_]*)([)\]])?(\s*)$", before)
        right = re.match(r"(\s*)([(\[])?([^\W_]*)", after)
        assert left is not None and right is not None
        value = bool(left[2]) or _stands_alone(left[1])
        operand = bool(right[2]) or _stands_alone(right[3])
        if value and operand:
            return True
        if mark != "-":
            return False
        if value:  # as in `A-`, a blood group
            return not left[3] and not after.strip()
        opens = not before.strip() or before.rstrip()[-1] in "(=<>≤≥≠+*/^,:"
        return opens and not right[1] and operand
    if mark in "()[]":
        # Brackets say something where a product or a power could be taken out of them.
        return bool(re.search(r"[-+*/^]\s*$|[)\]]\s*$", before) and mark in "([") or bool(
            mark in ")]" and re.match(r"\s*[*/^]", after)
        )
    return mark in "%#^" or unicodedata.category(mark) == "Sm"


def _stands_alone(word: str) -> bool:
    return word.isdecimal() or len(word) == 1 or bool(re.fullmatch(r"\d+[a-zA-Z]", word))


def number_of(text: str) -> Fraction | None:
    """The number that a text is, whatever its currency, per cent sign or thousands separators.

    A scale counts: `15 thousand` is 15000. A superscript is no digit of the number before it.
    """
    if _SUPERSCRIPT.search(text):
        return None
    bare = _AFFIXES.sub("", unicodedata.normalize("NFKC", text).strip()).strip()
    if scaled := _SCALED.fullmatch(bare):
        value = number_of(scaled[1])
        return None if value is None else value * _SCALES[scaled[2].lower()]
    if not _NUMBER.fullmatch(bare):
        return None
    return Fraction(bare.replace(",", "").replace("−", "-"))


def same_answer(said: str, expected: str) -> bool:
    """Whether two answers say the same; a unit beside a number does not count."""
    wanted = number_of(expected)
    if wanted is not None:
        found = number_of(said)
        if found is None:
            measured = _MEASURED.fullmatch(said.strip())
            if measured and _NO_UNITS.isdisjoint(measured[2].lower().split()):
                found = number_of(measured[1])
        return found == wanted
    return bool(answer_form(said)) and answer_form(said) == answer_form(expected)


def read_letter(text: str, options: Sequence[str]) -> str | None:
    """The letter that an answer chooses: "B", "(b) Mars", "The answer is B.", or "Mars".

    None where it names no option, or a letter beyond the last. A capital letter alone is a letter,
    whatever the options say.
    """
    alone = _ALONE.fullmatch(text.strip())
    if alone and alone[1] in LETTERS[: len(options)]:
        return alone[1]
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

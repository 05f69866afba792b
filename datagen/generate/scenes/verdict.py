"""What a reasoned answer says: its reasoning, its final letter, and whether it was told the key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from datagen.generate.items.normalise import LETTERS, plain_words
from datagen.generate.items.overlap import longest_common_span
from datagen.generate.scenes.cases import content_stems

_FEWEST_SHARED = 3
_QUOTED_WORDS = 8
_OF_THE_TASK = frozenset(("actio", "answe", "follo", "judge", "norm", "optio", "quest", "rule"))
_STATED = re.compile(
    r"(?:\b(?:answer|option|choice)[*_`]*(?:\s*(?:is|:|=|[-–—])|\s+must\s+be|\s+should\s+be)+"
    r"(?:\s+(?:option|choice))?|\\boxed)[\s*_`\"'(\[{]*"
    r"([A-J])(?=[)\]}.,:;!?\"'*_`]|\s*$|\s+(?:because|since|as|for)\b)",
    re.IGNORECASE | re.MULTILINE,
)
_ALONE = re.compile(r"^[\s*_`(\[]*([A-J])[\s*_`)\].]*$")
_RIGHT = r"(?:correct|right|expected|true|intended)"
_KEY = rf"(?:{_RIGHT}\s+(?:answer|option|letter|choice|label)|answer(?:\s+key)?|label)"
_GIVEN = re.compile(
    rf"\b{_KEY}\s+(?:(?:is|was|has\s+been|as|being)\s+)+(?:already\s+)?"
    r"(?:given|provided|stated|supplied|specified|marked|indicated|known)\b"
    rf"|\b(?:given|provided|supplied)\s+(?:{_RIGHT}\s+)?(?:answer|label)\b"
    rf"|\b(?:given|told|know|knowing|informed)\s+that\s+(?:the\s+)?{_RIGHT}\s+\w+\s+is\b"
    rf"|\b(?:since|because|as)\s+(?:the\s+)?{_RIGHT}\s+(?:answer|option|letter|choice)\s+is\b"
    rf"|\b(?:I|we)(?:'m|'re|\s+am|\s+are|\s+was|\s+were|(?:'ve|\s+have)\s+been)\s+(?:told|given)\b"
    rf"[^.\n]{{0,40}}\b{_KEY}\b"
    r"|\banswer\s+key\b|\bground[\s-]truth\b|\bthe\s+label\s+(?:is|says|states|tells)\b",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?])[\"')*_]*\s+|\n+")
_CONCLUDES = re.compile(
    r"\b(?:so(?!\s+(?:that|much|many|long|far|as|good|bad)\b)|therefore|thus|hence|consequently"
    r"|accordingly|in\s+conclusion|overall|which\s+means(?:\s+that)?|conclude(?:\s+that)?"
    r"|(?:answer|option|verdict|conclusion)\s+(?:is|must\s+be|should\s+be)(?:\s+that)?)\b",
    re.IGNORECASE,
)
_TAKEN_BACK = re.compile(r"\W*(?:however|but|yet|no|wait|actually|still|instead)\b", re.IGNORECASE)
_CONTRAST = re.compile(r"\b(?:but|yet|however)\b", re.IGNORECASE)
# A clause that begins with `that` is said of the one before it.
_CLAUSE = re.compile(
    r"[;:\u2013\u2014]|,(?!\s*(?:that|then)\b)"
    r"|\band\b(?=\s+(?:so|it|he|she|they|this|these|hardly|nobody|no\s+one|few|some|most|people)\b)",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r" (?:nobody|no one|none|nothing|hardly|barely|scarcely|few|some|others|neither|nor|without"
    r"|rather than|instead of|more than|than|unlike|whereas|while|although|though|if|unless|whether"
    r"|would be what|would have been what|would be one that|would be something that) "
    r"| (?:not|never|cannot|t)(?! only) (?:(?!and |because |as |since )\w+ ){0,6}$"
)
_COMPARED = re.compile(r" (?:would|could|might|may) (?:be|have been)(?: \w+){0,2} (?:what|that) $")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A reasoned answer taken apart: what leads to the letter, and what is shown beside it.

    `reasoning` is the model's hidden reasoning where the server separates it, else the text before
    the final letter; `remark` is that text where both exist. `problem` is None for one to keep.
    """

    reasoning: str
    remark: str
    letter: str | None
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a reasoned answer is held against: the key, the scene with its options, the prompt.

    `fixed` tells options that every scene of the form has (`It follows the norm.`) from its own.
    `examples` is the reasoning that the prompt showed, `fewest_words` the shortest to keep.
    """

    letter: str
    options: Sequence[str]
    fixed: bool
    scene: str
    examples: Sequence[str]
    fewest_words: int


def judge_answer(text: str, hidden: str | None, expected: Expected) -> Verdict:
    """Take an answer apart and hold it against the key; the reason where it cannot be kept.

    `no_letter`, `letter_disagrees` (with the key, or with itself), `key_named` (the reasoning says
    that the answer was given), `short_reasoning`, `off_topic` (hardly a word of the scene),
    `reasoning_disagrees` (it concludes on another of the fixed options), `quotes_example`.
    """
    before, said = final_letters(text, len(expected.options))
    reasoning, remark = (hidden.strip(), before) if hidden and hidden.strip() else (before, "")
    letter = said[-1] if said else None
    problem = None
    if letter is None:
        problem = f"no_letter: ends with {text.strip()[-60:]!r}"
    elif len(set(said)) > 1:
        problem = f"letter_disagrees: says {', then '.join(dict.fromkeys(said))}"
    elif letter != expected.letter:
        problem = f"letter_disagrees: says {letter}, the label is {expected.letter}"
    else:
        problem = _reasoning_problem(reasoning, remark, expected)
    return Verdict(reasoning=reasoning, remark=remark, letter=letter, problem=problem)


def _reasoning_problem(reasoning: str, remark: str, expected: Expected) -> str | None:
    leak = _GIVEN.search(f"{reasoning}\n{remark}")
    if leak is not None:
        return f"key_named: {leak.group()!r}"
    words = plain_words(reasoning)
    if len(words) < expected.fewest_words:
        return f"short_reasoning: {len(words)} words"
    scene = f"{expected.scene} {' '.join(expected.options)}"
    shared = (content_stems(reasoning) & content_stems(scene)) - _OF_THE_TASK
    if len(shared) < _FEWEST_SHARED:
        return f"off_topic: {len(shared)} words of the scene"
    named = _concluded(reasoning, expected.options) if expected.fixed else None
    if named not in (None, expected.letter):
        return f"reasoning_disagrees: ends on the words of {named}"
    for example in expected.examples:
        if longest_common_span(words, plain_words(example)) >= _QUOTED_WORDS:
            return f"quotes_example: {example[:60]!r}"
    return None


def _concluded(reasoning: str, options: Sequence[str]) -> str | None:
    """The letter of the fixed option on which a reasoning ends; None where it ends on no one alone.

    Its last concluding clause decides (`so`, `therefore`, `the answer is`), or its last sentence
    where there is none or where that takes the conclusion back (`However, ...`).
    """
    sentences = [one for one in _SENTENCE.split(reasoning) if one.strip()]
    if not sentences:
        return None
    last = _asserted_at_the_end(sentences[-1], options)
    if _TAKEN_BACK.match(sentences[-1]) and last is not None:
        return last
    for sentence in reversed(sentences):
        marks = list(_CONCLUDES.finditer(sentence))
        if marks:
            found = _asserted_at_the_end(sentence[marks[-1].end() :], options)
            return found if found is not None else _asserted_at_the_end(sentence, options)
    return last


def _asserted_at_the_end(sentence: str, options: Sequence[str]) -> str | None:
    """The one option that a sentence asserts, after its last `but`; None for none or several."""
    for part in reversed(_CONTRAST.split(sentence)):
        found = set[str]()
        for clause in _CLAUSE.split(part):
            found |= _asserted(clause, options)
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def _asserted(clause: str, options: Sequence[str]) -> set[str]:
    """The letters of the options that a clause says, without `it` or `they`, and neither denies nor
    compares with."""
    said = f" {' '.join(plain_words(clause))} "
    letters = set()
    for letter, option in zip(LETTERS, options, strict=False):
        named = plain_words(option)
        named = named[1:] if named[:1] in (["it"], ["they"]) else named
        for place in re.finditer(re.escape(f" {' '.join(named)} "), said):
            before = said[: place.start() + 1]
            if not (_DENIED.search(before) or _COMPARED.search(before)):
                letters.add(letter)
    return letters


def final_letters(text: str, options: int) -> tuple[str, list[str]]:
    """What stands before the final answer, and every letter that the text states as its answer.

    "Answer: B", "the answer is (b).", "\\boxed{B}", or a last line with a letter alone. A letter
    beyond the last option is none.
    """
    allowed = LETTERS[:options]
    stated = [match for match in _STATED.finditer(text) if match[1].upper() in allowed]
    lines = text.strip().splitlines()
    alone = _ALONE.match(lines[-1]) if lines else None
    if alone and alone[1] in allowed:
        said = [*(match[1].upper() for match in stated), alone[1]]
        return "\n".join(lines[:-1]).strip(), said
    if not stated:
        return text.strip(), []
    start = text.rfind("\n", 0, stated[-1].start()) + 1
    sentence = max(text.rfind(mark, start, stated[-1].start()) for mark in (". ", "! ", "? "))
    cut = start if sentence < 0 else sentence + 1
    return text[:cut].strip(), [match[1].upper() for match in stated]

"""The tokens that datatrove's rules count, without spaCy's cost.

datatrove reads words with spaCy's blank English tokenizer. That tokenizer cuts a text at white
space and each chunk by itself, so the tokens of a text are those of its chunks, with one exception:
afterwards it puts special cases (`:)`, `8)`) together again where their tokens stand side by side,
the longest first, and there two chunks may compete for a token. Hence:

- chunks of a common form are cut by a kernel whose letters and punctuation marks are probed from
  the tokenizer itself;
- every other chunk is given to the tokenizer once, and its tokens' lengths are remembered;
- where a chunk with a special case inside stands beside one that could compete with it, the line is
  given to the tokenizer as a whole: white space other than one space is a token that parts them.
"""

from __future__ import annotations

import itertools
import re
import threading
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]
Table = npt.NDArray[np.uint64]

_OPENERS = "([{\"'“‘_*<»«#&"
_CLOSERS = ".,;:!?)]}\"'”’_*>»«"
_PROBED = 0x600
"""Letters below are probed: Latin, Greek, Cyrillic, Armenian, Hebrew."""
_MEMO_CHUNKS = 1 << 20
_LINE = re.compile(r"\S+(?: \S+)*")
"""Chunks with single spaces between them: other white space is a token, which nothing joins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A text as code points (C,), and the bounds of its tokens (T,), in code points."""

    text: str
    codes: Codes
    starts: Places
    ends: Places


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grammar:
    """spaCy's English tokenizer, and what the kernel has to know of it."""

    tokenizer: Any
    unjoined: Any
    kinds: npt.NDArray[np.uint8]
    specials: Table
    pairs: tuple[Table, Table, Table]
    inside: re.Pattern[str]


class _Memo(threading.local):
    """The tokens of chunks seen before, by hash, one table a thread."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.keys = np.zeros(1 << 14, np.uint64)
        self.places = np.zeros(1 << 14, np.int32)
        self.lengths = np.zeros(1 << 16, np.int32)
        self.count = 0
        self.used = 0

    def add(self, key: int, lengths: Sequence[int], *, made: bool) -> None:
        from datagen.curate.kernels.tokens import put

        if 2 * (self.count + 1) > len(self.keys):
            keys, places = np.zeros(2 * len(self.keys), np.uint64), np.repeat(self.places, 2)
            for slot in np.flatnonzero(self.keys):
                put(keys, places, self.keys[slot], self.places[slot])
            self.keys, self.places = keys, places
        while self.used + len(lengths) + 1 > len(self.lengths):
            self.lengths = np.concatenate((self.lengths, np.zeros_like(self.lengths)))
        put(self.keys, self.places, np.uint64(key), self.used)
        entry = [2 * len(lengths) + made, *lengths]
        self.lengths[self.used : self.used + len(entry)] = entry
        self.used += len(entry)
        self.count += 1


_MEMO = _Memo()


def code_array(text: str) -> Codes:
    """A text's code points, shape (C,)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _unjoined(tokenizer: Any) -> Any:
    """The same tokenizer, but for putting special cases together again.

    spaCy looks special cases up in a second pass only if an affix rule cuts them: this one has no
    affix rules while it learns its special cases.
    """
    from spacy.tokenizer import Tokenizer

    learning = [True]

    def later(rule: Callable[[str], Any]) -> Callable[[str], Any]:
        return lambda text: None if learning[0] else rule(text)

    found = Tokenizer(
        tokenizer.vocab,
        rules=tokenizer.rules,
        prefix_search=later(tokenizer.prefix_search),
        suffix_search=later(tokenizer.suffix_search),
        infix_finditer=lambda text: () if learning[0] else tokenizer.infix_finditer(text),
        url_match=tokenizer.url_match,
    )
    learning[0] = False
    return found


def _kinds(tokenizer: Any) -> npt.NDArray[np.uint8]:
    from datatrove.utils.text import PUNCTUATION_SET

    from datagen.curate.kernels import tokens as flag

    kinds = np.zeros(0x110000, np.uint8)
    for code in range(0x110000):
        character = chr(code)
        if character.isalpha():
            kinds[code] = flag.ALPHA
        elif character.isspace():
            kinds[code] = flag.SPACE
    for character in PUNCTUATION_SET:
        kinds[ord(character)] |= flag.SYMBOL
    prefix, suffix, infix = tokenizer.find_prefix, tokenizer.find_suffix, tokenizer.find_infix
    for character in filter(str.isalpha, map(chr, range(_PROBED))):
        plain = not (prefix(character) or suffix(f"a{character}") or infix(f"a{character}a"))
        hyphened = f"{character}-{character}–{character}—{character}"
        if plain and [m.group() for m in infix(hyphened)] == ["-", "–", "—"]:
            kinds[ord(character)] |= flag.LETTER
            if suffix(f"{character}.") == 1:
                kinds[ord(character)] |= flag.LOWER
    for digit in "0123456789":
        kinds[ord(digit)] |= flag.DIGIT
    for mark in _OPENERS:
        if prefix(f"{mark}a") == 1 and prefix(f"{mark}1") == 1:
            kinds[ord(mark)] |= flag.OPEN
    for mark in _CLOSERS:
        before = ("aa", "1", "a's", "a)", "a,")
        alone = all(suffix(f"{text}{mark}") == 1 for text in before)
        if alone and (mark == "." or suffix(f"a{mark}.") == 1):
            kinds[ord(mark)] |= flag.CLOSE
    return kinds


@cache
def _grammar() -> _Grammar:
    """The tokenizer and its tables, made once a process in about 2 s."""
    import spacy
    from spacy.tokenizer import Tokenizer
    from spacy.vocab import Vocab

    from datagen.curate.kernels.tokens import LONGEST_CASE

    english: Any = spacy.blank("en").tokenizer
    affixes = {
        "prefix_search": english.prefix_search,
        "suffix_search": english.suffix_search,
        "infix_finditer": english.infix_finditer,
        "url_match": english.url_match,
    }
    # A vocabulary without attributes: where a text is cut does not depend on them.
    tokenizer = Tokenizer(Vocab(), rules=english.rules, **affixes)
    bare = Tokenizer(tokenizer.vocab, **affixes)
    assert max(map(len, english.rules)) <= LONGEST_CASE
    genitives = {f"{mark}{letter}" for mark in "'’" for letter in "sS"}
    assert all(len(english.rules[case]) == 1 for case in genitives & english.rules.keys())
    parts = {case: [token.text for token in bare(case)] for case in english.rules}
    sides = [pair for found in parts.values() for pair in itertools.pairwise(found)]
    joined = [
        case
        for case, found in parts.items()
        if len(found) > 1 or english.find_prefix(case) or english.find_suffix(case)
    ]
    return _Grammar(
        tokenizer=tokenizer,
        unjoined=_unjoined(tokenizer),
        kinds=_kinds(tokenizer),
        specials=_table(map(_key, parts)),
        pairs=(
            _table(ord(left[-1]) << 32 | ord(right[0]) for left, right in sides),
            _table(_key(left) for left, _ in sides),
            _table(_key(right) for _, right in sides),
        ),
        inside=re.compile("|".join(map(re.escape, sorted(joined, key=len, reverse=True)))),
    )


def _key(text: str) -> int:
    from datagen.curate.kernels.tokens import hash_codes

    codes = code_array(text)
    return int(hash_codes(codes, 0, len(codes)))


def _table(keys: Iterable[int]) -> Table:
    """An open table of keys, half empty."""
    from datagen.curate.kernels.tokens import put

    found = set(keys)
    table = np.zeros(1 << (2 * len(found)).bit_length(), np.uint64)
    places = np.zeros(len(table), np.int32)
    for key in found:
        put(table, places, np.uint64(key), 0)
    return table


def kinds() -> npt.NDArray[np.uint8]:
    """The flags of every code point (see `kernels.tokens`)."""
    return _grammar().kinds


def _learn(text: str, codes: Codes, chunks: Iterable[tuple[int, int]]) -> None:
    from datagen.curate.kernels.tokens import hash_codes

    grammar = _grammar()
    if _MEMO.count > _MEMO_CHUNKS:
        _MEMO.clear()
    with grammar.tokenizer.vocab.memory_zone():
        places = list(chunks)
        for (start, end), found in zip(
            places, _lengths(grammar.tokenizer, [text[a:b] for a, b in places]), strict=True
        ):
            chunk = text[start:end]
            made = grammar.inside.search(chunk) is not None and found != [
                len(token) for token in grammar.unjoined(chunk)
            ]
            _MEMO.add(int(hash_codes(codes, start, end)), found, made=made)


def _lengths(tokenizer: Any, chunks: Sequence[str]) -> list[list[int]]:
    """The lengths of the tokens of each chunk: a line feed is a token that parts two of them."""
    found: list[list[int]] = [[]]
    for token in tokenizer("\n".join(chunks)):
        if token.text == "\n":
            found.append([])
        else:
            found[-1].append(len(token))
    return found


def _whole(text: str) -> tuple[Places, Places]:
    """The tokens of a text as spaCy cuts it as a whole, white space left out."""
    grammar = _grammar()
    with grammar.tokenizer.vocab.memory_zone():
        found = [
            (token.idx, token.idx + len(token))
            for token in grammar.tokenizer(text)
            if not token.text.isspace()
        ]
    bounds = np.array(found, np.int64).reshape(-1, 2)
    return bounds[:, 0].copy(), bounds[:, 1].copy()


def _cut(text: str, codes: Codes) -> tuple[Places, Places, bool]:
    """The tokens' bounds, and whether some chunks may compete for a token."""
    from datagen.curate.kernels.tokens import cut

    grammar = _grammar()
    bounds = np.empty((2, len(codes)), np.int64)
    new = np.empty(len(codes) + 1, np.int64)
    while True:
        memo = (_MEMO.keys, _MEMO.places, _MEMO.lengths)
        count, unknown, odd = cut(
            codes, grammar.kinds, grammar.specials, memo, grammar.pairs, bounds[0], bounds[1], new
        )
        if not unknown:
            # A copy, which does not keep room for a token a character.
            starts, ends = bounds[:, :count].copy()
            return starts, ends, odd
        chunks = new[: 2 * unknown].reshape(-1, 2)
        once = {text[start:end]: (start, end) for start, end in chunks.tolist()}
        _learn(text, codes, once.values())


@lru_cache(maxsize=2)
def read_words(text: str) -> Words:
    """Cut a text into the tokens of spaCy's blank English tokenizer, white space left out."""
    codes = code_array(text)
    starts, ends, odd = _cut(text, codes)
    if odd:
        parts = []
        for line in _LINE.finditer(text):
            begin, end = line.span()
            low, high, odd = _cut(line.group(), codes[begin:end])
            if odd:
                low, high = _whole(line.group())
            parts.append((low + begin, high + begin))
        starts, ends = (np.concatenate(side) for side in zip(*parts, strict=True))
    return Words(text=text, codes=codes, starts=starts, ends=ends)


@cache
def _sentence_ends() -> frozenset[str]:
    from spacy.pipeline import Sentencizer

    return frozenset(Sentencizer.default_punct_chars)


def count_sentences(text: str) -> int:
    """How many sentences spaCy's rule finds: one ends before the first token after a full stop
    that is neither punctuation nor another full stop. White space other than one space is a token.
    """
    ends = _sentence_ends()
    words = read_words(text)
    count, stopped, before = 1, False, 0
    for start, end in zip(words.starts.tolist(), words.ends.tolist(), strict=True):
        gap = text[before:start]
        token = text[start:end]
        before = end
        if stopped and gap not in ("", " "):
            count, stopped = count + 1, False
        if token in ends:
            stopped = True
        elif stopped and not all(unicodedata.category(mark)[0] == "P" for mark in token):
            count, stopped = count + 1, False
    return count + (stopped and text[before:] not in ("", " "))

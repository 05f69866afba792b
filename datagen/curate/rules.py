"""The Gopher, C4 and FineWeb rules, verdict for verdict those of datatrove's English blocks.

Each function takes the arguments of datatrove's block and gives a judge of texts: why to drop, or
None. Tokens are spaCy's (`curate.tokens`), counts come from kernels, and every comparison is the
one that datatrove makes on the same two integers. Settings that the kernels do not know (another
language, stop marks of several characters, C4 by sentences) are left to datatrove's own block.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from datagen.curate.tokens import Codes, Words, code_array, count_sentences, kinds, read_words

Rule = Callable[[str], str | None]

_ENGLISH = "eng"
_GOPHER_STOPS = ("the", "be", "to", "of", "and", "that", "have", "with")
_CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
_C4_ENDS = (".", "?", "!", '"', "'")
_C4_POLICY = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
_LONG_PARAGRAPH, _LONG_PARAGRAPHS = 200, 3
_C4_RARE = re.compile("|".join(("lorem ipsum", "javascript", *_C4_POLICY)))


def _needs_tokens() -> None:
    """Say at once that the tokenizer is missing, not at the first text; it loads with that."""
    if importlib.util.find_spec("spacy") is None:
        raise ModuleNotFoundError("spaCy cuts the tokens", name="spacy")


def _of_block(name: str, **arguments: Any) -> Rule:
    """A datatrove block itself, for what the kernels do not know."""
    from datatrove.data import Document
    from datatrove.pipeline import filters
    from datatrove.utils.word_tokenizers import load_word_tokenizer

    if (language := arguments.get("language")) is not None:
        load_word_tokenizer(language)
    block = getattr(filters, name)(**arguments)

    def rule(text: str) -> str | None:
        verdict = block.filter(Document(text=text, id=""))
        kept, detail = verdict if isinstance(verdict, tuple) else (verdict, "")
        return None if kept else detail

    return rule


def _lines(codes: Codes) -> npt.NDArray[np.int64]:
    """Rows of `kernels.quality.split_lines`."""
    from datagen.curate.kernels.quality import split_lines

    room = np.empty((len(codes) + 1, 4), np.int64)
    return room[: split_lines(codes, kinds(), room)]


def gopher_quality(
    min_doc_words: int | None = 50,
    max_doc_words: int | None = 100000,
    min_avg_word_length: float | None = 3,
    max_avg_word_length: float | None = 10,
    max_symbol_word_ratio: float | None = 0.1,
    max_bullet_lines_ratio: float | None = 0.9,
    max_ellipsis_lines_ratio: float | None = 0.3,
    max_non_alpha_words_ratio: float | None = 0.8,
    min_stop_words: int | None = 2,
    stop_words: Sequence[str] | None = None,
    language: str = _ENGLISH,
) -> Rule:
    """Refuse odd lengths, symbols, bullets, few letters, few stop words (Gopher)."""
    if language != _ENGLISH:
        return _of_block("GopherQualityFilter", **locals())
    _needs_tokens()
    stops = _stop_hashes(_GOPHER_STOPS if stop_words is None else stop_words)
    longest = max(map(len, _GOPHER_STOPS if stop_words is None else stop_words), default=0)

    def rule(text: str) -> str | None:
        from datagen.curate.kernels.quality import count_marked_lines, count_tokens

        words = read_words(text)
        n_words = len(words.starts)
        worded, length, lettered, stopped = count_tokens(
            words.codes, words.starts, words.ends, kinds(), stops, longest
        )
        if min_doc_words and worded < min_doc_words:
            return "gopher_short_doc"
        if max_doc_words and worded > max_doc_words:
            return "gopher_long_doc"
        mean = length / worded if worded else float("nan")
        if min_avg_word_length and mean < min_avg_word_length:
            return "gopher_below_avg_threshold"
        if max_avg_word_length and mean > max_avg_word_length:
            return "gopher_above_avg_threshold"
        if max_symbol_word_ratio:
            if text.count("#") / n_words > max_symbol_word_ratio:
                return "gopher_too_many_hashes"
            if (text.count("...") + text.count("…")) / n_words > max_symbol_word_ratio:
                return "gopher_too_many_ellipsis"
        if max_bullet_lines_ratio or max_ellipsis_lines_ratio:
            lines = _lines(words.codes)
            bullets, cut = count_marked_lines(words.codes, lines)
            if max_bullet_lines_ratio and bullets / len(lines) > max_bullet_lines_ratio:
                return "gopher_too_many_bullets"
            if max_ellipsis_lines_ratio and cut / len(lines) > max_ellipsis_lines_ratio:
                return "gopher_too_many_end_ellipsis"
        if max_non_alpha_words_ratio and lettered / n_words < max_non_alpha_words_ratio:
            return "gopher_below_alpha_threshold"
        if min_stop_words and stopped < min_stop_words:
            return "gopher_enough_stop_words"
        return None

    return rule


def _stop_hashes(words: Sequence[str]) -> npt.NDArray[np.uint64]:
    from datagen.curate.kernels.tokens import hash_codes

    codes = [code_array(word) for word in sorted(set(words))]
    return np.array([int(hash_codes(code, 0, len(code))) for code in codes], np.uint64)


_TOP = ((2, 0.2), (3, 0.18), (4, 0.16))
_REPEATED = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))


def gopher_repetition(
    dup_line_frac: float | None = 0.3,
    dup_para_frac: float | None = 0.3,
    dup_line_char_frac: float | None = 0.2,
    dup_para_char_frac: float | None = 0.2,
    top_n_grams: Sequence[tuple[int, float]] = _TOP,
    dup_n_grams: Sequence[tuple[int, float]] = _REPEATED,
    language: str = _ENGLISH,
) -> Rule:
    """Refuse repeated lines, paragraphs and word n-grams (Gopher, table A1)."""
    if language != _ENGLISH:
        return _of_block("GopherRepetitionFilter", **locals())

    _needs_tokens()

    def rule(text: str) -> str | None:
        from datagen.curate.kernels.quality import count_parts

        if not text:
            return "empty"
        codes = code_array(text)
        low = len(text) - len(text.lstrip())
        for name, bounds, feeds, share, character_share in (
            ("para", (low, max(low, len(text.rstrip()))), 2, dup_para_frac, dup_para_char_frac),
            ("line", (0, len(text)), 1, dup_line_frac, dup_line_char_frac),
        ):
            parts, again, repeated = count_parts(codes, *bounds, feeds)
            if share and again / parts > share:
                return f"dup_{name}_frac"
            if character_share and repeated / len(text) > character_share:
                return f"dup_{name}_char_frac"
        words = read_words(text)
        return _common_grams(words, top_n_grams) or _repeated_grams(words, dup_n_grams)

    return rule


def _common_grams(words: Words, shares: Sequence[tuple[int, float]]) -> str | None:
    from datagen.curate.kernels.quality import commonest, roll

    hashes, _, _ = _hashes(words)
    rolled, done = hashes.copy(), 1
    for n, share in shares:
        grams = len(hashes) - n + 1
        if grams < 1:
            continue
        if n < done:
            rolled, done = hashes.copy(), 1
        roll(rolled, hashes, done, n)
        done = n
        place, count = commonest(rolled, grams)
        inside = words.ends[place : place + n] - words.starts[place : place + n]
        if (int(inside.sum()) + n - 1) * count / len(words.text) > share:
            return f"top_{n}_gram"
    return None


def _repeated_grams(words: Words, shares: Sequence[tuple[int, float]]) -> str | None:
    from datagen.curate.kernels.quality import count_repeated, roll_sums

    _, sums, powers = _hashes(words)
    rolled, done = sums.copy(), 1
    for n, share in shares:
        if n < done:
            rolled, done = sums.copy(), 1
        roll_sums(rolled, sums, powers, done, n)
        done = n
        if count_repeated(rolled, words.starts, words.ends, n) / len(words.text) > share:
            return f"duplicated_{n}_n_grams"
    return None


def _hashes(words: Words) -> npt.NDArray[np.uint64]:
    """Each token's hash, sum and power (see `kernels.quality.hash_tokens`), shape (3, T)."""
    from datagen.curate.kernels.quality import hash_tokens

    found = np.empty((3, len(words.starts)), np.uint64)
    hash_tokens(words.codes, words.starts, words.ends, found[0], found[1], found[2])
    return found


def fineweb_quality(
    line_punct_thr: float = 0.12,
    line_punct_exclude_zero: bool = False,
    stop_chars: Sequence[str] | None = None,
    short_line_thr: float = 0.67,
    short_line_length: int = 30,
    char_duplicates_ratio: float = 0.01,
    new_line_ratio: float = 0.3,
    language: str = _ENGLISH,
) -> Rule:
    """Refuse unpunctuated, short or repeated lines and lists (FineWeb)."""
    from datatrove.utils.text import TERMINAL_PUNCTUATION

    if stop_chars is None:
        stop_chars = tuple(sorted(TERMINAL_PUNCTUATION))
    if language != _ENGLISH or any(len(mark) != 1 for mark in stop_chars):
        arguments = {k: v for k, v in locals().items() if k != "TERMINAL_PUNCTUATION"}
        return _of_block("FineWebQualityFilter", **{**arguments, "stop_chars": tuple(stop_chars)})
    _needs_tokens()
    stops = np.array(sorted(set(map(ord, stop_chars))), np.uint32)

    def rule(text: str) -> str | None:
        from datagen.curate.kernels.quality import count_written_lines

        codes = code_array(text)
        lines, stopped, short, repeated = count_written_lines(
            codes, kinds(), stops, short_line_length
        )
        if not lines:
            return "empty"
        ratio = stopped / lines
        if ratio < line_punct_thr and not (ratio == 0 and line_punct_exclude_zero):
            return "line_punct_ratio"
        if short / lines > short_line_thr:
            return "short_line_ratio"
        feeds = text.count("\n")
        if repeated / (len(text) - feeds) > char_duplicates_ratio:
            return "char_dup_ratio"
        # No more tokens than characters that are no line feeds, no fewer than one.
        if feeds <= new_line_ratio:
            return None
        return "list_ratio" if feeds / len(read_words(text).starts) > new_line_ratio else None

    return rule


def c4_quality(
    split_paragraph: bool = True,
    remove_citations: bool = True,
    filter_no_terminal_punct: bool = True,
    min_num_sentences: int = 5,
    min_words_per_line: int = 3,
    max_word_length: int = 1000,
    filter_lorem_ipsum: bool = True,
    filter_javascript: bool = True,
    filter_curly_bracket: bool = True,
    filter_policy: bool = True,
    language: str = _ENGLISH,
) -> Rule:
    """Refuse too few good sentences, lorem ipsum, curly brackets (C4)."""
    if language != _ENGLISH or not split_paragraph:
        return _of_block("C4QualityFilter", **locals())

    _needs_tokens()

    def rule(text: str) -> str | None:
        # Citations lie within a line: what no line says is not in the text without them.
        bare = _CITATION.sub("", text) if remove_citations else text
        rare = _C4_RARE.search(bare.lower()) is not None
        kept = []
        for start, end, words, longest in _lines(code_array(text)).tolist():
            if longest > max_word_length != -1:
                continue
            line = text[start:end]
            if remove_citations and "[" in line:
                line = _CITATION.sub("", line)
            if filter_no_terminal_punct and (not line.endswith(_C4_ENDS) or line.endswith("...")):
                continue
            if words < min_words_per_line:
                continue
            lowered = line.lower() if rare else ""
            if filter_lorem_ipsum and "lorem ipsum" in lowered:
                return "lorem_ipsum"
            if filter_javascript and "javascript" in lowered:
                continue
            if filter_curly_bracket and "{" in line:
                return "curly_bracket"
            if filter_policy and any(phrase in lowered for phrase in _C4_POLICY):
                continue
            kept.append(line)
        # A line has at least one sentence.
        if min_num_sentences == -1 or len(kept) >= min_num_sentences:
            return None
        enough = sum(map(count_sentences, kept)) >= min_num_sentences
        return None if enough else "too_few_sentences"

    return rule


def c4_paragraph() -> Rule:
    """Refuse pages with fewer than three long paragraphs (mC4)."""

    def rule(text: str) -> str | None:
        long = sum(len(line) >= _LONG_PARAGRAPH for line in text.split("\n"))
        return None if long >= _LONG_PARAGRAPHS else f"< {_LONG_PARAGRAPHS} paragraphs"

    return rule

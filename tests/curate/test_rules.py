"""The compiled rules against datatrove's own blocks: the same verdict for the same reason."""

from __future__ import annotations

import random
from typing import Any

import pytest
from datatrove.data import Document
from datatrove.pipeline import filters
from datatrove.utils.word_tokenizers import load_word_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.curate import rules
from datagen.curate.tokens import count_sentences, read_words
from tests.curate.support import PROSE, data_rows, sample_rows

BLOCKS: dict[Any, str] = {
    rules.gopher_quality: "GopherQualityFilter",
    rules.gopher_repetition: "GopherRepetitionFilter",
    rules.fineweb_quality: "FineWebQualityFilter",
    rules.c4_quality: "C4QualityFilter",
    rules.c4_paragraph: "C4ParagraphFilter",
}
SETTINGS: list[tuple[Any, dict[str, Any]]] = [
    *((rule, {}) for rule in BLOCKS),
    (rules.gopher_quality, {"min_doc_words": 3, "max_non_alpha_words_ratio": 0.7}),
    (rules.gopher_quality, {"min_doc_words": 1, "min_stop_words": 1, "stop_words": ("b", ":)")}),
    (rules.gopher_repetition, {"top_n_grams": ((4, 0.2), (1, 0.5)), "dup_n_grams": ((3, 0.1),)}),
    (rules.fineweb_quality, {"stop_chars": ("%", "."), "line_punct_exclude_zero": True}),
    (rules.fineweb_quality, {"stop_chars": ("...",), "line_punct_thr": 0.3}),
    (rules.c4_quality, {"filter_no_terminal_punct": False, "filter_curly_bracket": False}),
    (rules.c4_quality, {"min_num_sentences": 2, "min_words_per_line": -1, "max_word_length": 12}),
    (rules.c4_quality, {"split_paragraph": False}),
]
PARTS = (
    "the and be word Word co-op e.g. Mr. a. U.S. don't it's John's can't 'em 8 19 1,000 3.5 10km : "
    ":) :-( ): 8) (8) ( ) [1] [edit] , . ... … ! ? ' '' \" “ ” ’ - -- – • # { } javascript lorem "
    "ipsum İ naïve Ünï x_y http://a.bc/d?e=f a@b.cd 漢字 <3 >.< * / °C. \u2028 \x85 \xa0 \t"
).split(" ")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_word_tokenizer("eng")


def own(text: str) -> list[str]:
    words = read_words(text)
    return [text[a:b] for a, b in zip(words.starts.tolist(), words.ends.tolist(), strict=True)]


def of_datatrove(make: Any, arguments: dict[str, Any], text: str) -> str | None:
    block = getattr(filters, BLOCKS[make])(**arguments)
    verdict = block.filter(Document(text=text, id="0"))
    kept, why = verdict if isinstance(verdict, tuple) else (verdict, "")
    return None if kept else why


def noise(seed: int) -> str:
    rng = random.Random(seed)
    gaps = ("", " ", " ", " ", "  ", "\n", "\n\n", "\r\n")
    pool = rng.sample(PARTS, rng.randrange(2, len(PARTS)))
    return "".join(rng.choice(pool) + rng.choice(gaps) for _ in range(rng.choice((3, 20, 80, 200))))


def real_texts() -> list[str]:
    rows = data_rows("wiki/wikipedia_en_articles.jsonl.gz")[::60]
    texts = [row["text"][:6000] for row in rows]
    texts += [row["content"][:3000] for row in data_rows("code/code_files.jsonl.gz")[::40]]
    texts += [row["text"][:6000] for row in data_rows("dedup/license_texts_docs.jsonl.gz")[::40]]
    return [*texts, *(row["context"] for row in data_rows("wiki/xquad_paragraphs.jsonl.gz")[::60])]


def odd_texts() -> list[str]:
    found = ["", " ", "\n", "\n\n\n", "word", "a\n\na\n\na", "- a\n• b\n" * 30, "x " * 60]
    found += ["Wait...\n" * 30, "# " * 20 + PROSE, PROSE + "\n" + PROSE, "\r\n".join([PROSE] * 2)]
    found += ["ab c a bc ab c a bc " * 20, "lorem[1] ipsum dolor sit amet. " * 9, "{" + PROSE]
    found += [f"{PROSE}\nWe use cookies here. Really.\n{PROSE}", "one two three. Four five six."]
    return [*found, *(row["text"] for row in sample_rows("finewiki")[:5])]


def test_tokens_are_those_of_the_tokenizer(tokenizer: Any) -> None:
    for text in [*odd_texts(), *map(noise, range(300))]:
        assert own(text) == tokenizer.word_tokenize(text)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.sampled_from([*PARTS, " ", " ", "\n"]), st.text(max_size=4))))
def test_tokens_of_any_text(parts: list[str]) -> None:
    text = "".join(parts)
    assert own(text) == load_word_tokenizer("eng").word_tokenize(text)


@pytest.mark.parametrize(
    "text",
    [
        "5-8)",
        "1.2.3.4/5-6",
        "1.2.3.4-5",
        "a—b's.",
        "_8)_",
        "AB.",
        "aB.",
        "A.",
        "A's.",
        "0.0-1",
        "foo:) )",
        "foo:) :) x",
        "(8) :",
        "ukiyo-e. The",
        "to-it's",
        "(Jan.) x",
        "x ) foo):",
        "8) - (8)",
    ],
)
def test_special_cases_that_compete(text: str, tokenizer: Any) -> None:
    assert own(text) == tokenizer.word_tokenize(text)


def test_sentences_are_those_of_the_tokenizer(tokenizer: Any) -> None:
    for text in [*odd_texts(), *map(noise, range(150))]:
        for line in filter(None, text.splitlines()):
            assert count_sentences(line) == max(1, len(tokenizer.span_tokenize(line)))


@pytest.mark.parametrize(("make", "arguments"), SETTINGS)
def test_verdicts_are_those_of_datatrove(make: Any, arguments: dict[str, Any]) -> None:
    rule = make(**arguments)
    for text in [*odd_texts(), *map(noise, range(100))]:
        assert rule(text) == of_datatrove(make, arguments, text)


@pytest.mark.parametrize(("make", "arguments"), SETTINGS)
def test_verdicts_on_real_texts(make: Any, arguments: dict[str, Any]) -> None:
    rule = make(**arguments)
    for text in real_texts():
        assert rule(text) == of_datatrove(make, arguments, text)


def test_another_language_is_left_to_datatrove() -> None:
    german = "Der Hafen der alten Stadt wurde gebaut, und man sieht ihn noch. " * 9
    arguments = {"language": "deu", "stop_words": ("der", "und")}
    assert rules.gopher_quality(**arguments)(german) == of_datatrove(
        rules.gopher_quality, arguments, german
    )

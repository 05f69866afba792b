"""Cleaned texts add and lose nothing; what texts are held by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from datagen.generate.legal.held import added, rephrasing_problem
from datagen.generate.legal.repairs import unmended
from datagen.generate.legal.sentences import sentences
from tests.generate.legal_rows import asked, last, reasons
from tests.servers import Answer

# --- cleaned texts -------------------------------------------------------------------------------

SUMMARIES = "legal/case_law_summaries"
NOISY = {
    "case_name": "Marlow v. Fenn",
    "summary": "Act ion for the price of a horse. [*221] The de-\nfendant Silas Weir pleaded that "
    "the horse was 1ame. Held, that a buyer who examines a horse cannot complain. Judgment for "
    '$85 in the words of the jury: "as the price was".',
}
CLEAN = (
    "Action for the price of a horse. The defendant Silas Weir pleaded that the horse was lame. "
    "Held, that a buyer who examines a horse cannot complain. Judgment for $85 in the words of "
    'the jury: "as the price was".'
)


def test_a_cleaned_summary_is_kept_and_page_marks_never_reach_the_model(tmp_path: Path) -> None:
    requests: list[dict[str, Any]] = []
    (draft,) = asked(
        tmp_path, SUMMARIES, [NOISY], lambda body, i: CLEAN, requests=requests, piece_words=99
    )
    assert draft.rejected is None and draft.text and CLEAN in draft.text
    assert "221" not in last(requests[0]) and "defendant" in last(requests[0])


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (CLEAN.replace("$85", "$58"), "new_numbers"),
        (CLEAN.replace("Silas Weir", "Silas Moor"), "new_names"),
        (CLEAN.replace("as the price was", "as fair as it was"), "new_quote"),
        (CLEAN.replace("Silas Weir ", "").replace(" for $85", ""), "lost_facts"),
        (CLEAN.replace("cannot complain", "can complain"), "negation_changed"),
        (CLEAN.replace("that a buyer who examines a horse cannot", "that one might not"),
         "lost_words"),
        (CLEAN.replace("cannot complain", "cannot protest, grumble or complain"), "new_words"),
        (CLEAN.replace("the horse was lame", "the horse was"), "lost_words"),
        (CLEAN[:60], "length"),
        (CLEAN.replace("lame", "1ame"), "still_dirty"),
        (CLEAN.replace("lame.", "lame ."), "still_dirty"),
        ("Here is the cleaned text: " + CLEAN, "preface"),
    ],
)  # fmt: skip
def test_a_cleaned_summary_that_strays_is_rejected(tmp_path: Path, said: str, reason: str) -> None:
    assert reasons(asked(tmp_path, SUMMARIES, [NOISY], lambda body, i: said, piece_words=99)) == [
        reason
    ]


def test_long_and_empty_summaries_are_rejected(tmp_path: Path) -> None:
    long = {**NOISY, "summary": "The court held that the bridge was unsafe at night. " * 400}
    answer: Answer = lambda body, i: CLEAN  # noqa: E731
    assert reasons(asked(tmp_path, SUMMARIES, [long], answer)) == ["long_text"]
    assert reasons(asked(tmp_path, SUMMARIES, [{**NOISY, "summary": " "}], answer)) == ["empty"]
    assert reasons(asked(tmp_path, SUMMARIES, [NOISY], lambda b, i: "")) == ["clean_empty"]


# --- what texts are held by ----------------------------------------------------------------------


def test_sentences_are_verbatim_and_citations_stay_whole() -> None:
    text = (
        "See Hollis v. Bramwell, 212 Fern. 340, 344 (1988). The Hon. J. Dunn sat on Jan. 5.\n\n"
        'Under 28 U.S.C. § 1332 it is so. Is it? "Yes." He left.'
    )
    found = sentences(text)
    assert found == [
        "See Hollis v. Bramwell, 212 Fern. 340, 344 (1988).",
        "The Hon. J. Dunn sat on Jan. 5.",
        "Under 28 U.S.C. § 1332 it is so.",
        "Is it?",
        '"Yes."',
        "He left.",
    ]
    assert all(sentence in text for sentence in found)


def test_mended_words_are_neither_new_nor_lost() -> None:
    source = "The convict1on of the de fendant was reversed, and judgmemt given."
    mended = "The conviction of the defendant was reversed, and judgment given."
    assert unmended(mended, source) == ([], [])
    assert unmended("The verdict was reversed, and judgment given.", source) == (
        ["verdict"],
        ["convict1on", "de", "fendant"],
    )


def test_additions_and_rewordings() -> None:
    source = "Ada Quill sold 1,200 tiles to Bram Dahl in Ohio for $3.50 each."
    assert added("Bram Dahl bought 1200 tiles.", source) is None
    assert (added("Bram Dahl bought 12 tiles.", source) or "").startswith("new_numbers")
    same = "In Ohio, Bram Dahl bought 1,200 tiles for $3.50 each from Ada Quill."
    kept = ["Ada Quill", "Bram Dahl", "Ohio", "$3.50"]
    assert rephrasing_problem(same, source, kept=kept) is None
    assert rephrasing_problem(same.replace("3.50", "3.5"), source, kept=kept)
    assert rephrasing_problem(same.replace("Ohio", "Ohioans"), source, kept=kept) == "lost: Ohio"

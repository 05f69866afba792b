"""Answers, options and overlaps: what counts as the same, and what is wrong with a set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.generate.items.agreement import agreement, joined
from datagen.generate.items.blind import Item
from datagen.generate.items.enrich import named_option
from datagen.generate.items.normalise import (
    LETTERS,
    answer_form,
    number_of,
    plain_words,
    read_letter,
    same_answer,
    script_of,
)
from datagen.generate.items.options import lettered, options_problem, placed, rotated, without_label
from datagen.generate.items.overlap import longest_common_span, ngram_share, overlap
from datagen.generate.items.written import Columns, Written, read_seed
from datagen.record import Seed

WORD = st.text("abcdefg", min_size=1, max_size=3)
WORDS = st.lists(WORD, max_size=25)
OPTIONS = st.lists(
    st.text("abcdefghij ", min_size=1, max_size=12).filter(lambda text: bool(text.strip())),
    min_size=2,
    max_size=6,
    unique_by=answer_form,
).filter(lambda options: all(answer_form(option) for option in options))


# --- normalise -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("The cat.", "a CAT"),
        ("$1,000.00", "1000"),
        ("2.50", "2.5"),
        ("Ａ１", "a1"),
        ("“water”", "water"),
        ("-3", "−3"),
    ],
)
def test_answers_that_say_the_same_have_one_form(left: str, right: str) -> None:
    assert answer_form(left) == answer_form(right)
    assert same_answer(left, right)


@pytest.mark.parametrize(
    ("left", "right"), [("3.5", "35"), ("12", "-12"), ("no", "not"), ("a cat", "cats"), ("", "")]
)
def test_answers_that_differ_stay_apart(left: str, right: str) -> None:
    assert not same_answer(left, right)


def test_a_unit_beside_a_number_does_not_count() -> None:
    assert same_answer("39 muffins", "39") and same_answer("15%", "15")
    assert not same_answer("39 muffins and 2 loaves", "39") and not same_answer("a few", "39")


@given(st.integers(-(10**9), 10**9))
def test_a_number_is_read_in_any_dress(number: int) -> None:
    for dressed in (f"{number}", f"{number:,}", f"${number:,}.00", f" {number}. "):
        assert number_of(dressed) == number


def test_words_are_whole_in_every_script() -> None:
    assert plain_words("It's Mars-bound!") == ["it", "s", "mars", "bound"]
    assert plain_words("हिन्दी में") == ["हिन्दी", "में"]
    assert plain_words("東京 tower") == ["東", "京", "tower"]


@pytest.mark.parametrize(
    ("text", "script"),
    [("Où est-ce ?", "LATIN"), ("где", "CYRILLIC"), ("東京タワー", "CJK"), ("12 + 3", "")],
)
def test_script(text: str, script: str) -> None:
    assert script_of(text) == script


@given(OPTIONS, st.data())
def test_a_letter_is_read_however_it_is_written(options: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(options) - 1))
    letter = LETTERS[place]
    words = [f"{letter})", f"({letter})", f"{letter}.", f"The answer is {letter}."]
    words += [f"Answer: {letter}", f"option {letter}", f"{letter}: {options[place]}"]
    for said in [options[place], *words]:
        if not any(same_answer(said, option) for option in options) or said == options[place]:
            assert read_letter(said, options) == letter, said


@pytest.mark.parametrize("said", ["E", "I think so", "a dog", "", "A and B", "Mars and Venus"])
def test_what_names_no_option_is_no_letter(said: str) -> None:
    assert read_letter(said, ["Mars", "Venus", "Earth"]) is None


# --- options -------------------------------------------------------------------------------------


@given(OPTIONS, st.data())
def test_placing_and_turning_lose_no_option(options: list[str], data: st.DataObject) -> None:
    answer, *wrong = options
    place = data.draw(st.integers(0, len(wrong)))
    stand = placed(answer, wrong, place)
    assert stand[place] == answer and sorted(stand) == sorted(options)
    by = data.draw(st.integers(0, 12))
    turned = rotated(stand, by)
    assert turned[(place + by) % len(stand)] == answer and sorted(turned) == sorted(options)
    assert [option["letter"] for option in lettered(stand)] == list(LETTERS[: len(stand)])


@given(OPTIONS)
def test_distinct_options_are_no_problem_and_a_double_is(options: list[str]) -> None:
    answer, *wrong = options
    assert options_problem(answer, wrong, count=len(options), max_ratio=100) is None
    doubled = [*wrong[:-1], f" {answer.upper()}!"]
    found = options_problem(answer, doubled, count=len(options), max_ratio=100)
    assert found is not None and found.startswith("options_alike: ")


@pytest.mark.parametrize(
    ("answer", "wrong", "reason"),
    [
        ("4", ["5", "6"], "options_missing"),
        ("4", ["5", "4.0", "6"], "options_alike"),
        ("4", ["5", "  ", "6"], "option_empty"),
        ("ice", ["steam", "water", "All of the above"], "option_of_the_above"),
        ("ice", ["steam", "water", "Both A and B"], "option_of_the_above"),
        ("none of these answers", ["steam", "water", "ice"], "option_of_the_above"),
        ("because it takes up the heat of the room", ["no", "yes", "maybe"], "correct_stands_out"),
    ],
)
def test_each_fault_of_options_has_its_name(answer: str, wrong: list[str], reason: str) -> None:
    found = options_problem(answer, wrong, count=4)
    assert found is not None and found.partition(":")[0] == reason


def test_of_the_above_may_be_allowed() -> None:
    wrong = ["steam", "water", "all of the above"]
    assert options_problem("ice", wrong, count=4, allow_of_the_above=True) is None


def test_labels_before_options_fall_away() -> None:
    assert [without_label(o) for o in ("B) Mars", "(c) Mars", "A. Mars", "A Mars bar")] == [
        "Mars",
        "Mars",
        "Mars",
        "A Mars bar",
    ]


# --- overlap -------------------------------------------------------------------------------------


def slow_span(left: list[str], right: list[str]) -> int:
    """The longest common run, tried at every pair of places."""
    best = 0
    for i in range(len(left)):
        for j in range(len(right)):
            length = 0
            while i + length < len(left) and j + length < len(right):
                if left[i + length] != right[j + length]:
                    break
                length += 1
            best = max(best, length)
    return best


@given(WORDS, WORDS)
def test_longest_span_is_the_one_found_by_trying(left: list[str], right: list[str]) -> None:
    assert longest_common_span(left, right) == slow_span(left, right)
    assert longest_common_span(left, right) == longest_common_span(right, left)


@given(WORDS, WORDS)
def test_overlap_is_whole_with_itself_and_in_a_longer_text(
    words: list[str], more: list[str]
) -> None:
    assert longest_common_span(words, words) == len(words)
    assert ngram_share(words, [*more, *words, *more]) == (1.0 if words else 0.0)
    assert 0 <= ngram_share(words, more) <= 1


def test_a_copy_in_other_case_and_marks_is_a_copy() -> None:
    found = overlap("How many apples does SHE have?", "how many apples, does she have")
    assert found.span_words == 6 and found.ngram_share == 1.0
    assert overlap("", "anything").ngram_share == 0.0


def test_a_copy_with_other_names_and_numbers_is_a_copy() -> None:
    old = "On Monday Anna sold 12 cakes for $3 each. How many dollars did Anna earn?"
    new = "On Friday Bruno sold 40 cakes for $7 each. How many dollars did Bruno earn?"
    found = overlap(new, old)
    assert found.span_words >= 14 and found.ngram_share == 1.0
    assert overlap("Bruno walked 40 miles to Otterby.", old).ngram_share < 0.5


def test_overlap_sees_copies_in_scripts_without_spaces() -> None:
    assert overlap("東京の塔は高い", "古い東京の塔").span_words == 4


# --- agreement -----------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["A", "B", "C", None]), max_size=8), st.integers(0, 4))
def test_agreement_counts_the_key_among_all_that_were_asked(
    said: list[str | None], lost: int
) -> None:
    found = agreement(said, "A", asked=len(said) + lost)
    assert found.agreed == said.count("A") and found.asked == len(said) + lost
    assert found.share * found.asked == pytest.approx(found.agreed)
    assert "A" not in found.others and (found.favourite is None) == (not found.others)


def test_parts_join_and_tell_what_can_still_be_reached() -> None:
    half = agreement(["A", "B"], "A", asked=2)
    assert half.reachable(0.75, total=4) and not half.reachable(1.0, total=4)
    whole = joined([half, agreement(["A", "A"], "A", asked=2)])
    assert (whole.share, whole.favourite) == (0.75, "B")


# --- what reviews found --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("x > 2", "x < 2"),
        ("x >= 2", "x > 2"),
        ("-x", "x"),
        ("x + 1", "x - 1"),
        ("x-1", "x+1"),
        ("x²", "x2"),
        ("3²", "32"),
        ("2 / x", "2 * x"),
        ("C++", "C"),
        ("C#", "C"),
        ("A+", "A-"),
        ("15 thousand", "15"),
        ("15 thousand people", "15"),
        ("2 or more", "2"),
        ("3 squared", "3"),
        ("2x", "2"),
        ("2(x + 1)", "2x + 1"),
    ],
)
def test_operators_signs_and_scales_make_another_answer(left: str, right: str) -> None:
    assert not same_answer(left, right) and not same_answer(right, left)
    assert answer_form(left) != answer_form(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("15 thousand", "15,000"),
        ("15 thousand people", "15000"),
        ("x − 1", "x - 1"),
        ("x**2", "x²"),
        ("Mars-bound", "mars bound"),
        ("**Mars**", "Mars"),
        ("and/or", "and or"),
        ("water (ice)", "water ice"),
        ("- water", "water"),
    ],
)
def test_marks_that_say_nothing_do_not_part_answers(left: str, right: str) -> None:
    assert same_answer(left, right)


def test_options_of_algebra_are_a_set() -> None:
    assert options_problem("x + 1", ["x - 1", "-x + 1", "x * 1"], count=4) is None


def test_a_letter_alone_wins_over_an_option_that_looks_like_one() -> None:
    assert read_letter("A", ["C", "A", "B"]) == "A" and read_letter("(B)", ["B", "A"]) == "B"
    assert read_letter("C", ["b", "c"]) == "B"


def row_seed(**row: object) -> Seed:
    return Seed(source="s", row_key="1", row={"q": "Why is that?", **row}, licence="CC0-1.0")


CHOICE = Columns(question="q", choices="choices", answer_index="key")


@pytest.mark.parametrize(
    ("choices", "key", "answer"),
    [
        ({"text": ["ice", "steam", "fog"], "label": ["A", "B", "C"]}, "B", "steam"),
        ({"label": ["1", "2", "3"], "text": ["ice", "steam", "fog"]}, "2", "steam"),
        ({"text": ["ice", "steam", "fog"], "label": ["A", "B", "C"]}, 1, "steam"),
        (["ice", "steam", "fog"], "B", "steam"),
        (["ice", "steam", "fog"], 1, "steam"),
        (["ice", "steam", "fog"], "1", "steam"),
    ],
)
def test_the_right_choice_is_found_by_place_or_label(
    choices: object, key: object, answer: str
) -> None:
    read = read_seed(row_seed(choices=choices, key=key), CHOICE)
    assert isinstance(read, Written)
    assert read.answer == answer and sorted([read.answer, *read.wrong]) == ["fog", "ice", "steam"]


@pytest.mark.parametrize(
    ("choices", "key"),
    [
        ({"text": ["ice", "steam"], "label": ["A", "B"]}, "1"),
        ({"text": ["ice", "steam"], "label": ["A", "A"]}, "A"),
        ({"text": ["ice", "steam"], "label": ["A"]}, "A"),
        ({"a": "ice", "b": "steam"}, "A"),
        (["ice", "", "fog"], 2),
        (["ice", None, "fog"], 2),
        ("ice, steam", 0),
        (7, 0),
        (None, 0),
        (["ice", "steam"], 2),
        (["ice", "steam"], True),
        (["ice", "steam"], None),
    ],
)
def test_choices_that_are_no_list_with_a_key_are_unreadable(choices: object, key: object) -> None:
    read = read_seed(row_seed(choices=choices, key=key), CHOICE)
    assert isinstance(read, str) and read.startswith("seed_unreadable: ")


@pytest.mark.parametrize("question", [None, "", float("nan"), ["Why?"]])
def test_a_row_without_a_question_is_unreadable(question: object) -> None:
    read = read_seed(row_seed(q=question), Columns(question="q"))
    assert isinstance(read, str) and read.startswith("seed_unreadable: ")


def test_common_stems_are_no_copies() -> None:
    for stem in ("Which of the following best describes", "Which of these is the best example of"):
        found = overlap(f"{stem} a moraine?", f"{stem} photosynthesis in leaves?")
        assert found.span_words <= 1 and found.ngram_share == 0.0
        copy = overlap(f"{stem} a moraine left by ice?", f"{stem} a moraine left by ice?")
        assert copy.ngram_share == 1.0


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("The symbol (C) stands for carbon.", None),
        ("A body holds carbon (C) and water.", None),
        ("Of the planets, (D) is far.", None),
        ("The right one is (B).", "(B)"),
        ("The symbol (C) is the correct choice.", "(C)"),
        ("Steam, as in option C, is hot.", "option C"),
        ("It is what the options say.", "the options"),
        ("The answer is D.", "answer is D"),
    ],
)
def test_knowledge_may_not_name_an_option_of_the_item(text: str, named: str | None) -> None:
    item = Item(question="q", answer="x", options=("x", "y", "z"), letter="A")
    found = named_option(text, item)
    assert (found is None) == (named is None) and (named or "") in (found or "")

"""Items are found by hashes: whole questions anywhere in a row, short ones with their options."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.curate.evaluation import ITEM_SCHEMA, Item, ItemIndex, find_items, hash_items

LONG = (
    "A ferry leaves Otterby with 48 crates of pears and 12 crates of plums, and sells half of "
    "the pears on the way. How many crates are left?"
)
SHORT = "Which lamp is the brightest?"
STEM = "Which of these is true?"
LAMPS = ("the green one", "the one by the door", "neither", "both")
ITEMS = [
    Item(LONG),
    Item(SHORT, LAMPS),
    Item(STEM, ("Pears are fruit.", "Pears are stones.")),
    Item(STEM, ("Crates swim.", "Ferries swim.")),
]
INDEX = ItemIndex.of([hash_items("quiz", ITEMS)])


def holds(row: dict[str, Any]) -> bool:
    (found,) = find_items([row], INDEX)
    assert found in (None, "quiz")
    return found is not None


@pytest.mark.parametrize(
    "row",
    [
        {"question": LONG},
        {"body": f"Solve it.\n\nQuestion: {LONG}\nAnswer:"},
        {"q": LONG.upper().replace(",", " ;")},
        {"messages": [{"role": "user", "content": f"Please: {LONG}"}]},
        {"prompt": SHORT},
        {"prompt": "  which lamp is THE brightest"},
        {"question": STEM, "choices": ["Crates swim.", "Ferries swim."]},
        {"question": STEM, "choices": ["Ferries swim.", "Crates swim."]},
        {"question": STEM, "choices": {"text": ["Crates swim.", "Ferries swim."], "label": ["A"]}},
        {"question": STEM, "one": "Pears are stones.", "two": "Pears are fruit.", "answer": 1},
        {"id": "7", "question": STEM, "one": "Crates swim.", "two": "Ferries swim.", "x": "y"},
    ],
)
def test_an_item_is_found(row: dict[str, Any]) -> None:
    """Whatever the column, the layout, or the order of the options."""
    assert holds(row)


@pytest.mark.parametrize(
    "row",
    [
        {"question": LONG.replace("48", "52")},
        {"question": LONG[: len(LONG) // 2]},
        {"question": f"He wondered: {SHORT} It was a long night at the harbour."},
        {"question": STEM},
        {"question": STEM, "choices": ["Crates float.", "Ferries swim."]},
        {"question": STEM, "choices": ["Crates swim.", "Ferries swim.", "Pears swim."]},
        {"question": "the green one"},
        {"n": 3, "flag": True, "nothing": None, "empty": ""},
        {},
    ],
)
def test_what_is_no_item_passes(row: dict[str, Any]) -> None:
    """Another number, half a question, a short one in passing, a common stem with other options."""
    assert not holds(row)


def test_rows_are_told_apart() -> None:
    """Each row of a batch is answered for on its own, also at the borders of texts."""
    half = LONG.split(" and ")
    rows = [{"a": "x"}, {"a": LONG}, {"a": half[0], "b": "and " + half[1]}, {}, {"b": LONG}]
    assert find_items(rows, INDEX) == [None, "quiz", None, None, "quiz"]
    assert find_items([], INDEX) == []


def test_hashes_are_stable_and_hold_no_text() -> None:
    """Equal items give equal entries in whatever order; the numbers never change."""
    table = hash_items("quiz", ITEMS)
    assert table.schema == ITEM_SCHEMA
    assert table.equals(hash_items("quiz", ITEMS[::-1]))
    assert table.num_rows == len(ITEMS)
    assert table.column("words").to_pylist() == [0, 0, 0, 28]
    assert table.column("key").to_pylist()[-1] == 7790496925676259357


def test_a_question_without_options_that_stands_twice_is_one_entry() -> None:
    assert hash_items("quiz", [Item(LONG), Item(LONG.lower())]).num_rows == 1
    assert hash_items("quiz", [Item("Fossil fuels"), Item("")]).num_rows == 0


def test_no_benchmark_finds_nothing() -> None:
    assert find_items([{"question": LONG}], ItemIndex.of([])) == [None]


WORDS = st.lists(st.sampled_from("pear plum crate ferry lamp door tide rope".split()), max_size=40)


@given(before=WORDS, item=WORDS.filter(lambda words: len(words) >= 13), after=WORDS)
@settings(max_examples=60, deadline=None)
def test_a_long_question_is_found_in_any_surroundings(
    before: list[str], item: list[str], after: list[str]
) -> None:
    """Found where it stands whole between any words, and not where its last word is missing."""
    index = ItemIndex.of([hash_items("quiz", [Item(" ".join(item))])])
    text = " ".join([*before, *item, *after])
    assert find_items([{"text": text}], index) == ["quiz"]
    cut = " ".join([*before, *item[:-1], "anchor", *after])
    words = cut.split()
    inside = any(words[i : i + len(item)] == item for i in range(len(words)))
    assert find_items([{"text": cut}], index) == (["quiz"] if inside else [None])

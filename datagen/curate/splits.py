"""Recognise evaluation data by what it is called: a source, its hub split, its files, its rows.

A name is read as words: whatever is no letter or digit separates, so does a change to a capital or
a trailing number. `contest` and `latest` are no test; `gsm8k_test`, `testSet` and
`test-00000-of-00003.parquet` are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from datagen.workspace.specs import EvaluationSetSpec

SPLIT_COLUMNS = ("split", "subset_split", "data_split")
_SPLITS = frozenset(
    "test tst testset testsplit dev devset val valid validation valset eval evals evaluation "
    "evalset heldout holdout".split()
)
_PAIRS = frozenset({("held", "out"), ("hold", "out")})
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SEPARATORS = re.compile(r"[^0-9a-z]+")
_VARIABLE = re.compile(r"\$\{[^}]*\}")


def _words(name: str) -> list[str]:
    return [word for word in _SEPARATORS.split(_CAMEL.sub(" ", name).lower()) if word]


def split_word(name: str) -> str | None:
    """The word by which a name says that it is an evaluation split; None where it does not."""
    words = [word.rstrip("0123456789") for word in _words(_VARIABLE.sub("", name))]
    for word in words:
        if word in _SPLITS:
            return word
    pair = next((pair for pair in pairwise(words) if pair in _PAIRS), None)
    return " ".join(pair) if pair else None


def listed_set(name: str, sets: Iterable[EvaluationSetSpec]) -> EvaluationSetSpec | None:
    """The evaluation set that a name speaks of, by its own name or one of its aliases.

    Separators are free (`simple_qa`, `SimpleQA`, `simple-qa`); a word goes on to its end
    (`ifeval` is not in `lifevalue`). Of several the longest alias wins: `mmlu_pro` before `mmlu`.
    """
    name = _VARIABLE.sub("", name)
    spelled = (_SEPARATORS.sub("_", name.lower()), "_".join(_words(name)))
    found = [
        (len(alias), one)
        for one in sets
        for alias in (one.name, *one.aliases)
        if any(re.search(_alias_pattern(alias), form) for form in spelled)
    ]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _alias_pattern(alias: str) -> str:
    parts = _SEPARATORS.split(alias.lower())
    return r"(?<![0-9a-z])" + "_?".join(map(re.escape, parts)) + r"(?![0-9a-z])"


def row_split(row: Mapping[str, Any]) -> str | None:
    """The evaluation split that a row says it belongs to, in a column of splits."""
    for column in SPLIT_COLUMNS:
        value = row.get(column)
        if isinstance(value, str) and split_word(value) is not None:
            return value
    return None

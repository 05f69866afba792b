"""The bundled seeds of the task-seeded and moral recipes are right: each row can be checked."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from datagen.plan.pins import pin_source
from datagen.workspace.load import Workspace

ROOT = Path(__file__).resolve().parents[2]
WORKSPACE = Workspace(ROOT)
FLAT = ("arc_challenge_train", "arc_easy_train", "openbookqa_train", "commonsense_qa_train")
STEP = re.compile(r"<<([0-9.+*/-]+)=([0-9.]+)>>")
REAL = "tests/profiles/real_generators.yaml"


def rows(name: str) -> list[dict[str, Any]]:
    path = ROOT / "manifests" / "samples" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_every_step_of_the_mathematics_is_right() -> None:
    for row in rows("gsm8k_train"):
        steps = STEP.findall(row["answer"])
        assert len(steps) == row["answer"].count("<<")
        for formula, value in steps:
            names: dict[str, Any] = {}
            exec(f"result = {formula}", names)
            assert names["result"] == pytest.approx(float(value))
        assert row["answer"].splitlines()[-1] == f"#### {steps[-1][1]}"


def test_programs_pass_their_tests() -> None:
    for row in rows("mbpp_train"):
        names: dict[str, Any] = {}
        exec(row["code"], names)
        assert len(row["test_list"]) == 3
        for test in row["test_list"]:
            exec(test, names)


@pytest.mark.parametrize("name", FLAT)
def test_options_are_distinct_and_answers_spread(name: str) -> None:
    found = rows(name)
    for row in found:
        assert len(set(row["choices"])) == len(row["choices"]) > row["answer_index"] >= 0
    counts = Counter(row["answer_index"] for row in found)
    assert len(counts) == len(found[0]["choices"]) and max(counts.values()) <= 4


def test_answers_in_many_languages_stand_in_their_passages() -> None:
    found = rows("multilingual_qa")
    assert all(row["answer"] in row["context"] for row in found)
    assert len({row["language"] for row in found}) == 12
    assert len({row["question"] for row in found}) == len(found)


def test_subjects_are_complete() -> None:
    found = rows("mmlu_subjects")
    assert len({row["subject"] for row in found}) == 57
    assert all(len(set(row["topics"])) == 4 for row in found)
    data = os.environ.get("DATAGEN_DATA")
    if data is None:
        pytest.skip("DATAGEN_DATA is not set: the names cannot be compared with the set's own")
    with gzip.open(Path(data) / "bench" / "mmlu_dev_validation.jsonl.gz", "rt") as lines:
        real = {json.loads(line)["subject"] for line in lines}
    assert real == {row["subject"] for row in found}


def test_morals_are_complete_and_judgements_spread() -> None:
    for row in rows("moral_stories"):
        assert len(row) == 8 and all(row.values())
        assert row["moral_action"] != row["immoral_action"]
    judged = Counter(float(row["action-moral-judgment"]) for row in rows("social_chemistry"))
    assert judged[0] == judged[1] + judged[2] == judged[-1] + judged[-2] == 9


def test_real_files_have_the_columns_and_only_train_rows() -> None:
    """Each override's files give rows in the source's columns; of MBPP, the train split alone."""
    if "DATAGEN_DATA" not in os.environ:
        pytest.skip("DATAGEN_DATA is not set: the real train splits cannot be read")
    profile = WORKSPACE.profile(REAL)
    for name in profile.spec.override:
        pin = pin_source(WORKSPACE, profile, name)
        first = next(iter(pin.read()))
        text = pin.spec.text
        assert text is not None and first.values[text]
    mbpp = pin_source(WORKSPACE, profile, "mbpp_train")
    ids = [row.values["task_id"] for row in mbpp.read()]
    assert sorted(ids) == list(range(601, 975))

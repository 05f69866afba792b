"""Which names speak of evaluation data, and which only look like it."""

from __future__ import annotations

import pytest

from datagen.curate.splits import listed_set, row_split, split_word
from datagen.workspace.load import Workspace
from datagen.workspace.specs import EvaluationSetSpec
from tests.conftest import ROOT

SETS = Workspace(ROOT).evaluation_only().spec.sets


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("gsm8k_test", "test"),
        ("test", "test"),
        ("data/test-00000-of-00003.parquet", "test"),
        ("data/test/0000.parquet", "test"),
        ("arc_challenge_validation", "validation"),
        ("${DATAGEN_DATA}/bench/gsm8k_test.jsonl.gz", "test"),
        ("train+test", "test"),
        ("test_sft", "test"),
        ("validation_matched", "validation"),
        ("norm_actions_dev.jsonl.gz", "dev"),
        ("dev2", "dev"),
        ("myTestSet", "test"),
        ("testSet.csv", "test"),
        ("held-out", "held out"),
        ("Val", "val"),
        ("math.eval.jsonl", "eval"),
    ],
)
def test_a_name_says_that_it_is_an_evaluation_split(name: str, word: str) -> None:
    assert split_word(name) == word


@pytest.mark.parametrize(
    "name",
    [
        *(
            "contest",
            "latest",
            "attestation",
            "testimony",
            "protests",
            "greatest_hits",
            "unit_tests",
        ),
        *("developer", "devanagari", "evaluate_code", "medieval", "value", "interval", "retrieval"),
        *("train", "train[:90%]", "gsm8k_train", "data/train-00000-of-00001.parquet"),
        *("${TEST_DATA}/wiki.jsonl", "manifests/samples/finewiki.jsonl", "validated_pages"),
    ],
)
def test_a_word_is_read_whole(name: str) -> None:
    assert split_word(name) is None


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("Idavidrein/gpqa", "gpqa"),
        ("gpqa_diamond", "gpqa"),
        ("GPQADiamond", "gpqa"),
        ("google/IFEval", "ifeval"),
        ("if-eval", "ifeval"),
        ("basicv8vc/SimpleQA", "simpleqa"),
        ("simple_qa.jsonl", "simpleqa"),
        ("openai/openai_humaneval", "humaneval"),
        ("HumanEvalPlus", "humaneval"),
        ("cais/mmlu", "mmlu"),
        ("TIGER-Lab/MMLU-Pro", "mmlu_pro"),
        ("princeton-nlp/SWE-bench_Lite", "swe_bench"),
        ("google/xquad", "xquad"),
        ("simonjegou/ruler", "ruler"),
    ],
)
def test_an_evaluation_set_is_known_by_its_names(name: str, listed: str) -> None:
    found = listed_set(name, SETS)
    assert found is not None and found.name == listed and found.reason


@pytest.mark.parametrize(
    "name",
    ["openai/gsm8k", "allenai/ai2_arc", "overruler_cases", "lifevalue", "google/boolq", "wiki"],
)
def test_other_sets_are_not_listed(name: str) -> None:
    assert listed_set(name, SETS) is None


def test_the_longest_name_wins() -> None:
    """A name that two entries know is refused with the reason of the nearer one."""
    sets = [EvaluationSetSpec(name=name, reason=name) for name in ("quiz", "quiz_hard")]
    found = listed_set("ORG/Quiz-Hard", sets)
    assert found is not None and found.reason == "quiz_hard"


def test_a_row_may_name_its_split() -> None:
    assert row_split({"split": "test", "text": "x"}) == "test"
    assert row_split({"split": "train", "text": "test"}) is None
    assert row_split({"split": 3, "text": "x"}) is None
    assert row_split({"text": "x"}) is None

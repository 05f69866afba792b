"""The card says what a build is, reads as hub metadata, and is a function of the build alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from huggingface_hub import DatasetCard

from datagen.publish.card import (
    BuildFacts,
    MixtureLine,
    SourceFact,
    StageFact,
    TeacherFact,
    card,
    notice,
)

WIKI = SourceFact(
    name="finewiki",
    title="Pages of | an encyclopedia",
    licences=("CC-BY-SA-4.0",),
    rows=1200,
    revision="a" * 40,
    hub_id="org/wiki",
)
CODE = SourceFact(name="code", title="Code", licences=("MIT", "Own terms 1.0"), rows=3)
TEACHER = TeacherFact(
    name="small",
    title="A small model",
    licence="Apache-2.0",
    revision="sha256:1",
    embedded=True,
)
FACTS = BuildFacts(
    title="Ultra sample",
    mixture="ultra",
    fingerprint="f00d",
    version="0.1.0",
    tokens=123_456,
    rows=40,
    records=2_000,
    row_tokens=4096,
    tokenizer="bpe-32k",
    tokenizer_licence="Apache-2.0",
    command="datagen build --mixture ultra --tokens 123456",
    lines=(
        MixtureLine(category="wiki", requested=0.6, realised=0.59, tokens=700, epochs=1.25),
        MixtureLine(category="legal", requested=0.1, realised=0.1, tokens=100, epochs=None),
    ),
    sources=(WIKI,),
    teachers=(TEACHER,),
    stages=(
        StageFact(
            recipe="facts@finewiki", stage="qa", kept=10, rejected={"too_short": 2, "no_fact": 5}
        ),
    ),
    corpus={"minhash threshold": 0.75, "exact": True},
)


def test_the_hub_reads_its_metadata() -> None:
    data = DatasetCard(card(FACTS)).data.to_dict()
    assert data["license"] == "cc-by-sa-4.0"
    assert "license_name" not in data
    assert data["language"] == ["en"]
    assert data["tags"] == ["synthetic", "datagen"]
    assert data["annotations_creators"] == ["machine-generated"]
    assert data["size_categories"] == ["1K<n<10K"]
    assert data["task_categories"] == ["text-generation"]
    assert data["source_datasets"] == ["org/wiki"]
    assert [config["config_name"] for config in data["configs"]] == ["tokens", "records"]


def test_mixed_licences_are_other_and_all_are_named() -> None:
    mixed = replace(FACTS, sources=(WIKI, CODE))
    data = DatasetCard(card(mixed)).data.to_dict()
    assert data["license"] == "other"
    assert data["license_name"] == "cc-by-sa-4.0-and-mit-and-own-terms-1.0"
    assert data["license_link"] == "LICENSE.md"
    assert data["source_datasets"] == ["original", "org/wiki"]
    for text in (card(mixed), notice(mixed)):
        assert all(name in text for name in ("CC-BY-SA-4.0", "MIT", "Own terms 1.0", "Apache-2.0"))


@pytest.mark.parametrize("licences", [(), ("Own terms",)])
def test_a_licence_that_the_hub_has_no_name_for_is_other(licences: tuple[str, ...]) -> None:
    facts = replace(FACTS, sources=(replace(WIKI, licences=licences),))
    data = DatasetCard(card(facts)).data.to_dict()
    assert data["license"] == "other"
    assert data["license_name"] in ("unknown", "own-terms")


def test_what_is_not_known_is_called_unknown() -> None:
    text = card(replace(FACTS, sources=(CODE,)))
    assert "| code | Code | MIT, Own terms 1.0 | unknown | 3 |" in text
    assert "| legal | 0.10 | 0.10 | 100 | unknown |" in text
    assert "revision of at least one source is unknown" in text


def test_figures_stand_in_its_tables() -> None:
    text = card(FACTS)
    assert "123,456 tokens in 40 rows" in text
    assert "| wiki | 0.60 | 0.59 | 700 | 1.25 |" in text
    assert "| facts@finewiki | qa | 10 | 7 | no_fact 5, too_short 2 |" in text
    assert "Pages of \\| an encyclopedia" in text
    assert FACTS.command in text


def test_the_embedded_teacher_is_a_limitation() -> None:
    assert "not useful training data" in card(FACTS)
    served = replace(FACTS, teachers=(replace(TEACHER, embedded=False),))
    assert "not useful training data" not in card(served)
    assert "No model wrote any of this text" in card(replace(FACTS, teachers=()))


def test_equal_builds_give_equal_cards() -> None:
    turned = replace(FACTS, corpus=dict(reversed(FACTS.corpus.items())))
    assert card(turned) == card(FACTS)

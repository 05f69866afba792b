"""The legal subsets of the report: each has a recipe, a sample, a line in docs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from datagen.generate.clause_type import clause_type
from datagen.generate.cleaned import cleaned
from datagen.generate.codebook import codebook
from datagen.generate.diversity_jurisdiction import diversity_jurisdiction
from datagen.generate.document_nli import document_nli
from datagen.generate.function_of_passage import function_of_passage
from datagen.generate.judged_qa import judged_qa
from datagen.generate.labelled_choice import labelled_choice
from datagen.generate.marked_passages import marked_passages
from datagen.generate.yes_no_qa import yes_no_qa
from datagen.plan.resolve import resolve_method
from tests.generate.legal_rows import sample
from tests.generate.through_recipe import ROOT, WORKSPACE

SUBSETS: dict[str, Callable[..., Any]] = {
    "case_law_summaries": cleaned,
    "casehold": labelled_choice,
    "contract_nli": document_nli,
    "canadian_appeal_outcome": marked_passages,
    "definition_classification": marked_passages,
    "diversity_jurisdiction": diversity_jurisdiction,
    "function_of_decision": function_of_passage,
    "globalcit_nationality": codebook,
    "cuad_clause_type": clause_type,
    "tos_clause_understanding": labelled_choice,
    "tosdr_qa": yes_no_qa,
    "ecfr_diverse_qa": judged_qa,
}


@pytest.mark.parametrize("name", SUBSETS)
def test_each_subset_runs_on_a_bundled_sample(name: str) -> None:
    loaded = WORKSPACE.recipe(f"legal/{name}")
    spec = loaded.spec
    assert resolve_method(spec.method, spec.arguments, at=loaded.where) is SUBSETS[name]
    assert spec.filters == "legal"
    assert spec.sources != "any"
    (source,) = spec.sources
    rows = sample(source)
    columns = WORKSPACE.source(source).spec.columns
    assert len(rows) >= 12
    assert all(set(row) == set(columns) for row in rows)
    assert len({str(row) for row in rows}) == len(rows)


def test_the_docs_list_all_fifteen() -> None:
    text = (ROOT / "docs/legal.md").read_text(encoding="utf-8")
    kinds = "extracted|cleaned|reformatted|synthetic"
    listed = re.findall(rf"^\| `([a-z_]+)` \| (?:{kinds}) \|", text, re.MULTILINE)
    extracted = {"california_code_of_regulations", "ny_judicial_ethics_opinions", "ecfr"}
    assert sorted(listed) == sorted({*SUBSETS, *extracted})

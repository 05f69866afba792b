"""The bundled mixtures are the published table, and ultra switches at 75 %."""

from __future__ import annotations

from pathlib import Path

import pytest

from datagen.mix.allocate import allocate_mixture
from datagen.mix.schedule import phases_of
from datagen.workspace.load import parse
from datagen.workspace.specs import MixtureSpec, SourceSpec

ROOT = Path(__file__).resolve().parents[2]


def mixture(name: str) -> MixtureSpec:
    return parse(ROOT / "mixtures" / f"{name}.yaml", MixtureSpec, root=ROOT).spec


@pytest.mark.parametrize(("name", "categories"), [("phase1", 16), ("phase2", 17)])
def test_table(name: str, categories: int) -> None:
    """As many categories as printed, summing to 99.9, each drawing from a source that exists."""
    spec = mixture(name)
    assert len(spec.categories) == categories
    assert sum(c.share for c in spec.categories.values()) == pytest.approx(99.9)
    for category in spec.categories.values():
        for drawn in category.draw:
            if "@" in drawn:
                path = ROOT / "manifests" / "sources" / f"{drawn.split('@')[1]}.yaml"
                source = parse(path, SourceSpec, root=ROOT).spec
                assert source.hub is not None
                assert source.sample is not None


def test_ultra_switches_at_three_quarters() -> None:
    """15T of phase 1, then 5T of phase 2, for the horizon and for any budget."""
    ultra = mixture("ultra")
    phases = phases_of(ultra, ultra.horizon_tokens, mixture)
    assert [(p.name, p.start, p.tokens) for p in phases] == [
        ("phase1", 0, 15 * 10**12),
        ("phase2", 15 * 10**12, 5 * 10**12),
    ]
    assert sum(p.tokens for p in phases_of(ultra, 1_000_003, mixture)) == 1_000_003
    assert [p.name for p in phases_of(mixture("phase1"), 10, mixture)] == ["phase1"]


def test_shares_are_normalised() -> None:
    """14.0 printed of 99.9 is 14.014 % of the tokens."""
    spec = mixture("phase1")
    draws = {d: None for c in spec.categories.values() for d in c.draw}
    got = {a.category: a for a in allocate_mixture(spec, 999 * 10**6, draws).categories}
    assert got["code"].tokens == 140 * 10**6
    assert sum(a.tokens for a in got.values()) == 999 * 10**6

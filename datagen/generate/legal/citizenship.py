"""Diversity jurisdiction, computed: who is a citizen of what, and what is in controversy.

The rules are those of 28 U.S.C. section 1332(a), (c)(1), (c)(2) and (e) with the Supreme Court's
reading of them: domicile for persons, the State of incorporation and of the principal place of
business for corporations (Hertz v. Friend, 2010), all members for other companies (Carden v.
Arkoma, 1990; Americold v. ConAgra, 2016), the decedent's for an estate, complete diversity
(Strawbridge v. Curtiss, 1806), a citizen domiciled abroad who belongs to no State (Newman-Green v.
Alfonzo-Larrain, 1989), and claims that add up only within one plaintiff and one defendant, or where
they are joint (Snyder v. Harris, 1969; Zahn v. International Paper, 1973). Class actions, foreign
states as parties, removal and supplemental jurisdiction are left out: no complaint is drawn there.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

LIMIT_CENTS = 75_000_00
"""What must be exceeded, exclusive of interest and costs (28 U.S.C. section 1332(a))."""

Kind = Literal[
    "person",
    "abroad",
    "alien",
    "resident_alien",
    "corporation",
    "foreign_corporation",
    "company",
    "estate",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """A party as the complaint describes it.

    `state` is a domicile, of a corporation its principal place of business, of an estate the
    decedent's domicile; `other_state` is where a corporation is incorporated, a company organized,
    or an executor at home; `country` that of an alien, or of an American's domicile abroad.
    `members` are a company's.
    """

    name: str
    kind: Kind
    state: str | None = None
    other_state: str | None = None
    country: str | None = None
    members: tuple[Party, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Citizenship:
    """What a party counts as: States, whether it is an alien, whether it belongs nowhere.

    `resident_in` is the State in which an alien admitted for permanent residence is domiciled.
    """

    states: frozenset[str] = frozenset()
    alien: bool = False
    nowhere: bool = False
    resident_in: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What is asked for, in cents: `amounts_cents[i][j]` is the j-th claim of the i-th share.

    `joint`: one plaintiff's claims, or claims held or owed in common, which add up. Otherwise each
    share stands between one plaintiff and one defendant and is measured alone.
    `interest_and_costs_cents` never counts.
    """

    amounts_cents: tuple[tuple[int, ...], ...]
    joint: bool
    interest_and_costs_cents: int = 0


def citizenship(party: Party) -> Citizenship:
    """The citizenship that section 1332 gives a party."""
    if party.kind == "abroad":
        return Citizenship(nowhere=True)
    if party.kind in ("alien", "foreign_corporation"):
        return Citizenship(alien=True)
    if party.kind == "resident_alien":
        return Citizenship(alien=True, resident_in=party.state)
    if party.kind == "company":
        found = [citizenship(member) for member in party.members]
        return Citizenship(
            states=frozenset().union(*(one.states for one in found)),
            alien=any(one.alien for one in found),
            nowhere=any(one.nowhere for one in found),
        )
    states = {party.state}
    if party.kind == "corporation":
        states.add(party.other_state)
    return Citizenship(states=frozenset(state for state in states if state))


def not_diverse(plaintiffs: Sequence[Party], defendants: Sequence[Party]) -> str | None:
    """Why the parties are not completely diverse, in a sentence; None if they are."""
    parties = [*plaintiffs, *defendants]
    of = {party.name: citizenship(party) for party in parties}
    for party in parties:
        if of[party.name].nowhere:
            return (
                f"{party.name} is a United States citizen without a domicile in any State, and so "
                "is neither a citizen of a State nor an alien."
            )
    for left, right in itertools.product(plaintiffs, defendants):
        if shared := sorted(of[left.name].states & of[right.name].states):
            return f"{left.name} and {right.name} are both citizens of {shared[0]}."
    aliens = [[p for p in side if of[p.name].alien] for side in (plaintiffs, defendants)]
    if all(aliens):
        for side, called in ((plaintiffs, "plaintiffs"), (defendants, "defendants")):
            if not any(of[party.name].states for party in side):
                return (
                    f"There are aliens on both sides, and no citizen of a State among the {called}."
                )
    for left, right in itertools.product(plaintiffs, defendants):
        for alien, citizen in ((left, right), (right, left)):
            home = of[alien.name].resident_in
            if home is not None and home in of[citizen.name].states:
                return (
                    f"{alien.name}, an alien admitted for permanent residence, is domiciled in "
                    f"{home}, of which {citizen.name} is a citizen."
                )
    return None


def in_controversy_cents(demand: Demand) -> int:
    """The amount that is measured: all claims where they add up, else the smallest share.

    Shares that stand alone are drawn all above or all below the limit, so that one tells for all.
    """
    shares = [sum(share) for share in demand.amounts_cents]
    return sum(shares) if demand.joint else min(shares)


def exceeds(demand: Demand) -> bool:
    """Whether the amount in controversy is more than $75,000."""
    return in_controversy_cents(demand) > LIMIT_CENTS


def of_one_mind(demand: Demand) -> bool:
    """Whether shares that stand alone all exceed the limit, or none does."""
    over = {sum(share) > LIMIT_CENTS for share in demand.amounts_cents}
    return demand.joint or len(over) == 1

"""A complaint drawn from tables of names and States: its parties, its demand, and its wording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from datagen.generate.legal.chance import Chance
from datagen.generate.legal.citizenship import Demand, Kind, Party, citizenship, of_one_mind

MOST_NAMES = 12
"""How many persons, and how many companies, one complaint may name: four parties of three each."""

_US_KINDS: tuple[Kind, ...] = (
    "person", "person", "person", "corporation", "corporation", "company", "estate",
)  # fmt: skip
_ROUND_CENTS = (500_00, 1_000_00, 2_500_00, 5_000_00)
_EDGE_CENTS = (75_000_00, 75_001_00, 74_999_00, 75_500_00)
_COMPANY_FORMS = ("limited liability company", "limited partnership")
_TERMS: Mapping[Kind, tuple[tuple[str, ...], ...]] = {
    "abroad": (("united states citizen", "american", "u.s. citizen", "citizen of the united"),),
    "resident_alien": (("permanent resid",),),
    "corporation": (("incorporat",), ("principal place of business",)),
    "foreign_corporation": (("corporation",), ("principal place of business",)),
    "company": (("limited liability company", "limited partnership"), ("member", "partner")),
    "estate": (("executor",), ("decedent", "deceased")),
}
_ENDINGS = {"limited liability company": "LLC", "limited partnership": "LP"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """What the recipe lends: words for names, States and countries."""

    first_names: Sequence[str]
    last_names: Sequence[str]
    company_names: Sequence[str]
    states: Sequence[str]
    countries: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """Who sues whom for what, in sentences, and what no rewording may lose.

    `kept` are names, places and amounts as they stand; of every group in `terms` one word must
    stay, in lower case, for the answer hangs on it.
    """

    plaintiffs: tuple[Party, ...]
    defendants: tuple[Party, ...]
    demand: Demand
    sentences: tuple[str, ...]
    kept: tuple[str, ...]
    terms: tuple[tuple[str, ...], ...]

    @property
    def facts(self) -> dict[str, Any]:
        """The complaint as plain data, for a record's metadata."""
        return {
            "plaintiffs": [asdict(party) for party in self.plaintiffs],
            "defendants": [asdict(party) for party in self.defendants],
            "demand": asdict(self.demand),
        }


def draw_parties(chance: Chance, tables: Tables) -> tuple[tuple[Party, ...], tuple[Party, ...]]:
    """One or two parties a side, from few States, so that both answers come up."""
    pool = chance.some(tables.states, 2 + chance.below(4))
    firsts = chance.some(tables.first_names, MOST_NAMES)
    lasts = chance.some(tables.last_names, MOST_NAMES)
    people = [f"{first} {last}" for first, last in zip(firsts, lasts, strict=True)]
    companies = chance.some(tables.company_names, MOST_NAMES)
    maker = _Maker(chance, tables, pool, people, companies)
    if chance.happens(12):
        pair = [maker.party("resident_alien"), maker.party(chance.one_of(_US_KINDS))]
        if chance.happens(50):
            pair.reverse()
        return (pair[0],), (pair[1],)
    counts = chance.one_of(((1, 1), (1, 1), (1, 2), (2, 1), (2, 2)))
    sides = [tuple(maker.any_party() for _ in range(count)) for count in counts]
    return sides[0], sides[1]


class _Maker:
    """Makes parties whose names are not used twice."""

    def __init__(
        self,
        chance: Chance,
        tables: Tables,
        pool: Sequence[str],
        people: list[str],
        companies: list[str],
    ) -> None:
        self._chance, self._tables, self._pool = chance, tables, pool
        self._people, self._companies = people, companies

    def any_party(self) -> Party:
        """A party of any kind but a resident alien, for whom the suit must have two parties."""
        foreign: tuple[Kind, ...] = ("alien", "alien", "foreign_corporation", "abroad")
        kinds = foreign if self._chance.happens(15) else _US_KINDS
        return self.party(self._chance.one_of(kinds))

    def party(self, kind: Kind, *, depth: int = 0) -> Party:
        """A party of a kind; companies have two or three members, one of them perhaps a company."""
        chance = self._chance
        state, other = chance.one_of(self._pool), chance.one_of(self._pool)
        country = chance.one_of(self._tables.countries)
        if kind == "person":
            return Party(name=self._people.pop(), kind=kind, state=state)
        if kind == "estate":
            return Party(name=self._people.pop(), kind=kind, state=state, other_state=other)
        if kind in ("alien", "abroad"):
            return Party(name=self._people.pop(), kind=kind, country=country)
        if kind == "resident_alien":
            return Party(name=self._people.pop(), kind=kind, country=country, state=state)
        if kind == "corporation":
            name = f"{self._companies.pop()} Corporation"
            return Party(name=name, kind=kind, state=state, other_state=other)
        if kind == "foreign_corporation":
            return Party(name=f"{self._companies.pop()} Limited", kind=kind, country=country)
        form = chance.one_of(_COMPANY_FORMS)
        name = f"{self._companies.pop()} {_ENDINGS[form]}"
        kinds: list[Kind] = ["person", chance.one_of(("person", "corporation"))]
        if depth == 0 and chance.happens(25):
            kinds[1] = "company"
        members = tuple(self.party(one, depth=depth + 1) for one in kinds)
        return Party(name=name, kind=kind, state=state, other_state=other, members=members)


def draw_demand(chance: Chance, *, plaintiffs: int, defendants: int, causes: int) -> Demand:
    """Amounts for the claims, near the limit and far from it."""
    several = plaintiffs > 1 or defendants > 1
    one_each = several and min(plaintiffs, defendants) == 1
    if one_each and chance.happens(50):
        while True:
            shares = tuple((_amount(chance),) for _ in range(max(plaintiffs, defendants)))
            demand = Demand(amounts_cents=shares, joint=False)
            if of_one_mind(demand):
                return demand
    claims = 1 if several else 1 + chance.below(causes)
    amounts = [_amount(chance) // (claims if chance.happens(70) else 1) for _ in range(claims)]
    extra = _amount(chance) // 10 if chance.happens(30) else 0
    return Demand(
        amounts_cents=(tuple(amount // 100 * 100 for amount in amounts),),
        joint=True,
        interest_and_costs_cents=extra // 100 * 100,
    )


def _amount(chance: Chance) -> int:
    if chance.happens(20):
        return chance.one_of(_EDGE_CENTS)
    step = chance.one_of(_ROUND_CENTS)
    return step * (1 + (20_000_00 // step) + chance.below(120_000_00 // step))


def dollars(cents: int) -> str:
    """An amount as a complaint writes it: $75,000, or $75,000.50."""
    return f"${cents // 100:,}" + (f".{cents % 100:02d}" if cents % 100 else "")


def word(
    chance: Chance,
    plaintiffs: tuple[Party, ...],
    defendants: tuple[Party, ...],
    demand: Demand,
    *,
    claims: Sequence[Mapping[str, str]],
) -> Complaint:
    """Put a complaint into sentences.

    `claims` are causes with `cause` and `facts`; the facts name `{plaintiffs}` and `{defendants}`.
    """
    said: list[str] = []
    for party in (*plaintiffs, *defendants):
        said += _described(chance, party)
    sides = {"plaintiffs": joined(plaintiffs), "defendants": joined(defendants)}
    used = claims[: len(demand.amounts_cents[0])] if demand.joint else claims[:1]
    said += [_filled(claim["facts"], sides) for claim in used]
    said += _demanded(plaintiffs, defendants, demand, [claim["cause"] for claim in used])
    amounts = [dollars(cents) for share in demand.amounts_cents for cents in share]
    if demand.interest_and_costs_cents:
        amounts.append(dollars(demand.interest_and_costs_cents))
    kept = [*_words_of((*plaintiffs, *defendants)), *amounts]
    return Complaint(
        plaintiffs=plaintiffs,
        defendants=defendants,
        demand=demand,
        sentences=tuple(said),
        kept=tuple(dict.fromkeys(kept)),
        terms=_terms_of(plaintiffs, defendants, demand, [claim["cause"] for claim in used]),
    )


def joined(parties: Sequence[Party]) -> str:
    """The names of a side: one, or two with `and` between them."""
    return " and ".join(party.name for party in parties)


def _filled(facts: str, sides: Mapping[str, str]) -> str:
    for side, names in sides.items():
        facts = facts.replace(f"{{{side}}}", names)
    return facts


def _words_of(parties: Sequence[Party]) -> list[str]:
    found: list[str] = []
    for party in parties:
        places = (party.state, party.other_state, party.country)
        found += [party.name, *(place for place in places if place), *_words_of(party.members)]
    return found


def _terms_of(
    plaintiffs: Sequence[Party], defendants: Sequence[Party], demand: Demand, causes: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """The words on which the answer hangs, for everyone named and for the demand."""
    found: list[tuple[str, ...]] = [("sue", "suit", "suing", "action against", "complaint")]
    left = [*plaintiffs, *defendants]
    while left:
        party = left.pop()
        found += _TERMS.get(party.kind, ())
        left += party.members
    found += [(cause.lower(),) for cause in causes]
    if not demand.joint:
        found.append(("separate",))
    elif len(plaintiffs) > 1:
        found.append(("in common", "undivided"))
    if demand.joint and len(defendants) > 1:
        found.append(("jointly",))
    if demand.interest_and_costs_cents:
        found += [("interest",), ("cost",)]
    return tuple(dict.fromkeys(found))


def _described(chance: Chance, party: Party) -> list[str]:
    """What the complaint says of a party's citizenship, in one to three sentences."""
    name, state, other, country = party.name, party.state, party.other_state, party.country
    if party.kind == "person":
        return [chance.one_of((
            f"{name} is a citizen of {state}.",
            f"{name} is an American citizen domiciled in {state}.",
            f"{name}, an American citizen, has a permanent home in {state} and intends to stay.",
        ))]  # fmt: skip
    if party.kind == "estate":
        return [
            f"{name}, who is domiciled in {other}, is a party only as executor of an estate; the "
            f"decedent was a citizen of {state} at death."
        ]
    if party.kind == "abroad":
        return [f"{name} is a United States citizen who has long been domiciled in {country}."]
    if party.kind == "alien":
        return [f"{name} is a citizen of {country} and lives there."]
    if party.kind == "resident_alien":
        return [
            f"{name} is a citizen of {country} who has been admitted to the United States for "
            f"permanent residence and is domiciled in {state}."
        ]
    if party.kind == "corporation":
        return [
            f"{name} is a corporation that was incorporated in {other} and has its principal "
            f"place of business in {state}."
        ]
    if party.kind == "foreign_corporation":
        return [
            f"{name} is a corporation that was organized in {country} and has its principal place "
            "of business there."
        ]
    form = _COMPANY_FORMS[0] if name.endswith("LLC") else _COMPANY_FORMS[1]
    called = "members" if name.endswith("LLC") else "partners"
    members = " and ".join(member.name for member in party.members)
    opening = (
        f"{name} is a {form} that was organized in {other} and has its headquarters in {state}; "
        f"its {called} are {members}."
    )
    return [opening, *(line for one in party.members for line in _described(chance, one))]


def _demanded(
    plaintiffs: Sequence[Party],
    defendants: Sequence[Party],
    demand: Demand,
    causes: Sequence[str],
) -> list[str]:
    """Who sues whom for what, how much is asked for, and what is asked for besides."""
    left, right = joined(plaintiffs), joined(defendants)
    many, verb = len(plaintiffs) > 1, "sue" if len(plaintiffs) > 1 else "sues"
    seek = "seek" if many else "seeks"
    said = [f"{left} {verb} {right} in a federal district court for {' and for '.join(causes)}."]
    if not demand.joint and many:
        parts = [
            f"{party.name} seeks {dollars(sum(share))}"
            for party, share in zip(plaintiffs, demand.amounts_cents, strict=True)
        ]
        said.append(f"Each has a separate claim of their own: {' and '.join(parts)}.")
    elif not demand.joint:
        parts = [
            f"{dollars(sum(share))} from {party.name}"
            for party, share in zip(defendants, demand.amounts_cents, strict=True)
        ]
        asked = " and ".join(parts)
        said.append(f"The defendants are liable separately, not jointly: {left} seeks {asked}.")
    else:
        amounts = [dollars(cents) for cents in demand.amounts_cents[0]]
        parts = [f"{sum_} for {cause}" for sum_, cause in zip(amounts, causes, strict=True)]
        held = " on a single claim that they hold in common and undivided" if many else ""
        owed = " The defendants are jointly liable for all of it." if len(defendants) > 1 else ""
        said.append(f"{left} {seek} {' and '.join(parts)}{held}.{owed}")
    if demand.interest_and_costs_cents:
        extra = dollars(demand.interest_and_costs_cents)
        said.append(f"{left} also {seek} {extra} in interest and court costs.")
    return said


def explained(party: Party) -> str:
    """Of what a party is a citizen, and why, in a sentence."""
    name, found = party.name, citizenship(party)
    states = " and ".join(sorted(found.states))
    if party.kind == "person":
        return f"{name} is a citizen of {states}, by domicile."
    if party.kind == "estate":
        return f"{name}, as executor, counts as a citizen of {states}, as the decedent did."
    if party.kind == "abroad":
        return f"{name} is an American domiciled in {party.country}, a citizen of no State."
    if party.kind == "alien":
        return f"{name} is an alien, a citizen of {party.country}."
    if party.kind == "resident_alien":
        return f"{name} is an alien with permanent residence, domiciled in {party.state}."
    if party.kind == "corporation":
        return f"{name} is a citizen of {states}, by incorporation and principal place of business."
    if party.kind == "foreign_corporation":
        return f"{name} is an alien corporation, of {party.country}."
    return f"{name} takes the citizenship of all its members: {states}."

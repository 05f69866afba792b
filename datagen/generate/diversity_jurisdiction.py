"""Diversity jurisdiction: complaints drawn from tables, with the answer computed, not asked.

A row gives causes of action. Parties, States and amounts are drawn until the complaint has the
wanted answer, which alternates over the seeds; `legal/citizenship.py` holds the rules. The prompt
`rephrase` may word a complaint anew: every name, State and amount must survive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datagen.errors import WorkspaceError
from datagen.generate.legal.chance import Chance
from datagen.generate.legal.choices import finished
from datagen.generate.legal.citizenship import (
    LIMIT_CENTS,
    exceeds,
    in_controversy_cents,
    not_diverse,
)
from datagen.generate.legal.complaint import (
    MOST_NAMES,
    Complaint,
    Tables,
    dollars,
    draw_demand,
    draw_parties,
    explained,
    word,
)
from datagen.generate.legal.held import rephrasing_problem, stands_in
from datagen.generate.legal.rows import RowUnusable, on_one_line, text_cell
from datagen.generate.legal.sentences import sentences
from datagen.llm.ask import AnswerRejected, Ask
from datagen.record import Draft, Seed

_MOST_DRAWS = 400
_QUESTION = (
    "Does the federal district court have diversity jurisdiction over the action under "
    "28 U.S.C. § 1332?"
)
_GIVEN_AWAY = ("jurisdiction", "diversity", "diverse", "threshold", "complete")


async def diversity_jurisdiction(
    seed: Seed,
    ask: Ask,
    *,
    first_names: Sequence[str],
    last_names: Sequence[str],
    company_names: Sequence[str],
    states: Sequence[str],
    countries: Sequence[str],
    per_row: int = 4,
    rephrased_share: float = 0.5,
    texts: Sequence[str] = ("text_answer",),
) -> list[Draft]:
    """Draft complaints on a row's causes of action, half with jurisdiction and half without.

    The row has `cause` and `facts`, and `other_cause` and `other_facts` for a second claim of the
    same plaintiff. A share of the complaints is also drafted in a model's words; the others rest on
    no answer.
    """
    tables = Tables(
        first_names=first_names,
        last_names=last_names,
        company_names=company_names,
        states=states,
        countries=countries,
    )
    _require_tables(tables)
    claims = [
        {"cause": text_cell(seed, "cause"), "facts": _facts(seed, "facts")},
        {"cause": text_cell(seed, "other_cause"), "facts": _facts(seed, "other_facts")},
    ]
    drafts: list[Draft] = []
    for item in range(per_row):
        wanted = ask.balanced(2, "verdict", str(item)) == 0
        complaint, metadata = _drawn(ask, tables, claims, item, wanted)
        drafts.append(finished(ask, metadata, texts, metadata["context"]))
        if ask.draw("rephrased", str(item)) < rephrased_share * 2**64:
            drafts.append(await _rephrased(ask, complaint, metadata, texts))
    return drafts


def _require_tables(tables: Tables) -> None:
    """WorkspaceError for tables that are too short for the largest complaint."""
    for name in ("first_names", "last_names", "company_names", "states"):
        if len(set(getattr(tables, name))) < MOST_NAMES:
            raise WorkspaceError(
                f"{name!r} has fewer than {MOST_NAMES} entries",
                where="arguments",
                fix="add some: every party of a complaint has a name of its own",
            )


def _facts(seed: Seed, column: str) -> str:
    facts = text_cell(seed, column)
    if "{plaintiffs}" not in facts or "{defendants}" not in facts:
        raise RowUnusable(f"column {column!r} does not name {{plaintiffs}} and {{defendants}}")
    return facts


def _undrawn(what: str) -> WorkspaceError:
    return WorkspaceError(
        f"no {what} with the wanted answer in {_MOST_DRAWS} draws",
        where="arguments",
        fix="give the recipe more States and names",
    )


def _drawn(
    ask: Ask, tables: Tables, claims: Sequence[dict[str, str]], item: int, wanted: bool
) -> tuple[Complaint, dict[str, Any]]:
    """Draw until the complaint has the wanted answer; where it has not, for a drawn reason."""
    flaw = ("citizenship", "amount", "both")[ask.draw("flaw", str(item)) % 3]
    diverse = wanted or flaw == "amount"
    enough = wanted or flaw == "citizenship"
    for attempt in range(_MOST_DRAWS):
        chance = Chance(ask, "parties", str(item), str(attempt))
        plaintiffs, defendants = draw_parties(chance, tables)
        if (not_diverse(plaintiffs, defendants) is None) == diverse:
            break
    else:
        raise _undrawn("parties")
    for attempt in range(_MOST_DRAWS):
        chance = Chance(ask, "demand", str(item), str(attempt))
        demand = draw_demand(
            chance, plaintiffs=len(plaintiffs), defendants=len(defendants), causes=len(claims)
        )
        if exceeds(demand) == enough:
            break
    else:
        raise _undrawn("demand")
    chance = Chance(ask, "words", str(item))
    complaint = word(chance, plaintiffs, defendants, demand, claims=claims)
    answer = "Yes" if wanted else "No"
    return complaint, {
        "form": "yes_no",
        "context": " ".join(complaint.sentences),
        "question": _QUESTION,
        "label": answer.lower(),
        "answer": answer,
        "flaw": None if wanted else flaw,
        "parties": len(plaintiffs) + len(defendants),
        "kinds": sorted({party.kind for party in (*plaintiffs, *defendants)}),
        "reasons": _reasons(complaint, answer),
        "facts": complaint.facts,
        "wording": "template",
    }


def _reasons(complaint: Complaint, answer: str) -> list[str]:
    """How the answer follows, a sentence a step."""
    sides = (*complaint.plaintiffs, *complaint.defendants)
    problem = not_diverse(complaint.plaintiffs, complaint.defendants)
    met = "The parties are completely diverse: no plaintiff shares a State with a defendant."
    steps = [explained(party) for party in sides]
    steps.append(f"{problem} Diversity is not complete." if problem else met)
    demand = complaint.demand
    shares = [sum(share) for share in demand.amounts_cents]
    limit, over = dollars(LIMIT_CENTS), exceeds(demand)
    if demand.joint:
        terms = [dollars(cents) for cents in demand.amounts_cents[0]]
        total = dollars(in_controversy_cents(demand))
        summed = f"{' + '.join(terms)} = {total}" if len(terms) > 1 else total
        said = f"The amount in controversy is {summed}, which"
    else:
        listed = " and ".join(dollars(cents) for cents in shares)
        said = f"Separate claims do not add up: {listed} are measured one by one, and each"
    steps.append(f"{said} {'exceeds' if over else 'does not exceed'} {limit}.")
    if demand.interest_and_costs_cents:
        steps.append("Interest and costs do not count.")
    steps.append(
        "The court has diversity jurisdiction."
        if answer == "Yes"
        else "The court has no diversity jurisdiction."
    )
    return steps


async def _rephrased(
    ask: Ask, complaint: Complaint, metadata: dict[str, Any], texts: Sequence[str]
) -> Draft:
    """The complaint in the model's words, or why these do not say the same."""
    told = {**metadata, "wording": "rephrased"}
    original = str(metadata["context"])
    try:
        (answer, *_) = await ask.answers(
            "rephrase", into=str, complaint=original, kept=list(complaint.kept)
        )
    except AnswerRejected as error:
        said = f"rephrase_{error.reason}: {error.detail}"
        return Draft(metadata=told, calls=error.calls, rejected=said)
    new = on_one_line(answer.value)
    problem = rephrasing_problem(new, original, kept=complaint.kept) or _apart(new, complaint)
    told["context"] = new
    if problem is not None:
        return Draft(metadata=told, calls=(answer.key,), rejected=problem)
    return finished(ask, told, texts, new, calls=(answer.key,))


def _apart(text: str, complaint: Complaint) -> str | None:
    """Why a rewording is not the same complaint: says the answer, lost a term, moved a party.

    Every name must stand in one sentence with each of its places, and a sentence that names
    parties names no place that none of them has.
    """
    lower = text.lower()
    if missing := [group for group in complaint.terms if not any(term in lower for term in group)]:
        return f"term_lost: {' or '.join(missing[0])}"
    if said := [word_ for word_ in _GIVEN_AWAY if word_ in lower]:
        return f"says_the_answer: {said[0]}"
    places = _places(complaint)
    new = sentences(text)
    for name, own in places.items():
        for place in own:
            if not any(stands_in(name, line) and stands_in(place, line) for line in new):
                return f"party_moved: {name} no longer stands with {place}"
    every = set().union(*places.values())
    for line in new:
        named = [name for name in places if stands_in(name, line)]
        allowed = set().union(*(places[name] for name in named)) if named else every
        strange = sorted(p for p in every - allowed if stands_in(p, line))
        if strange:
            return f"party_moved: {', '.join(named)} now with {strange[0]}"
    return None


def _places(complaint: Complaint) -> dict[str, set[str]]:
    """The States and countries of every party and member, by name."""
    found: dict[str, set[str]] = {}
    left = [*complaint.plaintiffs, *complaint.defendants]
    while left:
        party = left.pop()
        places = (party.state, party.other_state, party.country)
        found[party.name] = {place for place in places if place}
        left += party.members
    return found

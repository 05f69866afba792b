"""Diversity jurisdiction: the computed answers against an oracle that reads the complaint's text.

The oracle shares nothing with the product but the wording: it parses the sentences of a complaint,
and decides by the paragraphs of 28 U.S.C. section 1332(a) one after another.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.errors import DataError, WorkspaceError
from datagen.generate.diversity_jurisdiction import diversity_jurisdiction
from datagen.llm.ask import SeedAsk
from datagen.llm.prompts import load_prompts
from datagen.record import Draft, Seed
from datagen.shards.sources import SourceFile, read_files
from tests.generate.legal_rows import ended
from tests.generate.through_recipe import ROOT, WORKSPACE
from tests.generate.through_recipe import drafts as through_recipe

RECIPE = "legal/diversity_jurisdiction"
SPEC = WORKSPACE.recipe(RECIPE).spec
PROMPTS = load_prompts(WORKSPACE.prompt_files(RECIPE), root=ROOT)
SOURCE = WORKSPACE.source("causes_of_action").spec
SAMPLE = ROOT / "manifests/samples/causes_of_action.jsonl"
ROWS = [
    row.values
    for row in read_files([SourceFile(SAMPLE.name, SAMPLE)], columns=list(SOURCE.columns))
]


def templates(*, build_seed: int, row: int = 0, number: int = 0, per_row: int = 4) -> list[Draft]:
    """The complaints of one row, in the words of the templates."""
    values = ROWS[row % len(ROWS)]
    key = str(values["id"])
    seed = Seed(source="causes_of_action", row_key=key, row=values, licence="CC0-1.0")
    ask = SeedAsk(
        None,
        PROMPTS,
        source=seed.source,
        row_key=key,
        build_seed=build_seed,
        number=number,
        max_calls=0,
    )
    changes = {"rephrased_share": 0.0, "per_row": per_row}
    return asyncio.run(diversity_jurisdiction(seed, ask, **{**SPEC.arguments, **changes}))


@dataclass
class Read:
    """What the oracle reads of one named person or company."""

    states: set[str] = field(default_factory=set)
    alien: bool = False
    nowhere: bool = False
    green_card_in: str | None = None
    members: list[str] = field(default_factory=list)


READERS = (
    (r"(?P<n>.+) is a United States citizen who has long been domiciled in (?P<c>.+)\.", "abroad"),
    (r"(?P<n>.+) is a citizen of (?P<c>.+) and lives there\.", "alien"),
    (
        r"(?P<n>.+) is a citizen of (?P<c>.+) who has been admitted to the United States for "
        r"permanent residence and is domiciled in (?P<s>.+)\.",
        "green_card",
    ),
    (r"(?P<n>.+) is a citizen of (?P<s>.+)\.", "state"),
    (r"(?P<n>.+) is an American citizen domiciled in (?P<s>.+)\.", "state"),
    (
        r"(?P<n>.+), an American citizen, has a permanent home in (?P<s>.+) and intends to stay\.",
        "state",
    ),
    (
        r"(?P<n>.+), who is domiciled in (?P<t>.+), is a party only as executor of an estate; the "
        r"decedent was a citizen of (?P<s>.+) at death\.",
        "state",
    ),
    (
        r"(?P<n>.+) is a corporation that was incorporated in (?P<t>.+) and has its principal "
        r"place of business in (?P<s>.+)\.",
        "corporation",
    ),
    (
        r"(?P<n>.+) is a corporation that was organized in (?P<c>.+) and has its principal place "
        r"of business there\.",
        "alien",
    ),
    (
        r"(?P<n>.+) is a limited (?:liability company|partnership) that was organized in (?P<t>.+) "
        r"and has its headquarters in (?P<s>.+); its (?:members|partners) are (?P<m>.+)\.",
        "company",
    ),
)


def read_people(text: str) -> dict[str, Read]:
    """Everyone whom the complaint describes."""
    people: dict[str, Read] = {}
    for sentence in re.split(r"(?<=\.) (?=[A-Z])", text):
        for pattern, kind in READERS:
            found = re.fullmatch(pattern, sentence)
            if found is None:
                continue
            parts = found.groupdict()
            one = people.setdefault(parts["n"], Read())
            if kind == "abroad":
                one.nowhere = True
            elif kind in ("alien", "green_card"):
                one.alien, one.green_card_in = True, parts.get("s")
            elif kind == "state":
                one.states = {parts["s"]}
            elif kind == "corporation":
                one.states = {parts["s"], parts["t"]}
            else:
                one.members = parts["m"].split(" and ")
            break
    return people


def gather(people: dict[str, Read], name: str) -> Read:
    """A party with what it takes over from its members, and from theirs."""
    one = people[name]
    if not one.members:
        return one
    below = [gather(people, member) for member in one.members]
    return Read(
        states=set().union(*(member.states for member in below)),
        alien=any(member.alien for member in below),
        nowhere=any(member.nowhere for member in below),
    )


def named_in(text: str, people: dict[str, Read]) -> list[str]:
    return sorted((name for name in people if name in text), key=text.index)


def money(text: str) -> list[Decimal]:
    return [Decimal(found.replace(",", "")) for found in re.findall(r"\$([\d,]+)", text)]


def by_statute(left: list[Read], right: list[Read]) -> bool:
    """Section 1332(a)(1) to (3), one after another."""
    if any(one.nowhere for one in left + right):
        return False
    pairs = [(one, other) for one in left for other in right]
    if any(one.states & other.states for one, other in pairs):
        return False
    only_states = all(not one.alien for one in left + right)
    states_left = any(one.states for one in left)
    states_right = any(one.states for one in right)
    if only_states:  # (1)
        return True
    if all(one.alien and not one.states for one in left) and states_right:  # (2)
        if not any(one.alien for one in right):
            return not any(a.green_card_in in b.states for a, b in pairs)
        return False
    if all(one.alien and not one.states for one in right) and states_left:  # (2)
        if not any(one.alien for one in left):
            return not any(b.green_card_in in a.states for a, b in pairs)
        return False
    return states_left and states_right  # (3), or neither side has a citizen of a State


def oracle(text: str) -> tuple[bool, bool]:
    """Whether the parties are diverse, and whether enough is at stake, as the text has it."""
    people = read_people(text)
    (suit,) = re.findall(r"([^.]+) sues? ([^.]+) in a federal district court", text)
    tops = set(people) - {member for one in people.values() for member in one.members}
    left = [name for name in named_in(suit[0], people) if name in tops]
    right = [name for name in named_in(suit[1], people) if name in tops]
    assert left and right and set(left) | set(right) == tops
    diverse = by_statute(
        [gather(people, name) for name in left], [gather(people, name) for name in right]
    )
    asked = text[text.index(" in a federal district court") :]
    asked = re.sub(r"also seeks? \$[\d,]+ in interest and court costs", "", asked)
    amounts = money(asked)
    if "separate claim of their own" in asked or "liable separately" in asked:
        over = {amount > 75000 for amount in amounts}
        assert len(over) == 1, "mixed shares are a question of supplemental jurisdiction"
        return diverse, over.pop()
    return diverse, sum(amounts) > 75000


@settings(max_examples=250, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 23), st.integers(0, 999))
def test_every_answer_is_that_of_the_oracle(build_seed: int, row: int, number: int) -> None:
    """250 rows of 8 complaints: two thousand cases."""
    for draft in templates(build_seed=build_seed, row=row, number=number, per_row=8):
        context = draft.metadata["context"]
        diverse, enough = oracle(context)
        assert (draft.metadata["label"] == "yes") == (diverse and enough), context
        flaw = draft.metadata["flaw"]
        assert (diverse, enough) == {
            None: (True, True),
            "citizenship": (False, True),
            "amount": (True, False),
            "both": (False, False),
        }[flaw]


def test_answers_are_balanced_and_every_rule_comes_up() -> None:
    drafts = [
        draft for n in range(300) for draft in templates(build_seed=1, row=n, number=n, per_row=4)
    ]
    labels = Counter(draft.metadata["label"] for draft in drafts)
    assert labels == {"yes": 600, "no": 600}
    kinds = Counter(kind for draft in drafts for kind in draft.metadata["kinds"])
    assert len(kinds) == 8 and min(kinds.values()) > 20
    flaws = Counter(draft.metadata["flaw"] for draft in drafts)
    assert min(flaws.values()) > 100
    reasons = " ".join(step for draft in drafts for step in draft.metadata["reasons"])
    for said in (
        "permanent residence, is domiciled",
        "aliens on both sides",
        "belongs",
        "do not add",
    ):
        assert said in reasons or said == "belongs"


def test_the_limit_must_be_exceeded() -> None:
    """A demand of exactly $75,000 is drawn, and is never enough."""
    found = [
        draft
        for n in range(200)
        for draft in templates(build_seed=3, row=n, number=n)
        if re.search(r"seeks? \$75,000 for [a-z ]+[.]", draft.metadata["context"])
    ]
    assert found and {draft.metadata["label"] for draft in found} == {"no"}


def test_equal_seeds_give_equal_complaints_and_others_others() -> None:
    assert templates(build_seed=5) == templates(build_seed=5)
    assert templates(build_seed=5)[0].text != templates(build_seed=6)[0].text


COMPLAINT = re.compile(r"Facts: (.+)", re.DOTALL)


def original(body: Any) -> str:
    found = COMPLAINT.search(body["messages"][-1]["content"])
    assert found
    return found[1]


def rephrased(folder: Path, answer: Any) -> list[Draft]:
    return [
        draft
        for draft in through_recipe(folder, RECIPE, ROWS[0], answer, rephrased_share=1.0)
        if draft.metadata["wording"] == "rephrased"
    ]


def reword(text: str) -> str:
    """Other words, with all that counts in its place."""
    text = text.replace(
        " is a corporation that was incorporated in ", ", a corporation, was incorporated in "
    )
    text = text.replace(" is a citizen of ", " has long been a citizen of ")
    text = text.replace("is an American citizen domiciled in", "is a US national whose domicile is")
    text = text.replace("has a permanent home in", "lives for good in")
    return text.replace(" in a federal district court", ", before a federal district court,")


def test_a_faithful_rewording_is_kept(tmp_path: Path) -> None:
    found = rephrased(tmp_path, lambda body, sample: reword(original(body)))
    assert [draft.rejected for draft in found] == [None] * 4
    for draft in found:
        assert (
            draft.text and draft.metadata["context"] in draft.text and len(draft.calls or ()) == 1
        )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text, "not_reworded"),
        (lambda text: re.sub(r"\$\d", "$9", reword(text), count=1) + " $1", "lost"),
        (lambda text: reword(text) + " Ten and 10 make 20.", "numbers_changed"),
        (lambda text: reword(text) + " Their lawyer is Winston Garfield.", "new_names"),
        (lambda text: reword(text) + " The court has jurisdiction.", "says_the_answer"),
        (lambda text: reword(text).replace("sue", "meet"), "term_lost"),
        (lambda text: reword(text) + " None of it is denied, no.", "negation_changed"),
        (lambda text: "Somebody sues somebody.", "lost"),
    ],
)
def test_an_unfaithful_rewording_is_rejected(tmp_path: Path, change: Any, reason: str) -> None:
    found = rephrased(tmp_path, lambda body, sample: change(original(body)))
    assert {(draft.rejected or "kept").partition(":")[0] for draft in found} == {reason}


def test_a_party_that_changes_its_state_is_rejected(tmp_path: Path) -> None:
    """Names and States all survive, but one party lives in another's State."""

    def swap(body: Any, sample: int) -> str:
        text = reword(original(body))
        people = {name: sorted(one.states) for name, one in read_people(original(body)).items()}
        pairs = [(n, s[0]) for n, s in people.items() if s]
        for one, other in ((a, b) for a in pairs for b in pairs if a[1] != b[1]):
            swapped = text.replace(one[1], "@").replace(other[1], one[1]).replace("@", other[1])
            return swapped
        return "nothing to swap"

    reasons = {(draft.rejected or "kept").partition(":")[0] for draft in rephrased(tmp_path, swap)}
    assert "party_moved" in reasons and reasons <= {"party_moved", "lost"}


def test_a_complaint_in_the_templates_words_has_no_model_in_its_lineage(tmp_path: Path) -> None:
    """It rests on no answer, though the seed asked for rewordings: their licence is not its own."""
    answer = lambda body, sample: reword(original(body))  # noqa: E731
    records = ended(tmp_path, RECIPE, ROWS[0], answer, rephrased_share=1.0).records
    models = {(one.metadata["wording"], one.lineage.model) for one in records}
    assert models == {("template", None), ("rephrased", "teacher")}
    licences = {one.metadata["wording"]: one.lineage.model_licence for one in records}
    assert licences == {"template": None, "rephrased": "Apache-2.0"}


def test_facts_without_parties_reject_the_row(tmp_path: Path) -> None:
    row = {**ROWS[0], "facts": "It rained."}
    result = ended(tmp_path, RECIPE, row, lambda body, sample: "{}")
    assert [one.reason for one in result.rejects] == ["row_unusable"] and not result.records
    assert "does not name" in result.rejects[0].detail


def test_columns_and_tables_that_do_not_fit_are_errors() -> None:
    lacking = {name: ROWS[0][name] for name in ROWS[0] if name != "facts"}
    seed = Seed(source="s", row_key="1", row=lacking, licence="CC0-1.0")
    ask = SeedAsk(None, PROMPTS, source="s", row_key="1", build_seed=1, max_calls=0)
    with pytest.raises(DataError, match="no column 'facts'"):
        asyncio.run(diversity_jurisdiction(seed, ask, **SPEC.arguments))
    with pytest.raises(WorkspaceError, match="states"):
        few = {**SPEC.arguments, "states": ["Ohio", "Iowa"]}
        asyncio.run(diversity_jurisdiction(seed, ask, **few))

"""What a page is about, and its sentences put so that each names the subject by itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from datagen.generate.passages.prose import Passage, name_of

_PRONOUNS = {"He": "m", "His": "m", "She": "f", "Her": "f", "It": "n", "Its": "n"}
_POSSESSIVE = frozenset(("his", "her", "its"))
_BORN = re.compile(r"\((?:[^()]*\b)?(?:born|b\.|died|c\.)|\([^()]*\b\d{4}\b[^()]*[–-][^()]*\d{4}\b")
_PARTICLES = frozenset(
    re.findall(
        r"\S+",
        "de da del della di du la le van von der den ter bin ibn al of y e",
    )
)
_KIND = re.compile(
    r"\b(?:is|was) (?:an?|the) ((?:[\w’'-]+ )*?[\w’'-]+)"
    r"(?= (?:in|of|by|from|that|which|for|at|on|to|with|located|based|situated|and|near|within"
    r"|written|released|published|produced|directed)\b|[,.;(])"
)
_OPENING = (
    r"(?:(?:In|On|At|By|After|During|From|Since|Until|Between|Following|As|For|Before|With|When)"
    r"\b[^,;]{2,60}, |In (?:\w+ )?\d{4} )"
)
# "It was announced that ..." is about nothing.
_IMPERSONAL = re.compile(r"It (?:\w+ ){1,3}(?:[^,.]* )?that\b")
_REFERS = re.compile(
    r"\b(?:he|she|it|they|his|her|its|their|this|these|those|such)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A page's subject, the names that stand for it at a sentence's start, and its pronouns.

    `inside` is the subject as it stands inside a sentence: "the Nile" for "The Nile".
    """

    subject: str
    inside: str
    names: tuple[str, ...]
    pronouns: frozenset[str]


def topic_of(passages: Sequence[Passage], title: str) -> Topic:
    """Read the subject off the title, the lead and the pronouns that sentences begin with.

    A page whose sentences begin with both he and she gets no personal pronoun at all.
    """
    name = name_of(title)
    lead = passages[0].sentences[0] if passages else ""
    takes_article = re.match(rf"The {re.escape(name)}\b", lead) is not None
    subject = f"The {name}" if takes_article else name
    begins = Counter(
        _PRONOUNS[first]
        for passage in passages
        for sentence in passage.sentences
        if (first := sentence.partition(" ")[0]) in _PRONOUNS
    )
    words = subject.split()
    named_as_person = 1 <= len(words) <= 5 and all(
        word[:1].isupper() or word in _PARTICLES for word in words
    )
    personal = max(begins["m"], begins["f"])
    if named_as_person and (personal > begins["n"] or (_BORN.search(lead) and not begins["n"])):
        gender = "m" if begins["m"] >= begins["f"] else "f"
        mixed = min(begins["m"], begins["f"]) * 4 > personal
        surname = words[-1:] if len(words) > 1 and len(words[-1]) > 2 else []
        pronouns = [] if mixed else [word for word, kind in _PRONOUNS.items() if kind == gender]
        names = [subject, *surname]
    else:
        kind = _KIND.search(lead)
        head = kind[1].split()[-1] if kind else ""
        names = [subject, *([f"The {head}"] if head.islower() and len(head) > 2 else [])]
        pronouns = ["It", "Its"]
    return Topic(
        subject=subject,
        inside=f"the {name}" if takes_article else name,
        names=tuple(names),
        pronouns=frozenset(pronouns),
    )


def standalone(passage: Passage, topic: Topic) -> list[str]:
    """The passage's sentences about the subject, with its name in place of a pronoun or alias.

    A pronoun counts only while every sentence before it in the passage was about the subject too.
    """
    found = []
    clear = True
    pattern = _about(topic)
    for sentence in passage.sentences:
        match = pattern.match(sentence)
        if match is None or _REFERS.search(match["opening"] or "") or _IMPERSONAL.match(sentence):
            clear = clear and match is not None
            continue
        alias = match["name"] is not None and match["name"] != topic.subject
        if (match["pronoun"] or alias) and not clear:
            continue
        pronoun = (match["pronoun"] or "").casefold()
        owns = match["owner"] or pronoun in _POSSESSIVE
        rest = sentence[match.end() :]
        opening = match["opening"] or ""
        owner = "'s" if owns else ""
        subject = topic.inside if opening else topic.subject
        found.append(f"{opening}{subject}{owner}{rest}")
        clear = True
    return found


def _about(topic: Topic) -> re.Pattern[str]:
    names = sorted((re.escape(name) for name in topic.names), key=len, reverse=True)
    words = sorted({*topic.pronouns, *(word.lower() for word in topic.pronouns)})
    pronoun = rf"|(?P<pronoun>{'|'.join(words)})" if words else "|(?P<pronoun>(?!))"
    return re.compile(
        rf"(?P<opening>{_OPENING})?(?:(?P<name>{'|'.join(names)}){pronoun})"
        r"(?P<owner>[’']s)?(?=,? [a-z(])"
    )

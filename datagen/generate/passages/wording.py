"""Patterns that hold a small model to the words of a statement while it turns it into a question.

A model of a few hundred million parameters drifts away from its source within a line. Decoding is
therefore constrained: a question opens with a word that fits the answer, names the subject, and
continues with the statement's own words in the statement's order. Which of them it keeps, and in
which forms, is the model's choice. Patterns use the regular expressions that JSON schema allows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from datagen.generate.passages.spans import Span, answer_spans, find_spans
from datagen.generate.passages.topic import Topic
from datagen.generate.passages.words import base_forms, is_participle, is_past

GAP = "____"

_BE = frozenset(("was", "were", "is", "are"))
_HAVE = frozenset(("has", "had", "have"))
_ADVERBS = frozenset(
    re.findall(
        r"\S+",
        "also currently eventually first formerly initially later now once originally soon "
        "still then",
    )
)
_NOT_VERBS = frozenset(
    re.findall(
        r"\S+",
        "and or in of at by for to with on from as not near under into after before who which",
    )
)
_CLAUSE = re.compile(
    r"[,;:()“”]|\. |\b(?:where|which|who|whom|when|while|but|that|because|although)\b"
)
# A thing that stands somewhere: "is a village in the north of ____" asks where it is located.
_PLACE_NOUN = re.compile(
    r"(is|was) an? (?:[\w’'-]+ ){0,4}"
    r"(?:abbey|airport|bay|beach|bridge|building|canal|castle|cathedral|cemetery|church|city|college"
    r"|commune|community|county|district|farm|glacier|hamlet|hill|hospital"
    r"|hotel|house|island|lake|locality|mansion|monastery|mountain|municipality|museum|neighbou?rhood"
    r"|palace|parish|park|peninsula|port|province|region|river|school|settlement|station|street|suburb"
    r"|temple|theatre|town|township|tower|university|valley|village)"
    r" (?:(?:located|situated) )?((?:in|near|at)(?: the)?)$"
)
_ANOTHER_TIME = re.compile(r"\b(?:after|before|since|until|when)\b")
_ROUGHLY = re.compile(
    r"(?:^| )(?:(?:about|around|approximately|almost|nearly|over|roughly|some|up to"
    r"|(?:more|less|fewer) than|at (?:least|most)) ?)+$"
)
_PLACED = frozenset(
    re.findall(
        r"\S+",
        "arrive base bear build bury die educate establish find form found grow headquarter "
        "hold incorporate invent kill launch lie list live locate marry move occur open "
        "operate publish raise reside restore record release settle situate spend stand "
        "station stay take teach train work",
    )
)
_LANGUAGES = frozenset(
    re.findall(
        r"\S+",
        "Arabic Bengali Chinese Danish Dutch English Finnish French German Greek Hebrew Hindi "
        "Hungarian Italian Japanese Korean Latin Malay Malayalam Mandarin Norwegian Persian "
        "Polish Portuguese Romanian Russian Sanskrit Spanish Swedish Tamil Telugu Turkish "
        "Urdu Welsh",
    )
)
_EVENT = re.compile(
    r"\b(?:Olympics|Games|Cup|Championships?|Tournament|Festival|Awards?|Conference|Congress|Open"
    r"|Marathon|Expo|Exhibition|Trials|Series|League|Division|Prix)$"
)
_PLACE_END = re.compile(
    r"\b(?:War|Army|Navy|Force|Act|Era|Age|Party|Bowl|Draft|Top|Chart|Charts)\b"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """A statement taken apart around its answer: subject, auxiliary, verb, words before and after.

    `auxiliaries` may stand before the subject in a question, `verbs` after it.
    """

    topic: Topic
    span: Span
    verb: str
    auxiliaries: tuple[str, ...]
    verbs: tuple[str, ...]
    adverb: str
    before: str
    after: str


def literal(text: str) -> str:
    """Text as a regular expression that matches only itself."""
    return re.sub(r"([\\^$.|?*+()\[\]{}/])", r"\\\1", text)


def statement_pattern(subject: str) -> str:
    """A sentence that begins with the subject and ends with a full stop."""
    return f'^{literal(subject)} [^"\\\\]{{8,150}}\\.$'


def take_apart(statement: str, topic: Topic, span: Span) -> Clause | None:
    """Find the verb of a plain statement about its subject; None where it is not plain.

    Refused are compound subjects, "is a" definitions, negations, and an answer that stands in a
    clause other than the first.
    """
    subject = topic.subject
    if not statement.startswith(f"{subject} ") or span.start <= len(subject):
        return None
    before = statement[len(subject) + 1 : span.start].strip()
    after = _CLAUSE.split(statement[span.end :].rstrip("."), maxsplit=1)[0].strip()
    if _second_verb(after):
        after = re.split(r"\band\b", after)[0].strip()
    placed = _PLACE_NOUN.match(before)
    if placed is not None:
        before = f"{placed[1]} located {placed[2]}"
    if _CLAUSE.search(before) or _second_verb(before) or re.match(r"[A-Z“]", after):
        return None
    tokens = before.split()
    adverb = ""
    auxiliary = ""
    if tokens and tokens[0] in _BE | _HAVE:
        auxiliary = tokens.pop(0)
    if tokens and (tokens[0] in _ADVERBS or (tokens[0].endswith("ly") and tokens[0].islower())):
        adverb = tokens.pop(0)
    if not auxiliary and tokens and tokens[0] in _BE | _HAVE:
        auxiliary = tokens.pop(0)
    if auxiliary in _HAVE and tokens[:1] == ["been"] and len(tokens) > 1:
        tokens[:2] = [f"been {tokens[1]}"]
    elif auxiliary in _HAVE and not (tokens and is_participle(tokens[0])):
        tokens.insert(0, auxiliary)
        auxiliary = ""
    if (
        not tokens
        or not re.fullmatch(r"(?:been )?[a-z]+(?:-[a-z]+)?", tokens[0])
        or tokens[0] in _NOT_VERBS
    ):
        return None
    verb = tokens.pop(0)
    if auxiliary:
        plain = is_participle(verb.removeprefix("been ")) or (
            auxiliary in _BE and verb in ("located", "based")
        )
        auxiliaries: tuple[str, ...] = ("was",) if verb == "born" else (auxiliary,)
        verbs: tuple[str, ...] = (verb,)
    else:
        past = is_past(verb) or verb == "had"
        plain = (past or verb.endswith("s") or not tokens) and not set(tokens) & (_BE | _HAVE)
        auxiliaries = ("did",) if past else ("does",) if verb.endswith("s") else ("do", "does")
        verbs = tuple(base_forms(verb))
    if not plain:
        return None
    return Clause(
        topic=topic,
        span=span,
        verb=verb,
        auxiliaries=auxiliaries,
        verbs=verbs,
        adverb=adverb,
        before=" ".join(tokens),
        after=after,
    )


def _second_verb(phrase: str) -> bool:
    """Whether "and" joins another verb: `moved to Selby and later became`."""
    return any(
        is_past(word) or word in _BE | _HAVE
        for joined in re.split(r"\band\b", phrase)[1:]
        for word in joined.split()[:3]
    )


def question_pattern(clause: Clause) -> str | None:
    """The questions that ask for the answer in the statement's own words; None if it has no such.

    The answer's place decides how they open: `in 1948` -> When, In what year; `by Tom Hay` -> Who,
    By whom; `in Otley` -> Where; `14 arches` -> How many arches; `with rapper X` -> With which
    rapper.
    """
    before, _, last = clause.before.rpartition(" ")
    if last in ("the", "a", "an"):
        before, _, last = before.rpartition(" ")
    openings: list[str] = []
    after = clause.after
    kind = clause.span.kind
    if kind in ("date", "month", "year"):
        leads = ("on", "") if kind == "date" else ("in",)
        fits = last in leads and not _ANOTHER_TIME.search(before)
        openings = ["When", *(["In what year"] if kind == "year" else [])] if fits else []
    elif kind == "number":
        counted = re.match(r"((?:[a-z-]+ )?[a-z-]+s)\b(?! of the)", after)
        if counted and last not in ("in", "at", "of", "to", "by", "top", "number", "no", "age"):
            openings, before = [f"How many {counted[1]}"], _ROUGHLY.sub("", clause.before)
            after = after[counted.end() :].strip()
    elif last == "by":
        passive = clause.verb.startswith("been ") or clause.auxiliaries[0] in _BE
        if not passive or re.search(r"\bby\b", before):
            return None
        openings = ["By whom"]
        return _one_of([*_who(clause, before, after), *_asked(clause, openings, before, after)])
    elif last in ("in", "at", "near"):
        # "the centre of Old Selby in ____" may say where the centre is, not where it happened.
        openings = [] if re.search(r"[A-ZÀ-Þ]\S*$", before) else _place(clause, last)
    else:
        openings, before = _which(clause, before, last)
    return _one_of(_asked(clause, openings, before, after)) if openings else None


def _place(clause: Clause, preposition: str) -> list[str]:
    name = clause.span.text
    if name in _LANGUAGES:
        return [f"{preposition.capitalize()} which language"]
    if _EVENT.search(name):
        return [f"{preposition.capitalize()} which event"]
    verbs = {*clause.verbs, *base_forms(clause.verb), clause.verb}
    born = clause.verb == "born" or bool(verbs & _PLACED)
    if (preposition == "in" and not born) or _PLACE_END.search(name):
        return []
    return ["Where"]


def _which(clause: Clause, before: str, noun: str) -> tuple[list[str], str]:
    """`with rapper ____` -> With which rapper, and the words before it."""
    match = re.search(r"(?:^| )(with|by|from|for|in|at|on|near) (?:the |an? )?$", f"{before} ")
    plain = re.fullmatch(r"[a-z]{3,}", noun) and not re.search(
        r"(?:ed|ing|ly|as|ous|ful|ive|ic|ish)$", noun
    )
    if match is None or not plain or noun in _NOT_VERBS:
        return [], before
    return [f"{match[1].capitalize()} which {noun}"], before[: match.start()].strip()


def _who(clause: Clause, before: str, after: str) -> list[str]:
    """`was designed by ____` -> Who designed: the participle must also be a past form."""
    if not is_past(clause.verb) or " " in clause.verb:
        return []
    tail = _optional(before) + _optional(after)
    return [f"Who {literal(clause.verb)} {literal(clause.topic.inside)}{tail}"]


def _asked(clause: Clause, openings: list[str], before: str, after: str) -> list[str]:
    auxiliaries = "|".join(clause.auxiliaries)
    verbs = "|".join(literal(verb) for verb in clause.verbs)
    adverb = f"( {literal(clause.adverb)})?" if clause.adverb else ""
    tail = f"{adverb} ({verbs}){_optional(before)}{_optional(after)}"
    subject = literal(clause.topic.inside)
    return [f"{literal(opening)} ({auxiliaries}) {subject}{tail}" for opening in openings]


def _optional(text: str) -> str:
    """Each word of a phrase, in order, to keep or to leave; names are kept or left whole."""
    units = []
    place = 0
    for span in [*find_spans(text), None]:
        units += text[place : span.start if span else None].split()
        if span is not None:
            units.append(span.text)
            place = span.end
    return "".join(f"( {literal(unit)})?" for unit in units)


def _one_of(patterns: list[str]) -> str | None:
    return f"^({'|'.join(patterns)})\\?$" if patterns else None


def askable(statement: str, topic: Topic) -> list[tuple[Clause, str]]:
    """The answers that a statement can be asked for in its own words, each with its pattern."""
    found = []
    for span in answer_spans(statement, topic.subject):
        clause = take_apart(statement, topic, span)
        pattern = question_pattern(clause) if clause else None
        if clause is not None and pattern is not None:
            found.append((clause, pattern))
    return found

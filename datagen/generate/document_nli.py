"""A document followed by hypotheses, each with its answer and the passages that it rests on.

Reads rows in the layout of ContractNLI: text, spans of characters, and for every hypothesis a
choice and the places of its evidence among the spans. Nobody is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from datagen.generate.legal.choices import finished, shuffled
from datagen.generate.legal.rows import cell, wrong
from datagen.llm.ask import Ask
from datagen.record import Draft, Seed, TokenCutter

_ANSWERS = {
    "Entailment": "Entailment",
    "Contradiction": "Contradiction",
    "NotMentioned": "Not mentioned",
}


async def document_nli(
    seed: Seed,
    ask: Ask,
    *,
    tokenizer: TokenCutter,
    text: str = "text",
    spans: str = "spans",
    annotations: str = "annotations",
    hypotheses: str = "hypotheses",
    most_hypotheses: int = 20,
    max_tokens: int = 8000,
    texts: Sequence[str] = ("text_numbered",),
) -> list[Draft]:
    """Draft a document with its hypotheses, at most `most_hypotheses`, in a drawn order.

    Evidence is cut from the document by the row's spans, so it is verbatim; an entailed or
    contradicted hypothesis without any is left out, and so is evidence for what is not mentioned.
    """
    document = str(cell(seed, text) or "")
    if not document.strip():
        return [Draft(rejected="empty: no text")]
    length = tokenizer.count(document)
    if length > max_tokens:
        return [Draft(rejected=f"long_document: {length} tokens")]
    places, said = cell(seed, spans) or [], _table(seed, hypotheses)
    found: dict[str, dict[str, Any]] = {}
    problems = []
    for key, annotation in sorted(_table(seed, annotations).items()):
        if key not in said:
            fix = f"give it one in {hypotheses!r}"
            raise wrong(seed, f"annotation {key!r} has no hypothesis", fix)
        answer = _ANSWERS.get(str(annotation.get("choice")))
        if answer is None:
            raise wrong(seed, f"{key!r} is {annotation.get('choice')!r}", " or ".join(_ANSWERS))
        evidence = [_span(seed, document, places, i) for i in annotation.get("spans") or ()]
        if bool(evidence) == (answer == "Not mentioned"):
            why = "has evidence" if evidence else "has no evidence"
            problems.append(f"evidence_mismatch: {key} is {answer!r} and {why}")
            continue
        found[key] = {
            "key": key,
            "hypothesis": str(said[key]),
            "answer": answer,
            "evidence": evidence,
        }
    drafts = [Draft(rejected=problem) for problem in problems]
    if not found:
        return [*drafts, Draft(rejected="no_hypothesis: none has an answer that can be kept")]
    keys = shuffled(ask, list(found), "hypotheses")[:most_hypotheses]
    items = [found[key] for key in keys]
    labels = [item["answer"].lower().replace(" ", "_") for item in items]
    metadata = {
        "form": "document_nli",
        "context": document,
        "items": items,
        # A document has as many labels as hypotheses; all that stand in it, for counts.
        "label": "+".join(sorted(set(labels))),
        "labels": dict(sorted(Counter(labels).items())),
        "document_tokens": length,
    }
    return [*drafts, finished(ask, metadata, texts)]


def _table(seed: Seed, column: str) -> Mapping[str, Any]:
    value = cell(seed, column)
    if not isinstance(value, Mapping):
        raise wrong(seed, f"column {column!r} is no table", "name the column of a table by key")
    return value


def _span(seed: Seed, document: str, places: Sequence[Sequence[int]], place: int) -> str:
    """The characters of a span, which must lie within the document."""
    if not 0 <= place < len(places):
        raise wrong(seed, f"span {place} of {len(places)}", "evidence names places in 'spans'")
    start, end = places[place]
    if not 0 <= start < end <= len(document):
        raise wrong(seed, f"span {start} to {end}", f"the text has {len(document)} characters")
    return document[start:end].strip()

"""A document followed by hypotheses, each with its answer and the passages that it rests on.

Reads rows in the layout of ContractNLI: text, spans of characters, and for every hypothesis a
choice and the places of its evidence among the spans. Nobody is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from datagen.generate.legal.choices import finished, shuffled
from datagen.generate.legal.rows import cell, table_cell
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
    A hypothesis whose annotation or span is broken is rejected alone.
    """
    document = str(cell(seed, text) or "")
    if not document.strip():
        return [Draft(rejected="empty: no text")]
    length = tokenizer.count(document)
    if length > max_tokens:
        return [Draft(rejected=f"long_document: {length} tokens")]
    said = table_cell(seed, hypotheses)
    places = cell(seed, spans)
    read = {
        key: _item(document, places, key, annotation, said.get(key))
        for key, annotation in sorted(table_cell(seed, annotations).items())
    }
    found = {key: item for key, item in read.items() if not isinstance(item, str)}
    problems = [item for item in read.values() if isinstance(item, str)]
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


def _item(
    document: str, places: Any, key: str, annotation: Any, hypothesis: Any
) -> dict[str, Any] | str:
    """A hypothesis with its answer and its evidence, or why the row does not give them."""
    if not hypothesis:
        return f"row_unusable: annotation {key} has no hypothesis"
    if not isinstance(annotation, Mapping):
        return f"row_unusable: annotation {key} is no table"
    answer = _ANSWERS.get(str(annotation.get("choice")))
    if answer is None:
        return f"row_unusable: {key} is {annotation.get('choice')!r}, not {' or '.join(_ANSWERS)}"
    evidence = []
    for place in annotation.get("spans") or ():
        passage = _span(document, places, place)
        if passage is None:
            return f"row_unusable: span {place} of {key} lies outside of the text"
        evidence.append(passage)
    if bool(evidence) == (answer == "Not mentioned"):
        why = "has evidence" if evidence else "has no evidence"
        return f"evidence_mismatch: {key} is {answer!r} and {why}"
    return {"key": key, "hypothesis": str(hypothesis), "answer": answer, "evidence": evidence}


def _span(document: str, places: Any, place: Any) -> str | None:
    """The characters of a span, or None where it is none within the document."""
    try:
        start, end = places[place]
        inside = place >= 0 and 0 <= start < end <= len(document)
    except (IndexError, KeyError, TypeError, ValueError):
        return None
    return document[start:end].strip() or None if inside else None

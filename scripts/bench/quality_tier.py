"""The quality classifier on real texts with proxy labels: errors on held-out texts, and speed.

DATAGEN_DATA=... python scripts/bench/quality_tier.py

No judge scored these texts. The labels are what the files say of themselves: long encyclopedia
articles (4) and medium ones (3) over short ones and stubs (2), statutes as HTML (1), code and
licence texts (0). So the figures say what the classifier can tell apart, not what is worth reading.
"""

from __future__ import annotations

import gzip
import json
import os
import time
from pathlib import Path
from typing import Any

from datagen.curate.classifier import evaluate, part_of, train_classifier

BANDS = {"stub": 2.0, "short": 2.0, "medium": 3.0, "long": 4.0, "very_long": 4.0}


def rows(name: str) -> list[dict[str, Any]]:
    with gzip.open(Path(os.environ["DATAGEN_DATA"]) / f"{name}.jsonl.gz", "rt") as lines:
        return list(map(json.loads, lines))


def proxies() -> dict[str, float]:
    """Texts, cut to 6,000 characters, and their labels."""
    found: dict[str, float] = {}
    for row in rows("wiki/wikipedia_en_articles"):
        found[row["text"][:6000]] = BANDS[row["size_band"]]
    found |= {row["html"][:6000]: 1.0 for row in rows("legal/legal_html")}
    found |= {row["content"][:6000]: 0.0 for row in rows("code/code_files")}
    found |= {row["text"][:6000]: 0.0 for row in rows("dedup/license_texts_docs")}
    return found


def main() -> None:
    known = proxies()
    texts = sorted(known)
    labels = [known[text] for text in texts]
    begin = time.process_time()
    model = train_classifier(texts, labels)
    print(f"{len(texts)} texts, trained in {time.process_time() - begin:.1f} CPU s")
    chosen = [i for i, text in enumerate(texts) if part_of(text) == "held_out"]
    held_out = [texts[i] for i in chosen]
    quality = evaluate(model, held_out, [labels[i] for i in chosen])
    auc = "unknown" if quality.auc is None else f"{quality.auc:.3f}"
    print(
        f"{quality.texts} held out: mean error {quality.mean_error:.3f} "
        f"(always the mean: {quality.error_of_mean:.3f}), correlation {quality.correlation:.3f}, "
        f"from {quality.good:g} on: AUC {auc}, accuracy {quality.accuracy:.3f}"
    )
    for tier, (count, said, judged) in enumerate(quality.tiers):
        print(f"tier {tier}: {count} texts, model {said:.2f}, label {judged:.2f}")
    size = sum(len(text.encode()) for text in texts) / 1e6
    begin = time.process_time()
    for text in texts:
        model.scores([text])
    print(f"scored one by one: {size / (time.process_time() - begin):.0f} MB/s a core")
    print(f"file: {len(model.content())} bytes")


if __name__ == "__main__":
    main()

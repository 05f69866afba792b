"""Train a quality classifier on records that a judge scored, and write it with its card.

    datagen try quality_scores --rows 50000 ...
    python scripts/train_quality.py OUT/generate/quality_scores@*/*/shards/*.parquet \
        --name NAME --licence LICENCE --labels "who scored what" -o DIRECTORY

Reads record shards (text, and `scores` in the metadata). Writes NAME.npz (the model), NAME.yaml
(its sha256 and figures), NAME.svg (the calibration plot) and NAME.md (the card). Equal records give
equal bytes. Every figure is measured on texts that neither weights nor tiers have seen.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import yaml

from datagen.curate.classifier import Quality, evaluate, part_of, train_classifier
from datagen.curate.words import record_text
from datagen.errors import DataError, DatagenError
from datagen.shards.records import read_records


def labelled(paths: Sequence[Path], criterion: str) -> tuple[list[str], list[float]]:
    """The distinct texts and their scores, in the order of the texts."""
    found: dict[str, float] = {}
    for record in read_records(paths):
        scores = record.metadata.get("scores")
        if isinstance(scores, dict) and criterion in scores:
            found[record_text(record)] = float(scores[criterion])
    if not found:
        raise DataError(
            f"no record has a score of {criterion!r}",
            where=", ".join(map(str, paths)) or "no file",
            fix="give the shards of a recipe whose method is judge",
        )
    texts = sorted(found)
    return texts, [found[text] for text in texts]


def calibration_plot(quality: Quality) -> str:
    """An SVG of each tier's mean score: the judge's over the model's."""
    points = [(said, judged, count) for count, said, judged in quality.tiers if count]
    low = min(min(said, judged) for said, judged, _ in points)
    high = max(max(said, judged) for said, judged, _ in points)
    room = (high - low) * 0.1 or 1.0
    low, high = low - room, high + room

    def place(value: float) -> float:
        return 300 * (value - low) / (high - low)

    shapes = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="-60 -20 400 380" font-family="sans-serif"'
        ' font-size="12">',
        '<rect width="300" height="300" fill="none" stroke="#888"/>',
        '<line x1="0" y1="300" x2="300" y2="0" stroke="#bbb" stroke-dasharray="4"/>',
        f'<text x="0" y="316">{low:.2f}</text><text x="275" y="316">{high:.2f}</text>',
        f'<text x="-40" y="300">{low:.2f}</text><text x="-40" y="12">{high:.2f}</text>',
        '<text x="80" y="338">mean score of the model</text>',
        '<text x="-45" y="210" transform="rotate(-90 -45 210)">mean score of the judge</text>',
    ]
    for said, judged, count in points:
        x, y = place(said), 300 - place(judged)
        shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="#2a6"/>')
        shapes.append(f'<text x="{x + 8:.1f}" y="{y + 4:.1f}">{count}</text>')
    return "\n".join([*shapes, "</svg>", ""])


def card(name: str, licence: str, labels: str, sha256: str, quality: Quality) -> str:
    """The model's card, in Markdown."""
    tiers = "\n".join(
        f"| {tier} | {count} | {said:.2f} | {judged:.2f} |"
        for tier, (count, said, judged) in enumerate(quality.tiers)
    )
    auc = "unknown" if quality.auc is None else f"{quality.auc:.3f}"
    return f"""# {name}

Linear regression over hashed words and word pairs. Licence: {licence}. sha256: `{sha256}`.

**Labels**: {labels}. The model repeats what these labels say, mistakes included; it knows nothing
of truth, and little of texts unlike those it was trained on.

On {quality.texts} texts held out: mean error {quality.mean_error:.3f} (of always saying the mean:
{quality.error_of_mean:.3f}), correlation {quality.correlation:.3f}. Told apart at
{quality.good:g} and more: AUC {auc}, accuracy {quality.accuracy:.3f}.

| tier | held-out texts | mean score of the model | mean score of the judge |
|---|---|---|---|
{tiers}

![calibration]({name}.svg)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("records", nargs="+", type=Path)
    parser.add_argument("--criterion", default="educational")
    parser.add_argument("--name", required=True)
    parser.add_argument("--licence", required=True, help="of the model, as its texts allow")
    parser.add_argument("--labels", required=True, help="who scored what, in a sentence")
    parser.add_argument("--buckets", type=int, default=1 << 17, help="a power of two")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    try:
        texts, scores = labelled(options.records, options.criterion)
        model = train_classifier(texts, scores, buckets=options.buckets)
        chosen = [i for i, text in enumerate(texts) if part_of(text) == "held_out"]
        quality = evaluate(model, [texts[i] for i in chosen], [scores[i] for i in chosen])
    except DatagenError as error:
        sys.exit(f"error: {error}")
    content = model.content()
    sha256 = hashlib.sha256(content).hexdigest()
    options.out.mkdir(parents=True, exist_ok=True)
    about = {
        "name": options.name,
        "licence": options.licence,
        "labels": options.labels,
        "file": f"{options.name}.npz",
        "sha256": sha256,
        "texts": len(texts),
        "held_out": asdict(quality) | {"tiers": [list(tier) for tier in quality.tiers]},
    }
    target = options.out / options.name
    Path(f"{target}.npz").write_bytes(content)
    Path(f"{target}.yaml").write_text(yaml.safe_dump(about, sort_keys=False))
    Path(f"{target}.svg").write_text(calibration_plot(quality))
    Path(f"{target}.md").write_text(
        card(options.name, options.licence, options.labels, sha256, quality)
    )
    print(f"{target}.npz: {len(content)} bytes, sha256 {sha256}")
    print(yaml.safe_dump(about["held_out"], sort_keys=False))


if __name__ == "__main__":
    main()

"""The dataset card of a build: hub metadata, and what a reader must know before training on it.

A card holds no time, path or host: equal builds give equal cards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

# Licences that the hub knows by a short name; any other is shown as `other` with its own name.
_HUB_LICENCES = frozenset(
    {
        *("apache-2.0", "mit", "isc", "unlicense", "bsd-2-clause", "bsd-3-clause", "bsl-1.0"),
        *("cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0"),
        *("cc-by-nc-4.0", "cc-by-nc-sa-4.0", "odbl", "odc-by", "pddl"),
        *("gpl-2.0", "gpl-3.0", "lgpl-3.0", "mpl-2.0", "afl-3.0"),
    }
)
_SIZES = [
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
    (1_000_000_000, "100M<n<1B"),
    (10_000_000_000, "1B<n<10B"),
]
_ROW_COLUMNS = [
    ("input_ids", "token ids of the row, unpadded"),
    ("loss_mask", "1 where the token is a training target"),
    ("document_starts", "where each document begins in the row"),
    ("record_ids", "the record that each document comes from"),
    ("record_offsets", "where the piece begins inside its record's tokens"),
    ("trained_tokens", "targets of each document"),
    ("categories", "mixture category of each document"),
    ("n_tokens", "tokens in the row"),
    ("phase", "phase of the mixture"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureLine:
    """One category: shares in per cent of tokens; `epochs` None where it is unknown."""

    category: str
    requested: float
    realised: float
    tokens: int
    epochs: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFact:
    """A source as used: `rows` are those drawn; `licences` every licence seen on its rows."""

    name: str
    title: str
    licences: tuple[str, ...]
    rows: int
    revision: str | None = None
    hub_id: str | None = None
    language: str = "en"


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherFact:
    """A model that wrote text of the build; `terms` say what its licence asks of outputs."""

    name: str
    title: str
    licence: str
    revision: str | None = None
    terms: str | None = None
    embedded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFact:
    """One stage of a recipe: rows kept, and rows refused or failed by reason."""

    recipe: str
    stage: str
    kept: int
    rejected: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiversityFact:
    """How varied a recipe's records are, over a sample; None where there are too few to say."""

    recipe: str
    records: int
    sampled: int
    distinct_2: float | None
    self_bleu: float | None
    effective_texts: float | None
    opening: str | None
    opening_share: float | None
    words_p50: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFacts:
    """All that a card says of a build, as plain values.

    `corpus` holds the settings of dedup and decontamination, `command` what reproduces the build.
    """

    title: str
    mixture: str
    fingerprint: str
    version: str
    tokens: int
    rows: int
    records: int
    row_tokens: int
    tokenizer: str
    tokenizer_licence: str
    command: str
    lines: tuple[MixtureLine, ...]
    sources: tuple[SourceFact, ...]
    teachers: tuple[TeacherFact, ...] = ()
    stages: tuple[StageFact, ...] = ()
    diversity: tuple[DiversityFact, ...] = ()
    corpus: Mapping[str, Any] = field(default_factory=dict)


def card(build: BuildFacts) -> str:
    """The dataset card, README.md: YAML metadata, then the sections, in Markdown."""
    metadata = yaml.safe_dump(_metadata(build), sort_keys=False, allow_unicode=True, width=10_000)
    sections = [
        f"# {build.title}",
        _summary(build),
        _section("Mixture", _mixture(build.lines)),
        _section("Sources and licences", _sources(build.sources)),
        _section("Teachers", _teachers(build.teachers)),
        _section("Filters", _stages(build.stages)),
        _section("Deduplication and decontamination", _settings(build.corpus)),
        _section("Diversity", _diversity(build.diversity)),
        _section("Tokens", _tokens(build)),
        _section("Reading it", _READING),
        _section("Reproducing it", f"```sh\n{build.command}\n```"),
        _section("Limitations", _limitations(build)),
    ]
    return f"---\n{metadata}---\n\n" + "\n\n".join(sections) + "\n"


def notice(build: BuildFacts) -> str:
    """LICENSE.md beside the card: each licence with the sources it covers, and teachers' terms."""
    parts = [
        "# Licences of this data set",
        "Each record names its source row, that row's licence, and the model that wrote it.",
        _sources(build.sources),
        _section("Teachers", _teachers(build.teachers)),
    ]
    return "\n\n".join(parts) + "\n"


def licences(build: BuildFacts) -> list[str]:
    """Every licence of the sources, once, in alphabetical order."""
    return sorted({name for source in build.sources for name in source.licences})


def _metadata(build: BuildFacts) -> dict[str, Any]:
    names = licences(build)
    metadata: dict[str, Any] = {"pretty_name": build.title}
    if len(names) == 1 and names[0].lower() in _HUB_LICENCES:
        metadata["license"] = names[0].lower()
    else:
        metadata["license"] = "other"
        metadata["license_name"] = "-and-".join(map(_kebab, names)) or "unknown"
        metadata["license_link"] = "LICENSE.md"
    hub_ids = {source.hub_id for source in build.sources if source.hub_id}
    local = any(source.hub_id is None for source in build.sources)
    metadata |= {
        "language": sorted({source.language for source in build.sources}),
        "tags": ["synthetic", "datagen"],
        "annotations_creators": ["machine-generated"],
        "source_datasets": [*(["original"] if local else []), *sorted(hub_ids)],
        "size_categories": [_size(build.records)],
        "task_categories": ["text-generation"],
        "configs": [
            {"config_name": "tokens", "default": True, "data_files": _split("shards/*.parquet")},
            {"config_name": "records", "data_files": _split("records/**/*.parquet")},
        ],
    }
    return metadata


def _split(path: str) -> list[dict[str, str]]:
    return [{"split": "train", "path": path}]


def _kebab(name: str) -> str:
    words = "".join(c if c.isalnum() or c in ".-" else " " for c in name.lower()).split()
    return "-".join(words)


def _size(records: int) -> str:
    return next((label for bound, label in _SIZES if records < bound), "n>1T")


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return " ".join(str(value).replace("|", "\\|").split())


def _known(value: object | None) -> object:
    return "unknown" if value is None else value


def _summary(build: BuildFacts) -> str:
    return (
        f"Packed training data for language models, made by datagen {build.version} from the "
        f"mixture `{build.mixture}`: {build.tokens:,} tokens in {build.rows:,} rows, from "
        f"{build.records:,} records. Build `{build.fingerprint}`. Every row names the records it "
        "holds, and every record its source row, licence, prompts and teacher."
    )


def _mixture(lines: Iterable[MixtureLine]) -> str:
    return _table(
        ["category", "requested %", "realised %", "tokens", "epochs"],
        [
            (
                line.category,
                f"{line.requested:.2f}",
                f"{line.realised:.2f}",
                line.tokens,
                "unknown" if line.epochs is None else f"{line.epochs:.2f}",
            )
            for line in lines
        ],
    )


def _sources(sources: Iterable[SourceFact]) -> str:
    return _table(
        ["source", "what", "licence", "revision", "rows used"],
        [
            (s.name, s.title, ", ".join(s.licences) or "unknown", _known(s.revision), s.rows)
            for s in sources
        ],
    )


def _teachers(teachers: Sequence[TeacherFact]) -> str:
    if not teachers:
        return "No model wrote any of this text."
    return _table(
        ["model", "what", "revision", "licence", "terms for its outputs"],
        [(t.name, t.title, _known(t.revision), t.licence, t.terms or "none") for t in teachers],
    )


def _stages(stages: Sequence[StageFact]) -> str:
    if not stages:
        return "No filter ran."
    return _table(
        ["recipe", "stage", "kept", "refused", "by reason"],
        [
            (
                stage.recipe,
                stage.stage,
                stage.kept,
                sum(stage.rejected.values()),
                ", ".join(f"{reason} {count:,}" for reason, count in _by_count(stage.rejected)),
            )
            for stage in stages
        ],
    )


def _by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _settings(corpus: Mapping[str, Any]) -> str:
    if not corpus:
        return "Neither ran."
    names = sorted(corpus.keys() - {"contamination"})
    settings = _table(["setting", "value"], [(name, str(corpus[name])) for name in names])
    found = [
        (benchmark, tier, str(count))
        for benchmark, tiers in sorted(corpus.get("contamination", {}).items())
        for tier, count in sorted(tiers.items())
    ]
    if not found:
        return settings
    return f"{settings}\n\n{_table(['benchmark', 'found by', 'items'], found)}"


def _diversity(lines: Sequence[DiversityFact]) -> str:
    if not lines:
        return "Nothing was measured."
    about = (
        "Over a seeded sample of each recipe's records: distinct word pairs by all pairs; the mean "
        "BLEU-4 of a record against the others, 1 for one text over and over; how many wholly "
        "different texts would be as spread; the commonest three words at the beginning."
    )
    head = ["recipe", "records", "sample", "distinct-2", "self-BLEU", "effective texts"]
    table = _table(
        [*head, "commonest opening", "its share", "median words"],
        [
            (
                line.recipe,
                line.records,
                line.sampled,
                *map(_figure, (line.distinct_2, line.self_bleu)),
                "none" if line.effective_texts is None else f"{line.effective_texts:.0f}",
                line.opening or "none",
                "none" if line.opening_share is None else f"{line.opening_share:.1%}",
                "none" if line.words_p50 is None else line.words_p50,
            )
            for line in lines
        ],
    )
    return f"{about}\n\n{table}"


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def _tokens(build: BuildFacts) -> str:
    about = (
        f"Tokenizer `{build.tokenizer}` ({build.tokenizer_licence}); rows hold up to "
        f"{build.row_tokens:,} tokens and are not padded."
    )
    return f"{about}\n\n{_table(['column', 'meaning'], _ROW_COLUMNS)}"


_READING = """\
With DuckDB, from a token row back to the records in it:

```sql
SELECT t.phase, t.n_tokens, r.lineage.source, r.lineage.licence, r.text
FROM (SELECT *, unnest(record_ids) AS id FROM 'shards/*.parquet') t
JOIN 'records/**/*.parquet' r USING (id) LIMIT 5;
```

With `datasets` (`ORG/NAME` is this repository):

```python
from datasets import load_dataset

rows = load_dataset("ORG/NAME", "tokens", split="train", streaming=True)
records = load_dataset("ORG/NAME", "records", split="train", streaming=True)
```

`manifest.json` lists the sha256 of every file of the build."""


def _limitations(build: BuildFacts) -> str:
    points = [
        "Generated text can be wrong, and repeats the biases of its sources and teachers; the "
        "filters are heuristics.",
        "Decontamination finds shared word sequences, not paraphrases.",
    ]
    if any(teacher.embedded for teacher in build.teachers):
        points.append(
            "The teacher is the small model that comes with datagen. It proves that the pipeline "
            "works; what it wrote is not useful training data."
        )
    if any(source.revision is None for source in build.sources):
        points.append("The revision of at least one source is unknown.")
    return "\n".join(f"- {point}" for point in points)

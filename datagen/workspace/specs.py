"""The nouns of the workspace as frozen pydantic models: what YAML may say, and nothing else.

Unknown keys are refused. Files are named relative to the workspace, or start with `${VAR}/` where
a profile maps a source to data that lies elsewhere.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_+.-]*(/[a-z0-9_+.-]+)*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Revision = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]

HASHED_TFIDF = "datagen.curate.semantic:hashed_tfidf"

TIMEOUT_S = 600.0
"""How long a request may take where a profile says nothing of it."""


class Spec(BaseModel):
    """Base of every YAML model: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FilePin(Spec):
    """Files by glob, each with its sha256 (null: not verified yet, `datagen pin` fills it in)."""

    files: Annotated[tuple[str, ...], Field(min_length=1)]
    sha256: dict[str, Sha256 | None] = {}


class HubPin(Spec):
    """A Hugging Face data set or model at a revision (null: not verified, shown as unknown)."""

    id: str
    revision: Revision | None = None
    config: str | None = None
    split: str = "train"
    files: tuple[str, ...] = ()
    rename: dict[str, str] = {}


class SourceSpec(Spec):
    """manifests/sources/<name>.yaml: which bytes, under which licence, with which columns.

    `filters` is the chain for recipes that name none of their own. A hub pin's `rename` maps the
    published column names to `columns`. `where` keeps the rows whose columns hold these values.
    `own` rows are published nowhere else: the sample is the source under every profile.
    """

    name: Name
    title: str
    licence: str
    licence_column: str | None = None
    language: str = "en"
    key: str | None = None
    text: str | None = None
    messages: str | None = None
    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    hub: HubPin | None = None
    sample: FilePin | None = None
    sample_licence: str = "CC0-1.0"
    filters: Name | None = None
    where: dict[str, str | int | bool] = {}
    own: bool = False
    rows: Positive | None = None
    tokens: Positive | None = None
    notes: str | None = None

    @model_validator(mode="after")
    def _has_place_and_columns(self) -> SourceSpec:
        if self.hub is None and self.sample is None:
            raise ValueError("a source needs 'hub' or 'sample'")
        if self.own and (self.sample is None or self.hub is not None):
            raise ValueError("a source of one's own has a 'sample' and no 'hub'")
        if (self.text is None) == (self.messages is None):
            raise ValueError("a source names either a 'text' or a 'messages' column")
        for column in (self.key, self.text, self.messages, self.licence_column, *self.where):
            if column is not None and column not in self.columns:
                raise ValueError(f"column {column!r} is not among 'columns'")
        return self


class SourceOverride(FilePin):
    """A profile's own files for a source, with the columns renamed where they differ."""

    columns: tuple[str, ...] | None = None
    rename: dict[str, str] = {}
    where: dict[str, str | int | bool] | None = None
    licence: str | None = None
    licence_column: str | None = None
    key: str | None = None


class BenchmarkFields(Spec):
    """Which columns hold the question, the options and the answer."""

    question: str
    choices: str | tuple[str, ...] | None = None
    answer: str | None = None


class BenchmarkSpec(Spec):
    """manifests/benchmarks/<name>.yaml: an evaluation set that training data must not contain.

    `files` lie beside the manifest, else below the workspace. A `hub` may be an id alone, its
    `revision` beside it and its split that of the benchmark.
    """

    name: Name
    licence: str
    files: tuple[str, ...] = ()
    hub: HubPin | None = None
    split: str = "test"
    fields: BenchmarkFields
    short_items: Literal["exact", "ignore"] = "exact"

    @model_validator(mode="before")
    @classmethod
    def _plain_hub(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("hub"), str):
            return values
        rest = {name: value for name, value in values.items() if name != "revision"}
        pin = {"id": values["hub"], "revision": values.get("revision")}
        return {**rest, "hub": {**pin, "split": values.get("split", "test")}}

    @model_validator(mode="after")
    def _has_place(self) -> BenchmarkSpec:
        if not self.files and self.hub is None:
            raise ValueError("a benchmark needs 'files' or 'hub'")
        return self


class EvaluationSetSpec(Spec):
    """A set that lends no seeds: the words that names of it contain, and why."""

    name: Name
    aliases: tuple[str, ...] = ()
    reason: str


class EvaluationExceptionSpec(Spec):
    """A source whose names may say a word of evaluation all the same, and why."""

    source: Name
    says: str
    reason: str


class EvaluationOnlySpec(Spec):
    """manifests/evaluation_only.yaml: what no seed may come from, by name and by content.

    `items` are hashes of evaluation items; a source is refused as a whole from `max_share` of its
    drawn rows on, and at least `min_rows` of them, that hold one.
    """

    items: FilePin | None = None
    max_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    min_rows: Positive = 5
    sets: tuple[EvaluationSetSpec, ...] = ()
    exceptions: tuple[EvaluationExceptionSpec, ...] = ()


class EmbeddedPin(Spec):
    """Weights that install from the Python package registry and run in llama.cpp's server."""

    package: str
    version: str
    file: str
    sha256: Sha256
    context_tokens: Positive = 2048
    slots: Positive = 16


class ModelSpec(Spec):
    """manifests/models/<name>.yaml: a teacher, its licence and how it is served.

    `thinking_tokens` are what it may spend before an answer, on top of a prompt's `max_tokens`.
    """

    name: Name
    title: str
    licence: str
    terms: str | None = None
    served_as: str
    hub: HubPin | None = None
    embedded: EmbeddedPin | None = None
    vllm_arguments: tuple[str, ...] = ()
    structured_output: bool = True
    thinking_tokens: Annotated[int, Field(ge=0)] = 0
    reasoning_effort: Literal["low", "medium", "high"] | None = None

    @property
    def revision(self) -> str:
        """The pinned weights: a hub revision, a package file hash, or `unknown`."""
        if self.embedded is not None:
            return f"sha256:{self.embedded.sha256}"
        if self.hub is not None and self.hub.revision is not None:
            return self.hub.revision
        return "unknown"


class TokenizerSpec(Spec):
    """manifests/tokenizers/<name>.yaml: a directory with tokenizer.json and a chat template."""

    name: Name
    licence: str
    path: str
    sha256: dict[str, Sha256]
    end_of_text: str
    trained_on: str | None = None


class Sampling(Spec):
    """How a served model samples; `n` answers are asked for in one request."""

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Positive = 256
    n: Positive = 1
    seed: int = 0
    stop: tuple[str, ...] = ()


class BalanceSpec(Spec):
    """Equal numbers of each class after curation: classes by metadata keys, the surplus refused.

    `tolerance` is how much larger than the smallest class the others may stay, as a share of it. A
    class of less than `rare_below` of the mean size is kept whole and holds the others down not.
    """

    by: Annotated[tuple[str, ...], Field(min_length=1)]
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    rare_below: Annotated[float, Field(ge=0, lt=1)] = 0.1


class RecipeSpec(Spec):
    """generators/<name>/recipe.yaml: one method, its prompts (*.jinja beside it), its arguments.

    `sources` are source names, or `any` for a recipe that takes whatever a mixture names
    (`page@finewiki`). `prompts_from` names further folders of prompts below generators/; the
    recipe's own files win. `model` is the role that answers, `models` names another role for single
    prompts. `max_calls_per_seed` is enforced, and is what `datagen plan` counts with.
    """

    name: Name
    title: str
    version: str = "1"
    method: str
    sources: Literal["any"] | Annotated[tuple[Name, ...], Field(min_length=1)]
    prompts_from: tuple[Name, ...] = ()
    model: str | None = None
    models: dict[str, str] = {}
    arguments: dict[str, Any] = {}
    sampling: dict[str, Sampling] = {}
    max_calls_per_seed: Annotated[int, Field(ge=0)] = 0
    filters: Name | None = None
    balance: BalanceSpec | None = None

    @model_validator(mode="after")
    def _has_model(self) -> RecipeSpec:
        if self.models and self.model is None:
            raise ValueError("'models' names roles for single prompts; 'model' names the others'")
        return self


class FilterSpec(Spec):
    """One link of a chain: a function's name and its keyword arguments."""

    use: str
    arguments: dict[str, Any] = {}


class ChainSpec(Spec):
    """filters/<name>.yaml: the ordered reasons to refuse a record."""

    name: Name
    title: str
    filters: tuple[FilterSpec, ...]


class MinhashSpec(Spec):
    """Fuzzy dedup: word shingles, the similarity that joins a pair, and how candidates are found.

    Candidates share all `rows` hashes of one of `bands`; where these are not given, they are chosen
    from at most `hashes` so that a pair at the threshold is found with a chance of `recall` or
    more. `measure` is what a candidate is verified by: its Jaccard index, or the share of the
    smaller set of shingles that lies in the other.
    """

    shingle_words: Positive = 5
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.7
    recall: Annotated[float, Field(gt=0, lt=1)] = 0.9
    hashes: Positive = 128
    bands: Positive | None = None
    rows: Positive | None = None
    measure: Literal["jaccard", "containment"] = "jaccard"
    seed: int = 1

    @model_validator(mode="after")
    def _is_one_banding(self) -> MinhashSpec:
        if (self.bands is None) != (self.rows is None):
            raise ValueError("'bands' and 'rows' are given together, or both left to 'recall'")
        return self

    @property
    def banding(self) -> tuple[int, int]:
        """Bands and rows: the most rows, so the fewest candidates, that keep the recall."""
        if self.bands is not None and self.rows is not None:
            return self.bands, self.rows
        for rows in range(min(self.hashes, 16), 1, -1):
            bands = self.hashes // rows
            if 1 - (1 - self.threshold**rows) ** bands >= self.recall:
                return bands, rows
        return self.hashes, 1


class DecontaminateSpec(Spec):
    """Decontamination: which benchmarks, how much of a question, and what becomes of a hit.

    `cut_coverage` and `near_coverage` are shares of a question's words, in runs of eight or in
    order. What is found in more than `formula_texts` texts, and in `formula_share` of all, without
    its answer is a form of words.
    """

    benchmarks: Literal["all"] | tuple[Name, ...] = "all"
    ngram_words: Annotated[int, Field(ge=8)] = 13
    min_coverage: Share = 0.5
    cut_coverage: Share = 0.6
    near_coverage: Share = 0.8
    formula_texts: Positive = 10
    formula_share: Share = 0.001
    on_hit: Literal["drop", "cut"] = "drop"


class RepeatedSpec(Spec):
    """Passages that `min_documents` records share: cut from all but the one most worth keeping.

    Shorter ones than `min_characters` stay. `recipes` are those whose texts are cut.
    """

    min_documents: Annotated[int, Field(ge=2)] = 6
    min_characters: Positive = 25
    recipes: Literal["all"] | Annotated[tuple[Name, ...], Field(min_length=1)] = "all"


class SemanticSpec(Spec):
    """Semantic dedup: texts whose vectors have this cosine, compared within k-means clusters.

    Vectors come from `model`, a role of the profile whose server answers /v1/embeddings, or else
    from `encoder`, a function of texts. `clusters` are of about 1,000 texts where left out.
    `weighted` weighs a dimension by how few records have it; left out, that is so for the house's
    own encoder.
    """

    encoder: str = HASHED_TFIDF
    model: str | None = None
    clusters: Positive | None = None
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.95
    max_characters: Positive = 8000
    weighted: bool | None = None
    seed: int = 1

    @model_validator(mode="before")
    @classmethod
    def _weighs_counts(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("weighted") is None:
            own = not given.get("model") and given.get("encoder") in (None, HASHED_TFIDF)
            return {**given, "weighted": own}
        return given


class CorpusSpec(Spec):
    """filters/corpus/<name>.yaml: curation that looks at all records at once.

    `repeated_lines` and `repeated_paragraphs` cut texts; `same_prompts` keeps one conversation of
    those that begin with the same question.
    """

    name: Name
    title: str
    exact: bool = True
    minhash: MinhashSpec | None = MinhashSpec()
    semantic: SemanticSpec | None = None
    repeated_lines: RepeatedSpec | None = None
    repeated_paragraphs: RepeatedSpec | None = None
    same_prompts: bool = False
    decontaminate: DecontaminateSpec | None = DecontaminateSpec()


class OrderSpec(Spec):
    """An order of a category's documents that is a curriculum, not chance.

    `gaussian`: values of the metadata key `by` are drawn by a bell curve of width `sigma` whose
    mean moves from `start` to `end` over the category (the Nano report's difficulty curriculum).
    """

    by: str
    kind: Literal["gaussian"] = "gaussian"
    start: float = 0.9
    end: float = 0.1
    sigma: Annotated[float, Field(ge=0)] = 0.15


class CategorySpec(Spec):
    """One line of the mixture table: its share in per cent and what it draws from.

    `draw` names recipes (`fact_seeking`) or a recipe on one source (`page@finewiki`), with a
    relative weight within the category. Where `min_quality` is given, only records whose metadata
    says a `quality_tier` of at least that are drawn.
    """

    share: Annotated[float, Field(gt=0)]
    draw: dict[str, Annotated[float, Field(gt=0)]] = {}
    max_epochs: Annotated[float, Field(gt=0)] | None = None
    order: OrderSpec | None = None
    min_quality: Annotated[int, Field(ge=0, le=4)] | None = None


class PhaseSpec(Spec):
    """A mixture inside a mixture: its share of the horizon, in order."""

    mixture: Name
    share: Annotated[float, Field(gt=0)]


class MixtureSpec(Spec):
    """mixtures/<name>.yaml: how much of each category, or which mixtures one after another."""

    name: Name
    title: str
    horizon_tokens: Positive
    source: str | None = None
    categories: dict[str, CategorySpec] = {}
    phases: tuple[PhaseSpec, ...] = ()
    max_epochs: Annotated[float, Field(gt=0)] = 4.0
    shares_sum: Annotated[float, Field(gt=0)] = 100.0
    without_source: Literal["error", "redistribute"] = "error"
    when_capped: Literal["error", "redistribute", "shrink"] = "redistribute"
    corpus: Name = "corpus"

    @model_validator(mode="after")
    def _is_one_kind(self) -> MixtureSpec:
        if bool(self.categories) == bool(self.phases):
            raise ValueError("a mixture has either 'categories' or 'phases'")
        total = sum(c.share for c in self.categories.values()) + sum(p.share for p in self.phases)
        if abs(total - self.shares_sum) > 0.05:
            kind = "categories" if self.categories else "phases"
            raise ValueError(
                f"the shares in '{kind}' sum to {total:g}, 'shares_sum' says {self.shares_sum:g}; "
                "correct a share, or state the sum as printed and it is normalised"
            )
        return self


class EndpointSpec(Spec):
    """One OpenAI-compatible server; the key is the name of an environment variable."""

    url: str
    api_key_env: str | None = None
    max_concurrency: Positive = 256


class ModelRole(Spec):
    """What a profile serves under a role: a model pin and where it answers.

    No endpoints: the embedded server is started on loopback for the time of the run. A request
    without an answer after `timeout_s` is given up and sent again.
    """

    model: Name
    endpoints: tuple[EndpointSpec, ...] = ()
    timeout_s: Annotated[float, Field(gt=0)] = TIMEOUT_S


class ProfileSpec(Spec):
    """One place to run: where sources, models and outputs live, and how much to make."""

    sources: Literal["sample", "hub"] = "sample"
    override: dict[Name, SourceOverride] = {}
    benchmarks: Literal["all"] | tuple[Name, ...] = "all"
    benchmark_files: dict[Name, tuple[str, ...]] = {}
    models: dict[str, ModelRole] = {}
    tokenizer: Name
    ledger: str = ".datagen/ledger.sqlite"
    executor: Literal["local", "ray"] = "local"
    budget_tokens: Positive
    row_tokens: Positive = 4096
    max_seeds: dict[str, Positive] = {}
    seeds_per_shard: Positive = 256
    rows_per_shard: Positive = 4096
    max_failed_share: Share = 0.01
    allow_licences: tuple[str, ...] = ()


class WorkspaceSpec(Spec):
    """datagen.yaml: the profiles, and which of them is the default."""

    default_profile: str
    profiles: dict[str, ProfileSpec]

    @model_validator(mode="after")
    def _default_exists(self) -> WorkspaceSpec:
        if self.default_profile not in self.profiles:
            raise ValueError(f"default_profile {self.default_profile!r} is not among 'profiles'")
        return self

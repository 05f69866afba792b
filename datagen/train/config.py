"""What to train and how: frozen settings, the named presets, and parameter arithmetic. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from datagen.errors import WorkspaceError

NANO_PATTERN = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"
SUPER_PATTERN = (
    "MEMEMEM*EMEMEMEM*EMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEM*EMEMEMEME"
)
ULTRA_PATTERN = (
    "MEMEMEM*EMEMEM*EMEMEMEM*EMEMEMEM*EMEMEM*EMEMEMEM*EMEMEMEM*EMEMEM*EMEMEMEM*EMEMEMEM*"
    "EMEMEM*EMEMEMEM*EMEMEMEME"
)

PLAIN_LAYERS = 0.15
"""Share of the layers, at the end, that stay out of NVFP4: arXiv 2606.15007."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The shape of one hybrid model.

    `pattern` has a letter a layer: M Mamba-2, E mixture of experts, * attention. `latent_width`
    None means that experts work at full width. `dtype` is that of the matrices; router, decay,
    norm and output-head parameters are float32 whatever it says. `dt_floor` is the least time step
    of a Mamba-2 layer; the recipe has none, imported weights may. `precision` "nvfp4" rounds the
    operands of products to four bits, but for those that `at` and the mixers spare.
    """

    pattern: str
    d_model: int
    vocabulary: int = 131_072
    query_heads: int
    kv_heads: int = 2
    attention_head_dim: int = 128
    mamba_heads: int
    mamba_head_dim: int = 64
    mamba_groups: int = 8
    mamba_state: int = 128
    conv_width: int = 4
    ssd_chunk: int = 128
    dt_floor: float = 0.0
    experts: int
    top_k: int
    expert_width: int
    shared_width: int
    latent_width: int | None
    routed_scaling: float
    balance_loss: float = 1e-4
    bias_rate: float = 1e-3
    mtp_heads: int = 0
    mtp_loss_scale: float = 0.1
    norm_eps: float = 1e-5
    init_std: float = 0.014
    dtype: str = "bfloat16"
    precision: str = "plain"

    def __post_init__(self) -> None:
        """Refuse shapes that cannot be built, before any memory is taken."""
        broken = {
            "pattern may hold only M, E and *": not self.pattern or set(self.pattern) - set("ME*"),
            "query_heads must be a multiple of kv_heads": self.query_heads % self.kv_heads,
            "mamba_heads must be a multiple of mamba_groups": self.mamba_heads % self.mamba_groups,
            "top_k must lie in 1..experts": not 1 <= self.top_k <= self.experts,
            "dtype must be float32 or bfloat16": self.dtype not in ("float32", "bfloat16"),
            "precision must be plain or nvfp4": self.precision not in ("plain", "nvfp4"),
        }
        for rule, is_broken in broken.items():
            if is_broken:
                raise WorkspaceError(rule, where="model configuration", fix="correct the preset")

    def at(self, layer: int) -> ModelConfig:
        """Return the shape of one layer: the last 15 % and what follows them stay plain.

        Of the others, Mamba-2's first projection and the experts, routed and shared, are in NVFP4;
        latent and attention projections, Mamba-2's last and the router are not.
        """
        spared = round(PLAIN_LAYERS * len(self.pattern))
        plain = layer >= len(self.pattern) - spared
        return replace(self, precision="plain") if plain else self

    @property
    def mamba_inner(self) -> int:
        """Channels of the Mamba mixer's value path: heads x head width."""
        return self.mamba_heads * self.mamba_head_dim

    @property
    def conv_channels(self) -> int:
        """Channels under the convolution: x, B and C side by side."""
        return self.mamba_inner + 2 * self.mamba_groups * self.mamba_state


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """A model and the recipe that trains it.

    Fractions are of the run's steps. `window_tokens` cuts each packed row into consecutive windows
    that train independently: no token is dropped, but context and prediction stop at a window's
    end, which makes steps affordable on a CPU. `schedule` is "wsd" (the decay comes last) or
    "cosine". One record in `held_out_every` (0: none) is kept from training for the loss by
    category, taken over `held_out_windows` windows at the end and every `validate_every` steps.
    Every `snapshot_every` steps the float32 weights are kept for merging, the newest
    `snapshots_kept` of them. `moments` is the dtype of AdamW's two; masters are float32 whatever it
    says.
    """

    model: ModelConfig
    batch_rows: int
    microbatch_rows: int
    window_tokens: int | None = None
    peak_lr: float
    min_lr: float
    schedule: str = "wsd"
    warmup_fraction: float = 0.01
    decay_fraction: float = 0.25
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    moments: str = "float32"
    loss_chunk_tokens: int = 8192
    checkpoint_every: int = 500
    checkpoints_kept: int = 2
    held_out_every: int = 0
    held_out_windows: int = 32
    validate_every: int = 0
    snapshot_every: int = 0
    snapshots_kept: int = 20

    def __post_init__(self) -> None:
        """Refuse recipes that cannot run."""
        broken = {
            "batch_rows must be a multiple of microbatch_rows": (
                self.microbatch_rows < 1 or self.batch_rows % self.microbatch_rows
            ),
            "window_tokens must be at least 2": (
                self.window_tokens is not None and self.window_tokens < 2
            ),
            "warmup_fraction and decay_fraction must be >= 0 and sum to at most 1": (
                min(self.warmup_fraction, self.decay_fraction) < 0
                or self.warmup_fraction + self.decay_fraction > 1
            ),
            "schedule must be wsd or cosine": self.schedule not in ("wsd", "cosine"),
            "moments must be float32 or bfloat16": self.moments not in ("float32", "bfloat16"),
            "held_out_every must be 0 (none) or at least 2": (
                self.held_out_every < 0 or self.held_out_every == 1
            ),
        }
        for rule, is_broken in broken.items():
            if is_broken:
                raise WorkspaceError(rule, where="training configuration", fix="correct the preset")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCount:
    """How many parameters a model has, by what a reader compares.

    `backbone` is the figure that model cards give (embedding and output head included, multi-token
    prediction not); `active` of it take part in one token, the embedding table not counted.
    """

    backbone: int
    active: int
    mtp: int


def parameter_count(config: ModelConfig) -> ParameterCount:
    """Count the parameters of `config` by arithmetic, without building anything."""
    width = config.d_model
    inner = config.mamba_inner
    mamba = (
        width * (inner + config.conv_channels + config.mamba_heads)
        + config.conv_channels * (config.conv_width + 1)
        + 3 * config.mamba_heads
        + inner
        + inner * width
    )
    attention_width = config.attention_head_dim * (config.query_heads + config.kv_heads)
    attention = 2 * width * attention_width
    expert = 2 * (config.latent_width or width) * config.expert_width
    dense = width * config.experts + 2 * width * config.shared_width
    dense += 2 * width * config.latent_width if config.latent_width else 0
    table = config.vocabulary * width

    layers = {"M": mamba, "*": attention, "E": dense + expert * config.experts}
    spared = expert * (config.experts - config.top_k)
    stack = sum(layers[letter] + width for letter in config.pattern)
    backbone = stack + 2 * table + width
    block = 2 * width * width + 3 * width + layers["*"] + layers["E"] + 2 * width
    return ParameterCount(
        backbone=backbone,
        active=backbone - table - spared * config.pattern.count("E"),
        mtp=block if config.mtp_heads else 0,
    )


TINY = TrainConfig(
    model=ModelConfig(
        pattern="ME*E",
        d_model=64,
        vocabulary=32_768,
        query_heads=4,
        kv_heads=2,
        attention_head_dim=16,
        mamba_heads=8,
        mamba_head_dim=16,
        mamba_groups=2,
        mamba_state=16,
        ssd_chunk=64,
        experts=8,
        top_k=2,
        expert_width=128,
        shared_width=128,
        latent_width=32,
        routed_scaling=2.5,
        bias_rate=1e-2,
        mtp_heads=2,
        init_std=0.02,
        dtype="float32",
    ),
    batch_rows=2,
    microbatch_rows=2,
    window_tokens=256,
    peak_lr=4e-3,
    min_lr=4e-5,
    warmup_fraction=0.1,
    loss_chunk_tokens=128,
    checkpoint_every=50,
    held_out_every=16,
    held_out_windows=16,
)

_LARGE = TrainConfig(
    model=ModelConfig(
        pattern="MEMEM*EMEMEM*EMEME",
        d_model=2048,
        query_heads=16,
        mamba_heads=64,
        experts=128,
        top_k=8,
        expert_width=1280,
        shared_width=2560,
        latent_width=512,
        routed_scaling=2.5,
        mtp_heads=2,
    ),
    batch_rows=4,
    microbatch_rows=4,
    loss_chunk_tokens=32_768,
    peak_lr=1e-3,
    min_lr=1e-5,
    held_out_every=1000,
)

_NANO_LIKE = replace(
    _LARGE,
    model=ModelConfig(
        pattern="MEMEM*EMEMEME",
        d_model=512,
        query_heads=8,
        attention_head_dim=64,
        mamba_heads=16,
        experts=64,
        top_k=4,
        expert_width=256,
        shared_width=512,
        latent_width=256,
        routed_scaling=2.5,
        mtp_heads=2,
        init_std=0.02,
    ),
    batch_rows=8,
    microbatch_rows=8,
    peak_lr=2e-3,
    min_lr=2e-5,
    warmup_fraction=0.05,
    checkpoint_every=200,
    held_out_every=32,
    held_out_windows=128,
    validate_every=50,
    snapshot_every=25,
)

_ULTRA = replace(
    _LARGE,
    model=ModelConfig(
        pattern=ULTRA_PATTERN,
        d_model=8192,
        query_heads=64,
        mamba_heads=256,
        experts=512,
        top_k=22,
        expert_width=5120,
        shared_width=10_240,
        latent_width=2048,
        routed_scaling=5.0,
        mtp_heads=2,
    ),
    batch_rows=3072,
    microbatch_rows=1,
    snapshot_every=993,  # 25B tokens; 20 of them are the report's window of 500B
    peak_lr=2.5e-4,
    min_lr=2.5e-6,
)

PRESETS: dict[str, TrainConfig] = {
    "tiny": TINY,
    "nano-like": _NANO_LIKE,
    "n3-2b": replace(_LARGE, moments="bfloat16"),
    "nano": replace(
        _LARGE,
        model=ModelConfig(
            pattern=NANO_PATTERN,
            d_model=2688,
            query_heads=32,
            mamba_heads=64,
            experts=128,
            top_k=6,
            expert_width=1856,
            shared_width=3712,
            latent_width=None,
            routed_scaling=2.5,
            init_std=0.0173,
        ),
        batch_rows=3072,
        microbatch_rows=1,
    ),
    "super": replace(
        _LARGE,
        model=ModelConfig(
            pattern=SUPER_PATTERN,
            d_model=4096,
            query_heads=32,
            mamba_heads=128,
            experts=512,
            top_k=22,
            expert_width=2688,
            shared_width=5376,
            latent_width=1024,
            routed_scaling=5.0,
            mtp_heads=2,
        ),
        batch_rows=3072,
        microbatch_rows=1,
        peak_lr=4.5e-4,
        min_lr=4.5e-6,
    ),
    "ultra": _ULTRA,
    "ultra-long": replace(
        _ULTRA,
        batch_rows=24,
        peak_lr=2.5e-6,
        min_lr=2.5e-6,
        warmup_fraction=0.0,
        decay_fraction=0.0,
    ),
    "ultra-sft1": replace(
        _ULTRA,
        batch_rows=64,
        schedule="cosine",
        peak_lr=1.5e-5,
        min_lr=1e-6,
        warmup_fraction=9_600 / 204_800,
    ),
    "ultra-sft2": replace(
        _ULTRA,
        batch_rows=64,
        schedule="cosine",
        peak_lr=1e-5,
        min_lr=2e-6,
        warmup_fraction=6_400 / 19_200,
    ),
}
"""The large presets have the dimensions of Nemotron 3 and Ultra's recipe: arXiv 2606.15007.

`ultra-long` is the long-context phase (rows of 1,048,576 tokens), `ultra-sft1` and `ultra-sft2`
the two stages of supervised fine-tuning.
"""


def preset(name: str) -> TrainConfig:
    """Look a training preset up by its name; an unknown one is a WorkspaceError."""
    if name not in PRESETS:
        raise WorkspaceError(
            f"no training preset {name!r}", where="--config", fix=f"use one of {', '.join(PRESETS)}"
        )
    return PRESETS[name]

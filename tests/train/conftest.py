"""A small model in float64, and batches written by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("safetensors", reason="the train extra is not installed")

from datagen.train.config import TINY, ModelConfig  # noqa: E402
from datagen.train.model import HybridModel  # noqa: E402

SMALL = replace(
    TINY.model,
    pattern="ME*",
    d_model=16,
    vocabulary=64,
    mamba_heads=4,
    mamba_head_dim=8,
    mamba_state=8,
    ssd_chunk=8,
    query_heads=2,
    kv_heads=1,
    attention_head_dim=8,
    expert_width=24,
    shared_width=24,
    latent_width=8,
    init_std=0.3,
)


@pytest.fixture(autouse=True)
def _repeatable() -> None:
    # These tensors are too small to share, and waiting threads would starve a busy machine.
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def small() -> ModelConfig:
    return SMALL


@pytest.fixture
def float64_model() -> Callable[[ModelConfig], HybridModel]:
    """Build an initialised model whose parameters and buffers are float64."""

    def build(config: ModelConfig, seed: int = 0) -> HybridModel:
        model = HybridModel(config)
        model.initialise_all(seed)
        return model.double()

    return build

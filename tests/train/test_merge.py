"""A merge of checkpoints is the decay that was never trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("safetensors", reason="the train extra is not installed")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from datagen.errors import WorkspaceError  # noqa: E402
from datagen.train.merge import (  # noqa: E402
    DECAYS,
    merge,
    merge_weights,
    save_snapshot,
    snapshots,
)


@given(st.integers(1, 40), st.sampled_from(sorted(DECAYS)))
def test_weights_are_a_mean(count: int, decay: str) -> None:
    weights = merge_weights(count, decay)
    assert len(weights) == count and min(weights) > 0
    assert sum(weights) == pytest.approx(1)


def test_minus_sqrt_weighs_the_oldest_most_and_linear_all_alike() -> None:
    n = 9
    explicit = [(j / n) ** 0.5 - ((j - 1) / n) ** 0.5 for j in range(1, n + 1)]
    assert merge_weights(n, "minus-sqrt") == pytest.approx(explicit)
    assert merge_weights(n, "linear") == pytest.approx([1 / n] * n)


def run_with(tmp_path: Path, count: int) -> list[dict[str, torch.Tensor]]:
    """Keep `count` snapshots of a random walk, 10 steps apart."""
    generator = torch.Generator().manual_seed(0)
    walk = {"a": torch.zeros(5), "b": torch.zeros(2, 3)}
    kept = []
    for i in range(1, count + 1):
        walk = {n: t + torch.randn(t.shape, generator=generator) for n, t in walk.items()}
        save_snapshot(tmp_path, 10 * i, walk, kept=count)
        kept.append(walk)
    return kept


@pytest.mark.parametrize("through", [40, 60, 70])
def test_a_sliding_window_equals_updates_scaled_by_the_decay(tmp_path: Path, through: int) -> None:
    kept = run_with(tmp_path, 7)
    merged = merge(tmp_path, window=4, decay="minus-sqrt", through=through)
    last = through // 10
    window = kept[last - 4 : last]
    assert [part.stem for part in merged.parts] == [
        f"step-{10 * i:08d}" for i in range(last - 3, last + 1)
    ]
    found = load_file(merged.path)
    for name in ("a", "b"):
        decayed = window[0][name].double()
        for i in range(1, 4):
            update = window[i][name].double() - window[i - 1][name].double()
            decayed = decayed + (1 - (i / 4) ** 0.5) * update
        torch.testing.assert_close(found[name].double(), decayed, rtol=1e-6, atol=1e-6)
        assert found[name].dtype == torch.float32


def test_a_linear_merge_is_the_plain_mean(tmp_path: Path) -> None:
    kept = run_with(tmp_path, 5)
    found = load_file(merge(tmp_path, window=5, decay="linear", through=None).path)
    mean = np.mean([snapshot["a"].numpy() for snapshot in kept], axis=0)
    np.testing.assert_allclose(found["a"].numpy(), mean, rtol=1e-6)


def test_old_snapshots_go_and_a_window_too_wide_is_refused(tmp_path: Path) -> None:
    walk = {"a": torch.zeros(1)}
    for step in range(1, 6):
        save_snapshot(tmp_path, step, walk, kept=3)
    assert [path.stem[-1] for path in snapshots(tmp_path)] == ["3", "4", "5"]
    with pytest.raises(WorkspaceError, match="3 snapshots here, 4 asked for"):
        merge(tmp_path, window=4, decay="linear", through=None)

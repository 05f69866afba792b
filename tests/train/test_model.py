"""Documents in one row are strangers: packed equals apart, in loss, gradients and outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from datagen.train.config import (  # noqa: E402
    PRESETS,
    ModelConfig,
    parameter_count,
    preset,
)
from datagen.train.data import Batch  # noqa: E402
from datagen.train.documents import IGNORED, documents_of  # noqa: E402
from datagen.train.model import HybridModel, objective, target_counts  # noqa: E402

from .oracles import documents_apart, random_batch  # noqa: E402

Build = Callable[..., HybridModel]
LENGTHS = [1, 2, 7, 8, 9, 17]


def loss_and_gradients(
    model: HybridModel, batches: list[Batch]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Sum the objective of batches that together are one step."""
    config = model.config
    targets_J = torch.stack([target_counts(batch, config.mtp_heads) for batch in batches]).sum(0)
    total = torch.stack([objective(config, model(b, 16), targets_J, 1) for b in batches]).sum()
    names, parameters = zip(*model.named_parameters(), strict=True)
    return total.detach(), dict(zip(names, torch.autograd.grad(total, parameters), strict=True))


@pytest.mark.parametrize("pattern", ["M", "*", "E", "ME*EM"])
def test_packed_equals_document_by_document(
    small: ModelConfig, float64_model: Build, pattern: str
) -> None:
    # The balance loss is of a row by its definition, so it alone cannot agree; it has its own test.
    model = float64_model(replace(small, pattern=pattern, balance_loss=0.0))
    batch = random_batch(LENGTHS, small.vocabulary, padding=5)
    packed, packed_gradients = loss_and_gradients(model, [batch])
    apart, apart_gradients = loss_and_gradients(model, documents_apart(batch))
    torch.testing.assert_close(packed, apart, rtol=1e-12, atol=0)
    for name, gradient in packed_gradients.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(
            gradient,
            apart_gradients[name],
            rtol=1e-9,
            atol=1e-13,
            msg=lambda m, n=name: f"{n}: {m}",
        )


def test_disturbing_one_document_leaves_the_others(
    small: ModelConfig, float64_model: Build
) -> None:
    model = float64_model(replace(small, pattern="MEM*E*M"))
    batch = random_batch(LENGTHS, small.vocabulary, padding=3, trained=1.0)
    for document in range(len(LENGTHS)):
        changed = batch.document_index_BT == document
        other = batch._replace(
            inputs_BT=torch.where(changed, (batch.inputs_BT + 1) % 64, batch.inputs_BT)
        )
        before, after = (model.token_losses(b, 16) for b in (batch, other))
        torch.testing.assert_close(before[~changed], after[~changed], rtol=0, atol=1e-12)
        if LENGTHS[document] > 1:
            assert not torch.allclose(before[changed], after[changed])


def test_the_past_does_not_see_the_future(small: ModelConfig, float64_model: Build) -> None:
    model = float64_model(replace(small, pattern="MEM*E"))
    batch = random_batch([30], small.vocabulary)
    inputs_BT = batch.inputs_BT.clone()
    inputs_BT[0, 20:] = (inputs_BT[0, 20:] + 1) % 64
    documents = documents_of(batch.document_index_BT)
    before, after = (model.backbone(ids, documents)[0] for ids in (batch.inputs_BT, inputs_BT))
    torch.testing.assert_close(before[:, :20], after[:, :20], rtol=0, atol=1e-12)


def test_microbatches_equal_one_batch(small: ModelConfig, float64_model: Build) -> None:
    model = float64_model(small)
    rows = [random_batch([5, 11], small.vocabulary, seed=seed) for seed in range(3)]
    tensors = [torch.cat(parts) for parts in list(zip(*rows, strict=True))[:4]]
    together = Batch(*tensors, tuple(row.categories[0] for row in rows))
    heads = small.mtp_heads
    targets_J = target_counts(together, heads)
    whole = objective(small, model(together, 16), targets_J, 3)
    parts = sum(objective(small, model(row, 16), targets_J, 3) for row in rows)
    torch.testing.assert_close(whole, parts, rtol=1e-12, atol=0)


def test_mtp_equals_the_unrolled_block_and_stays_inside_documents(
    small: ModelConfig, float64_model: Build
) -> None:
    model = float64_model(small)
    batch = random_batch([2, 9, 6], small.vocabulary, trained=0.7)
    sums = model(batch, 16)
    losses, counts = [0.0, 0.0], [0, 0]
    assert model.mtp is not None
    for part in documents_apart(batch):
        ids, labels, length = part.inputs_BT[0], part.labels_BT[0], part.inputs_BT.shape[1]
        hidden_BTD, _, _ = model.backbone(part.inputs_BT, documents_of(part.document_index_BT))
        for head in (1, 2):
            # Only positions whose token `head` ahead exists take part, so the row shrinks.
            kept = max(length - head, 0)
            if kept == 0:
                break
            shorter = documents_of(part.document_index_BT[:, :kept])
            embedding_BTD = model.embedding(ids[None, head:])
            hidden_BTD, _ = model.mtp(hidden_BTD[:, :kept], embedding_BTD, shorter)
            logits_TV = hidden_BTD[0] @ model.head_VD.T
            for t in range(kept):
                if labels[t + head] != IGNORED:
                    losses[head - 1] -= logits_TV[t].log_softmax(-1)[labels[t + head]].item()
                    counts[head - 1] += 1
    torch.testing.assert_close(sums.loss_J[1:].detach(), torch.tensor(losses).double())
    assert target_counts(batch, 2)[1:].tolist() == counts
    assert counts[0] > counts[1] > 0


def test_mtp_losses_share_their_scale(small: ModelConfig, float64_model: Build) -> None:
    config = replace(small, balance_loss=0.0)
    sums = float64_model(config)(random_batch([12], 64), 16)
    targets_J = target_counts(random_batch([12], 64), 2)
    mean_J = sums.loss_J / targets_J
    expected = mean_J[0] + 0.05 * mean_J[1] + 0.05 * mean_J[2]
    torch.testing.assert_close(objective(config, sums, targets_J, 1), expected)


def test_a_seed_gives_one_model(small: ModelConfig, float64_model: Build) -> None:
    first, again, other = (float64_model(small, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head_VD"], other["head_VD"])


@pytest.mark.parametrize(
    ("name", "billions"), [("nano", 31.6), ("super", 120.7), ("ultra", 549.3), ("n3-2b", 2.24)]
)
def test_parameter_totals_are_the_published_ones(name: str, billions: float) -> None:
    total = parameter_count(PRESETS[name].model).backbone / 1e9
    assert total == pytest.approx(billions, abs=0.05 if billions > 10 else 0.005)


@pytest.mark.parametrize("name", ["tiny", "n3-2b", "nano", "super", "ultra"])
def test_arithmetic_equals_the_model_as_built(name: str) -> None:
    config = preset(name).model
    with torch.device("meta"):
        model = HybridModel(config)
    of_mtp = sum(p.numel() for n, p in model.named_parameters() if n.startswith("mtp."))
    count = parameter_count(config)
    assert of_mtp == count.mtp
    assert sum(p.numel() for p in model.parameters()) - of_mtp == count.backbone


def test_active_parameters_of_the_benchmark_model() -> None:
    assert parameter_count(PRESETS["n3-2b"].model).active / 1e9 == pytest.approx(0.71, abs=0.005)


def test_layer_counts_of_the_published_patterns() -> None:
    counts = {
        name: tuple(PRESETS[name].model.pattern.count(letter) for letter in "ME*")
        for name in ("nano", "super", "ultra")
    }
    assert counts == {"nano": (23, 23, 6), "super": (40, 40, 8), "ultra": (48, 48, 12)}

"""The mixture layer equals a loop over tokens and experts, and its bias evens the load."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from datagen.train.config import ModelConfig  # noqa: E402
from datagen.train.documents import documents_of  # noqa: E402
from datagen.train.kernels.reference import balance_loss  # noqa: E402
from datagen.train.latent_moe import LatentMoE, max_violation  # noqa: E402


def mixture(config: ModelConfig, seed: int = 0) -> LatentMoE:
    layer = LatentMoE(config)
    layer.initialise(torch.Generator().manual_seed(seed), 0.3, 0.3)
    return layer.double()


def looped(layer: LatentMoE, x_ND: torch.Tensor) -> torch.Tensor:
    """Run the layer's definition token by token."""
    config = layer.config
    rows = []
    for x_D in x_ND:
        scores_E = torch.sigmoid(layer.router @ x_D)
        chosen = (scores_E + layer.expert_bias_E).topk(config.top_k).indices.tolist()
        total = sum(scores_E[e] for e in chosen)
        latent = layer.latent_down(x_D) if layer.latent_down is not None else x_D
        mixed = torch.zeros_like(latent)
        for e in chosen:
            hidden = torch.relu(latent @ layer.up_EIF[e]) ** 2
            gate = config.routed_scaling * scores_E[e] / total
            mixed = mixed + gate * (hidden @ layer.down_EFI[e])
        routed = layer.latent_up(mixed) if layer.latent_up is not None else mixed
        shared = layer.shared_down(torch.relu(layer.shared_up(x_D)) ** 2)
        rows.append(routed + shared)
    return torch.stack(rows)


@pytest.mark.parametrize("latent", [8, None])
@pytest.mark.parametrize("case", ["spread", "one token", "all to one", "one each"])
def test_equals_a_loop_over_experts(small: ModelConfig, latent: int | None, case: str) -> None:
    top_k = {"all to one": 1, "one each": small.experts}.get(case, small.top_k)
    layer = mixture(replace(small, latent_width=latent, top_k=top_k))
    if case == "all to one":
        layer.expert_bias_E[3] = 10.0
    tokens = 1 if case == "one token" else 13
    x_BTD = torch.randn(1, tokens, small.d_model, dtype=torch.float64, requires_grad=True)
    out_BTD, routing = layer(x_BTD, documents_of(torch.zeros(1, tokens, dtype=torch.int64)))
    expected_ND = looped(layer, x_BTD[0])
    torch.testing.assert_close(out_BTD[0], expected_ND)
    assert int(routing.tokens_E.sum()) == tokens * top_k
    if case == "all to one":
        assert routing.tokens_E[3] == tokens
    weights = torch.randn_like(expected_ND)
    inputs = [x_BTD, *layer.parameters()]
    ours = torch.autograd.grad((out_BTD[0] * weights).sum(), inputs)
    theirs = torch.autograd.grad((expected_ND * weights).sum(), inputs, materialize_grads=True)
    for gradient, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, expected)


def test_padding_reaches_no_expert(small: ModelConfig) -> None:
    layer = mixture(small)
    index_BT = torch.tensor([[0, 0, 0, 1, -1, -1]])
    x_BTD = torch.randn(1, 6, small.d_model, dtype=torch.float64)
    poisoned_BTD = x_BTD.masked_fill((index_BT < 0).unsqueeze(-1), 7.0)
    (out, routing), (same, routing_too) = (
        layer(x, documents_of(index_BT)) for x in (x_BTD, poisoned_BTD)
    )
    assert int(routing.tokens_E.sum()) == 4 * small.top_k
    torch.testing.assert_close(out[:, :4], same[:, :4], rtol=0, atol=1e-12)
    torch.testing.assert_close(routing.balance_B, routing_too.balance_B)


def test_balance_loss_is_one_when_even_and_more_when_not() -> None:
    even_BTE = torch.full((1, 4, 4), 0.5, dtype=torch.float64)
    is_token_BT = torch.ones(1, 4, dtype=torch.bool)
    each_BTK = torch.tensor([[[0], [1], [2], [3]]])
    assert balance_loss(even_BTE, each_BTK, is_token_BT).item() == pytest.approx(1.0)
    skewed_BTE = torch.tensor([0.9, 0.1, 0.1, 0.1], dtype=torch.float64).expand(1, 4, 4)
    one_BTK = torch.zeros(1, 4, 1, dtype=torch.int64)
    assert balance_loss(skewed_BTE, one_BTK, is_token_BT).item() == pytest.approx(4 * 0.9 / 1.2)


def test_bias_update_lowers_the_violation(small: ModelConfig) -> None:
    layer = mixture(replace(small, bias_rate=0.02))
    layer.router.data[0] += 0.5  # one favourite
    documents = documents_of(torch.zeros(1, 256, dtype=torch.int64))
    x_BTD = torch.randn(1, 256, small.d_model, dtype=torch.float64) + 0.5
    violations = []
    for _ in range(60):
        with torch.no_grad():
            _, routing = layer(x_BTD, documents)
        violations.append(float(max_violation(routing.tokens_E[None])))
        layer.update_bias(routing.tokens_E)
    assert violations[0] > 1.8
    assert sum(violations[-10:]) / 10 < 1 + (violations[0] - 1) / 2

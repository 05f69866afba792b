"""Each inner operation equals its definition, in value and gradient, in float64."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

import torch.nn.functional as F  # noqa: E402

from datagen.train.kernels import reference  # noqa: E402

from .oracles import recurrent_ssd  # noqa: E402

L = 8
"""The chunk length under test."""

DOCUMENTS = [[1], [2], [L - 1], [L], [L + 1], [1, 2, L - 1, L, L + 1], [3 * L + 5, 1, 1, 2 * L]]


def index_of(lengths: list[int], padding: int = 0) -> torch.Tensor:
    numbers = [i for i, length in enumerate(lengths) for _ in range(length)]
    return torch.tensor([numbers + [-1] * padding])


def ssd_inputs(tokens: int, rows: int = 1) -> list[torch.Tensor]:
    """Draw x, dt, a, b, c, d for 4 heads in 2 groups, all with gradients."""
    generator = torch.Generator().manual_seed(tokens)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    inputs = [
        normal(rows, tokens, 4, 3),
        F.softplus(normal(rows, tokens, 4)),
        -normal(4).exp(),
        normal(rows, tokens, 2, 5),
        normal(rows, tokens, 2, 5),
        normal(4),
    ]
    return [tensor.requires_grad_() for tensor in inputs]


@pytest.mark.parametrize("lengths", DOCUMENTS, ids=str)
@pytest.mark.parametrize("padding", [0, 3])
def test_ssd_equals_the_recurrence(lengths: list[int], padding: int) -> None:
    index_BT = index_of(lengths, padding)
    inputs = ssd_inputs(index_BT.shape[1])
    chunked = reference.ssd(*inputs, index_BT, L)
    slow = recurrent_ssd(*inputs, index_BT)
    torch.testing.assert_close(chunked, slow, rtol=1e-11, atol=1e-12)
    weights = torch.randn(slow.shape, dtype=torch.float64)
    fast_gradients = torch.autograd.grad((chunked * weights).sum(), inputs)
    slow_gradients = torch.autograd.grad((slow * weights).sum(), inputs)
    for fast, expected in zip(fast_gradients, slow_gradients, strict=True):
        torch.testing.assert_close(fast, expected, rtol=1e-10, atol=1e-11)


def test_ssd_survives_decay_that_underflows() -> None:
    x, dt, _, b, c, d = ssd_inputs(3 * L)
    a_H = torch.full((4,), -1e3, dtype=torch.float64, requires_grad=True)
    index_BT = index_of([2 * L, L])
    y_BTHP = reference.ssd(x, dt, a_H, b, c, d, index_BT, L)
    torch.testing.assert_close(y_BTHP, recurrent_ssd(x, dt, a_H, b, c, d, index_BT))
    y_BTHP.sum().backward()
    assert a_H.grad is not None and torch.isfinite(a_H.grad).all()


@pytest.mark.parametrize("lengths", [[1], [2, 1, 1], [3, 7, 2], [12]], ids=str)
def test_convolution_equals_torch_on_each_document(lengths: list[int]) -> None:
    channels, width = 3, 4
    x_BTC = torch.randn(1, sum(lengths), channels, dtype=torch.float64)
    weight_CW = torch.randn(channels, width, dtype=torch.float64)
    bias_C = torch.randn(channels, dtype=torch.float64)
    together = reference.conv_silu(x_BTC, weight_CW, bias_C, index_of(lengths))
    apart = []
    for part_BTC in x_BTC.split(lengths, dim=1):
        padded_BCT = F.pad(part_BTC.transpose(1, 2), (width - 1, 0))
        convolved = F.conv1d(padded_BCT, weight_CW[:, None], bias_C, groups=channels)
        apart.append(F.silu(convolved).transpose(1, 2))
    torch.testing.assert_close(together, torch.cat(apart, dim=1))


def test_gated_norm_gives_each_group_unit_mean_square() -> None:
    y, z = torch.randn(2, 2, 5, 12, dtype=torch.float64)
    normed = reference.gated_group_norm(y, z, torch.ones(12, dtype=torch.float64), 3, 0.0)
    squares = normed.view(2, 5, 3, 4).square().mean(-1)
    torch.testing.assert_close(squares, torch.ones_like(squares))
    direction = (y * F.silu(z)).view(2, 5, 3, 4)
    ratio = normed.view(2, 5, 3, 4) / direction
    torch.testing.assert_close(ratio, ratio[..., :1].expand_as(ratio))


def test_rms_norm_equals_torch() -> None:
    x, weight = torch.randn(2, 3, 8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    expected = F.rms_norm(x, (8,), weight, 1e-5)
    torch.testing.assert_close(reference.rms_norm(x, weight, 1e-5), expected)


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_cross_entropy_equals_torch_with_fully_masked_chunks(chunk: int) -> None:
    hidden = torch.randn(11, 6, dtype=torch.float64, requires_grad=True)
    head = torch.randn(9, 6, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 9, (11,))
    labels[[0, 4, 5, 6, 7]] = -100
    ours = 0.3 * reference.cross_entropy_sum(hidden, head, labels, chunk)
    theirs = 0.3 * F.cross_entropy(hidden @ head.T, labels, reduction="sum")
    torch.testing.assert_close(ours, theirs)
    ours_gradients = torch.autograd.grad(ours, [hidden, head])
    for gradient, expected in zip(
        ours_gradients, torch.autograd.grad(theirs, [hidden, head]), strict=True
    ):
        torch.testing.assert_close(gradient, expected)
    each = reference.token_losses(hidden, head, labels, chunk)
    torch.testing.assert_close(0.3 * each.sum(), ours.detach())
    assert (each[labels < 0] == 0).all()


def test_head_gradient_is_float32_under_bfloat16_activations() -> None:
    hidden = torch.randn(300, 6).bfloat16().requires_grad_()
    head = torch.randn(9, 6, requires_grad=True)
    labels = torch.randint(0, 9, (300,))
    reference.cross_entropy_sum(hidden, head, labels, 7).backward()
    rounded = head.detach().bfloat16().double()
    error = (hidden.detach().double() @ rounded.T).softmax(-1) - F.one_hot(labels, 9)
    expected = error.T @ hidden.detach().double()
    assert head.grad is not None and head.grad.dtype == torch.float32
    relative = (head.grad.double() - expected).norm() / expected.norm()
    assert relative < 4e-3  # of bfloat16 logits; accumulating in bfloat16 would add its own


def test_grouped_linear_equals_a_matrix_a_run() -> None:
    x, weight = torch.randn(7, 3, dtype=torch.float64), torch.randn(4, 3, 5, dtype=torch.float64)
    out = reference.grouped_linear(x, weight, torch.tensor([2, 0, 4, 0]))
    torch.testing.assert_close(out[:2], x[:2] @ weight[0])
    torch.testing.assert_close(out[2:6], x[2:6] @ weight[2])
    assert (out[6:] == 0).all()

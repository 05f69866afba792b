"""GPU kernels against the reference in triton's interpreter; a GPU is held by scripts/bench."""

from __future__ import annotations

import os

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("triton", reason="triton comes with torch where there is a GPU")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("set TRITON_INTERPRET=1 to run kernels without a GPU", allow_module_level=True)

from datagen.train.documents import documents_of  # noqa: E402
from datagen.train.kernels import attention, mamba, norms, nvfp4, reference  # noqa: E402
from datagen.train.kernels.nvfp4_quantiser import quantise_fast  # noqa: E402

DOCUMENTS = [[1], [2], [63], [64], [65], [5, 1, 2, 60, 1], [127, 30]]


def assert_same(ours: list[torch.Tensor], truth: list[torch.Tensor]) -> None:
    for mine, true in zip(ours, truth, strict=True):
        torch.testing.assert_close(mine.double(), true.double(), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("lengths", DOCUMENTS, ids=str)
def test_mamba_mix_equals_the_reference(lengths: list[int]) -> None:
    heads, groups, state, inner = 4, 2, 16, 64
    channels, tokens = inner + 2 * groups * state, sum(lengths)
    index_BT = torch.tensor([[i for i, length in enumerate(lengths) for _ in range(length)]])
    shapes = [(1, tokens, inner + channels + heads), (channels, 4), channels, heads, heads, heads]
    parts = [torch.randn(shape) * 0.5 for shape in [*shapes, inner]]
    ours = [part.clone().requires_grad_() for part in parts]
    wide = [part.double().requires_grad_() for part in parts]
    y = mamba.MambaMix.apply(*ours, index_BT, groups, state, 1e-5)
    truth = reference.mamba_mix(*wide, index_BT, groups, state, 1e-5, 32)
    dy = torch.randn_like(y)
    assert_same([y], [truth])
    assert_same(
        list(torch.autograd.grad(y, ours, dy)), list(torch.autograd.grad(truth, wide, dy.double()))
    )


@pytest.mark.parametrize("rows", [[[1]], [[2, 65]], [[63, 1, 64], [120, 8]], [[200]]], ids=str)
def test_attention_equals_the_reference(rows: list[list[int]]) -> None:
    index_BT = torch.tensor([[i for i, n in enumerate(row) for _ in range(n)] for row in rows])
    documents, shape = documents_of(index_BT), index_BT.shape
    parts = [torch.randn(*shape, heads, 16) for heads in (8, 2, 2)]
    ours = [part.clone().requires_grad_() for part in parts]
    wide = [part.double().requires_grad_() for part in parts]
    mine = attention.DocumentAttention.apply(
        *(part.flatten(0, 1) for part in ours), *documents.spans
    ).view(*shape, 8, 16)
    true = reference.attention(*wide, documents.attends)
    dy = torch.randn_like(mine)
    assert_same([mine], [true])
    assert_same(
        list(torch.autograd.grad(mine, ours, dy)),
        list(torch.autograd.grad(true, wide, dy.double())),
    )


def test_add_norm_equals_the_reference() -> None:
    parts = [torch.randn(2, 7, 48), torch.randn(2, 7, 48), torch.rand(48)]
    ours = [part.clone().requires_grad_() for part in parts]
    wide = [part.double().requires_grad_() for part in parts]
    mine = norms.AddNorm.apply(*ours, 1e-5)
    true = reference.add_norm(*wide, 1e-5)
    assert_same(list(mine), list(true))
    weights = [torch.randn(2, 7, 48) for _ in range(2)]
    assert_same(
        list(torch.autograd.grad(mine[:2], ours, weights)),
        list(torch.autograd.grad(true[:2], wide, [weight.double() for weight in weights])),
    )


@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("stochastic", [False, True])
def test_quantiser_equals_the_reference_bit_by_bit(
    axis: int | None, turned: bool, stochastic: bool
) -> None:
    # Multiples of a power of two, so that turning is exact in any order.
    x = torch.randint(-200, 200, (37, 150)).float() * 2.0**-5 * (torch.rand(1, 150) < 0.9)
    x[:, 64:80] = 0.0
    ours = quantise_fast(x, axis, turned=turned, stochastic=stochastic)
    true = nvfp4.quantise(x, axis, turned=turned, stochastic=stochastic)
    assert torch.equal(ours.values, true.values) and torch.equal(ours.scale, true.scale)

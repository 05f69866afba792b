"""NVFP4: rounding as the tables say, fair chance, products near the plain ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from datagen.train.config import PRESETS, ModelConfig  # noqa: E402
from datagen.train.kernels import nvfp4, reference  # noqa: E402
from datagen.train.model import HybridModel, objective, target_counts  # noqa: E402

from .oracles import random_batch  # noqa: E402

E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
"""By code: an even code has a last bit of 0, and wins a tie."""
E4M3 = torch.arange(127, dtype=torch.uint8).view(torch.float8_e4m3fn).float()


def nearest(x: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Search the table: the nearest, of two equally near the one of even code."""
    distance = (x[:, None].double() - table.double()).abs()
    best = distance.amin(1, keepdim=True)
    even = torch.arange(len(table)) % 2 == 0
    code = torch.where(distance == best, even.int() + 1, 0).argmax(1)
    return table[code]


def test_e2m1_and_e4m3_round_as_their_tables_say() -> None:
    for table, rounded in ((E2M1, nvfp4.to_e2m1), (E4M3, nvfp4.to_e4m3)):
        middle = (table[1:] + table[:-1]) / 2
        near = torch.cat([middle.nextafter(table[1:]), middle.nextafter(table[:-1])])
        x = torch.cat([table, middle, near, torch.rand(2000) * 6, torch.rand(2000) * 448])
        x = x[x <= table[-1]]
        assert torch.equal(rounded(x), nearest(x, table))
        assert rounded(torch.tensor([1e9])) == table[-1]
    assert torch.equal(nvfp4.to_e2m1(-E2M1), -E2M1)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([0, 1, None]), st.integers(-30, 30))
def test_a_quantised_value_is_a_product_of_the_tables(
    rows: int, columns: int, axis: int | None, power: int
) -> None:
    x = torch.randn(rows, columns) * 2.0**power
    values, scale = nvfp4.quantise(x, axis)
    products = (E2M1[:, None] * E4M3).flatten().unique()
    assert torch.isin(values.abs(), products).all()
    assert torch.equal(values.bfloat16().float(), values)
    error = (values * scale - x).norm() / x.norm()
    assert error < 0.13
    largest = x.abs() == x.abs().max()
    torch.testing.assert_close(values[largest] * scale, x[largest], rtol=1e-5, atol=0)


def test_blocks_do_not_touch_each_other() -> None:
    x = torch.randn(32, 32)
    x[0, 0] = 100.0  # holds the tensor's scale in place
    other = x.clone()
    other[20, 20] *= 5
    block, one = slice(16, 32), slice(20, 21)
    for axis, rows, columns in ((0, block, one), (1, one, block), (None, block, block)):
        changed = nvfp4.quantise(x, axis).values != nvfp4.quantise(other, axis).values
        assert changed.any()
        changed[rows, columns] = False
        assert not changed.any()


def test_weights_read_the_same_along_either_axis() -> None:
    weight = torch.randn(48, 80)
    values, scale = nvfp4.quantise(weight, None)
    turned, turned_scale = nvfp4.quantise(weight.T.contiguous(), None)
    assert torch.equal(values.T, turned) and scale == turned_scale


def test_the_hadamard_matrix_cancels_and_spreads() -> None:
    turn = nvfp4.hadamard(torch.device("cpu"))
    torch.testing.assert_close(turn.T @ turn, torch.eye(16), rtol=0, atol=0)
    assert (turn.abs() == 0.25).all()
    spike = torch.zeros(32, 16)
    spike[3] = 1.0
    values, scale = nvfp4.quantise(spike, 0, turned=True)
    assert torch.equal((values * scale).abs()[:16], torch.full((16, 16), 0.25))
    assert (values[16:] == 0).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_rounding_by_chance_is_fair(axis: int) -> None:
    """Each value lies on one of its two neighbours, and its mean over draws is itself."""
    x = torch.randn(16, 16)
    x[0, 0] = 6.0 * 448 / 64  # a power of two as scale: the extremes are on the grid
    x.clamp_(-42, 42)
    sums, draws = torch.zeros(16, 16, dtype=torch.float64), 80
    for power in range(-40, draws - 40):  # another scale is another draw
        values, scale = nvfp4.quantise(x * 2.0**power, axis, stochastic=True)
        sums += values.double() * scale.double() / 2.0**power
    values, scale = nvfp4.quantise(x, axis)
    assert (sums / draws - x).norm() < 0.35 * (values * scale - x).norm()


@settings(deadline=None, max_examples=20)
@given(st.floats(0.0, 6.0))
def test_each_value_rounds_up_as_often_as_it_should(value: float) -> None:
    noise = nvfp4.dither(torch.tensor(value + 1.0), 64, 64).flatten()
    drawn = nvfp4.to_e2m1(torch.full((4096,), value), noise)
    below, above = E2M1[value >= E2M1][-1], E2M1[value <= E2M1][0]
    assert ((drawn == below) | (drawn == above)).all()
    assert abs(float(drawn.mean()) - value) < 5 * float(above - below) / 2 / 64 + 1e-6


def test_dither_is_uniform_and_repeatable() -> None:
    seed = torch.tensor(1.7)
    first = nvfp4.dither(seed, 300, 200)
    assert torch.equal(first, nvfp4.dither(seed, 300, 200))
    assert not torch.equal(first, nvfp4.dither(torch.tensor(1.7000002), 300, 200))
    counts = torch.histc(first, 64, 0, 1)
    assert ((counts - 60_000 / 64).abs() < 5 * (60_000 / 64) ** 0.5).all()
    pairs = torch.stack([first.flatten()[1:], first.flatten()[:-1]])
    assert abs(float(torch.corrcoef(pairs)[0, 1])) < 0.02


def test_linear_is_near_the_plain_product_both_ways() -> None:
    x, weight = torch.randn(3, 50, 40), torch.randn(72, 40)
    dout = torch.randn(3, 50, 72)
    leaves = [x.requires_grad_(), weight.requires_grad_()]
    plain, ours = (call(*leaves) for call in (torch.nn.functional.linear, nvfp4.linear))
    true = [plain, *torch.autograd.grad(plain, leaves, dout)]
    mine = [ours, *torch.autograd.grad(ours, leaves, dout)]
    for found, wanted, limit in zip(mine, true, (0.16, 0.22, 0.22), strict=True):
        error = (found - wanted).norm() / wanted.norm()
        assert 0.02 < error < limit
        # What is left over looks like noise, not like another scale.
        assert abs(float(((found * wanted).sum() / wanted.norm() ** 2).detach()) - 1) < 0.03


def test_experts_equal_a_loop_that_rounds_by_hand() -> None:
    """Empty experts, one with a lone token, padding; gradients near the plain ones."""
    experts, tokens = 6, 40
    x = torch.randn(tokens, 32).requires_grad_()
    gate = torch.rand(tokens, 2).requires_grad_()
    up = torch.randn(experts, 32, 48).requires_grad_()
    down = torch.randn(experts, 48, 32).requires_grad_()
    choice = torch.randint(0, 3, (tokens, 2))
    choice[:, 1] = (choice[:, 0] + 1) % 3
    choice[7] = torch.tensor([4, 0])
    choice[::9] = experts
    leaves = [x, gate, up, down]
    out, tokens_E = nvfp4.experts(x, choice, gate, up, down)
    truth, counts_E = reference.experts(x, choice, gate, up, down)
    assert torch.equal(tokens_E, counts_E) and counts_E[3] == counts_E[5] == 0 < counts_E[4] == 1
    dout = torch.randn_like(out)
    mine = [out, *torch.autograd.grad(out, leaves, dout)]
    true = [truth, *torch.autograd.grad(truth, leaves, dout)]
    for found, wanted in zip(mine, true, strict=True):
        assert (found - wanted).norm() / wanted.norm() < 0.3
    assert (mine[3][[3, 5]] == 0).all() and (out[::9] == 0).all()

    rows = x.detach()[7:8]  # the same experts' matrices, one token: the loop by hand
    weight = nvfp4.quantise(up.detach().flatten(0, 1), None)
    first = nvfp4.quantise(rows, 1)
    by_hand = (first.values @ weight.values.view_as(up)[4]) * (first.scale * weight.scale)
    lone = torch.tensor([[4]])
    narrow = torch.zeros(experts, 48, 32)
    narrow[4, :32] = torch.eye(32)
    alone, _ = nvfp4.experts(rows, lone, torch.ones(1, 1), up.detach(), narrow)
    hidden = nvfp4.quantise(by_hand.clamp(min=0).square(), 1)
    torch.testing.assert_close(alone, (hidden.values * hidden.scale)[:, :32])


@pytest.mark.parametrize("latent", [16, None])
def test_a_model_in_nvfp4_is_near_its_plain_self(
    small: ModelConfig, float64_model: Callable[[ModelConfig], HybridModel], latent: int | None
) -> None:
    shape = replace(small, pattern="MEM*EMM", latent_width=latent)
    batch = random_batch([9, 30, 25], shape.vocabulary)
    targets_J = target_counts(batch, shape.mtp_heads)
    losses = []
    for precision in ("plain", "nvfp4", "nvfp4"):
        model = float64_model(replace(shape, precision=precision))
        loss = objective(shape, model(batch, 64), targets_J, 1)
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        losses.append(loss.detach())
    plain, ours, again = losses
    assert torch.equal(ours, again)
    assert 0 < abs(ours / plain - 1) < 0.05


def test_the_last_layers_and_what_follows_stay_plain() -> None:
    ultra = replace(PRESETS["ultra"].model, precision="nvfp4")
    kinds = [ultra.at(layer).precision for layer in range(110)]
    assert kinds == ["nvfp4"] * 92 + ["plain"] * 18  # 16 of 108, then what follows the stack

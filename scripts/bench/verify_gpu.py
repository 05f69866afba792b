"""Hold every kernel against the float64 reference on a GPU, and print the errors.

    python scripts/bench/verify_gpu.py [--tokens 8192]

An error is ||ours - reference|| / ||reference||, with the reference computed in float64 on the same
rounded inputs. Ends with status 1 where one passes its limit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
import verify_gpu_recipe
from torch import Tensor

from datagen.train.config import PRESETS, ModelConfig
from datagen.train.data import Batch
from datagen.train.documents import documents_of
from datagen.train.kernels import conv, norms, operations, reference, ssd, ssd_backward
from datagen.train.model import HybridModel, objective, target_counts

DEVICE, NARROW = torch.device("cuda"), torch.bfloat16
L = ssd.CHUNK
FAILURES: list[str] = []


def report(name: str, limit: float, **errors: float) -> None:
    """Print a line of errors and remember those above the limit; NaN never passes."""
    worst = max(errors.values(), key=lambda e: float("inf") if e != e else e)
    passed = worst <= limit
    if not passed:
        FAILURES.append(name)
    values = "  ".join(f"{key} {value:.2e}" for key, value in errors.items())
    print(f"{'ok  ' if passed else 'FAIL'} {name:44s} limit {limit:.1e}  {values}", flush=True)


def error(ours: Tensor, truth: Tensor) -> float:
    """Return the relative error in the Frobenius norm."""
    ours, truth = ours.detach().double(), truth.detach().double()
    return float((ours - truth).norm() / truth.norm().clamp(min=1e-300))


def poison(gigabytes: int = 4) -> None:
    """Leave NaN in the memory that the allocator hands out next."""
    blocks = [torch.full((1 << 28,), torch.nan, device=DEVICE) for _ in range(gigabytes)]
    small = [torch.full((1 << 16,), torch.nan, device=DEVICE) for _ in range(512)]
    del blocks, small


def index_of(rows: Sequence[Sequence[int]]) -> Tensor:
    """Number the documents of each row of lengths."""
    return torch.tensor(
        [[i for i, length in enumerate(row) for _ in range(length)] for row in rows], device=DEVICE
    )


def normal(*shape: int, scale: float = 1.0) -> Tensor:
    """Draw bfloat16 numbers on the device."""
    return (torch.randn(shape, device=DEVICE) * scale).to(NARROW)


def layouts(tokens: int) -> dict[str, list[list[int]]]:
    """Name the document lengths under test; every row of a layout has the same sum."""
    return {
        "1": [[1]],
        "2": [[2]],
        "L-1": [[L - 1]],
        "L": [[L]],
        "L+1": [[L + 1]],
        "1,2,L-1,L,L+1,3L+5": [[1, 2, L - 1, L, L + 1, 3 * L + 5]],
        f"{tokens}": [[tokens]],
        "two rows": [[700, 1, 1, 800], [5, 1400, 97]],
    }


def check_ssd(name: str, rows: list[list[int]]) -> None:
    index_BT = index_of(rows)
    (batch, tokens), heads, groups = index_BT.shape, 16, 2
    x = normal(batch, tokens, heads, 64)
    dt = F.softplus(torch.randn(batch, tokens, heads, device=DEVICE) - 3)
    a, d = -torch.rand(heads, device=DEVICE) * 15 - 1, torch.randn(heads, device=DEVICE)
    b, c = normal(batch, tokens, groups, 128), normal(batch, tokens, groups, 128)
    dy = normal(batch, tokens, heads, 64)
    poison()
    y, saved = ssd.forward(x, dt, a, b, c, d, index_BT)
    out = (torch.empty_like(x), torch.empty_like(b), torch.empty_like(c))
    ddt, da, dd = ssd_backward.backward(dy, x, a, b, c, d, index_BT, saved, out)
    wide = [part.double().requires_grad_() for part in (x, dt, a, b, c, d)]
    truth = reference.ssd(*wide, index_BT, 64)
    grads = torch.autograd.grad(truth, wide, dy.double())
    ours = (out[0], ddt, da, out[1], out[2], dd)
    names = ("dx", "ddt", "da", "db", "dc", "dd")
    # A lone first token has no past: its gradients of a are exactly zero.
    errors = {
        key: error(mine, true)
        for key, mine, true in zip(names, ours, grads, strict=True)
        if true.abs().max() > 0
    }
    report(f"1 ssd, documents {name}", 4e-3, y=error(y, truth), **errors)


def check_mix(name: str, rows: list[list[int]]) -> None:
    index_BT = index_of(rows)
    (batch, tokens), heads, groups, state = index_BT.shape, 16, 2, 128
    inner = heads * 64
    channels = inner + 2 * groups * state
    narrow = normal(batch, tokens, inner + channels + heads).requires_grad_()
    parameters = [
        torch.randn(channels, 4, device=DEVICE) * 0.5,
        torch.randn(channels, device=DEVICE) * 0.1,
        torch.randn(heads, device=DEVICE) - 4,
        torch.rand(heads, device=DEVICE) * 2.7,
        torch.randn(heads, device=DEVICE),
        torch.rand(inner, device=DEVICE) + 0.5,
    ]
    ours = [narrow, *(part.requires_grad_() for part in parameters)]
    wide = [part.detach().double().requires_grad_() for part in ours]
    poison()
    y = operations.mamba_mix(*ours, index_BT, groups, state, 1e-5, L)
    truth = reference.mamba_mix(*wide, index_BT, groups, state, 1e-5, 64)
    dy = torch.randn_like(y)
    errors = {"y": error(y, truth)}
    names = ("projected", "conv_w", "conv_b", "dt_bias", "a_log", "skip", "norm")
    pairs = zip(
        names,
        torch.autograd.grad(y, ours, dy),
        torch.autograd.grad(truth, wide, dy.double()),
        strict=True,
    )
    errors |= {key: error(mine, true) for key, mine, true in pairs if true.abs().max() > 0}
    report(f"1 whole mixer, documents {name}", 1.5e-2, **errors)


def check_conv_and_norms(rows: list[list[int]]) -> None:
    index_BT = index_of(rows)
    batch, tokens = index_BT.shape
    x, dy = normal(batch, tokens, 1536), normal(batch, tokens, 1536)
    weight, bias = torch.randn(1536, 4, device=DEVICE), torch.randn(1536, device=DEVICE)
    wide = [part.double().requires_grad_() for part in (x, weight, bias)]
    truth = reference.conv_silu(*wide, index_BT)
    grads = torch.autograd.grad(truth, wide, dy.double())
    poison()
    dx = torch.empty_like(x)
    ours = conv.forward(x, weight, bias, index_BT)
    dw, dbias = conv.backward(dy, x, weight, bias, index_BT, dx)
    report(
        "3 convolution", 3e-3, y=error(ours, truth), dx=error(dx, grads[0]),
        dw=error(dw, grads[1]), dbias=error(dbias, grads[2]),
    )  # fmt: skip
    y, z, dout = (normal(batch, tokens, 1024) for _ in range(3))
    gain = torch.rand(1024, device=DEVICE) + 0.5
    wide = [part.double().requires_grad_() for part in (y, z, gain)]
    truth = reference.gated_group_norm(*wide, 2, 1e-5)
    grads = torch.autograd.grad(truth, wide, dout.double())
    poison()
    dz = torch.empty_like(z)
    dgate, dgain = norms.gated_backward(dout, y, z, gain, 2, 1e-5, dz)
    report(
        "3 gated norm", 3e-3, out=error(norms.gated_forward(y, z, gain, 2, 1e-5), truth),
        dy=error(dgate, grads[0]), dz=error(dz, grads[1]), dweight=error(dgain, grads[2]),
    )  # fmt: skip
    x, delta = (normal(batch, tokens, 2048).requires_grad_() for _ in range(2))
    gain = (torch.rand(2048, device=DEVICE) + 0.5).requires_grad_()
    total, out, energy = operations.add_norm(x, delta, gain, 1e-5)
    wide = [total.detach().double().requires_grad_(), gain.detach().double().requires_grad_()]
    truth = reference.rms_norm(wide[0], wide[1], 1e-5)
    dsum, dout = normal(batch, tokens, 2048), normal(batch, tokens, 2048)
    ours_g = torch.autograd.grad([total, out], [x, delta, gain], [dsum, dout])
    grads = torch.autograd.grad([truth, wide[0] * 1], wide, [dout.double(), dsum.double()])
    report(
        "3 residual add and norm", 3e-3, sum=error(total, x.double() + delta.double()),
        out=error(out, truth), energy=error(energy, total.double().square().sum(-1)),
        dx=error(ours_g[0], grads[0]), ddelta=error(ours_g[1], grads[0]),
        dweight=error(ours_g[2], grads[1]),
    )  # fmt: skip


def check_attention(name: str, rows: list[list[int]]) -> None:
    index_BT = index_of(rows)
    batch, tokens = index_BT.shape
    parts = [normal(batch, tokens, heads, 128).requires_grad_() for heads in (16, 2, 2)]
    wide = [part.detach().double().requires_grad_() for part in parts]
    documents = documents_of(index_BT)
    ours = operations.attention(*parts, documents)
    truth = reference.attention(*wide, documents.attends)
    dy = torch.randn_like(ours)
    first, again = (torch.autograd.grad(ours, parts, dy, retain_graph=True) for _ in range(2))
    differing = sum(not torch.equal(a, b) for a, b in zip(first, again, strict=True))
    report(f"8 attention gradients not bitwise again, {name}", 0.0, tensors=float(differing))
    pairs = zip(
        ("dq", "dk", "dv"),
        first,
        torch.autograd.grad(truth, wide, dy.double()),
        strict=True,
    )
    errors = {key: error(mine, true) for key, mine, true in pairs if true.abs().max() > 1e-9}
    report(f"3 attention, documents {name}", 5e-3, out=error(ours, truth), **errors)


def check_experts(name: str, tokens: int, experts: int, top_k: int, draws: int = 1) -> None:
    """Pool the errors of several draws: a few numbers alone may cancel to next to nothing."""
    found: list[tuple[Tensor, ...]] = []
    wanted: list[tuple[Tensor, ...]] = []
    miscounted = 0.0
    for _ in range(draws):
        x = normal(tokens, 512).requires_grad_()
        gate = torch.rand(tokens, top_k, device=DEVICE).requires_grad_()
        up = normal(experts, 512, 1280, scale=0.05).requires_grad_()
        down = normal(experts, 1280, 512, scale=0.05).requires_grad_()
        choice = torch.rand(tokens, experts, device=DEVICE).topk(top_k).indices
        if name == "all to one":
            choice = torch.full_like(choice, 3)
        if name == "padding and empty experts":
            choice = torch.where(choice < 5, 5, choice)
            choice[::3] = experts
        poison()
        leaves = [x, gate, up, down]
        out, tokens_E = operations.experts(x, choice, gate, up, down)
        dout = torch.randn_like(out)
        found.append((out, *torch.autograd.grad(out, leaves, dout)))
        wide = [part.detach().double().requires_grad_() for part in leaves]
        truth, counts_E = reference.experts(wide[0], choice, wide[1], wide[2], wide[3])
        wanted.append((truth, *torch.autograd.grad(truth, wide, dout.double())))
        miscounted += float((tokens_E != counts_E).sum())
    errors = {
        key: error(torch.stack(mine), torch.stack(true))
        for key, mine, true in zip(
            ("out", "dx", "dgate", "dup", "ddown"),
            zip(*found, strict=True),
            zip(*wanted, strict=True),
            strict=True,
        )
    }
    report(f"4 experts, {name}", 6e-3, **errors, counts=miscounted)


def check_route(experts: int, top_k: int) -> None:
    """Draw scores far apart, so that float64 makes the same choice."""
    x = normal(2, 700, 256).requires_grad_()
    router = (torch.randn(experts, 256, device=DEVICE) * 0.1).requires_grad_()
    bias = torch.randn(experts, device=DEVICE) * 0.1
    is_token = torch.arange(700, device=DEVICE).expand(2, 700) < 650
    poison()
    choice, gate, balance = operations.route(x, router, bias, is_token, top_k, 2.5)
    wide = [x.detach().double().requires_grad_(), router.detach().double().requires_grad_()]
    chosen, true_gate, true_balance = reference.route(
        wide[0], wide[1], bias.double(), is_token, top_k, 2.5
    )
    agreeing = (choice == chosen).all(-1)
    dgate = torch.randn_like(gate) * (agreeing & is_token)[..., None]
    dbalance = torch.randn_like(balance)
    grads = torch.autograd.grad([gate, balance], [x, router], [dgate, dbalance])
    truths = torch.autograd.grad(
        [true_gate, true_balance], wide, [dgate.double(), dbalance.double()]
    )
    report(
        f"4 routing, {top_k} of {experts}", 6e-3, others=float((~agreeing).float().mean()),
        gate=error(gate[agreeing], true_gate[agreeing]), balance=error(balance, true_balance),
        dx=error(grads[0], truths[0]), drouter=error(grads[1], truths[1]),
    )  # fmt: skip


def check_cross_entropy(vocabulary: int) -> None:
    hidden = normal(1000, 512).requires_grad_()
    head = (torch.randn(vocabulary, 512, device=DEVICE) * 0.05).requires_grad_()
    labels = torch.randint(0, vocabulary, (1000,), device=DEVICE)
    labels[100:300] = -100
    labels[::7] = -100
    poison()
    loss = operations.cross_entropy_sum(hidden, head, labels, 100) / 700
    grads = torch.autograd.grad(loss, [hidden, head])
    rounded = head.detach().to(NARROW)
    wide = [hidden.detach().double().requires_grad_(), rounded.double().requires_grad_()]
    truth = F.cross_entropy(wide[0] @ wide[1].T, labels, reduction="sum") / 700
    truths = torch.autograd.grad(truth, wide)
    report(
        f"5 cross entropy, vocabulary {vocabulary}", 6e-3, loss=error(loss, truth),
        dhidden=error(grads[0], truths[0]), dhead=error(grads[1], truths[1]),
    )  # fmt: skip
    assert grads[1].dtype == torch.float32


def model_config() -> ModelConfig:
    """Shrink the benchmark model in width and depth; keep every kind of layer and kernel shape."""
    return replace(
        PRESETS["n3-2b"].model, pattern="MEM*E", d_model=512, vocabulary=2048, query_heads=4,
        mamba_heads=16, mamba_groups=2, experts=16, top_k=4, expert_width=256, shared_width=512,
        latent_width=256, mtp_heads=2, init_std=0.05,
    )  # fmt: skip


def batch_of(rows: list[list[int]], vocabulary: int) -> Batch:
    """Draw tokens for documents of the given lengths; every next token is a target."""
    index_BT = index_of(rows)
    inputs_BT = torch.randint(0, vocabulary, index_BT.shape, device=DEVICE)
    labels_BT = torch.full_like(inputs_BT, -100)
    same = index_BT[:, 1:] == index_BT[:, :-1]
    labels_BT[:, :-1] = torch.where(same, inputs_BT[:, 1:], -100)
    return Batch(inputs_BT, labels_BT, index_BT, torch.zeros_like(index_BT), ())


def gradients(model: HybridModel, batches: list[Batch]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the objective of batches that make one step, and every gradient."""
    config = model.config
    targets_J = torch.stack([target_counts(part, config.mtp_heads) for part in batches]).sum(0)
    total = torch.zeros((), device=DEVICE)
    model.zero_grad()
    for part in batches:
        value = objective(config, model(part, 256), targets_J, 1)
        value.backward()
        total = total + value.detach()
    return total, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def check_model() -> None:
    # Every expert is chosen: a choice that rounding turns would hide what is to be seen.
    config = replace(model_config(), balance_loss=0.0, top_k=16)
    with DEVICE:
        model = HybridModel(config)
        model.initialise_all(0)
        truth = HybridModel(replace(config, dtype="float32")).double()
    truth.load_state_dict({k: v.double() for k, v in model.state_dict().items()})
    lengths = [1, 2, L - 1, L, L + 1, 300]
    batch = batch_of([lengths], config.vocabulary)
    poison()
    loss, ours = gradients(model, [batch])
    true_loss, truths = gradients(truth, [batch])
    errors = sorted(((error(ours[n], truths[n]), n) for n in truths), reverse=True)
    report("2 model, loss against float64", 2e-3, loss=error(loss, true_loss))
    joined = [torch.cat([g[n].flatten().double() for n in truths]) for g in (ours, truths)]
    report("2 model, all gradients against float64", 5e-2, all=error(*joined))
    print("     largest by parameter: " + ", ".join(f"{n} {e:.1e}" for e, n in errors[:5]))
    apart, start = [], 0
    for length in lengths:
        part = slice(start, start + length)
        apart.append(Batch(*(tensor[:, part] for tensor in batch[:4]), ()))
        start += length
    ours = {name: gradient.clone() for name, gradient in ours.items()}
    apart_loss, apart_gradients = gradients(model, apart)
    joined = [torch.cat([g[n].flatten().double() for n in truths]) for g in (ours, apart_gradients)]
    report(
        "2 packed against document by document", 5e-2,
        loss=error(loss, apart_loss), all=error(*joined),
    )  # fmt: skip
    before = model.token_losses(batch, 256)
    changed = batch.document_index_BT == 4
    other = batch._replace(
        inputs_BT=torch.where(changed, (batch.inputs_BT + 1) % config.vocabulary, batch.inputs_BT)
    )
    moved = (model.token_losses(other, 256) != before) & ~changed
    report("2 disturbing one document: others changed", 0.0, tokens=float(moved.sum()))
    _, repeated = gradients(model, [batch])
    differing = float(sum(not torch.equal(ours[n], repeated[n]) for n in ours))
    report("8 parameters whose gradient is not bitwise again", 0.0, parameters=differing)


def main() -> None:
    """Run every check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=8192, help="the long document's length")
    tokens = parser.parse_args().tokens
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}")
    named = layouts(tokens)
    for name, rows in named.items():
        check_ssd(name, rows)
    for name, rows in named.items():
        check_mix(name, rows)
    for name in ("1,2,L-1,L,L+1,3L+5", "two rows", f"{tokens}"):
        check_conv_and_norms(named[name])
        check_attention(name, named[name])
    for case, size in (("spread", 1000), ("all to one", 600), ("padding and empty experts", 999)):
        check_experts(case, size, 32, 1 if case == "all to one" else 4)
    check_experts("one token", 1, 32, 4, draws=16)
    check_route(128, 8)
    check_route(512, 22)
    for vocabulary in (131_072, 5000):
        check_cross_entropy(vocabulary)
    check_model()
    verify_gpu_recipe.check_nvfp4(report, error)
    verify_gpu_recipe.check_recipe(report)
    config = model_config()
    batch = batch_of([[1, 2, 3, L, L + 1, 300]], config.vocabulary)
    verify_gpu_recipe.check_mtp(report, config, batch)
    verify_gpu_recipe.check_hf(report, config)
    if FAILURES:
        print(f"{len(FAILURES)} beyond their limit: {'; '.join(FAILURES)}")
        sys.exit(1)


if __name__ == "__main__":
    main()

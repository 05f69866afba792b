"""Hold every kernel, and the model made of them, against float64 on a GPU; print the errors.

    python scripts/bench/verify_gpu.py [--tokens 8192]

An error is ||ours - reference|| / ||reference||, with the reference computed in float64 on the same
rounded inputs. Each line begins with its group: 1 recurrence, 2 documents apart, 3 convolution,
norms and attention, 4 experts, 5 cross entropy, 6 NVFP4, 7 schedule, merge and balance, 8
multi-token heads, transformers' logits, the same bits again; the ninth, speed, is `training.py`.
Ends with status 1 where an error passes its limit.
"""

from __future__ import annotations

import argparse
import sys

import torch
import torch.nn.functional as F
import verify_model
import verify_nvfp4
from verify_common import DEVICE, FAILURES, NARROW, error, index_of, normal, poison, report

from datagen.train.documents import documents_of
from datagen.train.kernels import conv, norms, operations, reference, ssd, ssd_backward

L = ssd.CHUNK


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
    found: list[tuple[torch.Tensor, ...]] = []
    wanted: list[tuple[torch.Tensor, ...]] = []
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
    verify_nvfp4.check_all()
    verify_model.check_all()
    if FAILURES:
        print(f"{len(FAILURES)} beyond their limit: {'; '.join(FAILURES)}")
        sys.exit(1)


if __name__ == "__main__":
    main()

"""Checks of NVFP4 on a GPU, for `verify_gpu.py`: the quantiser, and products made with it."""

from __future__ import annotations

import torch
from verify_common import DEVICE, NARROW, error, normal, poison, report

from datagen.train.kernels import nvfp4, reference
from datagen.train.kernels.nvfp4_quantiser import quantise_fast

E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
E4M3 = torch.arange(127, dtype=torch.uint8).view(torch.float8_e4m3fn).float()


def check_quantiser() -> None:
    """Values against the reference, bit by bit; turned ones, whose sums round, nearly all."""
    for rows, columns in ((1, 16), (37, 150), (4096, 2048)):
        x = normal(rows, columns) * torch.exp2(torch.randint(-8, 8, (rows, 1), device=DEVICE))
        for turned in (False, True):
            differing = []
            for axis in (0, 1, None):
                for stochastic in (False, True):
                    poison(1)
                    ours = quantise_fast(x, axis, turned=turned, stochastic=stochastic)
                    true = nvfp4.quantise(x, axis, turned=turned, stochastic=stochastic)
                    differing.append(float((ours.values != true.values).float().mean()))
                    differing.append(error(ours.scale, true.scale))
            report(
                f"6 quantiser, {rows} x {columns}{', turned' * turned}: unlike the reference",
                2e-2 if turned else 0.0, share=max(differing),
            )  # fmt: skip


def check_tables() -> None:
    """Every value of a block under every block scale, and what lies between, by table."""
    scales = E4M3[E4M3 >= 2.0**-6]
    # Not the middle itself: a block's reciprocal rounds, and a tie with it.
    values = torch.cat([E2M1, (E2M1[1:] + E2M1[:-1]) * 0.48, torch.tensor([5.5])])
    x = (values * scales[:, None]).to(DEVICE)
    x[-1, 0] = 6.0 * 448
    x[:, 0] = torch.cat([scales[:-1] * 6, scales[-1:] * 6]).to(DEVICE)  # each block's largest
    x = x.to(NARROW)
    found = quantise_fast(x, 1).values.cpu().float()
    code = scales[:, None]
    distance = (x.cpu().float()[:, :, None] / code[:, :, None] - E2M1).abs()
    even = torch.arange(8) % 2 == 0
    best = torch.where(distance == distance.amin(-1, keepdim=True), even.int() + 1, 0).argmax(-1)
    report("6 E2M1 under each E4M3 scale, by table", 0.0, error=error(found, E2M1[best] * code))
    weight = normal(512, 768)
    along, across = quantise_fast(weight, None), quantise_fast(weight.T.contiguous(), None)
    report(
        "6 weights along either axis", 0.0,
        differing=float((across.values != along.values.T).sum()) + error(along.scale, across.scale),
    )  # fmt: skip
    turn = nvfp4.hadamard(DEVICE)
    report("6 Hadamard times its transpose", 0.0, error=error(turn @ turn.T, torch.eye(16).cuda()))


def check_chance() -> None:
    """The mean over draws against the value, beside rounding to nearest."""
    x = normal(256, 256)
    x[0, 0] = 8.0
    x = x.clamp(-8, 8)
    total, draws = torch.zeros(256, 256, dtype=torch.float64, device=DEVICE), 200
    for power in range(-100, 100):  # another scale is another draw
        ours = quantise_fast(x * 2.0**power, 1, stochastic=True)
        total += ours.values.double() * ours.scale.double() * 2.0**-power
    nearest = nvfp4.quantise(x, 1)
    report("6 mean of 200 draws by chance", 2.5e-2, error=error(total / draws, x.double()),
           bias=abs(float((total / draws - x).mean() / x.std())))  # fmt: skip
    print(f"     to nearest: {error(nearest.values.double() * nearest.scale, x):.1e}")


def check_products() -> None:
    """Linear and experts against the same in plain torch of the same device."""
    x, weight, dout = normal(1000, 512), normal(768, 512, scale=0.05), normal(1000, 768)
    leaves = [x.requires_grad_(), weight.requires_grad_()]
    out = nvfp4.linear(*leaves)
    plain = torch.nn.functional.linear(*leaves)
    names = ("out", "dx", "dweight")
    ours = (out, *torch.autograd.grad(out, leaves, dout))
    true = (plain, *torch.autograd.grad(plain, leaves, dout))
    pairs = zip(names, ours, true, strict=True)
    report("6 linear beside bfloat16's", 0.22, **{n: error(a, b) for n, a, b in pairs})
    tokens, experts = 999, 32
    x = normal(tokens, 512).requires_grad_()
    gate = torch.rand(tokens, 4, device=DEVICE).requires_grad_()
    up = normal(experts, 512, 1280, scale=0.05).requires_grad_()
    down = normal(experts, 1280, 512, scale=0.05).requires_grad_()
    choice = torch.rand(tokens, experts, device=DEVICE).topk(4).indices
    choice = torch.where(choice < 5, 5, choice)
    choice[::3] = experts
    leaves = [x, gate, up, down]
    poison()
    out, counts = nvfp4.experts(x, choice, gate, up, down)
    # The same definition with every rounding in plain torch, on the CPU and in float32.
    again, _ = nvfp4.experts(x, choice, gate, up, down)
    wide = [part.detach().cpu().float().requires_grad_() for part in leaves]
    truth, true_counts = nvfp4.experts(wide[0], choice.cpu(), *wide[1:])
    plain, _ = reference.experts(wide[0], choice.cpu(), *wide[1:])
    dout = normal(tokens, 512)
    ours = (out, *torch.autograd.grad(out, leaves, dout))
    true = (plain, *torch.autograd.grad(plain, wide, dout.cpu().float()))
    report(
        "6 experts in NVFP4 against plain torch's", 8e-2, out=error(out.cpu(), truth),
        counts=float((counts.cpu() != true_counts).sum()),
        repeated=float((out != again).sum()),
    )  # fmt: skip
    names = ("out", "dx", "dgate", "dup", "ddown")
    pairs = zip(names, ours, true, strict=True)
    report("6 experts beside float32's", 0.3, **{n: error(a.cpu(), b) for n, a, b in pairs})


def check_all() -> None:
    """Run every check of NVFP4."""
    check_quantiser()
    check_tables()
    check_chance()
    check_products()

"""Groups 6 to 8 of `verify_gpu.py`: NVFP4, schedule and merging, several tokens, NemotronH."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from datagen.train.config import TINY, ModelConfig
from datagen.train.data import Batch
from datagen.train.documents import documents_of
from datagen.train.hf import export_folder
from datagen.train.kernels import nvfp4
from datagen.train.kernels.nvfp4_quantiser import quantise_fast
from datagen.train.latent_moe import LatentMoE
from datagen.train.merge import merge_weights, weighted_mean
from datagen.train.model import HybridModel
from datagen.train.schedule import WarmupStableDecay

Report = Callable[..., None]
DEVICE = torch.device("cuda")


def check_nvfp4(report: Report, error: Callable[[Tensor, Tensor], float]) -> None:
    """The quantiser against the reference bit by bit; fair rounding; products near the plain."""
    outliers = torch.randn(4096, 2048, device=DEVICE)
    outliers[::97, ::31] *= 300
    cases = {"normal": torch.randn(2048, 1024, device=DEVICE), "outliers": outliers}
    cases |= {"odd": torch.randn(77, 53, device=DEVICE), "zero": torch.zeros(64, 64, device=DEVICE)}
    for name, wide in cases.items():
        x = wide.bfloat16()
        wrong = 0
        for axis in (0, 1, None):
            for turned in (False, True):
                for stochastic in (False, True):
                    options = {"turned": turned, "stochastic": stochastic}
                    ours, truth = (
                        quantise_fast(x, axis, **options),
                        nvfp4.quantise(x, axis, **options),
                    )
                    wrong += int((ours.values != truth.values).sum()) + int(
                        ours.scale != truth.scale
                    )
        report(f"6 nvfp4 quantiser, {name}: values that differ", 0.0, values=float(wrong))
    weight = torch.randn(512, 768, device=DEVICE).bfloat16()
    one, two = quantise_fast(weight, None), quantise_fast(weight.T.contiguous(), None)
    report(
        "6 nvfp4 2-D scales under transpose", 0.0, values=float((two.values != one.values.T).sum())
    )
    turn = nvfp4.hadamard(DEVICE)
    report(
        "6 hadamard times its inverse",
        0.0,
        error=float((turn.T @ turn - torch.eye(16, device=DEVICE)).abs().max()),
    )
    x = torch.randn(256, 256, device=DEVICE).clamp_(-3, 3)
    mean, draws = torch.zeros_like(x), 400
    for draw in range(draws):
        # Another largest value is another draw; it stands in a row of its own.
        more = torch.cat([x, torch.full((16, 256), 4.0 + draw / 256, device=DEVICE)]).bfloat16()
        found = quantise_fast(more, 1, stochastic=True)
        mean += (found.values.float() * found.scale)[:256] / draws
    report(
        "6 rounding by chance: bias of the mean",
        2e-3,
        bias=float((mean - x.bfloat16()).mean().abs()),
    )
    left, right = (torch.randn(1024, 1024, device=DEVICE).bfloat16() for _ in range(2))
    report(
        "6 nvfp4 product against the plain one",
        0.2,
        out=error(nvfp4.linear(left, right), (left.double() @ right.double().T)),
    )


def check_recipe(report: Report) -> None:
    """WSD at its corners, a merge against explicit weights, the bias update against a favourite."""
    rate = WarmupStableDecay(peak=1e-3, floor=1e-5, steps=1000, warmup_steps=100, decay_steps=250)
    wrong = max(
        abs(rate(0) - 1e-5), abs(rate(99) - 1e-3), abs(rate(749) - 1e-3), abs(rate(999) - 1e-5),
        abs(rate(811) - (1e-3 - 9.9e-4 * (62 / 250) ** 0.5)),
    )  # fmt: skip
    report("7 WSD at its corners", 1e-12, rate=wrong)
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory() as folder:
        walk, kept, paths = torch.zeros(64, 64), [], []
        for step in range(8):
            walk = walk + torch.randn(64, 64)
            kept.append(walk)
            paths.append(Path(folder) / f"{step}.safetensors")
            save_file({"w": walk}, paths[-1])
        merged = weighted_mean(paths, merge_weights(8, "minus-sqrt"))["w"].double()
    decayed = kept[0].double()
    for i in range(1, 8):
        decayed += (1 - (i / 8) ** 0.5) * (kept[i].double() - kept[i - 1].double())
    report(
        "7 merge against updates scaled by minus-sqrt",
        1e-5,
        w=float((merged - decayed).norm() / decayed.norm()),
    )
    config = replace(TINY.model, bias_rate=0.02)
    with DEVICE:
        layer = LatentMoE(config)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    layer.router.data[0] += 0.5
    x_BTD = torch.randn(1, 512, config.d_model, device=DEVICE).to(layer.router.dtype) + 0.5
    documents = documents_of(torch.zeros(1, 512, dtype=torch.int64, device=DEVICE))
    violations = []
    for _ in range(80):
        with torch.no_grad():
            _, routing = layer(x_BTD, documents)
        load = routing.tokens_E.double()
        violations.append(float(load.max() / load.mean()))
        layer.update_bias(routing.tokens_E)
    print(f"     MaxVio {violations[0]:.2f} -> {sum(violations[-10:]) / 10:.2f}")
    report(
        "7 bias update: what is left of MaxVio - 1",
        0.5,
        share=(sum(violations[-10:]) / 10 - 1) / (violations[0] - 1),
    )


def check_mtp(report: Report, config: ModelConfig, batch: Batch) -> None:
    """Multi-token losses against the block unrolled document by document, in float32."""
    with DEVICE:
        model = HybridModel(replace(config, dtype="float32"))
        model.initialise_all(0)
    assert model.mtp is not None
    with torch.no_grad():
        ours = model(batch, 256).loss_J[1:].double()
        truth = torch.zeros(2, dtype=torch.float64, device=DEVICE)
        index_T = batch.document_index_BT[0]
        for document in range(int(index_T.max()) + 1):
            ids, labels = (part[0, index_T == document] for part in batch[:2])
            zeros = torch.zeros(1, len(ids), dtype=torch.int64, device=DEVICE)
            hidden_BTD, _, _ = model.backbone(ids[None], documents_of(zeros))
            for head in (1, 2):
                kept = len(ids) - head
                if kept <= 0:
                    break
                ahead_BTD = model.embedding(ids[None, head:])
                hidden_BTD, _ = model.mtp(
                    hidden_BTD[:, :kept], ahead_BTD, documents_of(zeros[:, :kept])
                )
                logits_TV = (hidden_BTD[0] @ model.head_VD.T).double()
                wanted = labels[head:]
                scores = logits_TV.log_softmax(-1).gather(1, wanted.clamp(min=0)[:, None])[:, 0]
                truth[head - 1] -= scores[wanted >= 0].sum()
    report(
        "8 multi-token losses against the unrolled block",
        1e-4,
        loss=float(((ours - truth) / truth).abs().max()),
    )


def check_hf(report: Report, config: ModelConfig) -> None:
    """Logits of transformers' NemotronH on our exported weights against ours, both in float32."""
    import transformers

    config = replace(config, dtype="float32", mtp_heads=0)
    with DEVICE:
        ours = HybridModel(config)
        ours.initialise_all(0)
    with tempfile.TemporaryDirectory() as folder:
        export_folder(config, {k: v.cpu() for k, v in ours.state_dict().items()}, Path(folder))
        theirs = transformers.NemotronHForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        ).to(DEVICE).eval()  # fmt: skip
    ids_BT = torch.randint(0, config.vocabulary, (2, 300), device=DEVICE)
    with torch.no_grad():
        hidden_BTD, _, _ = ours.backbone(ids_BT, documents_of(torch.zeros_like(ids_BT)))
        logits_BTV = hidden_BTD @ ours.head_VD.T
        expected_BTV = theirs(ids_BT, use_cache=False).logits
    report(
        "8 logits against transformers' NemotronH",
        2e-3,
        logits=float((logits_BTV - expected_BTV).norm() / expected_BTV.norm()),
    )

"""Checks of the whole model on a GPU, for `verify_gpu.py`."""

from __future__ import annotations

import os
from dataclasses import replace

import torch
from torch import Tensor
from verify_common import DEVICE, error, index_of, poison, report

from datagen.train.config import PRESETS, ModelConfig
from datagen.train.data import Batch
from datagen.train.documents import IGNORED, documents_of
from datagen.train.hf import hf_config, to_hf
from datagen.train.kernels import ssd
from datagen.train.latent_moe import LatentMoE, max_violation
from datagen.train.merge import merge_weights
from datagen.train.model import HybridModel, objective, target_counts
from datagen.train.optimizer import MasterAdamW
from datagen.train.schedule import WarmupStableDecay
from datagen.train.step import update

L = ssd.CHUNK


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


def built(config: ModelConfig, seed: int = 0) -> HybridModel:
    """Draw a model on the device."""
    with DEVICE:
        model = HybridModel(config)
    model.initialise_all(seed)
    return model


def check_microbatches() -> None:
    """Three microbatches of a row each against one batch of three."""
    config = replace(model_config(), top_k=16)
    model = built(config)
    rows = [batch_of([lengths], config.vocabulary) for lengths in ([500], [100, 400], [1, 499])]
    parts = zip(*(row[:4] for row in rows), strict=True)
    whole = Batch(*(torch.cat(part) for part in parts), ())
    loss, ours = gradients(model, rows)
    whole_loss, together = gradients(model, [whole])
    joined = [torch.cat([g[n].flatten().double() for n in together]) for g in (ours, together)]
    report(
        "5 three microbatches against one batch", 2e-2,
        loss=error(loss, whole_loss), gradients=error(*joined),
    )  # fmt: skip


def check_multi_token() -> None:
    """Each head's loss against the block unrolled by hand, one document at a time, in float64."""
    config = replace(model_config(), top_k=16)
    model = built(config)
    wide = HybridModel(replace(config, dtype="float32")).to(DEVICE).double()
    wide.load_state_dict({k: v.double() for k, v in model.state_dict().items()})
    lengths = [2, 90, 64, 200]
    batch = batch_of([lengths], config.vocabulary)
    sums = model(batch, 256).loss_J[1:]
    true_J, start = torch.zeros(2, dtype=torch.float64, device=DEVICE), 0
    assert wide.mtp is not None
    for length in lengths:
        ids = batch.inputs_BT[:, start : start + length]
        labels = batch.labels_BT[0, start : start + length]
        start += length
        hidden, _, _ = wide.backbone(ids, documents_of(torch.zeros_like(ids)))
        for head in (1, 2):
            kept = max(length - head, 0)
            if kept == 0:
                break
            documents = documents_of(torch.zeros_like(ids[:, :kept]))
            hidden, _ = wide.mtp(hidden[:, :kept], wide.embedding(ids[:, head:]), documents)
            logits = hidden[0] @ wide.head_VD.T
            true_J[head - 1] += torch.nn.functional.cross_entropy(
                logits, labels[head:], ignore_index=IGNORED, reduction="sum"
            )
    report(
        "8 multi-token heads, unrolled", 2e-3,
        one=error(sums[0], true_J[0]), two=error(sums[1], true_J[1]),
    )  # fmt: skip


def check_transformers() -> None:
    """Logits against transformers' NemotronH with the same weights, in float32 on the device."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from training_peers import stacked
    from transformers import NemotronHConfig, NemotronHForCausalLM

    config = replace(model_config(), top_k=16, mtp_heads=0, dtype="float32", dt_floor=1e-3)
    model = built(config)
    settings = NemotronHConfig(**hf_config(config))
    settings._attn_implementation = "eager"
    theirs = NemotronHForCausalLM(settings).to(DEVICE, torch.float32).eval()
    names = theirs.state_dict()
    for name, tensor in stacked(to_hf(model.state_dict())).items():
        names[name].copy_(tensor.view_as(names[name]))
    ids_BT = torch.randint(0, config.vocabulary, (2, 150), device=DEVICE)
    documents = documents_of(torch.zeros_like(ids_BT))
    narrow = built(replace(config, dtype="bfloat16"))
    narrow.load_state_dict(model.state_dict())
    with torch.no_grad():
        expected_BTV = theirs(ids_BT, use_cache=False).logits
        ours_BTV = model.backbone(ids_BT, documents)[0] @ model.head_VD.T
        narrow_BTV = narrow.backbone(ids_BT, documents)[0].float() @ model.head_VD.T
    report("8 logits against transformers, float32", 1e-3, logits=error(ours_BTV, expected_BTV))
    report("8 logits against transformers, kernels", 3e-2, logits=error(narrow_BTV, expected_BTV))


def check_resume(precision: str) -> None:
    """Six steps at once against three, a copy of all that is saved, and three more."""
    config = replace(PRESETS["n3-2b"], model=replace(model_config(), precision=precision))
    batches = [batch_of([[1, 63, 400, 48]], config.model.vocabulary) for _ in range(6)]
    through, begun = built(config.model), built(config.model)
    optimizer, first = MasterAdamW(through, config), MasterAdamW(begun, config)
    for batch in batches:
        update(through, optimizer, config, [batch], 1e-3)
    for batch in batches[:3]:
        update(begun, first, config, [batch], 1e-3)
    saved = {k: v.cpu().clone() for k, v in begun.state_dict().items()}
    state = {k: v.cpu().clone() for k, v in first.state().items()}
    resumed = built(config.model, seed=1)
    resumed.load_state_dict(saved)
    second = MasterAdamW(resumed, config)
    second.restore(state, 3)
    for batch in batches[3:]:
        update(resumed, second, config, [batch], 1e-3)
    ours = resumed.state_dict() | second.state()
    wanted = through.state_dict() | optimizer.state()
    differing = sum(not torch.equal(ours[name], wanted[name]) for name in wanted)
    report(f"8 of {len(wanted)} tensors not bitwise after a resume, {precision}", 0.0,
           tensors=float(differing))  # fmt: skip


def check_recipe() -> None:
    """Schedule and merge against their formulas, and the bias against an uneven load."""
    rate = WarmupStableDecay(peak=1.0, floor=0.01, steps=100, warmup_steps=10, decay_steps=25)
    wanted = [(t + 1) / 10 if t < 10 else 1.0 for t in range(75)]
    wanted += [1 - 0.99 * (i / 25) ** 0.5 for i in range(1, 26)]
    found = torch.tensor([rate(t) for t in range(100)])
    explicit = torch.tensor([(j / 20) ** 0.5 - ((j - 1) / 20) ** 0.5 for j in range(1, 21)])
    report(
        "7 schedule and merge against formulas", 1e-6, schedule=error(found, torch.tensor(wanted)),
        merge=error(torch.tensor(merge_weights(20, "minus-sqrt")), explicit),
    )  # fmt: skip
    config = replace(model_config(), bias_rate=0.02)
    with DEVICE:
        mixture = LatentMoE(config)
    mixture.initialise(torch.Generator(device=DEVICE).manual_seed(0), 0.05, 0.05)
    x_BTD = (torch.randn(2, 2048, config.d_model, device=DEVICE) + 0.5).bfloat16()
    documents = documents_of(torch.zeros(2, 2048, dtype=torch.long, device=DEVICE))
    violations = []
    for _ in range(60):
        _, routing = mixture(x_BTD, documents)
        violations.append(float(max_violation(routing.tokens_E[None])))
        mixture.update_bias(routing.tokens_E)
    after = sum(violations[-10:]) / 10
    report(
        f"7 bias update, MaxVio {violations[0]:.2f} -> {after:.2f}", 0.5,
        left=(after - 1) / (violations[0] - 1),
    )  # fmt: skip


def check_all() -> None:
    """Run every check of the whole model."""
    check_model()
    check_microbatches()
    check_recipe()
    check_multi_token()
    check_transformers()
    for precision in ("plain", "nvfp4"):
        check_resume(precision)

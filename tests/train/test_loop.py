"""A run lowers the loss, and stops anywhere without a trace."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("safetensors", reason="the train extra is not installed")

from safetensors.torch import load_file  # noqa: E402

from datagen.cli.group import run as main  # noqa: E402
from datagen.errors import DataError, WorkspaceError  # noqa: E402
from datagen.report.training import write_page  # noqa: E402
from datagen.train.checkpoint import checkpoint_path  # noqa: E402
from datagen.train.config import TINY, ModelConfig, TrainConfig, preset  # noqa: E402
from datagen.train.door import (  # noqa: E402
    StepReport,
    TrainReport,
    held_out_losses,
    merge,
    train,
)
from datagen.train.model import HybridModel  # noqa: E402
from datagen.train.optimizer import MasterAdamW  # noqa: E402

from .conftest import SMALL  # noqa: E402
from .shards import counting_rows, write_shard  # noqa: E402

Run = Callable[..., TrainReport]


@pytest.fixture
def recipe(small: ModelConfig) -> TrainConfig:
    return replace(
        TINY,
        model=replace(small, pattern="ME*", init_std=0.05),
        batch_rows=4,
        microbatch_rows=2,
        window_tokens=None,
        peak_lr=2e-2,
        min_lr=2e-4,
        checkpoint_every=4,
        held_out_every=8,
    )


@pytest.fixture
def run(tmp_path: Path, recipe: TrainConfig) -> Run:
    shard = write_shard(tmp_path, counting_rows(24, row_tokens=96, vocabulary=64))

    def start(name: str, **changes: Any) -> TrainReport:
        settings: dict[str, Any] = {
            "config": recipe,
            "vocabulary": 64,
            "row_tokens": 96,
            "steps": 10,
            "out": tmp_path / name,
            "seed": 5,
        }
        return train([shard], **(settings | changes))

    return start


def lines(out: Path) -> list[dict[str, Any]]:
    """Read the telemetry without its only figure of time."""
    parsed = [json.loads(line) for line in (out / "telemetry.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "tokens_per_s"} for line in parsed]


def _interrupt_at(step: int) -> Callable[[StepReport], None]:
    def interrupt(report: StepReport) -> None:
        if report.step == step:
            signal.raise_signal(signal.SIGINT)

    return interrupt


def tensors(report: TrainReport) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in report.checkpoint.glob("*.safetensors")}


def test_the_loss_falls_and_is_told_by_category(run: Run) -> None:
    seen: list[StepReport] = []
    report = run("a", steps=60, on_step=seen.append)
    assert [line.step for line in seen] == list(range(1, 61))
    assert report.first_loss == pytest.approx(4.16, abs=0.3)  # log 64
    assert report.last_loss < 0.7 * report.first_loss
    assert set(report.category_losses) == {"by1", "by3"}
    assert max(report.category_losses.values()) < report.first_loss
    last = seen[-1]
    assert len(last.mtp_losses) == 2 and len(last.residual_rms) == 3
    assert len(last.max_violation) == 2 and all(1 <= v <= 4 for v in last.max_violation)
    assert len(last.dead_experts) == 2 and all(0 <= n < 8 for n in last.dead_experts)
    assert list(last.gradient_norms) == [
        "head", "embedding", "layers.0", "layers.1", "layers.2", "final_norm", "mtp",
    ]  # fmt: skip
    total = sum(norm**2 for norm in last.gradient_norms.values()) ** 0.5
    assert total == pytest.approx(last.gradient_norm, rel=1e-5)
    assert last.phase == "phase1" and last.alarms == ()
    assert last.lr == pytest.approx(2e-4)
    assert report.tokens == sum(line.tokens for line in seen)


def test_resume_is_bitwise_after_ctrl_c(run: Run, tmp_path: Path) -> None:
    whole = run("whole")
    stopped = run("parts", on_step=_interrupt_at(6))
    assert stopped.interrupted and stopped.steps == 6 and stopped.checkpoint.is_dir()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = run("parts", resume=True)
    assert not resumed.interrupted
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")
    assert tensors(resumed) == tensors(whole)
    assert resumed.category_losses == whole.category_losses
    assert (resumed.tokens, resumed.first_loss) == (whole.tokens, whole.first_loss)


def test_resume_is_bitwise_after_a_kill_between_checkpoints(run: Run, tmp_path: Path) -> None:
    whole = run("whole")

    class Killed(Exception):
        pass

    def die(report: StepReport) -> None:
        if report.step == 7:
            raise Killed

    with pytest.raises(Killed):
        run("parts", on_step=die)
    out = tmp_path / "parts"
    assert len(lines(out)) == 7  # three past the checkpoint at step 4
    (out / "checkpoints" / ".step-00000008.tmp").mkdir()  # and half a checkpoint
    seen: list[StepReport] = []
    resumed = run("parts", resume=True, on_step=seen.append)
    assert [report.step for report in seen] == list(range(5, 11))
    assert lines(out) == lines(tmp_path / "whole")
    assert tensors(resumed) == tensors(whole)


VICTIM = """
import sys
from pathlib import Path
import torch
sys.path[:0] = sys.argv[1:2]
torch.set_num_threads(1)
from tests.train.test_loop import settings_of
from datagen.train.door import train
settings = settings_of(Path(sys.argv[2]), "parts")
train(**settings, on_step=lambda report: print(report.step, flush=True))
"""


def settings_of(folder: Path, name: str) -> dict[str, Any]:
    """A run long enough to be killed inside."""
    config = replace(
        TINY,
        model=replace(SMALL, pattern="ME*", init_std=0.05),
        window_tokens=None,
        checkpoint_every=6,
        validate_every=5,
        snapshot_every=4,
        held_out_every=8,
    )
    return {
        "shards": sorted((folder / "shards").glob("*.parquet")),
        "config": config,
        "vocabulary": 64,
        "row_tokens": 96,
        "steps": 40,
        "out": folder / name,
        "seed": 5,
    }


def test_resume_is_bitwise_after_kill_9(tmp_path: Path) -> None:
    write_shard(tmp_path, counting_rows(24, row_tokens=96, vocabulary=64))
    root = str(Path(__file__).resolve().parents[2])
    victim = subprocess.Popen(
        [sys.executable, "-c", VICTIM, root, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert victim.stdout is not None
    for line in victim.stdout:
        if int(line) == 21:
            victim.kill()
            break
    assert victim.wait() == -signal.SIGKILL
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    resumed = train(**settings_of(tmp_path, "parts"), resume=True)
    unbroken = train(**settings_of(tmp_path, "whole"))
    assert tensors(resumed) == tensors(unbroken)
    assert lines(parts) == lines(whole)
    assert (parts / "validation.jsonl").read_bytes() == (whole / "validation.jsonl").read_bytes()
    kept = [path.name for path in sorted((whole / "snapshots").iterdir())]
    assert kept == [f"step-{step:08d}.safetensors" for step in range(4, 44, 4)]
    for name in kept:
        snapshot = (parts / "snapshots" / name).read_bytes()
        assert snapshot == (whole / "snapshots" / name).read_bytes()


def test_two_processes_take_the_steps_of_one_and_resume_bitwise(run: Run, tmp_path: Path) -> None:
    alone, two = run("alone"), run("two", processes=2)
    # Two microbatches are added in either order; a third would come with a rounding of its own.
    assert tensors(two) == tensors(alone)
    assert lines(tmp_path / "two") == lines(tmp_path / "alone")
    stopped = run("parts", processes=2, on_step=_interrupt_at(6))
    assert stopped.interrupted and stopped.steps == 6
    assert tensors(run("parts", processes=2, resume=True)) == tensors(two)
    with pytest.raises(WorkspaceError, match="cannot share evenly"):
        run("three", processes=3)


def test_once_through_the_shards_trains_every_window(run: Run, recipe: TrainConfig) -> None:
    every = replace(recipe, held_out_every=0)
    report = run("a", config=every, steps=None)
    rows = counting_rows(24, row_tokens=96, vocabulary=64)
    assert (report.steps, report.tokens) == (24 // 4, sum(row["n_tokens"] for row in rows))


def test_given_weights_are_where_a_run_begins(run: Run, tmp_path: Path) -> None:
    first = run("a", steps=12)
    weights = first.checkpoint / "model.safetensors"
    second = run("b", steps=1, weights=weights)
    assert second.first_loss < first.first_loss - 0.3
    with pytest.raises(WorkspaceError, match="another weights"):
        run("b", steps=2, resume=True)


def test_a_merge_is_measured_on_what_the_run_held_out(
    run: Run, recipe: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keeping = replace(recipe, snapshot_every=2, validate_every=10)
    report = run("a", config=keeping, steps=20)
    shards = sorted((tmp_path / "shards").glob("*.parquet"))
    merged = merge(tmp_path / "a", window=3, decay="linear", through=12)
    assert [part.stem[-2:] for part in merged.parts] == ["08", "10", "12"]
    snapshot = tmp_path / "a" / "snapshots" / "step-00000020.safetensors"
    last = held_out_losses(tmp_path / "a", shards, snapshot)
    assert last is not None and last.losses == report.category_losses
    ours = held_out_losses(tmp_path / "a", shards, merged.path)
    assert ours is not None and ours.losses != last.losses
    command = ["merge", str(tmp_path / "a"), "--window", "3", "--decay", "linear", "--json"]
    assert main([*command, "--through", "12"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["path"] == str(merged.path) and said["weights"] == pytest.approx([1 / 3] * 3)
    assert main([*command, "--window", "90"]) == 2
    other = write_shard(tmp_path, counting_rows(4, row_tokens=96, vocabulary=64), name="9")
    with pytest.raises(WorkspaceError, match="other shards"):
        held_out_losses(tmp_path / "a", [other], snapshot)


def test_phases_follow_one_another_and_the_page_marks_it(
    run: Run, recipe: TrainConfig, tmp_path: Path
) -> None:
    rows = counting_rows(24, row_tokens=96, vocabulary=64)
    rows = [{**row, "phase": "phase1" if i < 16 else "phase2"} for i, row in enumerate(rows)]
    shard = write_shard(tmp_path, rows, name="phases")
    report = train(
        [shard],
        config=replace(recipe, held_out_every=0, validate_every=2),
        vocabulary=64,
        row_tokens=96,
        steps=None,
        out=tmp_path / "a",
    )
    assert [line["phase"] for line in lines(tmp_path / "a")] == ["phase1"] * 4 + ["phase2"] * 2
    page = write_page(tmp_path / "a", sample="<b>it wrote this</b>").read_text()
    assert report.steps == 6 and ">phase2</text>" in page
    assert "&lt;b&gt;it wrote" in page and "http" not in page.replace("http://www.w3.org", "")


def test_a_step_moves_every_router_bias_against_its_load(run: Run, recipe: TrainConfig) -> None:
    report = run("a", steps=1)
    tensors = load_file(report.checkpoint / "model.safetensors")
    biases = [value for name, value in tensors.items() if name.endswith("expert_bias_E")]
    assert len(biases) == 2  # the stack's mixture and the multi-token block's
    for bias_E in biases:
        assert bias_E.max() == pytest.approx(recipe.model.bias_rate)
        assert bias_E.min() == pytest.approx(-recipe.model.bias_rate)


def test_only_the_newest_checkpoints_stay(run: Run, tmp_path: Path) -> None:
    run("a", steps=13)
    names = [path.name for path in sorted((tmp_path / "a" / "checkpoints").iterdir())]
    assert names == ["step-00000012", "step-00000013"]


def test_a_finished_run_resumes_to_the_same_report(run: Run) -> None:
    assert run("a") == run("a", resume=True)


def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_serves(
    run: Run, tmp_path: Path
) -> None:
    report = run("a")
    path = report.checkpoint / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        run("a", resume=True)
    report.checkpoint.rename(tmp_path / "aside")
    assert run("a", resume=True).steps == 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "holds a run already"),
        ({"resume": True, "seed": 6}, "another seed"),
        ({"resume": True, "config": preset("tiny")}, "another config"),
        ({"resume": True, "out": Path("/nonexistent")}, "no run to resume"),
        ({"steps": 0}, "train nothing"),
        ({"config": preset("ultra"), "vocabulary": 131_072}, "GiB"),
    ],
    ids=["again", "seed", "config", "nothing", "steps", "memory"],
)
def test_what_cannot_run_is_refused(run: Run, changes: dict[str, Any], message: str) -> None:
    run("a", steps=1)
    with pytest.raises(WorkspaceError, match=message):
        run("a", **({"steps": 2} | changes))


def test_divergence_stops_the_run_before_a_checkpoint(
    run: Run, recipe: TrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(WorkspaceError, match="diverged"):
        run("a", config=replace(recipe, peak_lr=1e30, clip_norm=1e30, warmup_fraction=0.0))
    assert not checkpoint_path(tmp_path / "a", 10).exists()


def test_a_missing_shard_is_named(recipe: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read this shard") as caught:
        train(
            [tmp_path / "none.parquet"],
            config=recipe,
            vocabulary=64,
            row_tokens=96,
            steps=1,
            out=tmp_path / "a",
        )
    assert caught.value.where == str(tmp_path / "none.parquet")


def test_an_unknown_preset_lists_the_known() -> None:
    with pytest.raises(
        WorkspaceError,
        match="tiny, nano-like, n3-2b, nano, super, ultra, ultra-long, ultra-sft1, ultra-sft2",
    ):
        preset("huge")


def test_narrow_moments_are_rounded_once_a_step_and_resume_bitwise(
    small: ModelConfig, recipe: TrainConfig, run: Run
) -> None:
    narrow = replace(recipe, moments="bfloat16")
    whole = run("whole", config=narrow)
    saved = load_file(whole.checkpoint / "optimizer.safetensors")
    assert {t.dtype for n, t in saved.items() if n.startswith("exp_avg")} == {torch.bfloat16}
    run("parts", config=narrow, on_step=_interrupt_at(6))
    assert tensors(run("parts", config=narrow, resume=True)) == tensors(whole)
    wide = run("wide")
    assert whole.last_loss != wide.last_loss
    assert whole.last_loss == pytest.approx(wide.last_loss, rel=0.02)


def test_masters_keep_what_bfloat16_would_lose(small: ModelConfig, recipe: TrainConfig) -> None:
    model = HybridModel(replace(small, dtype="bfloat16"))
    model.initialise_all(0)
    optimizer = MasterAdamW(model, replace(recipe, weight_decay=0.0))
    weight = model.layers[0].mixer.in_proj.weight
    before, master = weight.detach().clone(), optimizer.masters["layers.0.mixer.in_proj.weight"]
    start = master.detach().clone()
    assert optimizer.masters["head_VD"] is model.head_VD
    for _ in range(50):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step(1e-5)
    torch.testing.assert_close(start - master, torch.full_like(start, 50e-5), rtol=0.02, atol=0)
    assert weight.dtype == torch.bfloat16 and torch.equal(weight, master.bfloat16())
    assert not torch.equal(weight, before)

"""Weights go to Hugging Face's layout and back, and its own model makes the same logits of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
pytest.importorskip("safetensors", reason="the train extra is not installed")

from datagen.errors import DataError  # noqa: E402
from datagen.train.config import ModelConfig  # noqa: E402
from datagen.train.documents import documents_of  # noqa: E402
from datagen.train.hf import export_folder, from_hf, hf_config, import_folder, to_hf  # noqa: E402
from datagen.train.hf import model_config as read_config  # noqa: E402
from datagen.train.model import HybridModel  # noqa: E402


@pytest.fixture
def shape(small: ModelConfig) -> ModelConfig:
    return replace(small, pattern="MEM*E", dt_floor=1e-2)


def built(config: ModelConfig) -> HybridModel:
    model = HybridModel(config)
    model.initialise_all(3)
    for name, buffer in model.named_buffers():
        assert name.endswith("expert_bias_E")
        buffer.normal_(std=0.1)
    return model


def test_a_folder_comes_back_bitwise(shape: ModelConfig, tmp_path: Path) -> None:
    model = built(shape)
    export_folder(shape, model.state_dict(), tmp_path)
    config, tensors = import_folder(tmp_path)
    # The recipe's own settings are no part of a published configuration.
    assert replace(config, bias_rate=shape.bias_rate) == shape
    again = HybridModel(config)
    again.load_state_dict(tensors)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_published_names(shape: ModelConfig) -> None:
    names = to_hf(built(shape).state_dict())
    for name in (
        "backbone.layers.0.mixer.conv1d.weight",
        "backbone.layers.1.mixer.experts.7.up_proj.weight",
        "backbone.layers.1.mixer.gate.e_score_correction_bias",
        "backbone.layers.1.mixer.fc1_latent_proj.weight",
        "backbone.layers.3.mixer.q_proj.weight",
        "backbone.norm_f.weight",
        "mtp.layers.0.eh_proj.weight",
        "mtp.layers.1.mixer.experts.0.down_proj.weight",
    ):
        assert name in names
    up = names["backbone.layers.1.mixer.experts.7.up_proj.weight"]
    assert up.shape == (shape.expert_width, shape.latent_width)
    assert names["backbone.layers.0.mixer.conv1d.weight"].shape[1] == 1


def test_names_and_stacked_experts_of_the_module_are_read_too(shape: ModelConfig) -> None:
    config = replace(shape, mtp_heads=0)
    state = built(config).state_dict()
    theirs = {}
    for name, tensor in to_hf(state).items():
        if ".experts." not in name:
            theirs[name.replace("backbone.", "model.")] = tensor
    for layer in (1, 4):
        for ours, leaf in (("up_EIF", "up_proj"), ("down_EFI", "down_proj")):
            stacked = state[f"layers.{layer}.mixer.{ours}"].transpose(1, 2)
            theirs[f"model.layers.{layer}.mixer.experts.{leaf}"] = stacked
    back = from_hf(config, theirs)
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tie_word_embeddings": True}, "tied embeddings"),
        ({"mlp_bias": True}, "biases"),
        ({"n_group": 4}, "routing in groups"),
        ({"hybrid_override_pattern": "M-"}, "neither Mamba-2"),
    ],
)
def test_what_this_model_lacks_is_refused(
    shape: ModelConfig, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_config(hf_config(shape) | change, with_mtp=True)


def test_a_missing_tensor_or_folder_is_named(shape: ModelConfig, tmp_path: Path) -> None:
    tensors = to_hf(built(shape).state_dict())
    del tensors["backbone.layers.1.mixer.experts.3.up_proj.weight"]
    with pytest.raises(ValueError, match=r"layers.1.mixer.experts.up_proj lacks"):
        from_hf(shape, tensors)
    del tensors["lm_head.weight"]
    with pytest.raises(ValueError, match="lacks"):
        from_hf(shape, tensors)
    with pytest.raises(DataError, match="not a NemotronH checkpoint"):
        import_folder(tmp_path)


@pytest.mark.parametrize("latent", [8, None])
def test_logits_equal_transformers(
    shape: ModelConfig, tmp_path: Path, latent: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip(
        "transformers", reason="pip install 'transformers>=5.17' compares with its NemotronH"
    )
    config = replace(shape, latent_width=latent, mtp_heads=0)
    ours = built(config)
    export_folder(config, ours.state_dict(), tmp_path)
    theirs = transformers.NemotronHForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    ids_BT = torch.randint(0, config.vocabulary, (2, 29))
    hidden_BTD, _, _ = ours.backbone(ids_BT, documents_of(torch.zeros_like(ids_BT)))
    logits_BTV = hidden_BTD @ ours.head_VD.T
    with torch.no_grad():
        expected_BTV = theirs(ids_BT, use_cache=False).logits
    assert expected_BTV.std() > 0.1
    torch.testing.assert_close(logits_BTV, expected_BTV, rtol=1e-4, atol=1e-4)


def test_a_floor_under_the_time_step(
    small: ModelConfig, float64_model: Callable[[ModelConfig], HybridModel]
) -> None:
    ids_BT = torch.randint(0, small.vocabulary, (1, 12))
    documents = documents_of(torch.zeros_like(ids_BT))
    config = replace(small, pattern="M", mtp_heads=0)
    outputs = [
        float64_model(replace(config, dt_floor=floor)).backbone(ids_BT, documents)[0]
        for floor in (0.0, 1e-9, 0.5)
    ]
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2])

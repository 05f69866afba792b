"""Weights to and from the layout of Hugging Face's NemotronH checkpoints.

A folder holds `config.json` and `model*.safetensors` under the names of the published checkpoints:
experts apart, each matrix as (out, in). Importing also takes the names of transformers' own module
and experts stacked in one tensor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from datagen.errors import DataError
from datagen.shards.parquet import write_bytes
from datagen.train.config import ModelConfig

_LETTERS = {"M": "linear_attention", "E": "moe", "*": "full_attention"}
_OLDER = {"mamba": "linear_attention", "attention": "full_attention"}

# The names that differ, ours first; the rest of a layer's names are the same.
_LAYER = {
    "mixer.conv_weight": "mixer.conv1d.weight",
    "mixer.conv_bias": "mixer.conv1d.bias",
    "mixer.a_log": "mixer.A_log",
    "mixer.skip": "mixer.D",
    "mixer.norm_weight": "mixer.norm.weight",
    "mixer.router": "mixer.gate.weight",
    "mixer.expert_bias_E": "mixer.gate.e_score_correction_bias",
    "mixer.latent_down.weight": "mixer.fc1_latent_proj.weight",
    "mixer.latent_up.weight": "mixer.fc2_latent_proj.weight",
    "mixer.up_EIF": "mixer.experts.up_proj",
    "mixer.down_EFI": "mixer.experts.down_proj",
    "mixer.shared_up.weight": "mixer.shared_experts.up_proj.weight",
    "mixer.shared_down.weight": "mixer.shared_experts.down_proj.weight",
}
_TOP = {
    "embedding.weight": "backbone.embeddings.weight",
    "final_norm.weight": "backbone.norm_f.weight",
    "head_VD": "lm_head.weight",
    "mtp.embedding_norm.weight": "mtp.layers.0.enorm.weight",
    "mtp.hidden_norm.weight": "mtp.layers.0.hnorm.weight",
    "mtp.join.weight": "mtp.layers.0.eh_proj.weight",
    "mtp.final_norm.weight": "mtp.layers.1.final_layernorm.weight",
}
_PREFIXES = {
    "layers.": "backbone.layers.",
    "mtp.attention.": "mtp.layers.0.",
    "mtp.experts.": "mtp.layers.1.",
}


def export_folder(config: ModelConfig, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Write a model's `state_dict` as a folder that transformers loads as NemotronH."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.safetensors"
    save_file(to_hf(tensors), path, metadata={"format": "pt"})
    settings = orjson.dumps(hf_config(config), option=orjson.OPT_INDENT_2)
    write_bytes(folder / "config.json", settings + b"\n")


def import_folder(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Read a NemotronH folder: its shape, and a `state_dict` for `HybridModel`.

    DataError where it is none, or needs what this model does not have.
    """
    try:
        settings = orjson.loads((folder / "config.json").read_bytes())
        tensors: dict[str, Tensor] = {}
        for path in sorted(folder.glob("model*.safetensors")):
            tensors |= load_file(path)
        config = model_config(settings, with_mtp=any(name.startswith("mtp.") for name in tensors))
        return config, from_hf(config, tensors)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"not a NemotronH checkpoint: {error}",
            where=str(folder),
            fix="name a folder with config.json and model*.safetensors",
        ) from error


def to_hf(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a `state_dict` and turn its matrices to the published layout."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        target = _hf_name(name)
        if name.endswith((".up_EIF", ".down_EFI")):
            stem = target.removesuffix("up_proj").removesuffix("down_proj")
            for expert, matrix in enumerate(tensor.transpose(1, 2)):
                leaf = target.removeprefix(stem)
                renamed[f"{stem}{expert}.{leaf}.weight"] = matrix.contiguous()
        elif name.endswith(".conv_weight"):
            renamed[target] = tensor.unsqueeze(1).contiguous()
        else:
            renamed[target] = tensor.contiguous()
    return renamed


def from_hf(config: ModelConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo `to_hf` for a model of this shape; tensors take the dtypes of the model.

    ValueError names a tensor that is missing, left over, or of another shape.
    """
    from datagen.train.model import HybridModel

    with torch.device("meta"):
        wanted = HybridModel(config).state_dict()
    found = _stacked(tensors)
    taken: dict[str, Tensor] = {}
    for name, like in wanted.items():
        target = _hf_name(name)
        if target not in found:
            raise ValueError(f"it lacks {target}")
        tensor = found.pop(target)
        if name.endswith((".up_EIF", ".down_EFI")):
            tensor = tensor.transpose(1, 2)
        elif name.endswith(".conv_weight"):
            tensor = tensor.squeeze(1)
        if tensor.shape != like.shape:
            raise ValueError(f"{target} is {tuple(tensor.shape)}, not {tuple(like.shape)}")
        taken[name] = tensor.to(like.dtype).contiguous()
    if found:
        raise ValueError(f"it holds {len(found)} tensors too many, such as {min(found)}")
    return taken


def _hf_name(name: str) -> str:
    if name in _TOP:
        return _TOP[name]
    for prefix, theirs in _PREFIXES.items():
        if name.startswith(prefix):
            number, leaf = re.fullmatch(r"(\d+\.)?(.*)", name.removeprefix(prefix)).groups()  # type: ignore[union-attr]
            return f"{theirs}{number or ''}{_LAYER.get(leaf, leaf)}"
    raise ValueError(f"no name for {name}")


def _stacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take either of the layouts' names, and put each layer's experts into one tensor."""
    stacked: dict[str, Tensor] = {}
    experts: dict[str, dict[int, Tensor]] = {}
    for name, tensor in tensors.items():
        name = re.sub(r"^model\.", "backbone.", name)
        apart = re.fullmatch(r"(.*\.experts\.)(\d+)\.(up_proj|down_proj)\.weight", name)
        if apart is None:
            stacked[name] = tensor
        else:
            experts.setdefault(apart[1] + apart[3], {})[int(apart[2])] = tensor
    for name, by_number in experts.items():
        if sorted(by_number) != list(range(len(by_number))):
            raise ValueError(f"{name} lacks some of its experts")
        stacked[name] = torch.stack([by_number[number] for number in range(len(by_number))])
    return stacked


def hf_config(config: ModelConfig) -> dict[str, Any]:
    """Return the `config.json` of a model."""
    return {
        "architectures": ["NemotronHForCausalLM"],
        "model_type": "nemotron_h",
        "dtype": config.dtype,
        "vocab_size": config.vocabulary,
        "hidden_size": config.d_model,
        "layers_block_type": [_LETTERS[letter] for letter in config.pattern],
        "num_attention_heads": config.query_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.attention_head_dim,
        "mamba_num_heads": config.mamba_heads,
        "mamba_head_dim": config.mamba_head_dim,
        "n_groups": config.mamba_groups,
        "ssm_state_size": config.mamba_state,
        "conv_kernel": config.conv_width,
        "chunk_size": config.ssd_chunk,
        "time_step_min": config.dt_floor,
        "n_routed_experts": config.experts,
        "n_shared_experts": 1,
        "num_experts_per_tok": config.top_k,
        "moe_intermediate_size": config.expert_width,
        "moe_shared_expert_intermediate_size": config.shared_width,
        "moe_latent_size": config.latent_width,
        "routed_scaling_factor": config.routed_scaling,
        "num_nextn_predict_layers": config.mtp_heads,
        "mtp_layers_block_type": ["full_attention", "moe"],
        "layer_norm_epsilon": config.norm_eps,
        "initializer_range": config.init_std,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }


def model_config(settings: Mapping[str, Any], *, with_mtp: bool) -> ModelConfig:
    """Read a `config.json`; ValueError where it asks for what this model does not have."""
    letters = {name: letter for letter, name in _LETTERS.items()}
    pattern = settings.get("hybrid_override_pattern") or "".join(
        letters.get(_OLDER.get(name, name), name) for name in settings["layers_block_type"]
    )
    unlike = {
        "a layer that is neither Mamba-2, attention nor experts": set(pattern) - set("ME*"),
        "tied embeddings": settings.get("tie_word_embeddings"),
        "biases in matrices": any(
            settings.get(name)
            for name in ("use_bias", "mlp_bias", "attention_bias", "mamba_proj_bias")
        ),
        "a convolution without bias": not settings.get("use_conv_bias", True),
        "routing in groups": settings.get("n_group", 1) != 1,
        "gates that are not normalised": not settings.get("norm_topk_prob", True),
        "several shared experts": settings.get("n_shared_experts", 1) != 1,
    }
    for problem, is_so in unlike.items():
        if is_so:
            raise ValueError(f"it has {problem}")
    return ModelConfig(
        pattern=pattern,
        d_model=settings["hidden_size"],
        vocabulary=settings["vocab_size"],
        query_heads=settings["num_attention_heads"],
        kv_heads=settings["num_key_value_heads"],
        attention_head_dim=settings["head_dim"],
        mamba_heads=settings["mamba_num_heads"],
        mamba_head_dim=settings["mamba_head_dim"],
        mamba_groups=settings["n_groups"],
        mamba_state=settings["ssm_state_size"],
        conv_width=settings["conv_kernel"],
        ssd_chunk=settings["chunk_size"],
        dt_floor=settings.get("time_step_min", 0.001),
        experts=settings["n_routed_experts"],
        top_k=settings["num_experts_per_tok"],
        expert_width=settings["moe_intermediate_size"],
        shared_width=settings["moe_shared_expert_intermediate_size"],
        latent_width=settings.get("moe_latent_size"),
        routed_scaling=settings["routed_scaling_factor"],
        mtp_heads=settings.get("num_nextn_predict_layers", 0) if with_mtp else 0,
        norm_eps=settings["layer_norm_epsilon"],
        init_std=settings.get("initializer_range", 0.014),
        dtype=settings.get("dtype") or settings.get("torch_dtype") or "bfloat16",
    )

"""Llama-3.1-8B's config.json, as meta-llama/Llama-3.1-8B-Instruct's gives it."""

from __future__ import annotations

from collections.abc import Mapping

from ...rules import EOS_IDS, MODEL_SHAPE, ModelShape

# config.json's names of a shape's fields.
KEYS = {
    "vocabulary": "vocab_size",
    "hidden": "hidden_size",
    "intermediate": "intermediate_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_size": "head_dim",
}


def config_of(shape: ModelShape) -> dict[str, int]:
    """The part of config.json that is the shape."""
    return {key: int(getattr(shape, field)) for field, key in KEYS.items()}


def shape_of(config: Mapping[str, object], default: ModelShape | None = None) -> ModelShape:
    """The shape out of a Llama's config.json; what it does not say is `default`'s, ValueError without one."""
    said = {field: number for field, key in KEYS.items() if isinstance(number := config.get(key), int)}
    numbers = {**(vars(default) if default else {}), **said}
    if "head_size" not in said and {"hidden", "heads"} <= numbers.keys():
        numbers["head_size"] = numbers["hidden"] // numbers["heads"]
    if missing := sorted(KEYS[field] for field in KEYS.keys() - numbers.keys()):
        raise ValueError(f"config.json: expected whole numbers for {', '.join(missing)}")
    return ModelShape(**numbers)


CONFIG: Mapping[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    **config_of(MODEL_SHAPE),
    "hidden_act": "silu",
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": 128000,
    "eos_token_id": list(EOS_IDS),
}
_SCALING = CONFIG["rope_scaling"]
assert isinstance(_SCALING, dict)
ROPE: Mapping[str, object] = {**_SCALING, "rope_theta": CONFIG["rope_theta"]}
# What tells this shape from that of other Llamas.
TELLING = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
)
# What else decides what is computed, and must be there where the libraries' own value is another.
COMPUTING = ("head_dim", "hidden_act", "attention_bias", "mlp_bias", "tie_word_embeddings", "rms_norm_eps")
NEEDED = ("rms_norm_eps",)
# Further keys that change nothing of it. vLLM reads more (layer_types and sliding_window, logit_scale, ...),
# which the official file does not have.
UNREAD = frozenset(
    {
        "_name_or_path",
        "attention_dropout",
        "dtype",
        "initializer_range",
        "pad_token_id",
        "pretraining_tp",
        "quantization_config",
        "rope_parameters",
        "transformers_version",
        "use_cache",
    }
)
# Of an FP8 checkpoint, as `make quantize` writes it.
FP8_STATIC = {"quant_method": "fp8", "activation_scheme": "static", "ignored_layers": ["lm_head"]}

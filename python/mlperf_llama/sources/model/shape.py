"""Llama-3.1-8B's config.json, as meta-llama/Llama-3.1-8B-Instruct's gives it."""

from __future__ import annotations

from collections.abc import Mapping

from ...rules import EOS_IDS, MODEL_SHAPE

CONFIG: Mapping[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": MODEL_SHAPE.vocabulary,
    "hidden_size": MODEL_SHAPE.hidden,
    "intermediate_size": MODEL_SHAPE.intermediate,
    "num_hidden_layers": MODEL_SHAPE.layers,
    "num_attention_heads": MODEL_SHAPE.heads,
    "num_key_value_heads": MODEL_SHAPE.kv_heads,
    "head_dim": MODEL_SHAPE.head_size,
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
# Of an FP8 checkpoint, as `make quantize` writes it.
FP8_STATIC = {"quant_method": "fp8", "activation_scheme": "static", "ignored_layers": ["lm_head"]}

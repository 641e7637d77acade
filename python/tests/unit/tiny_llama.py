"""A tiny Llama with random weights, whose heads times their size are unlike its hidden size: no width stands
for another."""

from __future__ import annotations

import json
from pathlib import Path

HIDDEN, WIDE, HEADS, KV_HEADS, HEAD, LAYERS, VOCABULARY = 96, 160, 4, 2, 32, 3, 512
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "hidden_size": HIDDEN, "intermediate_size": WIDE, "num_hidden_layers": LAYERS, "head_dim": HEAD,
    "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096, "rope_theta": 10000.0, "tie_word_embeddings": False,
    "torch_dtype": "float32", "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def write(path: Path) -> Path:
    """config.json and model.safetensors, the same every time."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    shapes = {"model.embed_tokens": (VOCABULARY, HIDDEN), "lm_head": (VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        name = f"model.layers.{layer}"
        shapes |= {
            f"{name}.self_attn.q_proj": (HEADS * HEAD, HIDDEN),
            f"{name}.self_attn.k_proj": (KV_HEADS * HEAD, HIDDEN),
            f"{name}.self_attn.v_proj": (KV_HEADS * HEAD, HIDDEN),
            f"{name}.self_attn.o_proj": (HIDDEN, HEADS * HEAD),
            f"{name}.mlp.gate_proj": (WIDE, HIDDEN),
            f"{name}.mlp.up_proj": (WIDE, HIDDEN),
            f"{name}.mlp.down_proj": (HIDDEN, WIDE),
        }
    norms = ["model.norm"]
    norms += [f"model.layers.{i}.{n}_layernorm" for i in range(LAYERS) for n in ("input", "post_attention")]
    tensors = {f"{name}.weight": torch.randn(shape) / shape[1] ** 0.5 for name, shape in shapes.items()}
    tensors |= {f"{name}.weight": torch.rand(HIDDEN) + 0.5 for name in norms}
    (path / "config.json").write_text(json.dumps(CONFIG))
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    return path

"""Llama for vLLM: attention of attention.py, and nothing computed that no logit needs.

Behind the last layer's attention a token matters only if its logits are wanted, which of a
prompt is the last one alone. So the compiled part of the model ends there, and the rest of that
layer (7% of all weights, for 7 of 8 tokens of this benchmark) runs in `compute_logits`, which
vLLM calls with just those rows. The results are the same numbers.

The GEMMs behind attention and activation add the residual themselves where gemm.py computes them:
the norms then read one tensor and write one, for two and two.
"""

from __future__ import annotations

from typing import Any

import torch

from . import attention, fused
from .compat import encode_layer_name, llama
from .kernels import on_hopper, supported
from .mlp import operands, static_fp8


def fast_attention(layer: Any) -> bool:
    """Whether decode.cu and rope_cache.cu serve a layer of vLLM's LlamaAttention."""
    core, rotary = layer.attn, layer.rotary_emb
    return (
        core.kv_cache_dtype in ("fp8", "fp8_e4m3")
        and core.attn_backend.get_name() == "FLASH_ATTN"
        and core.sliding_window is None
        and layer.qkv_proj.params_dtype == torch.bfloat16
        and rotary.is_neox_style
        and rotary.rotary_dim == layer.head_dim
        # The page's size is not known yet; vLLM's is 16, and kernels.py asks about the rest.
        and supported(layer.num_heads, layer.num_kv_heads, layer.head_dim, 16)
        and on_hopper()
    )


class Attention(llama.LlamaAttention):  # type: ignore[misc]
    """vLLM's, with rotary embedding, cache and attention in one operation where GPU and cache allow it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_fast = fast_attention(self)
        self.is_fused = self.is_fast and self._fits()
        if self.is_fused:
            self.qkv_proj.mlperf_row_order = fused.head_row_order
        if self.is_fast:
            self.attn.mlperf = attention.Attention(
                self.num_heads, self.num_kv_heads, self.rotary_emb.cos_sin_cache
            )

    def forward(self, positions: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        output, _ = self.o_proj(self.before_output(positions, hidden_states))
        return output

    def _fits(self) -> bool:
        """Whether qkv.cu serves it."""
        rows = self.q_size + 2 * self.kv_size
        return static_fp8(self.qkv_proj) and fused.supported(rows, self.qkv_proj.input_size)

    def before_output(self, positions: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        """All but the output projection."""
        if not self.is_fast:
            qkv, _ = self.qkv_proj(hidden_states)
            q, k, v = qkv.split([self.q_size, self.kv_size, self.kv_size], dim=-1)
            q, k = self.rotary_emb(positions, q, k)
            return self.attn(q, k, v)
        out = hidden_states.new_empty((hidden_states.shape[0], self.q_size))
        name = encode_layer_name(self.attn.layer_name)
        if self.is_fused:
            inputs = operands(self.qkv_proj, hidden_states)
            torch.ops.vllm.mlperf_qkv_attention(*inputs, positions, out, name)
        else:
            qkv, _ = self.qkv_proj(hidden_states)
            torch.ops.vllm.mlperf_rope_attention(qkv, positions, out, name)
        return out


class DecoderLayer(llama.LlamaDecoderLayer):  # type: ignore[misc]
    def __init__(self, vllm_config: Any, prefix: str = "", config: Any = None) -> None:
        super().__init__(vllm_config, prefix, config, attn_layer_type=Attention)
        self.adds_residual = static_fp8(self.self_attn.o_proj) and static_fp8(self.mlp.down_proj)

    def forward(
        self, positions: torch.Tensor, hidden_states: torch.Tensor, residual: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """vLLM's; with `adds_residual` the first result is the residual with all that was added to it."""
        if not self.adds_residual:
            states: tuple[torch.Tensor, torch.Tensor] = super().forward(positions, hidden_states, residual)
            return states
        attended = self.self_attn.before_output(positions, self.input_layernorm(hidden_states))
        output = self.self_attn.o_proj
        # A `bias` with as many rows as the result; see extension.py.
        hidden_states = output.quant_method.apply(output, attended, hidden_states)
        return self.mlp(self.post_attention_layernorm(hidden_states), hidden_states), None


class Model(llama.LlamaModel):  # type: ignore[misc]
    """Gives [tokens, this GPU's q heads * head size + hidden]: the last layer's attention before its
    projection, which tensor parallelism splits, and the residual, which it does not."""

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: Any,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        hidden = self.embed_input_ids(input_ids) if inputs_embeds is None else inputs_embeds
        residual = None
        last = len(self.layers) - 1
        for layer in self.layers[:last]:
            hidden, residual = layer(positions, hidden, residual)
        if residual is None:
            hidden, residual = self.layers[last].input_layernorm(hidden), hidden
        else:
            hidden, residual = self.layers[last].input_layernorm(hidden, residual)
        attended = self.layers[last].self_attn.before_output(positions, hidden)
        return torch.cat((attended, residual), dim=-1)

    def last_layer(self, states: torch.Tensor) -> torch.Tensor:
        """What `forward` gave for some tokens to those tokens' final hidden states."""
        layer = self.layers[len(self.layers) - 1]
        width = layer.self_attn.q_size
        attended, residual = (
            part.contiguous() for part in states.split([width, states.shape[-1] - width], dim=-1)
        )
        hidden, _ = layer.self_attn.o_proj(attended)
        hidden, residual = layer.post_attention_layernorm(hidden, residual)
        hidden, _ = self.norm(layer.mlp(hidden), residual)
        return hidden


class LlamaForCausalLM(llama.LlamaForCausalLM):  # type: ignore[misc]
    def _init_model(self, vllm_config: Any, prefix: str = "", layer_type: Any = None) -> Any:
        return Model(vllm_config=vllm_config, prefix=prefix, layer_type=DecoderLayer)

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        return super().compute_logits(self.model.last_layer(hidden_states))

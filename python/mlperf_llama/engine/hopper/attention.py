"""Attention of a step: decode tokens through decode.cu, prompts through FlashAttention.

vLLM gives one FlashAttention call all rows of a step. Here the rows that bring one token and
those that bring a prompt (vLLM puts the former first) take separate kernels. A prompt that
begins in this step needs no cache: it attends to the keys it has just made, unquantised. One
that continues (a chunk) reads the FP8 cache, as in vLLM.

q, k and v come rotated from the kernel that writes the cache, or from the GEMM that does so, too (qkv.cu).
"""

from __future__ import annotations

from typing import Any

import torch

from . import fused
from .compat import (
    AttentionCGSupport,
    LayerNameType,
    custom_ops,
    direct_register_custom_op,
    flash_attn,
    get_attention_context,
    resolve_layer_name,
)
from .kernels import HEAD_SIZE, Kernels

OP, FUSED_OP = "mlperf_rope_attention", "mlperf_qkv_attention"


class Builder(flash_attn.FlashAttentionMetadataBuilder):  # type: ignore[misc]
    """vLLM's metadata of a step, and where its prompts begin."""

    # Whole-step graphs for steps without prompts only: decode.cu's launch depends on the mixture.
    _cudagraph_support = AttentionCGSupport.UNIFORM_SINGLE_TOKEN_DECODE

    def build(self, common_prefix_len: int, common_attn_metadata: Any, fast_build: bool = False) -> Any:
        layers = self.vllm_config.compilation_config.static_forward_context
        if not all(hasattr(layers[name], "mlperf") for name in self.layer_names):
            return super().build(common_prefix_len, common_attn_metadata, fast_build)
        # A fast build makes no plan for FlashAttention's decoding, which is not used.
        metadata = super().build(common_prefix_len, common_attn_metadata, True)
        rows = common_attn_metadata.num_reqs
        if common_attn_metadata.max_query_len <= 1:
            metadata.mlperf_decodes = rows
            return metadata
        starts = common_attn_metadata.query_start_loc_cpu[: rows + 1]
        tokens = starts[1:] - starts[:-1]
        decodes = int((tokens == 1).cumprod(0).sum())
        metadata.mlperf_decodes = decodes
        metadata.mlperf_prefill_starts = common_attn_metadata.query_start_loc[decodes : rows + 1] - decodes
        ends = common_attn_metadata.seq_lens_cpu_upper_bound
        metadata.mlperf_prefill_uncached = ends is not None and bool(
            (ends[decodes:rows] <= tokens[decodes:]).all()
        )
        return metadata


def _scales(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return layer._k_scale, layer._v_scale


class Attention:
    """What one layer needs beside vLLM's own attention layer; made before the cache exists."""

    def __init__(self, q_heads: int, kv_heads: int, cos_sin: torch.Tensor) -> None:
        self.q_size, self.kv_size = q_heads * HEAD_SIZE, kv_heads * HEAD_SIZE
        self._q_heads, self._kv_heads = q_heads, kv_heads
        self._cos_sin = cos_sin
        self._kernels: Kernels | None = None

    def _prepared(self, cache: torch.Tensor, like: torch.Tensor) -> Kernels:
        if self._kernels is None:
            self._kernels = Kernels(cache, self._q_heads, self._kv_heads)
            self._cos_sin = self._cos_sin.to(like.device, like.dtype)
        return self._kernels

    def run(
        self,
        qkv: torch.Tensor,
        positions: torch.Tensor,
        out: torch.Tensor,
        metadata: Any,
        layer: Any,
        cache: Any,
    ) -> None:
        """Fill `out` [tokens, q heads * 128] from `qkv`, whose q and k are rotated in place."""
        kernels, tokens, scales = self._prepared(cache, qkv), metadata.num_actual_tokens, _scales(layer)
        kernels.rope_cache(qkv, positions, self._cos_sin, cache, metadata.slot_mapping, *scales, tokens)
        self._attend(kernels, qkv, out, metadata, layer, cache)

    def run_fused(
        self,
        operands: fused.GemmOperands,
        qkv: torch.Tensor,
        positions: torch.Tensor,
        out: torch.Tensor,
        context: Any,
    ) -> None:
        """The same from the operands of the GEMM of q, k and v, by one kernel; `qkv` is their buffer."""
        metadata, layer, cache = context
        kernels, tokens = self._prepared(cache, qkv), metadata.num_actual_tokens
        tokens_at = (positions, self._cos_sin, metadata.slot_mapping)
        fused.qkv(*operands, *tokens_at, *_scales(layer), qkv, cache, tokens)
        self._attend(kernels, qkv, out, metadata, layer, cache)

    def _attend(
        self, kernels: Kernels, qkv: torch.Tensor, out: torch.Tensor, metadata: Any, layer: Any, cache: Any
    ) -> None:
        rows, tokens = metadata.mlperf_decodes, metadata.num_actual_tokens
        if rows:
            inputs = (qkv, cache, metadata.block_table, metadata.seq_lens, *_scales(layer))
            kernels.decode(*inputs, layer.impl.scale, out, rows)
        if rows < tokens:
            self._prefill(qkv[rows:tokens], out[rows:tokens], metadata, layer, cache)

    def _prefill(self, qkv: torch.Tensor, out: torch.Tensor, metadata: Any, layer: Any, cache: Any) -> None:
        q, k, v = (
            part.unflatten(1, (-1, HEAD_SIZE))
            for part in qkv.split([self.q_size, self.kv_size, self.kv_size], dim=1)
        )
        common = {
            "out": out.unflatten(1, (-1, HEAD_SIZE)),
            "cu_seqlens_q": metadata.mlperf_prefill_starts,
            "max_seqlen_q": metadata.max_query_len,
            "softmax_scale": layer.impl.scale,
            "causal": True,
            "fa_version": 3,
        }
        if metadata.mlperf_prefill_uncached:
            flash_attn.flash_attn_varlen_func(
                q,
                k,
                v,
                cu_seqlens_k=metadata.mlperf_prefill_starts,
                max_seqlen_k=metadata.max_query_len,
                **common,
            )
            return
        first = metadata.mlperf_decodes
        keys, values = cache.view(torch.float8_e4m3fn).transpose(1, 2).split(HEAD_SIZE, dim=-1)
        scales = (metadata.mlperf_prefill_starts.shape[0] - 1, self._kv_heads)
        quantised, _ = custom_ops.scaled_fp8_quant(q.flatten(1), layer._q_scale)
        flash_attn.flash_attn_varlen_func(
            quantised.unflatten(1, (-1, HEAD_SIZE)),
            keys,
            values,
            seqused_k=metadata.seq_lens[first : first + scales[0]],
            max_seqlen_k=metadata.max_seq_len,
            block_table=metadata.block_table[first : first + scales[0]],
            q_descale=layer._q_scale.expand(scales),
            k_descale=layer._k_scale.expand(scales),
            v_descale=layer._v_scale.expand(scales),
            **common,
        )


def _run(qkv: torch.Tensor, positions: torch.Tensor, out: torch.Tensor, layer_name: LayerNameType) -> None:
    metadata, layer, cache, _ = get_attention_context(resolve_layer_name(layer_name))
    if metadata is None:
        # vLLM's memory profile: there is no cache yet.
        out.zero_()
        return
    layer.mlperf.run(qkv, positions, out, metadata, layer, cache)


def _fake(*_: Any) -> None:
    """What either operation gives without a GPU: nothing, `out` is there."""


def _run_fused(
    x: torch.Tensor,
    w: torch.Tensor,
    x_scale: torch.Tensor,
    w_scale: torch.Tensor,
    positions: torch.Tensor,
    out: torch.Tensor,
    layer_name: LayerNameType,
) -> None:
    metadata, layer, cache, _ = get_attention_context(resolve_layer_name(layer_name))
    # Made in vLLM's memory profile, too, which must see it.
    qkv = torch.empty((x.shape[0], w.shape[0]), dtype=out.dtype, device=x.device)
    if metadata is None:
        out.zero_()
        return
    layer.mlperf.run_fused((x, w, x_scale, w_scale), qkv, positions, out, (metadata, layer, cache))


def install() -> None:
    """Register the operations and the builder; once a process."""
    direct_register_custom_op(op_name=OP, op_func=_run, mutates_args=["qkv", "out"], fake_impl=_fake)
    direct_register_custom_op(op_name=FUSED_OP, op_func=_run_fused, mutates_args=["out"], fake_impl=_fake)
    flash_attn.FlashAttentionBackend.get_builder_cls = staticmethod(lambda: Builder)

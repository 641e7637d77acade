"""Llama on Hopper with an FP8 KV cache, faster than vLLM's own path; vLLM loads it as a worker extension.

Six changes, none of which alters what is computed beyond rounding:

- `decode.cu`, `rope_cache.cu`, `kernels.py`: decode attention that reads the FP8 cache near memory bandwidth,
  and one kernel that rotates q and k and writes the cache.
- `attention.py`: a step's new tokens and its prompts take separate kernels; whole prompts attend
  to their own unquantised keys.
- `product.cu`, `fused.py`, where scales are static: gate and up, activation and quantisation in one kernel
  (`gate_up.cu`, `mlp.py`); q, k, v, rotation and cache in another (`qkv.cu`).
- `products.py`: FP8 products accumulate the way vLLM's CUTLASS kernels do; those behind attention and
  activation add to the residual themselves; large ones take an algorithm of cuBLASLt's (`cublaslt.py`)
  that is faster than its first choice.
- `model.py`: behind the last attention only the rows whose logits are wanted are computed.
- `extension.py`: puts these into vLLM, in the worker's process, before the model is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EXTENSION = "mlperf_llama.engine.hopper.extension.Extension"
# Their counterparts for weights that are made up.
RANDOM, RANDOM_EXTENSION = (
    "mlperf_llama.engine.random_weights.Extension",
    "mlperf_llama.engine.hopper.random_extension.Extension",
)
# Raised when what the extension does to vLLM changes, so that no compiled model of before is taken.
REVISION = 4
# vLLM runs these outside its compiled pieces, beside its own attention operations.
_OPERATIONS = (
    "vllm::unified_kv_cache_update",
    "vllm::unified_mla_kv_cache_update",
    "vllm::mlperf_rope_attention",
    "vllm::mlperf_qkv_attention",
)


def with_extension(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """vLLM's arguments, completed where they ask for the extension or for made-up weights."""
    random = arguments.get("load_format") == "dummy"
    if arguments.get("worker_extension_cls") not in (EXTENSION, RANDOM_EXTENSION):
        return {**arguments, "worker_extension_cls": RANDOM} if random else dict(arguments)
    return {
        **arguments,
        "worker_extension_cls": RANDOM_EXTENSION if random else EXTENSION,
        "additional_config": {**arguments.get("additional_config", {}), "mlperf_llama_hopper": REVISION},
    }


def with_splitting_ops(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The same with the extension's operations beside those that only vLLM, once imported, can name."""
    if arguments.get("worker_extension_cls") not in (EXTENSION, RANDOM_EXTENSION):
        return dict(arguments)
    from vllm.config import CompilationConfig

    compilation = dict(arguments.get("compilation_config") or {})
    compilation.setdefault("splitting_ops", [*CompilationConfig._attention_ops, *_OPERATIONS])
    return {**arguments, "compilation_config": compilation}

"""Llama on Hopper with an FP8 KV cache, faster than vLLM's own path; vLLM loads it as a worker extension.

Six changes, none of which alters what is computed beyond rounding:

- `decode.cu`, `rope_cache.cu`, `kernels.py`: decode attention that reads the FP8 cache near memory bandwidth,
  and one kernel for rotary embedding and cache.
- `attention.py`: decode tokens and prompts of a step take separate kernels; whole prompts attend
  to their own unquantised keys.
- `gemm.cu`, `fused.py`, where scales are static: gate and up, activation and quantisation in one kernel
  (`gate_up.cu`, `mlp.py`); q, k, v, rotary embedding and cache in another (`qkv.cu`).
- `gemm.py`: FP8 GEMMs accumulate the way vLLM's CUTLASS kernels do; those behind attention and activation
  add the residual themselves; large ones take an algorithm of cuBLASLt's (`cublaslt.py`) that is faster
  than its first choice.
- `model.py`: behind the last attention only the rows whose logits are wanted are computed.
- `extension.py`: puts these into vLLM, in the worker's process, before the model is built.

`cuda.py` compiles the kernels for the card at hand, once a machine (`cubins.py`).

`self_check.py` compares a loaded model with vLLM's own classes (`own_path.py`, `steps.py`) before it
serves; `bounds.py` judges.

Each name of vLLM's that this touches stands in `compat.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...records import scales

EXTENSION = "mlperf_llama.engine.hopper.extension.Extension"
# Their counterparts for weights that are made up.
RANDOM, RANDOM_EXTENSION = (
    "mlperf_llama.engine.random_weights.Extension",
    "mlperf_llama.engine.hopper.random_extension.Extension",
)
# Raised when what the extension does to vLLM changes, so that no compiled model of before is taken.
REVISION = 5
# vLLM runs these outside its compiled pieces, beside its own attention operations.
_OPERATIONS = (
    "vllm::unified_kv_cache_update",
    "vllm::unified_mla_kv_cache_update",
    "vllm::mlperf_rope_attention",
    "vllm::mlperf_qkv_attention",
)
# Each must be 1: every GPU has all layers and whole sequences.
_WHOLE = ("pipeline_parallel_size", "decode_context_parallel_size", "prefill_context_parallel_size")
# These replace linear layers, read hidden states, or split a step.
_OTHER_PATHS = ("enable_lora", "speculative_config", "enable_dbo")
# Other methods make other linear layers than mlp.py and model.py know.
_QUANTIZATION = (None, "fp8", scales.QUANTIZATION, "int8", "compressed-tensors")


def not_served(arguments: Mapping[str, Any], checkpoint_quantization: str | None = None) -> str | None:
    """Why vLLM's own path must serve what the extension was asked to; None: the extension does.
    `checkpoint_quantization`: the method in the checkpoint's config.json. What single layers allow is asked
    when they are made (model.py, mlp.py)."""
    for name in _WHOLE:
        if (arguments.get(name) or 1) != 1:
            return f"{name}={arguments[name]}"
    for name in _OTHER_PATHS:
        if arguments.get(name):
            return name
    for quantization in (arguments.get("quantization"), checkpoint_quantization):
        if quantization not in _QUANTIZATION:
            return f"quantization={quantization}"
    return None


def without_extension(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """vLLM's arguments for its own path; made-up weights stay."""
    random = arguments.get("worker_extension_cls") == RANDOM_EXTENSION
    return {**arguments, "worker_extension_cls": RANDOM if random else ""}


def is_asked_for(arguments: Mapping[str, Any]) -> bool:
    """Whether vLLM's arguments ask for the extension."""
    return arguments.get("worker_extension_cls") in (EXTENSION, RANDOM_EXTENSION)


def with_extension(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """vLLM's arguments, completed where they ask for the extension or for made-up weights."""
    random = arguments.get("load_format") == "dummy"
    if not is_asked_for(arguments):
        return {**arguments, "worker_extension_cls": RANDOM} if random else dict(arguments)
    return {
        **arguments,
        "worker_extension_cls": RANDOM_EXTENSION if random else EXTENSION,
        "additional_config": {**arguments.get("additional_config", {}), "mlperf_llama_hopper": REVISION},
    }


def with_splitting_ops(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The same with the extension's operations beside those that only vLLM, once imported, can name."""
    if not is_asked_for(arguments):
        return dict(arguments)
    from .compat import CompilationConfig

    compilation = dict(arguments.get("compilation_config") or {})
    compilation.setdefault("splitting_ops", [*CompilationConfig._attention_ops, *_OPERATIONS])
    return {**arguments, "compilation_config": compilation}

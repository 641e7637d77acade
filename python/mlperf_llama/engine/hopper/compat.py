"""Every name inside vLLM that this package uses, and the versions of vLLM it was checked against.

vLLM promises none of them. Which of its versions lacks one: benchmarks/vllm_names.py, and the table in
docs/how-it-works.md. A version without a gap can still behave otherwise: only those count as checked that the
tests or a GPU have run with. `from .compat import NAME` imports what stands behind NAME on first use, so
that each process loads its own part alone; python/tests/unit/test_compat.py asks the installed vLLM for all.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from typing import Any

from ...errors import MissingError

CHECKED = ("0.26.0", "0.27.1")
# How to do without the extension, for messages.
OWN_PATH = """run vLLM's own path with MLPERF_ENGINE_ARGS='{"worker_extension_cls": ""}'"""

_LINEAR = "vllm.model_executor.kernels.linear"
_QUANTIZATION = "vllm.model_executor.layers.quantization"
# The name here: its module, and there its name; no name: the module itself.
NAMES: dict[str, tuple[str, str]] = {
    # vllm.py
    "AsyncEngineArgs": ("vllm.engine.arg_utils", "AsyncEngineArgs"),
    "AsyncLLM": ("vllm.v1.engine.async_llm", "AsyncLLM"),
    "RequestOutputKind": ("vllm.sampling_params", "RequestOutputKind"),
    "current_platform": ("vllm.platforms", "current_platform"),
    "tokens_input": ("vllm.inputs.engine", "tokens_input"),
    # openai_server.py
    "FlexibleArgumentParser": ("vllm.utils.argparse_utils", "FlexibleArgumentParser"),
    "make_arg_parser": ("vllm.entrypoints.openai.cli_args", "make_arg_parser"),
    "run_server": ("vllm.entrypoints.openai.api_server", "run_server"),
    # scheduler.py
    "AsyncScheduler": ("vllm.v1.core.sched.async_scheduler", "AsyncScheduler"),
    "EngineCore": ("vllm.v1.engine.core", "EngineCore"),
    "Scheduler": ("vllm.v1.core.sched.scheduler", "Scheduler"),
    # random_weights.py
    "dummy_loader": ("vllm.model_executor.model_loader.dummy_loader", ""),
    # int8.py, own_quantization.py
    "LinearBase": ("vllm.model_executor.layers.linear", "LinearBase"),
    "LinearMethodBase": ("vllm.model_executor.layers.linear", "LinearMethodBase"),
    "ModelWeightParameter": ("vllm.model_executor.parameter", "ModelWeightParameter"),
    "QuantizationConfig": (f"{_QUANTIZATION}.base_config", "QuantizationConfig"),
    "init_int8_linear_kernel": (_LINEAR, "init_int8_linear_kernel"),
    "initialize_online_processing": (
        "vllm.model_executor.model_loader.reload.layerwise",
        "initialize_online_processing",
    ),
    "register_quantization_config": (_QUANTIZATION, "register_quantization_config"),
    "replace_parameter": ("vllm.model_executor.utils", "replace_parameter"),
    # static_fp8.py
    "Attention": ("vllm.model_executor.layers.attention", "Attention"),
    "BaseKVCacheMethod": (f"{_QUANTIZATION}.kv_cache", "BaseKVCacheMethod"),
    "Fp8PerTensorOnlineLinearMethod": (f"{_QUANTIZATION}.online.fp8", "Fp8PerTensorOnlineLinearMethod"),
    "get_tp_group": ("vllm.distributed", "get_tp_group"),
    # hopper/
    "AttentionCGSupport": ("vllm.v1.attention.backend", "AttentionCGSupport"),
    "CommonAttentionMetadata": ("vllm.v1.attention.backend", "CommonAttentionMetadata"),
    "CompilationConfig": ("vllm.config", "CompilationConfig"),
    "LayerNameType": ("vllm.utils.torch_utils", "LayerNameType"),
    "ModelRegistry": ("vllm.model_executor.models", "ModelRegistry"),
    "PerTensorTorchFP8ScaledMMLinearKernel": (
        f"{_LINEAR}.scaled_mm.pytorch",
        "PerTensorTorchFP8ScaledMMLinearKernel",
    ),
    "PlatformEnum": ("vllm.platforms", "PlatformEnum"),
    "custom_ops": ("vllm._custom_ops", ""),
    "direct_register_custom_op": ("vllm.utils.torch_utils", "direct_register_custom_op"),
    "encode_layer_name": ("vllm.utils.torch_utils", "_encode_layer_name"),
    "flash_attn": ("vllm.v1.attention.backends.flash_attn", ""),
    "get_attention_context": ("vllm.model_executor.layers.attention.attention", "get_attention_context"),
    "linear": (_LINEAR, ""),
    "llama": ("vllm.model_executor.models.llama", ""),
    "resolve_layer_name": ("vllm.utils.torch_utils", "_resolve_layer_name"),
    "set_forward_context": ("vllm.forward_context", "set_forward_context"),
}
# What is read, replaced or overridden in these.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "AsyncLLM": ("from_engine_args", "generate", "shutdown", "collective_rpc"),
    "Scheduler": ("schedule", "_preempt_request"),
    "AsyncScheduler": ("schedule", "_preempt_request"),
    "BaseKVCacheMethod": ("process_weights_after_loading",),
    "Fp8PerTensorOnlineLinearMethod": ("create_weights", "process_weights_after_loading", "apply"),
    "dummy_loader": ("initialize_dummy_weights", "initialize_single_dummy_weight"),
    "CommonAttentionMetadata": (
        "block_table_tensor", "max_query_len", "max_seq_len", "num_actual_tokens", "num_reqs", "positions",
        "query_start_loc", "query_start_loc_cpu", "seq_lens", "seq_lens_cpu_upper_bound", "slot_mapping",
    ),
    "CompilationConfig": ("_attention_ops", "static_forward_context"),
    "PerTensorTorchFP8ScaledMMLinearKernel": ("apply_scaled_mm", "process_weights_after_loading"),
    "flash_attn": ("FlashAttentionBackend", "FlashAttentionMetadataBuilder"),
    "linear": ("_POSSIBLE_FP8_KERNELS",),
    "llama": ("LlamaAttention", "LlamaDecoderLayer", "LlamaForCausalLM", "LlamaMLP", "LlamaModel"),
}  # fmt: skip
# Arguments that are given by name.
PARAMETERS: dict[str, tuple[str, ...]] = {
    "direct_register_custom_op": ("op_name", "op_func", "mutates_args", "fake_impl"),
    "set_forward_context": ("num_tokens", "slot_mapping", "skip_compiled"),
}
# Classes whose objects vLLM hands us, and what is read of them: either model runner, and what hangs on it.
OBJECTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("vllm.model_executor.layers.attention.attention", "Attention"): (
        "attn_backend", "impl", "kv_cache", "kv_cache_dtype", "layer_name", "sliding_window",
    ),
    ("vllm.model_executor.models.llama", "LlamaAttention"): (
        "attn", "head_dim", "kv_size", "num_heads", "num_kv_heads", "o_proj", "q_size", "qkv_proj",
        "rotary_emb",
    ),
    ("vllm.v1.attention.backends.flash_attn", "FlashAttentionMetadata"): (
        "block_table", "max_query_len", "max_seq_len", "num_actual_tokens", "seq_lens", "slot_mapping",
    ),
    ("vllm.v1.worker.gpu.model_runner", "GPUModelRunner"): ("attn_groups", "get_model"),
    ("vllm.v1.worker.gpu_model_runner", "GPUModelRunner"): ("attn_groups", "get_model"),
    ("vllm.v1.worker.utils", "AttentionGroup"): ("get_metadata_builder", "layer_names"),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in NAMES:
        raise AttributeError(name)
    module, attribute = NAMES[name]
    if name == "run_server":
        _leave_out_routes()
    try:
        imported = importlib.import_module(module)
        return getattr(imported, attribute) if attribute else imported
    except (ImportError, AttributeError) as error:
        raise MissingError(
            f"vLLM {installed()}: expected {module}{'.' if attribute else ''}{attribute}, as in "
            f"{' and '.join(CHECKED)}: {error}; `make doctor` tells how to mend it"
        ) from error


def _leave_out_routes() -> None:
    """vLLM's server imports the routes of Amazon SageMaker and of LoRA adapters, which need a package that
    the lock files leave out; the server then has neither."""
    if importlib.util.find_spec("model_hosting_container_standards"):
        return
    for name in ("sagemaker", "lora"):
        module = types.ModuleType(f"vllm.entrypoints.serve.{name}.api_router")
        vars(module).update(attach_router=_no_routes, sagemaker_standards_bootstrap=_unchanged)
        sys.modules[module.__name__] = module


def _no_routes(*_: object) -> None:
    """In the place of what adds routes to the server."""


def _unchanged(application: Any) -> Any:
    return application


def installed() -> str:
    """vLLM's version without its build's suffix."""
    import vllm

    return str(vllm.__version__).split("+")[0]


def check_version(changes: str, otherwise: str = OWN_PATH) -> None:
    """MissingError where this vLLM is another than those that what `changes` it was checked against.
    `otherwise`: what runs with any version."""
    if installed() not in CHECKED:
        raise MissingError(
            f"{changes} changes vLLM from within and was checked against {' and '.join(CHECKED)}, found "
            f"{installed()}: install one of them, or {otherwise}"
        )

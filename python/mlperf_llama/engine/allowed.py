"""Which of vLLM's engine arguments a submission may set: those that change speed alone.

Every argument of vLLM's AsyncEngineArgs is in one of three lists: SPEED_ALONE in any value, IN_VALUES in
the values that the rules allow, REFUSED in none. An argument that is in no list is refused by its name, so
that a new version of vLLM brings nothing in unseen.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import hopper


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Batch sizes, memory, parallelism, graphs, logging: how fast the same tokens are computed.
SPEED_ALONE = _words(
    """
    aggregate_engine_logging async_scheduling block_size collect_detailed_traces
    cpu_distributed_timeout_seconds cpu_offload_gb cpu_offload_params cudagraph_capture_sizes
    cudagraph_metrics data_parallel_address data_parallel_external_lb data_parallel_hybrid_lb
    data_parallel_multi_port_external_lb data_parallel_rank data_parallel_rpc_port data_parallel_size
    data_parallel_size_local data_parallel_start_rank dbo_decode_token_threshold
    dbo_prefill_token_threshold dcp_comm_backend dcp_kv_cache_interleave_size
    cp_kv_cache_interleave_size decode_context_parallel_size device_ids disable_cascade_attn
    disable_custom_all_reduce disable_hybrid_kv_cache_manager disable_log_stats
    disable_nccl_for_dp_synchronization distributed_timeout_seconds enable_chunked_prefill
    enable_cumem_allocator enable_dbo enable_fault_tolerance enable_flashinfer_autotune
    enable_layerwise_nvtx_tracing enable_log_requests enable_logging_iteration_details
    enable_mfu_metrics enable_sleep_mode enforce_eager fail_on_environ_validation fault_tolerance_config
    gpu_memory_utilization jit_monitor_mode jit_monitor_verbose kv_cache_memory_bytes kv_cache_metrics
    kv_cache_metrics_sample linear_backend long_prefill_token_threshold master_addr master_port
    max_cudagraph_capture_size max_num_batched_tokens max_num_scheduled_tokens max_num_seqs
    max_parallel_loading_workers nnodes node_rank num_gpu_blocks_override numa_bind numa_bind_cpus
    numa_bind_nodes offload_backend offload_group_size offload_num_in_group offload_params
    offload_prefetch_step optimization_level otlp_traces_endpoint performance_mode
    pipeline_parallel_size prefill_context_parallel_size prefill_schedule_interval
    ray_workers_use_nsight safetensors_load_strategy safetensors_prefetch_block_size
    safetensors_prefetch_num_threads scheduler_reserve_full_isl seed served_model_name
    show_hidden_metrics_for_version shutdown_timeout skip_tokenizer_init stream_interval
    tensor_parallel_size ubatch_size use_tqdm_on_load watermark
    """
)

_SCHEDULERS = tuple(
    f"mlperf_llama.engine.scheduler.{name}" for name in ("CappedScheduler", "CappedAsyncScheduler")
)
# The extensions that this package ships; their code is in the source hash.
EXTENSIONS = (hopper.EXTENSION, hopper.RANDOM, hopper.RANDOM_EXTENSION)
# What alters results, or may, in the values that the rules allow. What further checks look at, such as
# made-up weights and the length of the context, passes here.
IN_VALUES: Mapping[str, tuple[object, ...]] = {
    "attention_backend": ("FLASH_ATTN", "FLASHINFER", "TRITON_ATTN", "FLEX_ATTENTION", "CPU_ATTN"),
    "convert": ("auto", "none"),
    "data_parallel_backend": ("mp", "ray"),
    "distributed_executor_backend": ("mp", "uni", "ray"),
    "dtype": ("auto", "bfloat16", "float16", "half", "float32", "float"),
    "enable_prefix_caching": (),
    "generation_config": ("auto", "vllm"),
    "kv_cache_dtype": ("auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2"),
    "load_format": ("auto", "safetensors", "dummy"),
    "model_impl": ("auto", "vllm"),
    "quantization": ("fp8", "int8", "fp8-scales", "compressed-tensors"),
    "runner": ("auto", "generate"),
    "scheduler_cls": _SCHEDULERS,
    "scheduling_policy": ("fcfs", "priority"),
    "worker_cls": ("auto",),
    "worker_extension_cls": ("", *EXTENSIONS),
}
# Objects of which single keys pass.
KEYS: Mapping[str, frozenset[str]] = {
    "additional_config": frozenset({"mlperf_llama_hopper"}),
    "attention_config": frozenset({"backend", "flash_attn_version"}),
    "compilation_config": _words(
        """
    compile_sizes cudagraph_capture_sizes cudagraph_copy_inputs cudagraph_mode cudagraph_num_of_warmups
    cudagraph_specialize_lora custom_ops level max_cudagraph_capture_size mode pass_config splitting_ops
    use_inductor use_inductor_graph_partition
    """
    ),
}
# Other models, code or texts; reuse of keys and values across queries; what this model has no use for.
REFUSED = _words(
    """
    _api_process_count _api_process_rank all2all_backend allow_deprecated_quantization
    allowed_local_media_path allowed_media_domains calculate_kv_scales code_revision config_format
    default_mm_loras diffusion_config disable_chunked_mm_input disable_sliding_window download_dir
    ec_transfer_config enable_bf16x3_router_gemm enable_elastic_ep enable_ep_weight_filter enable_eplb
    enable_expert_parallel enable_lora enable_mamba_cache_stochastic_rounding
    enable_mixed_moe_lora_format enable_mm_embeds enable_mm_processor_stats enable_moe_shared_loras
    enable_prompt_embeds enable_return_routed_experts enable_tower_connector_lora eplb_config
    expert_placement_strategy fully_sharded_loras gdn_prefill_backend hf_config_path hf_overrides
    hf_token ignore_patterns interleave_mm_strings io_processor_plugin ir_op_priority
    kda_prefill_backend kernel_config kv_cache_dtype_skip_layers kv_events_config kv_offloading_backend
    kv_offloading_size kv_sharing_fast_prefill kv_transfer_config language_model_only
    limit_mm_per_prompt logits_processors logprobs_mode lora_dtype lora_target_modules mamba_backend
    mamba_block_size mamba_cache_dtype mamba_cache_mode mamba_cache_philox_rounds mamba_config
    mamba_ssm_cache_dtype mamba_ssu_algorithm max_cpu_loras max_logprobs max_lora_rank max_loras
    media_io_kwargs mm_encoder_attn_backend mm_encoder_attn_dtype mm_encoder_fp8_scale_path
    mm_encoder_fp8_scale_save_margin mm_encoder_fp8_scale_save_path mm_encoder_only mm_encoder_tp_mode
    mm_hasher_algorithm mm_ipc_gpu_memory_gb mm_processor_cache_gb mm_processor_cache_type
    mm_processor_kwargs mm_shm_cache_max_object_size_mb mm_tensor_ipc model_class_overrides
    model_loader_extra_config model_weights moe_backend override_attention_dtype
    override_generation_config pooler_config prefix_caching_hash_algo prefix_match_unit profiler_config
    pt_load_map_location quantization_config reasoning_config reasoning_parser reasoning_parser_plugin
    renderer_num_workers replayssm_buffer_len revision skip_mm_profiling spec_method spec_model
    spec_tokens specialize_active_lora speculative_config structured_outputs_config tokenizer
    tokenizer_mode tokenizer_revision tokens_only trust_remote_code use_fp64_gumbel use_replayssm
    video_pruning_method video_pruning_rate weight_transfer_config
    """
)
# Checked by what they must be for this run, not by a list.
OF_THE_RUN = frozenset({"model", "max_model_len"})
# These leave an argument as it is without it.
_NOTHING: tuple[object, ...] = (None, False, {}, [], ())


def faults(arguments: Mapping[str, object]) -> list[str]:
    """The arguments that change more than speed, or may; each as NAME=value with the reason."""
    return [
        f"{name}={_short(value)}: {why}" for name, value in arguments.items() if (why := _fault(name, value))
    ]


def _fault(name: str, value: object) -> str:
    if name in SPEED_ALONE or name in OF_THE_RUN or value in _NOTHING:
        return "" if name in KNOWN else "not known to change speed alone"
    if name in KEYS:
        return _unknown_keys(name, value)
    if name in IN_VALUES:
        allowed = ", ".join(str(v) or '""' for v in IN_VALUES[name]) or "only false"
        return "" if value in IN_VALUES[name] else f"allowed: {allowed}"
    return "changes more than speed" if name in REFUSED else "not known to change speed alone"


def _unknown_keys(name: str, value: object) -> str:
    if not isinstance(value, Mapping):
        return "expected an object"
    backend, known = value.get("backend"), IN_VALUES["attention_backend"]
    if name == "attention_config" and backend not in (None, *known):
        return f"backend={_short(backend)}, allowed: {', '.join(map(str, known))}"
    other = sorted(set(map(str, value)) - KEYS[name])
    return f"{', '.join(other)} not known to change speed alone" if other else ""


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


KNOWN = SPEED_ALONE | OF_THE_RUN | IN_VALUES.keys() | KEYS.keys() | REFUSED

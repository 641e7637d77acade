"""vLLM's engine arguments: every one is classified, and only those that change speed alone pass."""

from __future__ import annotations

import dataclasses
import importlib.util

import pytest

from mlperf_llama.engine import allowed, hopper
from mlperf_llama.engine.preset import load_preset, names
from mlperf_llama.machine.process import variables

OTHER_RESULTS = {
    "hf_overrides": {"num_hidden_layers": 24},
    "kv_transfer_config": {"kv_connector": "SharedStorageConnector", "kv_role": "kv_both"},
    "kv_offloading_size": 8,
    "worker_cls": "mine.Worker",
    "worker_extension_cls": "mine.Extension",
    "logits_processors": ["mine.Short"],
    "load_format": "tensorizer",
    "override_generation_config": {"repetition_penalty": 1.2},
    "tokenizer": "somebody/else",
    "enable_lora": True,
    "trust_remote_code": True,
    "speculative_config": {"method": "ngram"},
    "distributed_executor_backend": "mine.Executor",
    "compilation_config": {"backend": "mine.compile"},
    "additional_config": {"cache": "on"},
    "attention_backend": "CUSTOM",
    "attention_config": {"backend": "CUSTOM"},
    "quantization": "mine",
    "model_impl": "transformers",
    "scheduler_cls": "mine.Scheduler",
    "a_name_of_tomorrow": 1,
    "a_switch_of_tomorrow": False,
}
SPEED = {
    "max_num_seqs": 512,
    "gpu_memory_utilization": 0.95,
    "async_scheduling": False,
    "hf_overrides": None,
    "logits_processors": [],
    "enable_lora": False,
    "quantization": "fp8-scales",
    "kv_cache_dtype": "fp8",
    "worker_extension_cls": hopper.EXTENSION,
    "additional_config": {"mlperf_llama_hopper": hopper.REVISION},
    "compilation_config": {"cudagraph_capture_sizes": [1, 2]},
    "attention_config": {"backend": "FLASH_ATTN", "flash_attn_version": 3},
}


@pytest.mark.parametrize("name", OTHER_RESULTS)
def test_what_changes_more_than_speed_is_named(name: str) -> None:
    (fault,) = allowed.faults({"max_num_seqs": 8, name: OTHER_RESULTS[name]})
    assert fault.startswith(f"{name}=")


@pytest.mark.parametrize("name", SPEED)
def test_what_changes_speed_alone_passes(name: str) -> None:
    assert allowed.faults({name: SPEED[name]}) == []


@pytest.mark.parametrize("name", names())
def test_every_shipped_preset_passes(name: str) -> None:
    assert allowed.faults(hopper.with_extension(load_preset(name).engine)) == []


def test_no_argument_is_in_two_lists() -> None:
    lists = (allowed.SPEED_ALONE, allowed.OF_THE_RUN, allowed.IN_VALUES, allowed.KEYS, allowed.REFUSED)
    assert len(allowed.KNOWN) == sum(map(len, lists))


needs_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
# Whose arguments the lists hold; another has some more, or fewer.
LISTED = "0.27.1"
# Variables of vLLM's that change no result: where it builds, which rank it is, what it fetches with.
OF_NO_RESULT = allowed._words(
    """
    CMAKE_BUILD_TYPE LOCAL_RANK MAX_JOBS MOONCAKE_PREFERRED_SEGMENT MOONCAKE_REQUESTER_LOCAL_HOSTNAME NO_COLOR
    S3_ACCESS_KEY_ID S3_ENDPOINT_URL S3_SECRET_ACCESS_KEY VERBOSE
    """
)


@pytest.mark.slow
@needs_vllm
def test_the_lists_are_the_arguments_of_the_installed_vllm() -> None:
    """Each is allowed, set by us or refused; and none of ours is a name that vLLM has not, which would be a
    spelling of ours."""
    import vllm
    from vllm.engine.arg_utils import AsyncEngineArgs

    arguments = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
    assert arguments - allowed.KNOWN == set()
    assert vllm.__version__.split("+")[0] != LISTED or allowed.KNOWN - arguments == set()


@pytest.mark.slow
@needs_vllm
def test_every_variable_of_the_installed_vllm_is_recorded() -> None:
    from vllm import envs

    given = dict.fromkeys(envs.environment_variables, "1")
    assert given.keys() - variables.relevant(given).keys() == OF_NO_RESULT

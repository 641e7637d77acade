"""The self-check in vLLM on this CPU: silent on a sound tiny model, loud where metadata or a layer is wrong.

The kernels are a GPU's (benchmarks/gpu/self_check.sh); the model's own classes, the steps, the cache and the
way to vLLM's classes and back are the same here.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import tiny_llama

from mlperf_llama import config
from mlperf_llama.engine import hopper, tuned
from mlperf_llama.engine.hopper import bounds
from mlperf_llama.engine.preset import CPU, load_preset
from mlperf_llama.engine.settings import ModelFacts, engine_settings
from mlperf_llama.engine.vllm import VllmEngine

pytest.importorskip("vllm")
pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]


def engine_of(folder: Path) -> VllmEngine:
    settings = config.load({"DTYPE": "float32"}, config.environment())
    facts = ModelFacts(str(folder), 512)
    wanted = engine_settings(settings, load_preset(CPU), tuned.NONE, facts, on_gpu=False, cpu_threads=1)
    arguments = {**wanted.arguments, "worker_extension_cls": "self_check_faults.Extension"}
    return VllmEngine(arguments, settings.cache_path, wanted.environment)


def test_a_sound_model_passes_and_each_fault_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import self_check_faults

    # vLLM's CPU build otherwise wants a NUMA node.
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    monkeypatch.setattr(hopper, "is_asked_for", lambda arguments: True)
    engine = engine_of(tiny_llama.write(tmp_path))

    async def body() -> None:
        try:
            info = await engine.start(lambda text: None)
            found = info.self_check
            assert found is not None and found.passed and found.largest < 1e-3, found
            assert (found.prompts, found.steps, found.extension) == (8, 7, "self_check_faults.Extension")
            assert found.compared > found.steps
            for name in self_check_faults.FAULTS:
                (figures,) = await engine._llm.collective_rpc("faulty_self_check", args=(name,))
                assert not bounds.record("it", figures).passed, (name, figures)
            (figures,) = await engine._llm.collective_rpc("mlperf_self_check")
            assert figures["largest"] < 1e-3, "all is as before"
        finally:
            await engine.close()

    asyncio.run(body())

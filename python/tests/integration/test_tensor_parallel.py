"""vLLM on this machine's CPU: a tiny model's halves with the extension answer like the whole without it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import engine_contract
import pytest
import tiny_llama

from mlperf_llama import config
from mlperf_llama.engine import Limits, Request, hopper, tuned
from mlperf_llama.engine.preset import CPU, load_preset
from mlperf_llama.engine.settings import ModelFacts, engine_settings
from mlperf_llama.engine.vllm import VllmEngine

pytest.importorskip("vllm")
pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama.write(tmp_path_factory.mktemp("tiny"))


def answers(folder: Path, **given: str) -> dict[int, list[int]]:
    settings = config.load({"DTYPE": "float32", **given}, config.environment())
    facts = ModelFacts(str(folder), 512)
    wanted = engine_settings(settings, load_preset(CPU), tuned.NONE, facts, on_gpu=False, cpu_threads=1)
    engine = VllmEngine(wanted.arguments, settings.cache_path, wanted.environment)
    requests = [
        Request(i, [(7 * i + 3 * j) % tiny_llama.VOCABULARY for j in range(5 + 40 * i)]) for i in range(4)
    ]

    async def body() -> dict[int, list[int]]:
        await engine.start(lambda text: None)
        try:
            found = await engine_contract.answer(engine, requests, Limits(12, 12, ()), streaming=False)
        finally:
            await engine.close()
        return found.answers

    return asyncio.run(body())


def test_halves_answer_like_the_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # vLLM's CPU build otherwise wants a NUMA node for each half.
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    extended = {"ENGINE_ARGS": json.dumps({"worker_extension_cls": hopper.EXTENSION})}
    halves = answers(folder, TENSOR_PARALLEL="2", **extended)
    assert len({tuple(answer) for answer in halves.values()}) == 4, "the prompts must matter"
    assert halves == answers(folder)

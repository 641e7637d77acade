"""Real vLLM on this machine's CPU with the stand-in model, loaded once for all checks."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path

import engine_contract
import pytest

from mlperf_llama import config
from mlperf_llama.engine import EngineInfo, Limits, Request, hopper, tuned
from mlperf_llama.engine.pacing import Pacing
from mlperf_llama.engine.preset import CPU, load_preset
from mlperf_llama.engine.settings import ModelFacts, engine_settings
from mlperf_llama.engine.vllm import VllmEngine
from mlperf_llama.errors import BrokeError, MissingError
from mlperf_llama.sources import model

pytest.importorskip("vllm")
pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]


def engine_of(settings: config.Config, folder: Path) -> VllmEngine:
    facts = ModelFacts(str(folder), 2668)
    threads = len(os.sched_getaffinity(0))
    wanted = engine_settings(settings, load_preset(CPU), tuned.NONE, facts, on_gpu=False, cpu_threads=threads)
    return VllmEngine(wanted.arguments, settings.cache_path, wanted.environment)


class Loaded:
    """One engine and the loop it lives on."""

    def __init__(self, folder: Path, settings: config.Config) -> None:
        self.runner = asyncio.Runner()
        self.limits = Limits(24, 1, model.stop_ids(folder))
        self.engine = engine_of(settings, folder)
        self.info: EngineInfo = self.runner.run(self.engine.start(lambda text: None))

    def close(self) -> None:
        self.runner.run(self.engine.close())
        self.runner.close()


def loaded_with(**given: str) -> Loaded:
    settings = config.load(given, config.environment())
    try:
        folder = Path(model.serve("stand-in", settings, os.environ).path)
    except MissingError as error:
        pytest.skip(f"the stand-in cannot be had here: {error}")
    return Loaded(folder, settings)


@pytest.fixture(scope="module")
def loaded() -> Iterator[Loaded]:
    # float32: in bfloat16 two tokens can tie, and the batch then decides between them.
    one = loaded_with(DTYPE="float32")
    yield one
    one.close()


def test_it_uses_what_was_asked(loaded: Loaded) -> None:
    found = loaded.info.settings
    assert (found["dtype"], found["max_model_len"], found["max_num_seqs"]) == ("float32", 2668, 32)
    assert found["enable_prefix_caching"] is False
    assert found["speculative_decoding"] is False


@pytest.mark.parametrize("streaming", [False, True])
def test_every_request_is_answered_once(loaded: Loaded, streaming: bool) -> None:
    check = engine_contract.answers_once_within_the_limits(loaded.engine, loaded.limits, streaming)
    loaded.runner.run(check)


def test_answers_hold_in_any_batch_and_within_limits(loaded: Loaded) -> None:
    loaded.runner.run(engine_contract.answers_alike_in_any_batch(loaded.engine, loaded.limits))
    loaded.runner.run(engine_contract.keeps_each_request_s_limits(loaded.engine, loaded.limits))


def test_a_prefill_cap_changes_steps_and_no_answer(loaded: Loaded) -> None:
    """Limits change between runs without a reload; counters tell the steps."""

    async def body() -> tuple[list[list[list[int]]], list[float]]:
        async def steps() -> float:
            await loaded.engine.refresh_counters()
            return loaded.engine.counters()["steps"]

        found, taken = [], []
        for number, cap, whole in ((0, None, False), (50, 32, False), (100, 32, True)):
            await loaded.engine.set_limits(2 if cap else None, cap)
            await loaded.engine.set_pacing(Pacing(whole_prompts=whole))
            before = await steps()
            answers = (
                await engine_contract.answer(
                    loaded.engine, engine_contract.requests(6, number), loaded.limits, streaming=False
                )
            ).answers
            found.append([answers[number + i] for i in range(6)])
            taken.append(await steps() - before)
        await loaded.engine.set_limits(None, None)
        await loaded.engine.set_pacing(Pacing())
        return found, taken

    (free, capped, whole), (free_steps, capped_steps, whole_steps) = loaded.runner.run(body())
    assert free == capped == whole
    # Two sequences; prompts that are not split take a step each.
    assert capped_steps > whole_steps > free_steps and capped_steps > 2 * free_steps
    assert loaded.engine.counters()["preemptions"] == 0


def test_the_hopper_extension_gives_the_same_answers(loaded: Loaded) -> None:
    """Its shorter last layer. Its kernels: tests/unit/test_hopper_kernels.py."""
    draw = random.Random(0)
    # Prompts of one chunk and of several.
    prompts = [[draw.randrange(1000, 40000) for _ in range(n)] for n in (5, 60, 200, 300)]
    requests = [Request(200 + i, prompt) for i, prompt in enumerate(prompts)]
    limits = Limits(12, 12, ())

    async def answers(one: Loaded) -> dict[int, list[int]]:
        await one.engine.set_limits(None, 128)
        found = await engine_contract.answer(one.engine, requests, limits, streaming=False)
        await one.engine.set_limits(None, None)
        return found.answers

    extended = loaded_with(DTYPE="float32", ENGINE_ARGS=f'{{"worker_extension_cls": "{hopper.EXTENSION}"}}')
    try:
        assert extended.runner.run(answers(extended)) == loaded.runner.run(answers(loaded))
    finally:
        extended.close()


def test_int8_answers_nearly_alike(loaded: Loaded) -> None:
    """Its kernels differ on a GPU; scales and loading are the same."""
    requests = engine_contract.requests(24, 300)
    limits = Limits(1, 1, ())

    async def firsts(one: Loaded) -> list[int]:
        found = await engine_contract.answer(one.engine, requests, limits, streaming=False)
        return [found.answers[request.id][0] for request in requests]

    smaller = loaded_with(QUANTIZATION="int8")
    try:
        assert smaller.info.settings["quantization"] == "int8"
        pairs = zip(smaller.runner.run(firsts(smaller)), loaded.runner.run(firsts(loaded)), strict=True)
        assert sum(a == b for a, b in pairs) >= 16
    finally:
        smaller.close()


def test_a_model_that_is_not_there_is_named() -> None:
    settings = config.load({}, {})
    engine = engine_of(settings, Path("/nowhere/model"))
    with pytest.raises(BrokeError, match="could not load /nowhere/model"):
        asyncio.run(engine.start(lambda text: None))

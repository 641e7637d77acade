"""The worker extension on this machine's CPU: its shorter last layer gives vLLM's own answers.

Its kernels need a Hopper GPU: benchmarks/gpu/measure_kernels.py checks them there.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from mlperf_llama import config, model
from mlperf_llama.engine import Limits, Request, Tokens, hopper, options
from mlperf_llama.engine.vllm import VllmEngine
from mlperf_llama.errors import MissingError

pytest.importorskip("vllm")
pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
LIMITS = Limits(12, 12, ())


class Sink:
    def __init__(self, count: int) -> None:
        self.answers: dict[int, list[int]] = {}
        self._count = count
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def first_token(self, request_id: int, token: int) -> None: ...

    def completed(self, request_id: int, tokens: Tokens) -> None:
        self.answers[request_id] = list(tokens)
        if len(self.answers) == self._count:
            self.done.set_result(None)

    def failed(self, error: Exception) -> None:
        self.done.set_exception(error)


def answers(folder: Path, settings: config.Config) -> dict[int, list[int]]:
    """Twelve tokens to prompts of one chunk and of several."""
    draw = random.Random(0)
    prompts = [[draw.randrange(1000, 40000) for _ in range(n)] for n in (5, 60, 200, 300)]

    async def body() -> dict[int, list[int]]:
        preset = options.load_preset(options.CPU)
        arguments = options.vllm_arguments(settings, preset, str(folder), 2668, use_async=False)
        engine = VllmEngine(arguments, settings.cache_path, options.environment(preset, on_cpu=True))
        await engine.start(lambda text: None)
        try:
            sink = Sink(len(prompts))
            engine.submit([Request(i, p) for i, p in enumerate(prompts)], LIMITS, False, sink)
            await sink.done
        finally:
            await engine.close()
        return sink.answers

    return asyncio.run(body())


def test_the_same_answers_with_and_without() -> None:
    # float32: in bfloat16 two tokens can tie.
    given = {"DTYPE": "float32", "MAX_NUM_BATCHED_TOKENS": "256"}
    settings = config.load(given, config.environment())
    try:
        folder = Path(model.serve("stand-in", settings, os.environ).path)
    except MissingError as error:
        pytest.skip(f"the stand-in cannot be had here: {error}")
    extended = config.load(
        {**given, "ENGINE_ARGS": f'{{"worker_extension_cls": "{hopper.EXTENSION}"}}'}, config.environment()
    )
    assert answers(folder, extended) == answers(folder, settings)

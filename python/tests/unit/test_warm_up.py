"""The warm-up's answers, and what is said of an engine that gives none."""

from __future__ import annotations

import asyncio

import pytest
from loadgen_support import LIMITS

from mlperf_llama.bench import warm_up
from mlperf_llama.engine.fake import FakeEngine
from mlperf_llama.errors import BrokeError

PROMPTS = warm_up.made_up_prompts([40], 3, 2000, seed=1)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("hang_at", r"^engine: expected 3 warm-up answers within 0\.1 s, 2 are missing$"),
        ("die_at", r"^the engine died during warm-up: .*died after 1 answers"),
    ],
)
def test_an_engine_that_hangs_or_dies_is_named(
    fault: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm_up, "LONGEST_S", 0.1)

    async def body() -> None:
        await warm_up.answer_all(FakeEngine({"fault": {fault: 1}}), PROMPTS, LIMITS)

    with pytest.raises(BrokeError, match=message):
        asyncio.run(body())


def test_all_answers_take_their_time() -> None:
    async def body() -> float:
        return await warm_up.answer_all(FakeEngine({"ttft_ms": 30}), PROMPTS, LIMITS)

    assert 0.03 <= asyncio.run(body()) < 1.0

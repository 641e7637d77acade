"""When prompts may enter a step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mlperf_llama.engine.pacing import Pacing


class Planner:
    """vLLM's scheduler as far as ours asks it: ten prompts of 900 tokens, one a step into each free seat."""

    def __init__(self) -> None:
        self.max_num_scheduled_tokens, self.max_num_running_reqs, self.max_model_len = 8704, 512, 2668
        self.scheduler_config = SimpleNamespace(enable_chunked_prefill=True)
        self.running: list[Any] = []

    def schedule(self) -> SimpleNamespace:
        answers = len(self.running)
        tokens = dict.fromkeys(range(answers), 1)
        if answers < min(self.max_num_running_reqs, 10):
            self.running.append(SimpleNamespace(is_prefill_chunk=False))
            tokens[answers] = 900
        return SimpleNamespace(num_scheduled_tokens=tokens, total_num_scheduled_tokens=sum(tokens.values()))


def test_without_pacing_prompts_enter_at_once() -> None:
    assert not Pacing().holds(running=100, since_prompts=0)


def test_nothing_waits_while_nothing_answers() -> None:
    assert not Pacing(gap_steps=9).holds(running=0, since_prompts=0)


@pytest.mark.parametrize(("steps", "held"), [(0, True), (1, True), (2, False), (3, False)])
def test_steps_of_answers_alone(steps: int, held: bool) -> None:
    assert Pacing(gap_steps=2).holds(running=100, since_prompts=steps) is held


@pytest.mark.parametrize(("gap_steps", "with_prompts"), [(0, [0, 1, 2, 3, 4, 5, 6]), (2, [0, 3, 6])])
def test_the_scheduler_keeps_the_gap_and_its_seats(gap_steps: int, with_prompts: list[int]) -> None:
    pytest.importorskip("vllm")
    from mlperf_llama.engine import scheduler

    capped: Any = type("Capped", (scheduler._Capped, Planner), {})()
    scheduler.set_pacing(SimpleNamespace(scheduler=capped), whole_prompts=True, gap_steps=gap_steps)
    steps = [capped.schedule() for _ in range(7)]
    assert [n for n, step in enumerate(steps) if 900 in step.num_scheduled_tokens.values()] == with_prompts
    assert capped.max_num_running_reqs == 512
    assert capped.totals["steps"] == 7

"""When prompts may enter a step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mlperf_llama.engine.pacing import Pacing


class Planner:
    """vLLM's scheduler as far as ours asks: ten prompts of 900 tokens, one per step into each free slot."""

    def __init__(self) -> None:
        self.max_num_scheduled_tokens, self.max_num_running_reqs, self.max_model_len = 8704, 512, 2668
        self.scheduler_config = SimpleNamespace(enable_chunked_prefill=True, max_num_seqs=512)
        self.running: list[Any] = []
        self.waiting: list[Any] = []

    def schedule(self) -> SimpleNamespace:
        answers = len(self.running)
        tokens = dict.fromkeys(range(answers), 1)
        if answers < min(self.max_num_running_reqs, 10):
            self.running.append(SimpleNamespace(is_prefill_chunk=False))
            tokens[answers] = 900
        return SimpleNamespace(num_scheduled_tokens=tokens, total_num_scheduled_tokens=sum(tokens.values()))


def scheduled(cap: int | None = None, **pacing: Any) -> Any:
    """Our scheduler around that one."""
    pytest.importorskip("vllm")
    from mlperf_llama.engine import scheduler

    capped: Any = type("Capped", (scheduler._Capped, Planner), {})()
    scheduler.set_limits(SimpleNamespace(scheduler=capped), None, cap)
    scheduler.set_pacing(SimpleNamespace(scheduler=capped), **pacing)
    return capped


def test_without_pacing_prompts_enter_at_once() -> None:
    assert not Pacing().holds(running=100, since_prompts=0)


def test_nothing_waits_while_nothing_answers() -> None:
    assert not Pacing(gap_steps=9).holds(running=0, since_prompts=0)


@pytest.mark.parametrize(("steps", "held"), [(0, True), (1, True), (2, False), (3, False)])
def test_steps_of_answers_alone(steps: int, held: bool) -> None:
    assert Pacing(gap_steps=2).holds(running=100, since_prompts=steps) is held


@pytest.mark.slow
@pytest.mark.parametrize(("gap_steps", "with_prompts"), [(0, [0, 1, 2, 3, 4, 5, 6]), (2, [0, 3, 6])])
def test_the_scheduler_keeps_the_gap_and_its_slots(gap_steps: int, with_prompts: list[int]) -> None:
    capped = scheduled(whole_prompts=True, gap_steps=gap_steps)
    steps = [capped.schedule() for _ in range(7)]
    assert [n for n, step in enumerate(steps) if 900 in step.num_scheduled_tokens.values()] == with_prompts
    assert capped.max_num_running_reqs == 512
    assert capped.totals["steps"] == 7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("whole", "first", "running", "budget", "split"),
    [
        (True, 900, 40, 2088, False),
        # Longer than a step's share: alone, but whole.
        (True, 2500, 40, 2540, False),
        # Longer than what any step has left: split, or it never began.
        (True, 8500, 300, 8704, True),
        (True, None, 40, 2088, False),
        (False, 2500, 40, 2088, True),
    ],
)
def test_a_prompt_longer_than_a_step_s_share_stays_whole(
    whole: bool, first: int | None, running: int, budget: int, split: bool
) -> None:
    capped = scheduled(2048, whole_prompts=whole, gap_steps=0)
    capped.running = [SimpleNamespace(is_prefill_chunk=False)] * running
    capped.waiting = [SimpleNamespace(num_tokens=first)] if first else []
    capped.schedule()
    assert (capped.max_num_scheduled_tokens, capped.scheduler_config.enable_chunked_prefill) == (
        budget,
        split,
    )

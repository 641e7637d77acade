"""When prompts may enter a step."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from mlperf_llama.engine.pacing import Pacing, Past


@dataclass(frozen=True)
class Prompt:
    num_tokens: int
    arrival_time: float


NOW = 1000.0
OLD = Past(steps=50, time=0.0)


def prompts(count: int, tokens: int = 900, age_s: float = 0.0) -> list[Prompt]:
    return [Prompt(tokens, NOW - age_s)] * count


def test_without_pacing_prompts_enter_at_once() -> None:
    assert not Pacing().holds(prompts(1), 100, 512, Past(0, NOW), NOW)


def test_nothing_waits_while_nothing_answers() -> None:
    pacing = Pacing(hold_tokens=4000, hold_ms=1e9, gap_steps=9)
    assert not pacing.holds(prompts(1), 0, 512, Past(0, NOW), NOW)


@pytest.mark.parametrize(("count", "held"), [(1, True), (4, True), (5, False), (50, False)])
def test_prompts_gather(count: int, held: bool) -> None:
    assert Pacing(hold_tokens=4000, hold_ms=100).holds(prompts(count), 100, 512, OLD, NOW) is held


@pytest.mark.parametrize(("age_s", "held"), [(0.05, True), (0.15, False)])
def test_no_prompt_waits_longer_than_asked(age_s: float, held: bool) -> None:
    assert Pacing(hold_tokens=4000, hold_ms=100).holds(prompts(1, age_s=age_s), 9, 512, OLD, NOW) is held


def test_waiting_counts_from_the_last_step_with_prompts() -> None:
    """Offline every prompt is as old as the run."""
    pacing = Pacing(hold_tokens=4000, hold_ms=100)
    assert pacing.holds(prompts(100, age_s=60.0), 510, 512, Past(3, NOW - 0.05), NOW)
    assert not pacing.holds(prompts(100, age_s=60.0), 510, 512, Past(3, NOW - 0.15), NOW)


def test_only_prompts_with_a_seat_count() -> None:
    pacing = Pacing(hold_tokens=4000, hold_ms=1e6)
    assert pacing.holds(prompts(100), 508, 512, Past(3, NOW), NOW)
    assert not pacing.holds(prompts(100), 507, 512, Past(3, NOW), NOW)
    assert not pacing.holds([], 507, 512, Past(3, NOW), NOW)


@pytest.mark.parametrize(("steps", "held"), [(0, True), (1, True), (2, False), (3, False)])
def test_steps_of_answers_alone(steps: int, held: bool) -> None:
    assert Pacing(gap_steps=2).holds(prompts(100), 100, 512, Past(steps, NOW), NOW) is held

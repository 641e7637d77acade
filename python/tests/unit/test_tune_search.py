"""The search for the highest valid load, against a machine simulated independently of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass, field, replace

import numpy as np
import pytest
from queue_machine import Machine, full_run, highest_valid, offline_speed, valid

from mlperf_llama.tune.estimate import CONFIRM, PROBE, Seen
from mlperf_llama.tune.forecast import Bound, Floats, Forecast, Goal, Requests, forecast
from mlperf_llama.tune.records import Probe, history
from mlperf_llama.tune.search import (
    MAX_PROBES,
    MOST_AGAIN,
    STOP,
    UNSTEADY,
    Step,
    next_step,
)
from mlperf_llama.tune.steadiness import steadiness

PROBE_S = 90.0
# What binds: seats run out long before the time per token, the reverse, or both at one load; or, as on
# an H100, the work itself, with a batch that takes half a probe to fill.
SHAPES = {
    "ttft": (Machine(seats=160, prefill_tokens=8192), 2000.0, 100.0),
    "tpot": (Machine(seats=2000, prefill_tokens=8192), 2000.0, 60.0),
    "both": (Machine(seats=245, prefill_tokens=2048), 2000.0, 49.5),
    "work": (Machine(704, 5632, step_s=0.0034, answer_s=40e-6, token_s=11.8e-6, noise=0.02), 2000.0, 100.0),
}
MachineOf = Callable[[int], Machine | None]


@dataclass
class Search:
    """Plays the part of the tuner: runs what the search asks for. `machine_of` gives the
    machine of the n-th run; None is a crash."""

    goal: Goal
    machine_of: MachineOf
    first_qps: float
    seed: int
    history: list[Seen] = field(default_factory=list)

    def once(self) -> Step:
        step = next_step(self.history, self.goal, self.first_qps)
        if step.kind != STOP:
            self.history.append(self._run(step))
        return step

    def finish(self) -> Step:
        for _ in range(40):
            step = self.once()
            if step.kind == STOP:
                return step
        raise AssertionError("the search does not end")

    def _run(self, step: Step) -> Seen:
        number = len(self.history)
        machine = self.machine_of(number)
        if machine is None:
            return Seen(step.kind, step.qps, None)
        if step.kind == CONFIRM:
            requests = full_run(machine, self.goal, step.qps, 7000 + 100 * self.seed + number)
            return Seen(
                CONFIRM,
                step.qps,
                forecast(requests, step.qps, self.goal, whole=True),
                valid(requests, self.goal),
            )
        due = self.goal.arrivals_s(step.qps)
        # A probe has other prompts than the full run begins with.
        requests = machine.run(
            due[: int((due <= PROBE_S).sum())], self.goal.seed + 1, 100 * self.seed + number
        )
        return Seen(PROBE, step.qps, forecast(requests, step.qps, self.goal))

    @property
    def probes(self) -> int:
        return sum(s.kind == PROBE for s in self.history)


def search_of(shape: str, seed: int, machine_of: MachineOf | None = None) -> tuple[Search, float]:
    machine, ttft_ms, tpot_ms = SHAPES[shape]
    goal = Goal(ttft_ms, tpot_ms, 1_000_003 * seed + 17, 13368, 600.0)
    first = 0.75 * offline_speed(machine, 2000, seed)
    return Search(goal, machine_of or (lambda _: machine), first, seed), first


def truth_of(shape: str, goal: Goal, first: float) -> float:
    return highest_valid(SHAPES[shape][0], goal, 0.7 * first, 1.8 * first, 4242)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 20))])
def test_ends_close_under_the_truth(shape: str, seed: int) -> None:
    search, first = search_of(shape, seed)
    end = search.finish()
    assert end.answer is not None, end.reason
    confirmed = [s for s in search.history if s.kind == CONFIRM and s.qps == end.answer]
    assert confirmed and confirmed[-1].valid
    assert search.probes <= MAX_PROBES
    truth = truth_of(shape, search.goal, first)
    assert abs(end.answer / truth - 1) <= 0.03, (end.answer, truth, search.history)


class Fleet(Machine):
    """Three machines that take turns."""

    COUNT = 3

    def run(self, arrival_s: Floats, order: int, seed: int) -> Requests:
        parts = [super(Fleet, self).run(arrival_s[n::3], order + n, seed + n) for n in range(self.COUNT)]
        whole = [np.concatenate(columns) for columns in zip(*(astuple(part) for part in parts), strict=True)]
        back = np.argsort(whole[0], kind="stable")
        return Requests(*(column[back] for column in whole))


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["ttft", "tpot"])
def test_one_of_several_machines_is_searched_and_all_confirm(shape: str) -> None:
    """As tuner.py does it: probes of one at its share, until a full-length run of all."""
    one, ttft_ms, tpot_ms = SHAPES[shape]
    fleet = Fleet(**asdict(one))
    goal = Goal(ttft_ms, tpot_ms, 17, 2000, 200.0)
    first = 0.75 * fleet.COUNT * offline_speed(one, 2000, 0)
    probes: list[Probe] = []
    while (step := next_step(history(probes, goal), goal, first)).kind != STOP:
        assert len(probes) < 20
        full = step.kind == CONFIRM
        alone = not full and all(probe.kind == PROBE for probe in probes)
        machine, times = (one, fleet.COUNT) if alone else (fleet, 1)
        load, seed = step.qps / times, 100 + len(probes)
        due = goal.arrivals_s(load)
        requests = machine.run(due if full else due[due <= PROBE_S], goal.seed + (not full), seed)
        seen = forecast(requests, load, goal, whole=full).times(times)
        result = "VALID" if valid(requests, goal) else "INVALID"
        member_qps = load if alone else None
        probes.append(Probe(step.kind, step.qps, forecast=seen, loadgen_result=result, member_qps=member_qps))
    assert step.answer is not None, step.reason
    truth = highest_valid(fleet, goal, 0.7 * first, 1.8 * first, 4242)
    assert abs(step.answer / truth - 1) <= 0.03, (step.answer, truth)
    assert sum(probe.member_qps is not None for probe in probes) >= 3
    assert probes[-1].member_qps is None


def test_one_member_s_probe_gives_way_to_a_run_of_all_that_contradicts_it() -> None:
    goal = Goal(2000.0, 100.0, 17, 2000, 200.0)

    def seen(ttft_ms: float) -> Forecast:
        ttft = Bound(ttft_ms, ttft_ms, ttft_ms)
        return Forecast(ttft, Bound(20, 20, 20), Bound(90, 90, 90), 100.0)

    slow = Probe(PROBE, 90.0, forecast=seen(3000.0), member_qps=30.0)
    valid_above = Probe(CONFIRM, 100.0, forecast=seen(1000.0), loadgen_result="VALID")
    assert [s.qps for s in history([slow], goal)] == [90.0]
    assert [s.qps for s in history([slow, valid_above], goal)] == [100.0]
    of_all = replace(slow, member_qps=None)
    assert [s.qps for s in history([of_all, valid_above], goal)] == [90.0, 100.0]


@pytest.mark.parametrize("shape", SHAPES)
def test_what_binds_is_what_the_shape_says(shape: str) -> None:
    search, first = search_of(shape, 0)
    truth = truth_of(shape, search.goal, first)
    over = full_run(SHAPES[shape][0], search.goal, 1.06 * truth, 1)
    ttft = (over.ttft_ms > search.goal.ttft_ms).mean() > 0.01
    tpot = (over.tpot_ms > search.goal.tpot_ms).mean() > 0.01
    wanted = {"ttft": (True, False), "tpot": (False, True), "both": (True, True), "work": (True, False)}
    assert (ttft, tpot) == wanted[shape]


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("after", [2, 3])
def test_a_machine_that_turns_slow(shape: str, after: int) -> None:
    fast = SHAPES[shape][0]
    slow = fast.slower(2)
    search, first = search_of(shape, 3, lambda n: fast if n < after else slow)
    end = search.finish()
    # Twice as slow a step is over a limit of its own: where none can hold, none may be claimed.
    assert end.answer is not None, end.reason
    assert valid(full_run(slow, search.goal, 0.98 * end.answer, 99), search.goal)
    truth = highest_valid(slow, search.goal, 0.1 * first, 1.2 * first, 4242)
    assert abs(end.answer / truth - 1) <= 0.03
    assert len(steadiness(search.history, search.goal).runs) < len(search.history)


def test_a_crash_is_tried_once_more() -> None:
    machine = SHAPES["ttft"][0]
    search, first = search_of("ttft", 1, lambda n: None if n == 1 else machine)
    end = search.finish()
    assert search.history[1].crashed and search.history[2].qps == search.history[1].qps
    assert end.answer is not None
    assert abs(end.answer / truth_of("ttft", search.goal, first) - 1) <= 0.03


def test_a_load_that_always_crashes_bounds_the_answer() -> None:
    machine = SHAPES["ttft"][0]
    search, _ = search_of("ttft", 1)
    search.machine_of = lambda n: machine if _wanted(search) < 30 else None
    end = search.finish()
    assert end.answer is not None and 24 < end.answer < 30


def _wanted(search: Search) -> float:
    return next_step(search.history, search.goal, search.first_qps).qps


def test_crashes_in_a_row_end_it() -> None:
    search, _ = search_of("ttft", 1, lambda _: None)
    end = search.finish()
    assert end.answer is None and "crashed" in end.reason
    assert len(search.history) == 4


@pytest.mark.slow
@pytest.mark.parametrize("stopped_after", range(1, 6))
def test_goes_on_where_it_stopped(stopped_after: int) -> None:
    whole, _ = search_of("both", 2)
    wanted = whole.finish()
    first_part, _ = search_of("both", 2)
    for _ in range(stopped_after):
        first_part.once()
    rest, _ = search_of("both", 2)
    rest.history = list(first_part.history)
    assert rest.finish() == wanted
    assert rest.history == whole.history


@pytest.mark.slow
def test_a_tighter_limit_never_gives_a_higher_load() -> None:
    search, _ = search_of("tpot", 5)
    answer = search.finish().answer
    tight, _ = search_of("tpot", 5)
    tight.goal = Goal(2000.0, 40.0, search.goal.seed, 13368, 600.0)
    lower = tight.finish().answer
    assert answer and lower and lower < answer
    assert math.log(answer / lower) > 0.02


def best_confirmed(search: Search) -> float | None:
    return max((s.qps for s in search.history if s.kind == CONFIRM and s.valid), default=None)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("slow_run", range(10))
@pytest.mark.parametrize("factor", [2, 20])
def test_one_slow_run_is_chance(shape: str, slow_run: int, factor: float) -> None:
    """A machine that pauses in one run, whichever: never a fraction of what it can."""
    fast = SHAPES[shape][0]
    slow = fast.slower(factor)
    search, first = search_of(shape, 4, lambda n: slow if n == slow_run else fast)
    end = search.finish()
    assert end.answer is not None and end.answer == best_confirmed(search), end.reason
    assert search.probes <= MAX_PROBES + MOST_AGAIN
    truth = truth_of(shape, search.goal, first)
    assert 0.9 <= end.answer / truth <= 1.03, (end, search.history)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("noise", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_a_noisy_machine(shape: str, noise: float, seed: int) -> None:
    machine = replace(SHAPES[shape][0], noise=noise)
    search, first = search_of(shape, seed, lambda _: machine)
    end = search.finish()
    assert end.answer is not None and end.answer == best_confirmed(search), end.reason
    assert search.probes <= MAX_PROBES + MOST_AGAIN
    truth = highest_valid(machine, search.goal, 0.4 * first, 1.8 * first, 4242)
    # Full-length runs of such a machine are refused by chance, and each lowers the next.
    assert (0.75 if noise > 0.2 else 0.93) <= end.answer / truth <= 1.03, (end, search.history)


@pytest.mark.slow
@pytest.mark.parametrize("period", [2, 3, 5])
def test_a_machine_that_pauses_again_and_again_is_called_unsteady(period: int) -> None:
    fast = SHAPES["both"][0]
    slow = fast.slower(20)
    search, first = search_of("both", 1, lambda n: slow if n % period == period - 1 else fast)
    end = search.finish()
    assert end.answer == best_confirmed(search)
    assert search.probes <= MAX_PROBES + MOST_AGAIN
    assert UNSTEADY in end.reason or end.answer is not None
    if end.answer is not None:
        assert end.answer >= 0.8 * truth_of("both", search.goal, first)


def test_what_was_confirmed_is_kept_when_the_machine_turns_slow() -> None:
    """Everything after the first confirmed load runs at a twentieth of the speed."""
    fast = SHAPES["tpot"][0]
    slow = fast.slower(20)
    search, first = search_of("tpot", 3)
    search.machine_of = lambda _: slow if best_confirmed(search) else fast
    end = search.finish()
    assert end.answer == best_confirmed(search)
    assert end.answer is not None and end.answer >= 0.9 * truth_of("tpot", search.goal, first)

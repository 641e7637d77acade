"""A machine that answers in steps, as a batching engine does, simulated step by step.

Independent of what the search believes about queues: prompts are read in pieces beside the
running answers, a step takes longer the more it holds, and seats are limited. The truth a
search is held against comes from full-length runs of this machine.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from mlperf_llama.tune.forecast import Floats, Goal, Requests, allowed_over

NEW_TOKENS = 128


@dataclass(frozen=True)
class Machine:
    """Seconds of a step: `step_s` + `answer_s` each running answer + `token_s` each prompt token."""

    seats: int
    prefill_tokens: int
    step_s: float = 0.008
    answer_s: float = 0.00005
    token_s: float = 0.0000165
    noise: float = 0.05

    def slower(self, factor: float) -> Machine:
        return replace(
            self,
            step_s=self.step_s * factor,
            answer_s=self.answer_s * factor,
            token_s=self.token_s * factor,
        )

    def run(self, arrival_s: Floats, order: int, seed: int) -> Requests:
        """Every request's latencies. `order` decides the prompts, as LoadGen's seed does in
        every full-length run; `seed` what differs from one run to the next."""
        count = len(arrival_s)
        drawn = np.random.default_rng(order).normal(6.69, 0.48, count)
        sizes = np.clip(np.exp(drawn), 80, 2540).astype(int).tolist()
        jitter = np.exp(np.random.default_rng(seed).normal(0, self.noise, 4096)).tolist()
        due = arrival_s.tolist()
        first, last = [0.0] * count, [0.0] * count
        # (step in which it ends, request), in the order of the steps
        running: deque[tuple[int, int]] = deque()
        reading, left, taken, step, now = 0, sizes[0], 0, 0, 0.0
        begun: list[int] = []
        while reading < count or running:
            if not running and due[reading] > now:
                now = due[reading]
            budget, tokens, begun = self.prefill_tokens, 0, []
            while budget and reading < count and due[reading] <= now:
                if len(running) + len(begun) >= self.seats:
                    break
                taken = min(budget, left)
                budget, left, tokens = budget - taken, left - taken, tokens + taken
                if not left:
                    begun.append(reading)
                    reading += 1
                    left = sizes[reading] if reading < count else 0
            busy = self.step_s + self.answer_s * len(running) + self.token_s * tokens
            now += busy * jitter[step % 4096]
            for request in begun:
                first[request] = now
                running.append((step + NEW_TOKENS - 1, request))
            while running and running[0][0] == step:
                last[running.popleft()[1]] = now
            step += 1
        begins, ends = np.array(first), np.array(last)
        return Requests(
            arrival_s=arrival_s,
            ttft_ms=(begins - arrival_s) * 1000,
            tpot_ms=(ends - begins) / (NEW_TOKENS - 1) * 1000,
            residence_s=ends - arrival_s,
        )


def valid(requests: Requests, goal: Goal) -> bool:
    """LoadGen's verdict: so many of the latencies may be over, early stopping counted in."""
    over = allowed_over(len(requests.ttft_ms))
    return bool(
        (requests.ttft_ms > goal.ttft_ms).sum() <= over and (requests.tpot_ms > goal.tpot_ms).sum() <= over
    )


def full_run(machine: Machine, goal: Goal, qps: float, seed: int) -> Requests:
    return machine.run(goal.arrivals_s(qps), goal.seed, seed)


def highest_valid(machine: Machine, goal: Goal, low: float, high: float, seed: int) -> float:
    """The truth: the highest load of a full-length run that is valid, by bisection."""
    assert valid(full_run(machine, goal, low, seed), goal)
    assert not valid(full_run(machine, goal, high, seed), goal)
    while high / low > 1.004:
        middle = math.sqrt(low * high)
        if valid(full_run(machine, goal, middle, seed), goal):
            low = middle
        else:
            high = middle
    return low


def offline_speed(machine: Machine, count: int, seed: int) -> float:
    """Samples a second with everything there from the start."""
    found = machine.run(np.zeros(count), seed, seed)
    return count / float(found.residence_s.max())

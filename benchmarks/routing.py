"""Routing simulated: members that answer in steps, as batching engines do, and what each way gives.

A discrete-event model, no measurement: a member of rate 1 has about the step times of an H100 (RESULTS.md).
Push is compared with round robin; pull by how far apart the members end.

Usage: routing.py [--members N] [--qps-per-member Q] [--seconds S]
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count, cycle
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))

from mlperf_llama import rules
from mlperf_llama.engine import Request
from mlperf_llama.engine.replicas import router as routing
from mlperf_llama.engine.replicas.router import TokenRouter

NEW_TOKENS, PASS = rules.MAX_NEW_TOKENS, rules.SAMPLE_COUNT[rules.DATACENTER]
# CNN/DailyMail's prompts: the logarithm of their length is close to normal.
LENGTH_LOG_MEAN, LENGTH_LOG_SIGMA, SHORTEST = 6.69, 0.48, 80
# (member, request) -> None
Told = Callable[[int, int], None]


@dataclass
class Member:
    """A step takes `step_s`, `answer_s` each running answer and `token_s` each prompt token, over `rate`."""

    rate: float = 1.0
    seats: int = 512
    prefill_tokens: int = 1984
    step_s: float = 0.008
    answer_s: float = 0.00003
    token_s: float = 0.000011
    waiting: deque[Request] = field(default_factory=deque)
    running: deque[tuple[int, int]] = field(default_factory=deque)
    begun: list[int] = field(default_factory=list)
    steps: int = 0

    def step(self) -> float:
        """Begin a step: the prompts that enter it, and how long it takes."""
        tokens = 0
        self.begun = []
        while self.waiting and len(self.running) + len(self.begun) < self.seats:
            size = len(self.waiting[0].prompt)
            if tokens and tokens + size > self.prefill_tokens:
                break
            self.begun.append(self.waiting.popleft().id)
            tokens += size
        return (self.step_s + self.answer_s * len(self.running) + self.token_s * tokens) / self.rate

    def end_step(self) -> tuple[list[int], list[int]]:
        """Requests whose first token, and whose last, came with this step."""
        self.running.extend((self.steps + NEW_TOKENS - 1, request) for request in self.begun)
        ended = []
        while self.running and self.running[0][0] == self.steps:
            ended.append(self.running.popleft()[1])
        self.steps += 1
        return self.begun, ended


@dataclass
class Outcome:
    """`ttft_s` and `tpot_s` by request id; `end_s` and `answered` by member."""

    ttft_s: dict[int, float]
    tpot_s: dict[int, float]
    end_s: list[float]
    answered: list[int]

    @property
    def ttft_p99_ms(self) -> float:
        return 1000 * _p99(self.ttft_s)

    @property
    def tpot_p99_ms(self) -> float:
        return 1000 * _p99(self.tpot_s)

    @property
    def spread(self) -> float:
        """How far the members' ends lie apart, as a part of the whole time."""
        return (max(self.end_s) - min(self.end_s)) / max(self.end_s)


def _p99(seconds: dict[int, float]) -> float:
    return sorted(seconds.values())[int(0.99 * len(seconds))]


Work = dict[int, list[Request]]
Arrivals = Sequence[tuple[float, list[Request]]]


def simulate(
    members: Sequence[Member],
    arrivals: Arrivals,
    assign: Callable[[list[Request]], Work],
    more: Callable[[], Work],
    begun: Told,
    done: Told,
) -> Outcome:
    """Every arrival goes through `assign`; after each step `more` says what members take by themselves."""
    order = count()
    # (time, order, member whose step ends or -1, requests that arrive)
    events: list[tuple[float, int, int, list[Request]]] = [
        (t, next(order), -1, batch) for t, batch in arrivals
    ]
    heapq.heapify(events)
    due = {request.id: time for time, batch in arrivals for request in batch}
    outcome = Outcome({}, {}, [0.0] * len(members), [0] * len(members))
    idle = [True] * len(members)

    def hand_out(work: Work, now: float) -> None:
        for number, requests in work.items():
            members[number].waiting.extend(requests)
        for number, member in enumerate(members):
            if idle[number] and (member.waiting or member.running):
                idle[number] = False
                heapq.heappush(events, (now + member.step(), next(order), number, []))

    while events:
        now, _, number, batch = heapq.heappop(events)
        if number < 0:
            hand_out(assign(batch), now)
            continue
        first, last = members[number].end_step()
        for request in first:
            outcome.ttft_s[request] = now - due[request]
            begun(number, request)
        for request in last:
            done(number, request)
            outcome.tpot_s[request] = (now - due[request] - outcome.ttft_s[request]) / (NEW_TOKENS - 1)
            outcome.answered[number] += 1
            outcome.end_s[number] = now
        idle[number] = True
        hand_out(more(), now)
    return outcome


def push(members: Sequence[Member], arrivals: Arrivals, weight: int = routing.BEGIN_WEIGHT) -> Outcome:
    """By the router, which knows the members' rates."""
    router = TokenRouter(weight)
    for number, member in enumerate(members):
        router.add(number, member.rate, member.seats)
    return simulate(members, arrivals, router.assign, dict, router.begun, router.done)


def round_robin(members: Sequence[Member], arrivals: Arrivals) -> Outcome:
    """In turn; a member of twice the rate gets twice the turns."""
    turns = cycle([number for number, member in enumerate(members) for _ in range(round(member.rate))])

    def untold(_member: int, _request: int) -> None: ...

    return simulate(members, arrivals, lambda batch: {next(turns): batch}, dict, untold, untold)


def pull(members: Sequence[Member], requests: list[Request], rates: Sequence[float]) -> Outcome:
    """Offline by the router, which is given `rates`, right or wrong."""
    router = TokenRouter()
    for number, member in enumerate(members):
        router.add(number, rates[number], member.seats)

    def more() -> Work:
        return {number: router.pull(number, len(requests)) for number in range(len(members))}

    def assign(batch: list[Request]) -> Work:
        router.queue(batch)
        return more()

    return simulate(members, [(0.0, requests)], assign, more, router.begun, router.done)


def made_up_requests(number: int, seed: int) -> list[Request]:
    """With lengths as the dataset's; the ids in a prompt do not matter."""
    draw = random.Random(seed)
    lengths = (int(draw.lognormvariate(LENGTH_LOG_MEAN, LENGTH_LOG_SIGMA)) for _ in range(number))
    return [
        Request(n, range(max(SHORTEST, min(rules.LONGEST_PROMPT, size)))) for n, size in enumerate(lengths)
    ]


def longest_first(requests: Sequence[Request]) -> list[Request]:
    """Within each pass of the dataset."""
    passes = (requests[start : start + PASS] for start in range(0, len(requests), PASS))
    return [request for each in passes for request in sorted(each, key=lambda r: -len(r.prompt))]


def poisson(requests: Sequence[Request], qps: float, seed: int) -> Arrivals:
    """`qps` of them in a second, at random."""
    draw, now = random.Random(seed), 0.0
    arrivals = []
    for request in requests:
        now += draw.expovariate(qps)
        arrivals.append((now, [request]))
    return arrivals


def show_push(members: int, qps: float, seconds: float) -> None:
    for name, rates in [("alike", [1.0] * members), ("1 and 3", [1.0, 3.0] * (members // 2))]:
        total = qps * sum(rates)
        arrivals = poisson(made_up_requests(round(total * seconds), 1), total, 2)
        for weight in (None, 0, 2, 8, 32, 128):
            fleet = [Member(rate) for rate in rates]
            outcome = round_robin(fleet, arrivals) if weight is None else push(fleet, arrivals, weight)
            way = "round robin" if weight is None else f"weight {weight}"
            print(
                f"push  {members} members, {name:8} {way:12} "
                f"TTFT p99 {outcome.ttft_p99_ms:5.0f} ms  TPOT p99 {outcome.tpot_p99_ms:5.1f} ms"
            )


def show_pull() -> None:
    for name, rates, given, passes in [
        ("1 and 1", [1.0, 1.0], [1.0, 1.0], 1),
        ("1 and 3", [1.0, 3.0], [1.0, 3.0], 1),
        ("1 and 3, taken for equal", [1.0, 3.0], [1.0, 1.0], 1),
        ("8 alike", [1.0] * 8, [1.0] * 8, 8),
    ]:
        requests = longest_first(made_up_requests(passes * PASS, 3))
        outcome = pull([Member(rate, prefill_tokens=32768) for rate in rates], requests, given)
        print(
            f"pull  {name:26} end within {100 * outcome.spread:.2f}% of {max(outcome.end_s):5.1f} s, "
            f"answered {outcome.answered}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--qps-per-member", type=float, default=53.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    show_push(arguments.members, arguments.qps_per_member, arguments.seconds)
    show_pull()


if __name__ == "__main__":
    main()

"""Which load an engine's limits let hold: `python benchmarks/pacing.py Server 58 59 --prefill 5632`.

Plays LoadGen's own schedule through a model of vLLM's steps, with the pipeline's own `Pacing`, and prints
the p99s at each load: seconds where a run on a GPU takes eleven minutes. A step with prompts takes
`step + token * prompt tokens + answer * running answers`, at least `floor` (the CPU's launches); one of
answers alone `alone + alone_answer * running answers`. The defaults are an H100's (RESULTS.md holds
what they follow from, and how near the model came to runs there).
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

from mlperf_llama import rules
from mlperf_llama.engine.pacing import Pacing
from mlperf_llama.loadgen import plan
from mlperf_llama.machine.roofline import PROMPT_MEAN, PROMPT_SD

SHORTEST = 80


@dataclass(frozen=True)
class Steps:
    """Milliseconds. An H100 with Llama-3.1-8B in static FP8 and the kernels of engine/hopper."""

    step: float = 4.0
    token: float = 0.0111
    answer: float = 0.042
    alone: float = 3.5
    alone_answer: float = 0.034
    floor: float = 14.0

    def seconds(self, prompt_tokens: int, answers: int) -> float:
        if not prompt_tokens:
            return (self.alone + self.alone_answer * answers) / 1000
        return max(self.floor, self.step + self.token * prompt_tokens + self.answer * answers) / 1000


@dataclass
class Request:
    """One query. Times in seconds of the run; `left`: prompt tokens not yet read."""

    due: float
    left: int
    first: float = 0.0
    last: float = 0.0


def requests_at(qps: float, seconds: float, round_name: str) -> list[Request]:
    seed = rules.ROUNDS[round_name].schedule_rng_seed
    due = plan.schedule_ns(seed, qps, int(qps * seconds)) / 1e9
    # Log-normal, with the real prompts' mean and spread.
    variance = np.log(1 + (PROMPT_SD / PROMPT_MEAN) ** 2)
    drawn = np.random.default_rng(0).lognormal(
        np.log(PROMPT_MEAN) - variance / 2, np.sqrt(variance), len(due)
    )
    sizes = np.clip(drawn, SHORTEST, rules.LONGEST_PROMPT).astype(int).tolist()
    return [Request(at, size) for at, size in zip(due.tolist(), sizes, strict=True)]


def taken(waiting: deque[Request], room: int, prefill: int, whole: bool) -> tuple[int, list[Request]]:
    """Prompt tokens of the next step, and the requests whose prompt it ends."""
    tokens = 0
    begun: list[Request] = []
    if whole and waiting:
        # A longer one enters alone.
        prefill = max(prefill, waiting[0].left)
    while waiting and len(begun) < room and tokens < prefill:
        if whole and tokens + waiting[0].left > prefill:
            break
        part = min(waiting[0].left, prefill - tokens)
        tokens += part
        waiting[0].left -= part
        if waiting[0].left:
            break
        begun.append(waiting.popleft())
    return tokens, begun


def play(requests: Sequence[Request], steps: Steps, max_num_seqs: int, prefill: int, pacing: Pacing) -> int:
    """Fills in when each request's first and last token came; gives the number of steps."""
    coming, waiting = deque(requests), deque[Request]()
    running = deque[tuple[int, Request]]()
    now, number, since_prompts = 0.0, 0, 0
    while coming or waiting or running:
        if not waiting and not running:
            now = max(now, coming[0].due)
        while coming and coming[0].due <= now:
            waiting.append(coming.popleft())
        tokens, begun = 0, list[Request]()
        if waiting and not pacing.holds(len(running), since_prompts):
            tokens, begun = taken(waiting, max_num_seqs - len(running), prefill, pacing.whole_prompts)
        now += steps.seconds(tokens, len(running))
        number += 1
        since_prompts = 0 if tokens else since_prompts + 1
        while running and running[0][0] == number:
            running.popleft()[1].last = now
        for request in begun:
            request.first = now
            running.append((number + rules.MAX_NEW_TOKENS - 1, request))
    return number


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenario", choices=list(rules.TOKEN_LATENCY_LIMITS_MS))
    parser.add_argument("qps", type=float, nargs="+")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--max-num-seqs", type=int, default=704)
    parser.add_argument("--prefill", type=int, default=8192, help="prompt tokens a step")
    parser.add_argument("--split", action="store_true", help="prompts may be split over steps")
    parser.add_argument("--gap-steps", type=int, default=0)
    parser.add_argument("--round", default="v6.1", choices=list(rules.ROUNDS))
    for name, value in vars(Steps()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=value, help="ms of a step")
    given = parser.parse_args()
    steps = Steps(**{name: getattr(given, name) for name in vars(Steps())})
    pacing = Pacing(not given.split, given.gap_steps)
    ttft_limit, tpot_limit = rules.TOKEN_LATENCY_LIMITS_MS[given.scenario]
    print(f"{'queries/s':>9} {'tok/s':>6} {'TTFT p99':>9} {'TPOT p99':>9} {'step ms':>8}")
    for qps in given.qps:
        requests = requests_at(qps, given.seconds, given.round)
        number = play(requests, steps, given.max_num_seqs, given.prefill, pacing)
        end = max(request.last for request in requests)
        ttft = 1000 * np.quantile([r.first - r.due for r in requests], 0.99)
        tpot = 1000 * np.quantile([r.last - r.first for r in requests], 0.99) / (rules.MAX_NEW_TOKENS - 1)
        held = "within both limits" if ttft <= ttft_limit and tpot <= tpot_limit else ""
        rate = len(requests) * rules.MAX_NEW_TOKENS / end
        print(f"{qps:9.4g} {rate:6.0f} {ttft:9.0f} {tpot:9.1f} {1000 * end / number:8.1f}  {held}")


if __name__ == "__main__":
    main()

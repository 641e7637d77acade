"""Samples, events and a runner for tests that drive real LoadGen."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlperf_llama import rules
from mlperf_llama.engine import Engine, Limits, Request, Sink
from mlperf_llama.engine.fake import FakeEngine
from mlperf_llama.loadgen.drive import DriveResult, drive
from mlperf_llama.loadgen.plan import Plan, make_plan
from mlperf_llama.records.events import Events

LIMITS = Limits(128, 1, rules.EOS_IDS)
# Every scenario of both categories; Offline differs between them in model and set size.
COMBINATIONS = [
    (category, scenario) for category, names in rules.CATEGORY_SCENARIOS.items() for scenario in names
]


class Prompts:
    """`count` prompts, each different, of lengths that vary."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.lengths = [60 + (index * 37) % 50 for index in range(count)]
        self._prompts = [list(range(1000 + i, 1000 + i + n)) for i, n in enumerate(self.lengths)]

    def prompt(self, index: int) -> Sequence[int]:
        return self._prompts[index]


class Idle:
    """An engine that answers nothing; a base for engines that misbehave."""

    async def start(self, progress: Any) -> Any:
        raise NotImplementedError

    def submit(self, requests: Sequence[Request], limits: Limits, streaming: bool, sink: Sink) -> None:
        return

    def counters(self) -> dict[str, float]:
        return {}

    async def close(self) -> None:
        return


def plan_of(
    scenario: str = rules.OFFLINE,
    mode: str = "performance",
    round: str = "v6.1",
    category: str | None = None,
    samples: int = 8,
    **speeds: Any,
) -> Plan:
    """A plan of a few samples and no least duration, unless `speeds` says otherwise."""
    category = category or (rules.EDGE if scenario == rules.SINGLE_STREAM else rules.DATACENTER)
    speeds = {"duration_s": 0.0, "target_qps": 2000.0, "expected_latency_ms": 5.0, **speeds}
    return make_plan(round, category, scenario, mode, samples, rules.SAMPLE_COUNT[category], **speeds)


async def run_plan(engine: Engine, plan: Plan, out: Path, **options: Any) -> DriveResult:
    events = options.pop("events", Events(None))
    return await drive(engine, Prompts(plan.sample_count), LIMITS, plan, out, events, **options)


def run_fake(script: Mapping[str, Any], plan: Plan, out: Path, **options: Any) -> DriveResult:
    return run_engine(FakeEngine(script), plan, out, **options)


def run_engine(engine: Engine, plan: Plan, out: Path, **options: Any) -> DriveResult:
    return asyncio.run(run_plan(engine, plan, out, **options))

"""What a self-check's figures mean, and what becomes of one that failed.

Its steps: test_self_check_steps.py; vLLM's own classes: test_own_path.py; a model in vLLM:
tests/integration/test_self_check_vllm.py.
"""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest
from test_oom_reloads import ScriptedSession

from mlperf_llama.engine import EngineInfo, Progress, hopper
from mlperf_llama.engine.hopper import bounds
from mlperf_llama.errors import EXIT_BROKE, BrokeError
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import Provenance, Results

FIGURES = {
    "mean": 0.03,
    "largest": 0.08,
    "own_mean": 0.04,
    "own_largest": 0.09,
    "prompts": 8,
    "steps": 7,
    "compared": 66,
    "seconds": 1.234,
}
MEAN_BOUND, LARGEST_BOUND = 0.04 + bounds.MEAN_FLOOR, 0.09 * 1.5 + bounds.LARGEST_FLOOR


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, True),
        ({"mean": MEAN_BOUND, "largest": LARGEST_BOUND}, True),
        ({"mean": MEAN_BOUND * 1.01}, False),
        ({"largest": LARGEST_BOUND * 1.01}, False),
        ({"largest": 1e6}, False),
        # What the weights do to both alike is no fault, up to a bound.
        ({"mean": 0.3, "largest": 1.2, "own_mean": 0.3, "own_largest": 1.0}, True),
        ({"mean": 0.9, "own_mean": 5.0}, False),
        ({"largest": 9.0, "own_largest": 50.0}, False),
    ],
)
def test_either_bound_refuses(changes: dict[str, float], passed: bool) -> None:
    record = bounds.record(hopper.EXTENSION, {**FIGURES, **changes})
    assert record.passed is passed and record.revision == hopper.REVISION
    info = EngineInfo("vllm", "0.26.0", {}, 1.0, self_check=record)
    if passed:
        bounds.refuse_failed(info.self_check)
        return
    with pytest.raises(BrokeError, match=r"on average \(at most .*worker_extension_cls") as refused:
        bounds.refuse_failed(info.self_check)
    assert refused.value.exit_code == EXIT_BROKE and "\n" not in str(refused.value)


def test_made_up_weights_are_not_refused() -> None:
    record = bounds.record(hopper.RANDOM_EXTENSION, {**FIGURES, "mean": 0.9})
    assert not record.passed
    bounds.refuse_failed(record)


@pytest.mark.parametrize("passed", [True, False])
def test_a_session_records_the_self_check_before_it_refuses(passed: bool, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    run = RunFolder.open(tmp_path)
    run.write(Provenance())
    record = bounds.record(hopper.EXTENSION, {**FIGURES, "mean": 0.03 if passed else 0.9})

    class Engine:
        async def start(self, progress: Progress) -> EngineInfo:
            return EngineInfo("vllm", "0.26.0", {}, 1.0, self_check=record)

    session = ScriptedSession(run, {}, [])
    session.engine = Engine()  # type: ignore[assignment]
    if passed:
        asyncio.run(session.start())
    else:
        with pytest.raises(BrokeError, match="the kernels for Hopper are refused"):
            asyncio.run(session.start())
    recorded = run.read(Results).engine
    assert recorded is not None and recorded.self_check == record
    assert dataclasses.asdict(record)["passed"] is passed

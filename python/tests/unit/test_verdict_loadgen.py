"""The verdict on logs that LoadGen itself wrote: short runs with the fake engine.

Such a run fails for what it is (short, a subset, no model), and for nothing else.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import run_folders as folders

from mlperf_llama import rules, verdict
from mlperf_llama.engine import Limits
from mlperf_llama.engine.fake import FakeEngine
from mlperf_llama.loadgen import drive, logs, plan
from mlperf_llama.records import codec
from mlperf_llama.records.events import Events
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import Driven
from mlperf_llama.verdict import test06

pytestmark = pytest.mark.slow

COUNT, DURATION_S = 40, 1.0
SHORT = {"samples", "duration"}
ENDS = ("min_duration", "lasted", ".samples")


class Samples:
    """Made-up prompts of different lengths."""

    count = COUNT
    lengths = np.full(COUNT, 90, dtype=np.int32)

    def prompt(self, index: int) -> list[int]:
        return [1000 + (index * 31 + at) % 5000 for at in range(90)]


async def _runs(run: RunFolder, category: str, round_name: str) -> dict[tuple[str, str], Driven]:
    """Every run's logs; what was counted and timed beside LoadGen, by scenario and mode."""
    driven: dict[tuple[str, str], Driven] = {}
    engine = FakeEngine({"output_tokens": [60, 128], "ttft_ms": 1, "tpot_ms": 0.05})
    await engine.start(lambda message: None)
    for scenario in rules.CATEGORY_SCENARIOS[category]:
        for mode in rules.MODES:
            single = scenario == rules.SINGLE_STREAM
            planned = plan.make_plan(
                round_name, category, scenario, mode, COUNT, rules.SAMPLE_COUNT[category], DURATION_S,
                None if single else 1200.0, 5.0 if single else None,
            )  # fmt: skip
            limits = Limits(rules.MAX_NEW_TOKENS, rules.MIN_NEW_TOKENS, rules.EOS_IDS)
            folder = run.log_dir(scenario, mode)
            ended = await drive.drive(engine, Samples(), limits, planned, folder, Events(None))
            driven[scenario, mode] = ended.driven
    await engine.close()
    return driven


def _record(run: RunFolder, driven: dict[tuple[str, str], Driven]) -> None:
    """Into results.json, as of a run of today with the fake engine's counters."""
    results = json.loads(run.file("results.json").read_text())
    for (scenario, mode), own in driven.items():
        counters = {"requests": own.samples, "generation_tokens": own.tokens}
        results["scenarios"][scenario][mode].update(driven=codec.to_json(own), counters=counters)
    results.update(started=min(d.began for d in driven.values()), finished="2999-01-01T00:00:00+00:00")
    folders.write_json(run, "results.json", results)
    library = next(iter(driven.values())).loadgen
    folders.edit_json(
        run.file("environment.json"),
        lambda d: next(p for p in d["processes"][0]["packages"] if p["name"] == "mlperf_loadgen").update(
            file=library
        ),
    )


@pytest.mark.parametrize("category", rules.SAMPLE_COUNT)
@pytest.mark.parametrize("round_name", rules.ROUNDS)
def test_short_runs_fail_for_what_they_are(round_name: str, category: str, tmp_path: Path) -> None:
    release = rules.ROUNDS[round_name].loadgen_version
    if not (Path(sys.prefix) / "loadgen" / release).is_dir():
        pytest.skip(f"LoadGen {release} is not installed")
    run = folders.good_run(tmp_path / "run", category, round_name)
    _record(run, asyncio.run(_runs(run, category, round_name)))
    folders.edit_json(run.file("provenance.json"), lambda d: d.update(samples=COUNT, shortened=True))
    for scenario in rules.CATEGORY_SCENARIOS[category]:
        folders.record_performance(run, scenario)
        assert test06.verify_run(run, scenario).passed
        assert logs.read_detail(run.log_dir(scenario, "performance")).validity in ("VALID", "INVALID")
    folders.reseal(run)
    names = [c.name for c in verdict.examine(run) if not c.passed]
    other = {n for n in names if not n.endswith(ENDS) and n not in SHORT}
    # The subset's indices and hash are not those of the scores the folder was made with; a busy
    # machine may also miss a latency limit or LoadGen's duration, and LoadGen then says INVALID.
    # And the fake engine is faster than the cards that the folder names.
    allowed = {"accuracy.indices", "accuracy.hash", "whole_passes", "valid", "early_stopping", "ttft_p99",
               "tpot_p99", "performance.errors", "roofline", "samples_per_query"}  # fmt: skip
    assert {n.partition(".")[2] for n in other} <= allowed
    assert set(names) >= SHORT

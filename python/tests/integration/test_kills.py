"""Kills at random moments of a run, each followed by a resume: nothing that was finished is lost or run
again, and in the end the folder is sealed and judged as one that nobody killed."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import forked_runs
import pytest
from forked_runs import PARTS, Driver, Run, finish, outcomes, uninterrupted, wait_for_a_moment

from mlperf_llama.records import seal

pytestmark = pytest.mark.slow
KILLS = {signal.SIGKILL: 20, signal.SIGINT: 10}
KILLS_OF_ONE_RUN = 5


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    with forked_runs.driver(tmp_path) as started:
        yield started


@pytest.mark.parametrize("number", KILLS)
def test_nothing_that_was_finished_is_lost_or_run_again(driver: Driver, number: signal.Signals) -> None:
    expected = outcomes(uninterrupted(driver))
    assert expected["seal"] and expected["complete"]
    draw = random.Random(int(number))
    kills, resumed_parts, unfinished = 0, 0, 0
    while kills < KILLS[number]:
        run = Run()
        for _ in range(KILLS_OF_ONE_RUN):
            before = len(run.finished)
            pid = driver.start(run.verbs())
            wait_for_a_moment(run, driver.results, pid, draw)
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            code = driver.end()
            run.look(driver.results)
            if code in (0, 2):
                break
            kills += 1
            resumed_parts += before
        folder = finish(driver, run)
        assert seal.faults(folder) == []
        assert outcomes(folder) == expected
        assert len(run.finished) == PARTS
        unfinished += len(seal.unfinished(folder))
        (driver.results / "latest").unlink()
    # The moments were spread over the run, and what they are to show was there to be seen.
    assert resumed_parts and unfinished

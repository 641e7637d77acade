"""A clock ten times slow in LoadGen's process alone: it sees ten times the speed, and nobody else does."""

from __future__ import annotations

import attacks
import clock_shim
import pytest
from pipeline_runs import Ended

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(clock_shim.COMPILER is None, reason="no C compiler is here to make the clock with"),
]
SAMPLES_PER_S = 190.0


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    environment = clock_shim.environment(tmp_path_factory.mktemp("environment"), clock_shim.Clock(0.1))
    fake = f'{{"samples_per_s": {SAMPLES_PER_S}}}'
    settings = {"SAMPLES": 40, "MODE": "performance", "TARGET_QPS": 600, "DURATION_S": 1, "FAKE": fake}
    return attacks.fake_run(tmp_path_factory.mktemp("clock"), {"MLPERF_VENV": str(environment)}, **settings)


def test_loadgen_s_speed_is_not_believed(ended: Ended) -> None:
    performance = ended.read("results.json")["scenarios"]["Offline"]["performance"]
    assert performance["samples_per_second"] > 5 * SAMPLES_PER_S, "LoadGen was not deceived"
    assert "LoadGen's longest latency" in attacks.failed(ended)["Offline.performance.clock"]
    assert performance["driven"]["samples"] / performance["driven"]["seconds"] < 1.2 * SAMPLES_PER_S

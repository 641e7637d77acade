"""One submission is one machine and one engine; the calibration document tells of every scenario."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import run_folders as folders

from mlperf_llama import rules
from mlperf_llama.records.schema import Check, NetworkInterface, Provided, Scenario
from mlperf_llama.submission import calibration, together
from mlperf_llama.submission.calibration import Used
from mlperf_llama.verdict import evidence
from mlperf_llama.verdict.evidence import Evidence


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    path = tmp_path_factory.mktemp("together") / "a"
    return evidence.read(folders.good_run(path, rules.EDGE, scenarios=("Offline",)))


def other(base: Evidence, **changes: Any) -> Evidence:
    """The same in a folder named b, with parts of its records changed."""
    run = replace(base.run, path=base.run.path.with_name("b"))
    return replace(base, run=run, **changes)


def system(base: Evidence, **changes: Any) -> Evidence:
    return other(base, system=replace(base.system, **changes))


def gpu(base: Evidence, **changes: Any) -> Evidence:
    return system(base, gpus=tuple(replace(g, **changes) for g in base.system.gpus))


def engine(base: Evidence, **settings: Any) -> Evidence:
    assert base.results.engine
    loaded = replace(base.results.engine, settings={**base.results.engine.settings, **settings})
    return other(base, results=replace(base.results, engine=loaded))


def config(base: Evidence, **changes: Any) -> Evidence:
    assert base.config
    return other(base, config=replace(base.config, **changes))


def both(base: Evidence, second: Evidence) -> tuple[Check, Check]:
    return together.one_machine([base, second]), together.one_engine([base, second])


MACHINES = {
    "maker": lambda b: system(b, machine=replace(b.system.machine, maker="Another Inc.")),
    "cpu": lambda b: system(b, cpu=replace(b.system.cpu, cores=32)),
    "memory": lambda b: system(b, memory=replace(b.system.memory, total_gib=503.6)),
    "operating system": lambda b: system(b, os=replace(b.system.os, kernel="6.8.0")),
    "storage": lambda b: system(b, storage=()),
    "network": lambda b: system(b, network=(NetworkInterface("eno1", 100000),)),
    "accelerators: a {'driver': '580.65.06'}, b {'driver': '595.10'}": lambda b: gpu(b, driver="595.10"),
    "accelerators: a {'memory_gib'": lambda b: gpu(b, memory_gib=139.8),
    "accelerators: a [{": lambda b: system(b, gpus=(*b.system.gpus, *b.system.gpus)),
    "Python": lambda b: system(b, python=replace(b.system.python, version="3.12.1")),
    "package torch: a 2.11.0, b 2.10.0": lambda b: system(
        b, packages={**b.system.packages, "torch": "2.10.0"}
    ),
    "package nccl: a None, b 2.1": lambda b: system(b, packages={**b.system.packages, "nccl": "2.1"}),
}
ENGINES = {
    "version": lambda b: other(
        b, results=replace(b.results, engine=replace(b.results.engine, version="0.25.0"))
    ),
    "quantization: a None, b fp8": lambda b: engine(b, quantization="fp8"),
    "kv_cache_dtype: a auto, b fp8": lambda b: engine(b, kv_cache_dtype="fp8"),
    "dtype: a bfloat16, b float16": lambda b: engine(b, dtype="float16"),
    "tensor_parallel_size: a 1, b 2": lambda b: engine(b, tensor_parallel_size=2),
    "a new key: a None, b 1": lambda b: engine(b, **{"a new key": 1}),
    "seed: a 0, b 7": lambda b: config(b, seed=7),
    "ignore_eos: a False, b True": lambda b: config(b, ignore_eos=True),
    "quantization: a None, b Offline fp8": lambda b: other(
        b,
        scenarios=tuple(
            replace(s, recorded=Scenario({"performance": {**folders.SETTINGS, "quantization": "fp8"}}))
            for s in b.scenarios
        ),
    ),
}


@pytest.mark.parametrize("what", MACHINES)
def test_two_machines_are_told_apart(what: str, base: Evidence) -> None:
    machine, engines = both(base, MACHINES[what](base))
    assert not machine.passed and machine.detail.startswith(what), machine.detail
    assert engines.passed


@pytest.mark.parametrize("what", ENGINES)
def test_two_engines_are_told_apart(what: str, base: Evidence) -> None:
    machine, engines = both(base, ENGINES[what](base))
    assert not engines.passed and engines.detail.startswith(what), engines.detail
    assert machine.passed


@pytest.mark.parametrize(
    "second",
    [
        lambda b: other(b),
        lambda b: gpu(b, uuid="GPU-2", index=3),
        lambda b: system(b, memory=replace(b.system.memory, total_gib=1007.4, available_gib=3.0)),
        lambda b: engine(b, max_num_seqs=64, max_num_batched_tokens=4096, gpu_memory_utilization=0.8),
        lambda b: config(b, target_qps=7.0),
    ],
)
def test_what_is_one_machine_and_one_engine(second: Any, base: Evidence) -> None:
    assert all(c.passed for c in both(base, second(base)))
    assert all(c.passed for c in (together.one_machine([base]), together.one_engine([base])))


def test_calibration_tells_of_each_scenario_as_it_ran() -> None:
    plain, fp8 = dict(folders.SETTINGS), {**folders.SETTINGS, "quantization": "fp8", "kv_cache_dtype": "fp8"}
    model = Provided(source="huggingface", eligible=True)
    used = [Used("Offline", plain, model), Used("Server", fp8, model), Used("Interactive", fp8, model)]
    text = calibration.document(used, watermark=False)
    offline, _, others = text.partition("## Server, Interactive")
    assert "## Offline" in offline and "in bf16. Nothing is calibrated." in offline and "fp8" not in offline
    assert "quantised to fp8. Calibration data: none" in others and "The KV cache is fp8." in others
    assert "Nothing is calibrated" not in others

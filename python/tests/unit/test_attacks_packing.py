"""Run folders that were bent or mixed: `mlperf-llama pack` refuses every one by name, in any division."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import run_folders as folders
from submission_trees import SYSTEM_TOML

import mlperf_llama
from mlperf_llama import rules
from mlperf_llama.errors import EXIT_INVALID, EXIT_MISSING, EXIT_USAGE
from mlperf_llama.loadgen import logs
from mlperf_llama.records.run_folder import RunFolder

pytestmark = pytest.mark.slow

PACKAGE = Path(mlperf_llama.__file__).parents[1]
OFFLINE, SINGLE = "Offline", "SingleStream"
# Changes the run folder of SingleStream (its other is that of Offline) or system.toml in the folder above.
Attack = Callable[[RunFolder], object]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder for each scenario of the edge category."""
    home = tmp_path_factory.mktemp("two")
    for name, scenario in (("a", OFFLINE), ("b", SINGLE)):
        folders.good_run(home / name, rules.EDGE, scenarios=(scenario,))
    (home / "system.toml").write_text(SYSTEM_TOML)
    return home


def pack(home: Path) -> tuple[int, str]:
    """Exit code and output of `mlperf-llama pack A B`; MLCommons' checker is not at hand."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("MLPERF_")}
    env |= {"PYTHONPATH": str(PACKAGE), "MLPERF_ENV_FILE": "/dev/null", "MLPERF_INFERENCE_DIR": str(home)}
    flags = {"submitter": "Example", "division": "open", "category": "edge", "system-file": "system.toml"}
    words = [f"--{name}={value}" for name, value in flags.items()]
    done = subprocess.run(
        [sys.executable, "-m", "mlperf_llama", "pack", *words, f"--results-dir={home / 'results'}", "a", "b"],
        env=env, cwd=home, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_two_sound_folders_are_packed(two: Path, tmp_path: Path) -> None:
    shutil.copytree(two, tmp_path / "two")
    code, text = pack(tmp_path / "two")
    assert code == EXIT_MISSING and "MLCommons' checker was not run" in text, text
    assert len(list((tmp_path / "two/results/open").glob("*/open/Example"))) == 1


def _record(name: str, change: Callable[[dict[str, Any]], Any]) -> Attack:
    """A record that says otherwise, under a seal made afterwards."""

    def attack(run: RunFolder) -> None:
        folders.edit_json(run.file(name), change)
        folders.reseal(run)

    return attack


def _gpu(**values: object) -> Attack:
    return _record("system.json", lambda d: d["gpus"][0].update(values))


def _engine(**values: object) -> Attack:
    return _record("results.json", lambda d: d["engine"]["settings"].update(values))


def _toml(text: str) -> Attack:
    return lambda run: (run.path.parent / "system.toml").write_text(SYSTEM_TOML + text)


def _resealed(change: Attack) -> Attack:
    def attack(run: RunFolder) -> None:
        change(run)
        folders.reseal(run)

    return attack


def _edit_log(**values: object) -> Attack:
    return lambda run: folders.edit_detail(run.log_dir(SINGLE, "performance"), **values)


def _swap(run: RunFolder) -> None:
    """Offline's folder under SingleStream's name."""
    shutil.rmtree(run.scenario(SINGLE))
    shutil.copytree(run.path.with_name("a") / OFFLINE, run.scenario(SINGLE))


def _stated_twice(run: RunFolder) -> None:
    path = run.log_dir(SINGLE, "performance") / logs.DETAIL
    first = ':::MLLOG {"key": "result_validity", "value": "INVALID", "metadata": {"is_error": false}}\n'
    path.write_text(first + path.read_text())


def _summary(run: RunFolder) -> Path:
    return run.log_dir(SINGLE, "performance") / logs.SUMMARY


LATENCY = {"result_90.00_percentile_latency_ns": 1}
ATTACKS: dict[str, tuple[Attack, int, str]] = {
    # One machine.
    "another maker": (
        _record("system.json", lambda d: d["machine"].update(maker="Another")), EXIT_INVALID,
        "one_machine: maker",
    ),
    "half the memory": (
        _record("system.json", lambda d: d["memory"].update(total_gib=503.7)), EXIT_INVALID,
        "one_machine: memory",
    ),
    "another driver": (_gpu(driver="595.1"), EXIT_INVALID, "one_machine: accelerators: a {'driver'"),
    "a card with more memory": (_gpu(memory_gib=141.0), EXIT_INVALID, "one_machine: accelerators"),
    "another card": (_gpu(name="NVIDIA H200"), EXIT_INVALID, "one_machine: accelerators"),
    "no card": (
        _record("system.json", lambda d: d.update(gpus=[])), EXIT_INVALID, "one_machine: accelerators",
    ),
    "another torch": (
        _record("system.json", lambda d: d["packages"].update(torch="2.12.0")), EXIT_INVALID,
        "one_machine: package torch: a 2.11.0, b 2.12.0",
    ),
    "another system": (
        _record("system.json", lambda d: d["os"].update(name="Ubuntu 24.04")), EXIT_INVALID,
        "one_machine: operating system",
    ),
    "faster disks": (
        _record("system.json", lambda d: d["storage"][0].update(kind="HDD")), EXIT_INVALID,
        "one_machine: storage",
    ),
    "another network": (
        _record("system.json", lambda d: d["network"].pop()), EXIT_INVALID, "one_machine: network",
    ),
    # One engine.
    "weights in FP8": (_engine(quantization="fp8"), EXIT_INVALID, "one_engine: quantization: a None, b fp8"),
    "KV cache in FP8": (_engine(kv_cache_dtype="fp8"), EXIT_INVALID, "one_engine: kv_cache_dtype"),
    "another type": (_engine(dtype="float16"), EXIT_INVALID, "one_engine: dtype: a bfloat16, b float16"),
    "a setting that only one has": (_engine(lora=True), EXIT_INVALID, "one_engine: lora: a None, b True"),
    "another seed": (
        _record("config.json", lambda d: d.update(seed=7)), EXIT_INVALID, "one_engine: seed: a 0, b 7",
    ),
    "another release": (
        _record("results.json", lambda d: d["engine"].update(version="0.25.0")), EXIT_INVALID,
        "one_engine: version: a 0.26.0, b 0.25.0",
    ),
    "FP8 in the performance run alone": (
        _record(
            "results.json",
            lambda d: d["scenarios"][SINGLE].update(
                engine_settings={"performance": {**folders.SETTINGS, "quantization": "fp8"}}
            ),
        ),
        EXIT_INVALID,
        "one_engine: quantization: a None, b SingleStream fp8",
    ),
    "other weights": (
        _record("provenance.json", lambda d: d["model"].update(sha256="1" * 64)), EXIT_INVALID, "one_model",
    ),
    "other articles": (
        _record("provenance.json", lambda d: d["dataset"].update(sha256="1" * 64)), EXIT_INVALID,
        "one_dataset",
    ),
    # The description against the measurement.
    "eight cards claimed": (
        _toml("accelerators_per_node = 8\n"), EXIT_USAGE, "accelerators_per_node: measured 1, found 8",
    ),
    "another card claimed": (
        _toml('accelerator_model_name = "NVIDIA B300"\n'), EXIT_USAGE, "accelerator_model_name: measured",
    ),
    "a card claimed beside the measured one": (
        _toml('accelerator_model_name = "NVIDIA B200 and NVIDIA H100 80GB HBM3"\n'), EXIT_USAGE,
        "accelerator_model_name: measured NVIDIA H100 80GB HBM3, found NVIDIA B200 and",
    ),
    "two nodes claimed": (_toml("number_of_nodes = 2\n"), EXIT_USAGE, "number_of_nodes: measured 1, found 2"),
    "a faster network claimed": (
        _toml('host_networking = "8x 400 Gbit/s InfiniBand"\n'), EXIT_USAGE, "host_networking: measured",
    ),
    "another release claimed": (
        _toml('framework = "TensorRT-LLM 1.2"\n'), EXIT_USAGE, "framework: measured vllm 0.26.0",
    ),
    "an empty reason": (
        _toml('accelerators_per_node = 8\n[reasons]\naccelerators_per_node = ""\n'), EXIT_USAGE,
        "accelerators_per_node: measured 1, found 8",
    ),
    # The seal.
    "a polished log": (_edit_log(**LATENCY), EXIT_INVALID, "seal:"),
    "a polished summary": (
        lambda run: _summary(run).write_text("Result is : VALID\n"),
        EXIT_INVALID,
        "seal:",
    ),
    "a record edited after its seal": (
        lambda run: folders.edit_json(run.file("results.json"), lambda d: d.update(round="v6.0")),
        EXIT_INVALID,
        "seal:",
    ),
    "the seal taken away": (lambda run: run.file("hashes.json").unlink(), EXIT_INVALID, "seal:"),
    "a log taken away": (
        lambda run: (run.log_dir(SINGLE, "accuracy") / logs.SUMMARY).unlink(), EXIT_INVALID, "seal:",
    ),
    "another scenario's folder": (_resealed(_swap), EXIT_INVALID, "SingleStream.performance.scenario"),
    # A new seal over bent logs: the logs contradict themselves or the records.
    "a polished log, sealed again": (_resealed(_edit_log(**LATENCY)), EXIT_INVALID, "SingleStream.results"),
    "a key stated twice, sealed again": (
        _resealed(_stated_twice), EXIT_INVALID,
        "SingleStream.performance.lines: result_validity stated twice",
    ),
    "a summary of another run, sealed again": (
        _resealed(lambda run: _summary(run).write_text("Result is : INVALID\n")),
        EXIT_INVALID,
        "SingleStream.summary: the summary says Result is: INVALID",
    ),
    "Endpoints' marker, sealed again": (
        _resealed(
            lambda run: (run.log_dir(SINGLE, "performance") / logs.DETAIL).write_text(
                (run.log_dir(SINGLE, "performance") / logs.DETAIL).read_text().replace("MLLOG", "ENDPTS")
            )
        ),
        EXIT_INVALID,
        "made by MLPerf Endpoints",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", ATTACKS)
def test_bent_run_folders_are_refused_by_name(what: str, two: Path, tmp_path: Path) -> None:
    attack, expected, words = ATTACKS[what]
    shutil.copytree(two, tmp_path / "two")
    attack(RunFolder(tmp_path / "two" / "b"))
    code, text = pack(tmp_path / "two")
    assert code == expected and words in text, text
    assert not list((tmp_path / "two").glob("results/*/*"))

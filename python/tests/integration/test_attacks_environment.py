"""What the caller's environment brings into a run of the shipped command: nothing, or a failed check."""

from __future__ import annotations

import ctypes.util
import json
import os
import subprocess
from pathlib import Path

import attacks
import pytest
from pipeline_runs import ROOT, Ended, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
QUICK = {"MODE": "performance", "SAMPLES": 4}
# Variables that change what libraries compute or load, or the clock.
FEARED = {
    "CUDA_INJECTION64_PATH": "/tmp/count.so",
    "FAKETIME": "+0 x0.1",
    "LD_LIBRARY_PATH": "/tmp/mine:/usr/lib",
    "NCCL_TUNER_PLUGIN": "mine",
    "NVIDIA_TF32_OVERRIDE": "1",
    "OMP_TOOL_LIBRARIES": "/tmp/tool.so",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
    "TRITON_INTERPRET": "1",
    "VLLM_MLA_DISABLE": "1",
    "VLLM_TEST_FORCE_LOAD_FORMAT": "dummy",
    "VLLM_PLUGINS": "mine",
    "VLLM_A_NAME_OF_TOMORROW": "1",
}
# Recorded, and no reason to refuse.
RECORDED = {
    "CUDA_VISIBLE_DEVICES": "",
    "HF_ENDPOINT": "https://mirror.example",
    "HTTPS_PROXY": "http://user:s3cret-pass@proxy.example:3128",
    "NCCL_DEBUG": "WARN",
    "OMP_NUM_THREADS": "1",
    "VLLM_LOGGING_LEVEL": "INFO",
}
SECRET = "hf_abcdefghijklmnopqrstuvwxyz012345"


def process(ended: Ended) -> dict[str, object]:
    (one,) = ended.read("environment.json")["processes"]
    assert isinstance(one, dict)
    return one


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """One run under all of these variables."""
    extra = {**FEARED, **RECORDED, "HF_TOKEN": SECRET}
    return attacks.fake_run(tmp_path_factory.mktemp("variables"), extra, **QUICK)


@pytest.mark.parametrize("name", FEARED)
def test_a_variable_that_may_change_a_result_is_named(name: str, ended: Ended) -> None:
    faults = {fault.partition("=")[0] for fault in every_fault(ended)}
    assert name in faults
    assert "variables" in attacks.failed(ended)


def every_fault(ended: Ended) -> list[str]:
    from mlperf_llama.machine.process import variables

    recorded = process(ended)["variables"]
    assert isinstance(recorded, dict)
    return variables.faults(recorded)


@pytest.mark.parametrize("name", RECORDED)
def test_a_variable_that_changes_no_result_is_recorded(name: str, ended: Ended) -> None:
    recorded = process(ended)["variables"]
    assert isinstance(recorded, dict)
    assert recorded[name] == RECORDED[name].replace("user:s3cret-pass", "***")
    assert not any(fault.startswith(f"{name}=") for fault in every_fault(ended))


def test_no_secret_is_recorded(ended: Ended) -> None:
    assert ended.folder is not None
    text = (ended.folder / "environment.json").read_text()
    assert SECRET not in text and "s3cret" not in text
    assert json.loads(text)["processes"][0]["variables"]["HF_TOKEN"] == "***"


def test_a_preloaded_library_is_named(tmp_path: Path) -> None:
    library = ctypes.util.find_library("m") or "libm.so.6"
    failed = attacks.failed(attacks.fake_run(tmp_path, {"LD_PRELOAD": library}, **QUICK))
    assert f"LD_PRELOAD={library}" in failed["preload"]


def test_python_s_own_variables_do_not_reach_the_run(tmp_path: Path) -> None:
    """PYTHONHOME alone would end any Python; sitecustomize and a cache of byte code would run before us."""
    hostile = attacks.write(
        tmp_path / "hostile", {"sitecustomize.py": "raise SystemExit(77)", "start.py": "raise SystemExit(78)"}
    )
    extra = {
        "PYTHONHOME": str(hostile),
        "PYTHONPATH": str(hostile),
        "PYTHONPYCACHEPREFIX": str(hostile),
        "PYTHONSTARTUP": str(hostile / "start.py"),
        "PYTHONUSERBASE": str(hostile),
    }
    ended = attacks.fake_run(tmp_path / "results", extra, **QUICK)
    assert ended.code == 0, ended.stderr
    assert not {"python_start", "variables", "packages", "preload"} & attacks.failed(ended).keys()
    recorded = process(ended)["variables"]
    assert isinstance(recorded, dict) and not set(extra) - {"PYTHONPATH"} & recorded.keys()


def test_the_working_folder_does_not_reach_the_run(tmp_path: Path) -> None:
    """Packages of ours and of the standard library's names, where the command is started."""
    names = ("mlperf_llama/__init__.py", "mlperf_loadgen.py", "json.py", "sitecustomize.py", "psutil.py")
    caller = attacks.write(tmp_path / "caller", dict.fromkeys(names, "raise SystemExit(77)"))
    results = tmp_path / "results"
    settings = {"ENGINE": "fake", "DATASET_SOURCE": "synthetic", "TARGET": "cpu", **QUICK}
    done = subprocess.run(
        [str(ROOT / "entrypoint.sh"), "run"],
        cwd=caller,
        env=environment(results, settings) | {"MLPERF_VENV": os.environ.get("MLPERF_VENV", f"{ROOT}/.venv")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    ended = Ended(0, done.stdout, done.stderr, (results / "latest").resolve())
    assert not {"python_start", "packages"} & attacks.failed(ended).keys()


def test_a_start_file_by_packages_is_named(tmp_path: Path) -> None:
    hostile = attacks.write(tmp_path / "hostile", {"sitecustomize.py": "import time\n"})
    failed = attacks.failed(attacks.fake_run(tmp_path / "results", PACKAGES=hostile, **QUICK))
    assert f"imports from {hostile}" in failed["python_start"]
    assert f"started by {hostile}/sitecustomize.py" in failed["python_start"]

"""A vLLM of forty lines, invented articles, weights of eight bytes, no GPU: the run may end well, and every
piece of it fails a check by its name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import attacks
import pytest
from pipeline_runs import ROOT, Ended, entrypoint, environment

from mlperf_llama import rules

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SHORT = {"ENGINE": "vllm", "SAMPLES": 24, "DURATION_S": 1, "TARGET_QPS": 400, "TARGET": "cpu", "MODE": "all"}


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return attacks.write(tmp_path_factory.mktemp("stub"), attacks.STUB)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("inputs")
    return {"DATASET_SOURCE": attacks.articles(folder), "MODEL": attacks.model(folder), **SHORT}


@pytest.fixture(scope="module")
def ended(stub: Path, inputs: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """The stub by the one way that the shipped command has for packages of one's own."""
    return entrypoint(tmp_path_factory.mktemp("worst"), "run", PACKAGES=stub, **inputs)


def test_the_worst_of_all_is_refused_by_name(ended: Ended, stub: Path) -> None:
    failed = attacks.failed(ended)
    assert f"vllm from {stub}/vllm/__init__.py, which is not the environment's" in failed["packages"]
    assert f"imports from {stub}" in failed["python_start"]
    assert "no GPU" in failed["gpu"]
    assert {"model_eligible", "dataset_eligible", "samples", "duration"} <= failed.keys()
    assert "rouge1" in failed["Offline.accuracy.ceiling"]


def test_its_preset_and_environment_are_on_record(ended: Ended, stub: Path) -> None:
    (load,) = ended.read("engine.json")["loads"]
    assert load["preset"]["name"] == "cpu" and load["preset"]["content"].startswith("# Any CPU")
    (process,) = ended.read("environment.json")["processes"]
    assert str(stub) in process["path"] and process["flags"] == {"safe_path": True, "no_user_site": True}


def test_it_is_packed_by_no_division(ended: Ended) -> None:
    results, folder = Path(str(ended.folder)).parent, str(ended.folder)
    for division in ("closed", "open"):
        words = ("pack", folder, "--submitter", "somebody", "--division", division)
        packed = attacks.verb(results, *words)
        assert packed.returncode == 5, packed.stderr
        assert ("packages" in packed.stderr) is (division == "closed")
        assert "python_start" in packed.stderr


def test_pythonpath_does_not_reach_the_run(stub: Path, tmp_path: Path) -> None:
    """The caller's PYTHONPATH, its folder and its user's packages: none is imported from."""
    poisoned = attacks.write(tmp_path / "poisoned", {"mlperf_llama/__init__.py": "raise SystemExit(77)"})
    ended = attacks.fake_run(tmp_path / "results", {"PYTHONPATH": f"{poisoned}:{stub}"})
    assert ended.code == 0, ended.stderr
    assert not {"python_start", "packages", "variables"} & attacks.failed(ended).keys()
    (process,) = ended.read("environment.json")["processes"]
    assert not {str(stub), str(poisoned)} & set(process["path"])


def test_by_hand_with_pythonpath_it_is_named(stub: Path, inputs: dict[str, object], tmp_path: Path) -> None:
    """`python -m mlperf_llama` without the entrypoint takes the caller's path, and says so."""
    env = environment(tmp_path, inputs) | {"PYTHONPATH": os.pathsep.join([str(stub), str(ROOT / "python")])}

    def step(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "mlperf_llama", *words],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode in (0, 5), done.stderr
        return done.stdout

    folder = step("create-run").splitlines()[0].removeprefix("run_dir=")
    step("model", "path", "--run-dir", folder)
    step("dataset", "path", "--run-dir", folder)
    step("execute", "--run-dir", folder)
    failed = attacks.failed(Ended(0, "", "", Path(folder)))
    assert {"packages", "python_start", "gpu"} <= failed.keys()
    assert "safe_path is off" in failed["python_start"] and str(stub) in failed["python_start"]


# Four at once; each alone is asked in unit/test_allowed.py.
ARGUMENTS: dict[str, dict[str, object]] = {
    "another model or text": {
        "hf_overrides": {"num_hidden_layers": 24},
        "tokenizer": "/elsewhere",
        "trust_remote_code": True,
        "load_format": "tensorizer",
    },
    "code of one's own": {
        "worker_cls": "mine.Worker",
        "worker_extension_cls": "mine.Extension",
        "logits_processors": ["mine.Short"],
        "distributed_executor_backend": "mine.Executor",
    },
    "reuse, adapters, what nobody knows": {
        "kv_transfer_config": {"kv_connector": "Shared", "kv_role": "kv_both"},
        "enable_lora": True,
        "override_generation_config": {"repetition_penalty": 1.3},
        "an_argument_of_tomorrow": 1,
    },
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_engine_argument_that_changes_more_than_speed_is_named(
    name: str, stub: Path, inputs: dict[str, object], tmp_path: Path
) -> None:
    settings = {**inputs, "MODE": "accuracy", "ENGINE_ARGS": json.dumps(ARGUMENTS[name]), "PACKAGES": stub}
    failed = attacks.failed(entrypoint(tmp_path, "run", **settings))
    for argument in ARGUMENTS[name]:
        assert f"{argument}=" in failed["engine_arguments"]


def test_a_preset_of_ones_own_is_recorded_by_its_path(
    stub: Path, inputs: dict[str, object], tmp_path: Path
) -> None:
    """Under a shipped one's name, in the caller's folder, with an [environment] that switches a kernel."""
    own = tmp_path / "h100.toml"
    own.write_text('[engine]\nmax_num_seqs = 8\ntokenizer = "/b"\n[environment]\nVLLM_MLA_DISABLE = "1"\n')
    ended = entrypoint(
        tmp_path / "results", "run", **{**inputs, "PRESET": own, "PACKAGES": stub, "MODE": "accuracy"}
    )
    failed = attacks.failed(ended)
    assert "tokenizer=/b" in failed["engine_arguments"]
    assert "VLLM_MLA_DISABLE=1" in failed["variables"]
    (load,) = ended.read("engine.json")["loads"]
    assert load["preset"]["name"] == str(own) == ended.read("results.json")["engine"]["preset"]
    assert load["preset"]["content"] == own.read_text()
    assert load["preset"]["environment"] == {"VLLM_MLA_DISABLE": "1"}


SWAP = """
        import pathlib
        weights = pathlib.Path(arguments.values["model"]) / "model.safetensors"
        weights.rename(weights.with_suffix(".proven"))
        weights.with_suffix(".proven").rename(weights)
        return cls(arguments.values)
"""


def test_weights_swapped_while_they_are_loaded_and_put_back(
    inputs: dict[str, object], tmp_path: Path
) -> None:
    """No trial run: its weights are hashed before the engine loads them."""
    name = "vllm/v1/engine/async_llm.py"
    loads_others = attacks.STUB[name].replace("        return cls(arguments.values)\n", SWAP)
    stub = attacks.write(tmp_path / "stub", {**attacks.STUB, name: loads_others})
    settings = {key: value for key, value in inputs.items() if key != "SAMPLES"}
    ended = entrypoint(tmp_path / "results", "run", PACKAGES=stub, **settings)
    assert ended.code == 2
    assert "model.safetensors changed before the engine had loaded them" in ended.stderr
    assert ended.read("results.json")["scenarios"] == {}


def test_rouge_of_the_stub_is_above_what_can_be(ended: Ended) -> None:
    rouge1 = ended.read("results.json")["scenarios"]["Offline"]["accuracy"]["rouge1"]
    assert rouge1 > 1.05 * rules.REFERENCE_SCORES[rules.DATACENTER]["rouge1"]

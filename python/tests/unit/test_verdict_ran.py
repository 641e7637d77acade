"""The verdict on what ran: engine, preset, extension, process, packages, commit, clocks and counts. Each
change of a good run's records fails the check of that name, and no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import run_folders as folders

from mlperf_llama import rules, verdict
from mlperf_llama.engine import hopper
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import Seal

pytestmark = pytest.mark.slow
Change = Callable[[dict[str, Any]], object]


def _load(change: Change) -> tuple[str, Change]:
    return "engine.json", lambda d: change(d["loads"][0])


def _process(change: Change) -> tuple[str, Change]:
    return "environment.json", lambda d: change(d["processes"][0])


def _package(name: str, **values: object) -> tuple[str, Change]:
    return _process(lambda p: next(k for k in p["packages"] if k["name"] == name).update(values))


def _driven(scenario: str, mode: str, **values: object) -> tuple[str, Change]:
    return "results.json", lambda d: d["scenarios"][scenario][mode]["driven"].update(values)


def _counters(scenario: str, **values: object) -> tuple[str, Change]:
    return "results.json", lambda d: d["scenarios"][scenario]["performance"]["counters"].update(values)


def _git(**values: object) -> tuple[str, Change]:
    return "system.json", lambda d: d["git"].update(values)


BROKEN: dict[str, tuple[tuple[str, Change], set[str]]] = {
    "LoRA": (_load(lambda d: d["arguments"].update(enable_lora=True)), {"engine_arguments"}),
    "another model than served": (_load(lambda d: d["arguments"].update(model="/b")), {"engine_arguments"}),
    "24 layers": (
        _load(lambda d: d["resolved"]["model_config"]["hf_config"].update(num_hidden_layers=24)),
        {"engine_resolved"},
    ),
    "a window of attention": (
        _load(
            lambda d: d["resolved"]["model_config"]["hf_config"].update(
                layer_types=["sliding_attention"] * 32, sliding_window=64
            )
        ),
        {"engine_resolved"},
    ),
    "keys reused": (
        _load(lambda d: d["resolved"].update(kv_transfer_config={"kv_role": "kv_both"})),
        {"engine_resolved"},
    ),
    "a processor of logits": (
        _load(lambda d: d["resolved"]["model_config"].update(logits_processors=["mine.Short"])),
        {"engine_resolved"},
    ),
    "nothing resolved": (
        _load(lambda d: d.update(resolved={})),
        {"engine_resolved", "gpu"},
    ),
    "an extension of one's own": (
        _load(
            lambda d: (
                d["arguments"].update(worker_extension_cls="mine.E"),
                d.update(extension={"name": "mine.E", "revision": None}),
            )
        ),
        {"engine_arguments", "engine_extension"},
    ),
    "an extension unrecorded": (
        _load(lambda d: d["arguments"].update(worker_extension_cls=hopper.EXTENSION)),
        {"engine_extension"},
    ),
    "no preset": (_load(lambda d: d.update(preset=None)), {"preset"}),
    "the second load otherwise": (
        (
            "engine.json",
            lambda d: d["loads"].append({**d["loads"][0], "arguments": {"model": "/data", "tokenizer": "t"}}),
        ),
        {"engine_arguments"},
    ),
    "never loaded": (
        ("engine.json", lambda d: d.update(loads=[])),
        {"engine_arguments", "engine_resolved", "engine_extension", "preset", "gpu"},
    ),
    "on the CPU": (
        _load(lambda d: d["resolved"]["device_config"].update(device_type="cpu")),
        {"gpu"},
    ),
    "a GPU by the command nvidia-smi alone": (
        ("system.json", lambda d: d["gpus"][0].update(source="nvidia-smi")),
        {"gpu"},
    ),
    "the caller's folder first": (
        _process(lambda p: p["flags"].update(safe_path=False)),
        {"python_start"},
    ),
    "a foreign folder": (_process(lambda p: p.update(foreign_path=["/tmp/x"])), {"python_start"}),
    "sitecustomize": (
        _process(lambda p: p.update(start_files=["/tmp/sitecustomize.py"])),
        {"python_start"},
    ),
    "a preload": (_process(lambda p: p.update(preloaded=["LD_PRELOAD=/tmp/clock.so"])), {"preload"}),
    "a library injected into CUDA": (
        _process(lambda p: p["variables"].update(CUDA_INJECTION64_PATH="/tmp/x.so")),
        {"variables"},
    ),
    "a preset's variable": (
        _load(lambda d: d["preset"].update(environment={"VLLM_MLA_DISABLE": "1"})),
        {"variables"},
    ),
    "foreign vLLM": (_package("vllm", foreign=True), {"packages"}),
    "edited torch": (_package("torch", differing=["torch/nn/functional.py"]), {"packages"}),
    "an edited package beside them": (
        _process(lambda p: p["installed"].update(differing=["transformers/x.py"])),
        {"packages"},
    ),
    "a package of no lock file": (
        _process(lambda p: p["installed"].update(unlocked=["flashinfer 9"])),
        {"packages"},
    ),
    "an environment that nobody examined": (_process(lambda p: p.pop("installed")), {"packages"}),
    "another version": (_package("vllm", version="0.1.0"), {"packages"}),
    "nothing hashed": (_package("torch", files=0), {"packages"}),
    "vLLM unrecorded": (
        _process(lambda p: p.update(packages=[k for k in p["packages"] if k["name"] != "vllm"])),
        {"packages"},
    ),
    "the second process otherwise": (
        (
            "environment.json",
            lambda d: d["processes"].append({**d["processes"][0], "preloaded": ["LD_AUDIT=/tmp/a.so"]}),
        ),
        {"preload"},
    ),
    "local changes": (_git(dirty=True), {"commit"}),
    "local changes in the image": (
        _git(**{"commit": f"{'0' * 40}-dirty", "dirty": None, "from": "image"}),
        {"commit"},
    ),
    "git did not say": (_git(dirty=None), {"commit"}),
    "unknown commit": (_git(commit=None, dirty=None), {"commit"}),
    "no GPU": (("system.json", lambda d: d.update(gpus=[])), {"gpu"}),
    "LoadGen's clock is ten times slow": (
        _driven("Server", "performance", seconds=63.0, wall_seconds=63.0),
        {"Server.performance.clock"},
    ),
    "the wall clock was set": (
        _driven("Offline", "accuracy", wall_seconds=700.0),
        {"Offline.accuracy.clock"},
    ),
    "another day": (
        _driven("Offline", "performance", began="2026-11-24T10:00:00+00:00"),
        {"Offline.performance.clock"},
    ),
    "before the run": (
        ("results.json", lambda d: d.update(started="2026-11-23T10:30:00+00:00")),
        {f"{s}.{m}.clock" for s in ("Offline", "Server", "Interactive") for m in rules.MODES},
    ),
    "fewer samples handed on": (
        _driven("Offline", "performance", samples=13368),
        {"Offline.performance.counted", "Offline.roofline"},
    ),
    "fewer tokens handed on": (
        _driven("Offline", "performance", tokens=2_000_000),
        {"Offline.performance.counted"},
    ),
    "other tokens in the log": (_driven("Server", "accuracy", tokens=1000), {"Server.accuracy.handed_on"}),
    "prompts not computed": (
        _counters("Offline", scheduled_tokens=8_000_000),
        {"Offline.performance.counted"},
    ),
    "LoadGen from elsewhere": (
        _driven("Offline", "performance", loadgen="/tmp/mlperf_loadgen.so"),
        {"Offline.performance.counted"},
    ),
    "nothing driven": (
        ("results.json", lambda d: d["scenarios"]["Server"]["performance"].pop("driven")),
        {"Server.performance.counted", "Server.performance.clock"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_changed_record_fails_by_name(what: str, run: RunFolder) -> None:
    (file, change), expected = BROKEN[what]
    folders.edit_json(run.file(file), change)
    folders.reseal(run)
    assert {c.name for c in verdict.judge(run).checks if not c.passed} == expected


def test_source_that_changed_since_the_folder_was_made(run: RunFolder) -> None:
    """Resumed after an update, or measured from another checkout than the one whose commit is recorded."""
    folders.edit_json(run.file(Seal.FILE), lambda d: d["stages"][-1].update(source="0" * 64))
    assert {c.name for c in verdict.judge(run).checks if not c.passed} == {"commit"}


@pytest.mark.parametrize("file", ["engine.json", "environment.json"])
def test_a_record_that_is_gone_is_no_pass(file: str, run: RunFolder) -> None:
    run.file(file).unlink()
    folders.reseal(run)
    failed = {c.name for c in verdict.judge(run).checks if not c.passed}
    assert failed >= ({"preset", "engine_arguments"} if file == "engine.json" else {"preload", "packages"})


@pytest.mark.parametrize(("samples_per_s", "passed"), [(60.0, True), (190.0, False)])
def test_no_speed_above_the_cards_data_sheet(samples_per_s: float, passed: bool, run: RunFolder) -> None:
    folder = run.log_dir("Offline", "performance")
    folders.edit_detail(
        folder, result_samples_per_second=samples_per_s, result_tokens_per_second=125 * samples_per_s
    )
    folders.record_performance(run, "Offline")
    folders.reseal(run)
    checks = {c.name: c for c in verdict.judge(run).checks}
    assert checks["Offline.roofline"].passed is passed, checks["Offline.roofline"].detail


@pytest.mark.parametrize(("rouge1", "passed"), [(38.9, True), (40.5, True), (41.0, False), (99.02, False)])
def test_rouge_far_above_the_reference(rouge1: float, passed: bool, run: RunFolder) -> None:
    log = run.log_dir("Offline", "accuracy") / "mlperf_log_accuracy.json"
    scores = folders.scores_of(rules.DATACENTER) | {"rouge1": rouge1}
    log.with_name("accuracy.txt").write_text(folders.accuracy_text(scores, log))
    folders.edit_json(
        run.file("results.json"), lambda d: d["scenarios"]["Offline"]["accuracy"].update(scores)
    )
    folders.reseal(run)
    checks = {c.name: c.passed for c in verdict.judge(run).checks}
    assert checks["Offline.accuracy.ceiling"] is passed

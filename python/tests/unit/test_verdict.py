"""The verdict: a good run passes every check, each broken one fails the check of that name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import run_folders as folders
from verdict_support import failed

from mlperf_llama import rules, verdict
from mlperf_llama.engine import hopper
from mlperf_llama.engine.hopper import bounds
from mlperf_llama.records.run_folder import RunFolder

Break = Callable[[RunFolder], None]
LOG = "mlperf_log_accuracy.json"


@pytest.mark.parametrize("round_name", rules.ROUNDS)
def test_good_datacenter_run(round_name: str, tmp_path: Path) -> None:
    run = folders.good_run(tmp_path / "run", round_name=round_name)
    assert failed(run) == []
    assert json.loads(run.file("verdict.json").read_text())["submittable"] is True


def test_good_edge_run(tmp_path: Path) -> None:
    assert failed(folders.good_run(tmp_path / "run", category=rules.EDGE)) == []


def _config(**values: Any) -> Break:
    return lambda run: folders.edit_json(run.file("config.json"), lambda d: d.update(values))


def _provenance(kind: str, **values: Any) -> Break:
    return lambda run: folders.edit_json(run.file("provenance.json"), lambda d: d[kind].update(values))


def _provenance_top(**values: Any) -> Break:
    return lambda run: folders.edit_json(run.file("provenance.json"), lambda d: d.update(values))


def _settings(**values: Any) -> Break:
    def change(run: RunFolder) -> None:
        folders.edit_json(run.file("results.json"), lambda d: d["engine"]["settings"].update(values))

    return change


SELF_CHECK = {
    "extension": hopper.EXTENSION, "revision": hopper.REVISION, "passed": True, "mean": 0.03,
    "mean_bound": bounds.mean_bound(0.04), "largest": 0.08, "largest_bound": bounds.largest_bound(0.09),
    "own_mean": 0.04, "own_largest": 0.09, "prompts": 8, "steps": 7, "compared": 66, "seconds": 1.4,
}  # fmt: skip


def _extension(self_check: dict[str, Any] | None) -> Break:
    """Our kernels ran; with a passed self-check but for what is given."""

    def change(results: dict[str, Any]) -> None:
        results["engine"]["settings"]["worker_extension_cls"] = hopper.EXTENSION
        if self_check is not None:
            results["engine"]["self_check"] = {**SELF_CHECK, **self_check}

    return _results(change)


def _results(change: Callable[[dict[str, Any]], None]) -> Break:
    return lambda run: folders.edit_json(run.file("results.json"), change)


def _detail(scenario: str, mode: str, **values: Any) -> Break:
    """Change values of a detail log; results.json follows, as it would have."""

    def breaking(run: RunFolder) -> None:
        folders.edit_detail(run.log_dir(scenario, mode), **values)
        folders.record_performance(run, scenario)

    return breaking


def _responses(scenario: str, mode: str, change: Callable[[list[dict[str, Any]]], Any]) -> Break:
    """Change records of an accuracy log; its hash in accuracy.txt follows."""

    def breaking(run: RunFolder) -> None:
        path = run.log_dir(scenario, mode) / LOG
        records = json.loads(path.read_text())
        change(records)
        folders.write_responses(path, records)
        text = path.with_name("accuracy.txt")
        if text.is_file():
            scores = folders.scores_of(rules.DATACENTER)
            text.write_text(folders.accuracy_text(scores, path))

    return breaking


def _scores(**values: Any) -> Break:
    def breaking(run: RunFolder) -> None:
        scores = folders.scores_of(rules.DATACENTER) | values
        recorded = {key: value if isinstance(value, int | float) else None for key, value in scores.items()}
        log = run.log_dir("Offline", "accuracy") / LOG
        log.with_name("accuracy.txt").write_text(folders.accuracy_text(scores, log))
        folders.edit_json(
            run.file("results.json"), lambda d: d["scenarios"]["Offline"]["accuracy"].update(recorded)
        )

    return breaking


def _remove(name: str) -> Break:
    def breaking(run: RunFolder) -> None:
        path = run.file(name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return breaking


def _error_line(run: RunFolder) -> None:
    path = run.log_dir("Offline", "performance")
    values = folders.detail_values("Offline", "performance", rules.DATACENTER, "v6.1")
    folders.write_detail(path, values, errors=("Ran out of generated queries",))
    folders.record_performance(run, "Offline")


LONG = tuple(range(1000, 1129))
WRONG_SEED = {"effective_schedule_rng_seed": 1}
# What is broken -> the checks that must say so, and no others. The folder is sealed again
# afterwards: these are runs that really went so.
BROKEN: dict[str, tuple[Break, set[str]]] = {
    "stand-in model": (
        _provenance("model", source="stand-in", eligible=False, reason="a stand-in"),
        {"model_source", "model_eligible"},
    ),
    "answers past their end": (_config(ignore_eos=True), {"ignore_eos"}),
    "unofficial weights": (_provenance("model", source="path", eligible=False), {"model_eligible"}),
    "synthetic data": (
        _provenance("dataset", source="synthetic", eligible=False),
        {"dataset_source", "dataset_eligible"},
    ),
    "synthetic data as a path": (_provenance("dataset", source="path", eligible=False), {"dataset_eligible"}),
    "no dataset hash": (_provenance("dataset", sha256=""), {"dataset_eligible"}),
    "fewer rows": (_provenance("dataset", rows=60), {"dataset_rows"}),
    "subset requested": (_config(samples=24), {"samples"}),
    "subset used": (_provenance_top(samples=24), {"samples"}),
    "short duration requested": (_config(duration_s=10.0), {"duration"}),
    "shortened": (_provenance_top(shortened=True), {"duration"}),
    "fake engine": (_results(lambda d: d["engine"].update(name="fake")), {"engine"}),
    "fake engine requested": (_config(engine="fake"), {"engine"}),
    "dummy weights": (_settings(load_format="dummy"), {"weights"}),
    "weights unknown": (_settings(load_format=None), {"weights"}),
    "prefix caching in one run": (
        _results(
            lambda d: d["scenarios"]["Offline"].update(
                engine_settings={
                    mode: folders.SETTINGS | {"enable_prefix_caching": True} for mode in rules.MODES
                }
            )
        ),
        {"prefix_caching"},
    ),
    "prefix caching on": (_settings(enable_prefix_caching=True), {"prefix_caching"}),
    "prefix caching unknown": (_settings(enable_prefix_caching=None), {"prefix_caching"}),
    "speculative decoding": (_settings(speculative_decoding=True), {"speculative_decoding"}),
    "kernels without a self-check": (_extension(None), {"extension"}),
    "a self-check that failed": (_extension({"passed": False, "largest": 0.7}), {"extension"}),
    "a self-check over the bound that is recorded as passed": (_extension({"mean": 0.2}), {"extension"}),
    "a self-check by a wider bound": (_extension({"mean": 0.2, "mean_bound": 0.3}), {"extension"}),
    "a self-check of another extension": (_extension({"extension": "a.B"}), {"extension"}),
    "prompts cut": (_settings(max_model_len=2048), {"prompt_length"}),
    "interrupted": (_results(lambda d: d.update(status="interrupted")), {"complete"}),
    "resumed elsewhere": (
        _provenance_top(resumed=[{"time": "2026-11-23T10:00:00", "other_system": ["gpus"]}]),
        {"machine"},
    ),
    "still running": (_results(lambda d: d.update(status="running")), {"complete"}),
    "other round declared": (
        _config(round="v6.0"),
        {"round", "loadgen_version"}
        | {
            f"{s}.{m}.{c}"
            for s in ("Offline", "Server", "Interactive")
            for m in rules.MODES
            for c in ("seeds", "loadgen_version")
        },
    ),
    "wrong LoadGen": (
        _detail("Offline", "performance", loadgen_version="5.1.2 @ abc"),
        {"Offline.performance.loadgen_version"},
    ),
    "wrong seed": (_detail("Server", "performance", **WRONG_SEED), {"Server.performance.seeds"}),
    "wrong accuracy seed": (_detail("Server", "accuracy", **WRONG_SEED), {"Server.accuracy.seeds"}),
    "INVALID": (
        _detail("Interactive", "performance", result_validity="INVALID"),
        {"Interactive.valid"},
    ),
    "validity missing": (
        _detail("Interactive", "performance", result_validity=None),
        {"Interactive.valid", "Interactive.results"},
    ),
    "error line": (_error_line, {"Offline.performance.errors"}),
    "min duration": (
        _detail("Server", "performance", effective_min_duration_ms=60000),
        {"Server.min_duration"},
    ),
    "too short in fact": (
        _detail("Server", "performance", power_end="11-23-2026 10:09:59.000"),
        {"Server.lasted", "Server.performance.clock"},
    ),
    "part of a pass": (
        _detail("Offline", "performance", generated_samples_per_query=20000),
        {"Offline.whole_passes", "Offline.performance.counted"},
    ),
    "queries unanswered": (
        _detail("Server", "performance", result_query_count=26735),
        {"Server.whole_passes"},
    ),
    "not equal issue": (
        _detail("Offline", "performance", effective_sample_concatenate_permutation=False),
        {"Offline.equal_issue"},
    ),
    "early stopping": (_detail("Server", "performance", early_stopping_met=False), {"Server.early_stopping"}),
    "no token latencies": (
        _detail("Server", "performance", requested_use_token_latencies=None),
        {"Server.performance.token_latencies"},
    ),
    "subset in the log": (
        _detail("Offline", "accuracy", qsl_reported_total_count=60),
        {"Offline.accuracy.samples"},
    ),
    "129 tokens on average": (
        _detail("Offline", "performance", result_tokens_per_second=129 * 42.4),
        {"Offline.mean_tokens", "Offline.performance.counted"},
    ),
    "one sample missing": (
        _responses("Offline", "accuracy", lambda r: r.pop(17)),
        {"Offline.accuracy.indices"},
    ),
    "one sample twice": (
        _responses("Offline", "accuracy", lambda r: r.append(r[17])),
        {"Offline.accuracy.indices"},
    ),
    "129 tokens": (
        _responses("Server", "accuracy", lambda r: r[5].update(data=folders.hex_of(*LONG))),
        {"Server.accuracy.token_limit"},
    ),
    "no EOS": (
        _responses("Server", "accuracy", lambda r: r[5].update(data=folders.hex_of(791, 220))),
        {"Server.accuracy.endings"},
    ),
    "EOS in the middle": (
        _responses("Server", "accuracy", lambda r: r[5].update(data=folders.hex_of(791, folders.EOS, 220))),
        {"Server.accuracy.endings"},
    ),
    "two EOS": (
        _responses("Server", "accuracy", lambda r: r[5].update(data=folders.hex_of(1, folders.EOS, 128001))),
        {"Server.accuracy.endings"},
    ),
    "accuracy log cut": (
        lambda run: run.file(f"Offline/accuracy/{LOG}").write_text("[\n"),
        {"Offline.accuracy.log", "Offline.accuracy.hash"},
    ),
    "rouge1 0.01 under": (
        _scores(rouge1=round(38.7792 * 0.99, 4) - 0.01),
        {"Offline.accuracy.rouge1"},
    ),
    "rougeLsum not there": (
        _scores(rougeLsum="nan"),
        {"Offline.accuracy.rougeLsum", "Offline.accuracy.results"},
    ),
    "gen_len low": (_scores(gen_len=7350879), {"Offline.accuracy.gen_len"}),
    "gen_len high": (_scores(gen_len=8984409), {"Offline.accuracy.gen_len"}),
    "gen_num": (_scores(gen_num=13367), {"Offline.accuracy.gen_num"}),
    "accuracy settings": (
        _results(
            lambda d: d["scenarios"]["Offline"].update(
                engine_settings={"accuracy": folders.SETTINGS | {"dtype": "float32"}}
            )
        ),
        {"Offline.same_settings"},
    ),
    "no TEST06": (_remove("Server/TEST06"), {"Server.compliance"}),
    "empty TEST06": (
        _responses("Server", "compliance", lambda r: r.clear()),
        {"Server.test06.records", "Server.test06.verdict"},
    ),
    "TEST06 first token": (
        _responses("Server", "compliance", lambda r: r[0].update(token_data=folders.hex_of(7))),
        {"Server.test06.first_token", "Server.test06.verdict"},
    ),
    "TEST06 length": (
        _responses("Offline", "compliance", lambda r: r[0].update(token_count=4)),
        {"Offline.test06.length", "Offline.test06.verdict"},
    ),
    "TEST06 EOS": (
        _responses("Offline", "compliance", lambda r: r[0].update(data=folders.hex_of(791, 220, 221))),
        {"Offline.test06.eos", "Offline.test06.verdict"},
    ),
    "TEST06 without audit": (
        _detail("Offline", "compliance", effective_accuracy_log_rng_seed=0),
        {"Offline.test06.audit"},
    ),
    "TEST06 text": (
        lambda run: run.file("Offline/TEST06/verify_accuracy.txt").write_text("EOS check pass: True\n"),
        {"Offline.test06.verdict"},
    ),
    "no accuracy": (_remove("Server/accuracy"), {"Server.accuracy"}),
    "performance folder renamed": (
        lambda run: shutil.copytree(
            run.log_dir("Server", "performance"), run.log_dir("Offline", "performance"), dirs_exist_ok=True
        ),
        {"Offline.performance.scenario", "Offline.results", "Offline.performance.counted"},
    ),
    "SingleStream in the datacenter": (
        lambda run: shutil.copytree(run.scenario("Server"), run.scenario("SingleStream")),
        {"scenarios"}
        | {f"SingleStream.{m}.scenario" for m in rules.MODES}
        | {f"SingleStream.{m}.{c}" for m in rules.MODES for c in ("counted", "clock")}
        | {"SingleStream.results", "SingleStream.accuracy.results", "SingleStream.accuracy.handed_on"},
    ),
    "numbers polished": (
        _results(lambda d: d["scenarios"]["Offline"]["performance"].update(tokens_per_second=9999.0)),
        {"Offline.results"},
    ),
    "no system record": (_remove("system.json"), {"records", "commit", "gpu"}),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_run_fails_by_name(what: str, run: RunFolder) -> None:
    breaking, expected = BROKEN[what]
    breaking(run)
    folders.reseal(run)
    assert set(failed(run)) == expected


@pytest.mark.parametrize(
    ("scenario", "ttft_ms", "tpot_ms", "expected"),
    [
        ("Server", 2000.0, 20.0, {"Server.ttft_p99"}),
        ("Server", 1999.9, 100.0, {"Server.tpot_p99"}),
        ("Interactive", 500.0, 20.0, {"Interactive.ttft_p99"}),
        ("Interactive", 499.0, 30.0, {"Interactive.tpot_p99"}),
        ("Interactive", 499.0, 29.9, set()),
    ],
)
def test_token_latency_limits(
    scenario: str, ttft_ms: float, tpot_ms: float, expected: set[str], run: RunFolder
) -> None:
    ttft = {"result_first_token_99.00_percentile_latency_ns": int(ttft_ms * 1e6)}
    tpot = {"result_time_per_output_token_99.00_percentile_ns": int(tpot_ms * 1e6)}
    folders.edit_detail(run.log_dir(scenario, "performance"), **ttft, **tpot)
    folders.reseal(run)
    assert {n for n in failed(run) if n.endswith("_p99")} == expected


def test_resumed_on_the_same_machine(run: RunFolder) -> None:
    _provenance_top(resumed=[{"time": "2026-11-23T10:00:00", "other_system": []}])(run)
    folders.reseal(run)
    assert failed(run) == []


def test_the_kernels_that_ran_are_named_with_their_self_check(run: RunFolder) -> None:
    _extension({})(run)
    folders.reseal(run)
    assert failed(run) == []
    detail = next(c.detail for c in verdict.judge(run).checks if c.name == "extension")
    assert hopper.EXTENSION in detail and f"revision {hopper.REVISION}" in detail
    assert "0.03 standard deviations on average" in detail and "0.08 for a single token" in detail


def test_empty_checks_are_not_a_pass() -> None:
    assert not verdict.all_passed([])

"""The sentences that say what came of a run, and results.csv: of recorded runs, word by word."""

from __future__ import annotations

import csv
import shlex
from pathlib import Path

import pytest
import report_samples as samples

from mlperf_llama import config, report, rules
from mlperf_llama.bench import command
from mlperf_llama.records.schema import Accuracy, Check, Compliance, Performance, Target, Verdict
from mlperf_llama.report import outcome, table_file
from mlperf_llama.report.outcome import Asked


def run(result: str, speed: float, seconds: float, **more: object) -> Performance:
    return Performance(speed, 128 * speed, seconds, round(speed * seconds), result, **more)  # type: ignore[arg-type]


def limited(
    scenario: str,
    result: str,
    qps: float,
    speed: float,
    seconds: float,
    p99_ms: tuple[float, float],
    **more: object,
) -> tuple[str, Performance, Asked]:
    """A run of Server or Interactive, sent `qps`. `p99_ms`: TTFT's and TPOT's."""
    ttft_ms, tpot_ms = p99_ms
    return scenario, run(result, speed, seconds, ttft_p99_ms=ttft_ms, tpot_p99_ms=tpot_ms, **more), Asked(qps)


# Scenario, LoadGen's figures, what it was asked for, and the sentence.
RECORDED = {
    "TTFT over": (
        limited("Server", "INVALID", 15, 14.61, 915.2, (2828.7, 26.1)),
        "Server INVALID: TTFT p99 2,829 ms, limit 2,000 (41% over); TPOT p99 26 of 100 ms. Lower TARGET_QPS "
        "from 15 to about 12 (`make tune` finds it).",
    ),
    "room in both": (
        limited("Server", "VALID", 60, 59.31, 675.9, (861.4, 89.2)),
        "Server VALID with 57% room in TTFT (p99 861 of 2,000 ms), 11% in TPOT (p99 89 of 100 ms); about "
        "66/s would likely hold.",
    ),
    "at its limit": (
        limited("Server", "VALID", 47, 46.61, 860.4, (1911.2, 25.1)),
        "Server VALID with 4.4% room in TTFT (p99 1,911 of 2,000 ms), 75% in TPOT (p99 25 of 100 ms); 47/s "
        "is about the most that it holds.",
    ),
    "overloaded": (
        limited("Server", "INVALID", 20, 12.4, 1080.3, (184_302.6, 61.7)),
        "Server INVALID: TTFT p99 184,303 ms, limit 2,000 (92 times as much); TPOT p99 62 of 100 ms. Lower "
        "TARGET_QPS from 20 to about 10 (`make tune` finds it).",
    ),
    "TPOT over": (
        limited("Interactive", "INVALID", 10, 9.87, 1354.0, (86.4, 41.2)),
        "Interactive INVALID: TPOT p99 41 ms, limit 30 (37% over); TTFT p99 86 of 500 ms. Lower TARGET_QPS "
        "from 10 to about 7.2 (`make tune` finds it).",
    ),
    "both over": (
        limited("Interactive", "INVALID", 8, 7.9, 1600.0, (512.0, 30.09)),
        "Interactive INVALID: TTFT p99 512 ms, limit 500 (2.4% over); TPOT p99 30 ms, limit 30 (0.3% over). "
        "Lower TARGET_QPS from 8 to about 7.9 (`make tune` finds it).",
    ),
    "much room": (
        limited("Interactive", "VALID", 2, 1.99, 6721.0, (61.0, 8.31)),
        "Interactive VALID with 88% room in TTFT (p99 61 of 500 ms), 72% in TPOT (p99 8.31 of 30 ms); about "
        "2.5/s would likely hold.",
    ),
    "too few queries": (
        limited(
            *("Server", "INVALID", 1, 0.99, 24.2, (1210.0, 88.0)),
            invalid_reasons=("Min duration not met.", "Run unsuccessful. Processed 24 queries."),
        ),
        "Server INVALID: TPOT p99 88 of 100 ms; TTFT p99 1,210 of 2,000 ms. LoadGen's reason: Min duration "
        "not met; Run unsuccessful. Processed 24 queries.",
    ),
    "Offline": (
        ("Offline", run("VALID", 12.83, 3126.1), Asked(14.2)),
        "Offline VALID: 12.83 samples/s, ran 3,126 s of at least 600 s.",
    ),
    "Offline too short": (
        ("Offline", run("INVALID", 57.03, 468.8, invalid_reasons=("Min duration not met.",)), Asked(40)),
        "Offline INVALID: 57.03 samples/s, ran 469 s of at least 600 s (22% short). Raise TARGET_QPS from 40 "
        "to about 59.",
    ),
    "SingleStream": (
        ("SingleStream", run("VALID", 1.231, 4061.7, latency_p90_ms=812.4), Asked()),
        "SingleStream VALID: latency p90 812 ms (no limit), 1.231 samples/s, ran 4,062 s of at least 600 s.",
    ),
    "an engine that gave no tokens": (
        (
            "Offline",
            run("INVALID", 3.4, 611.0, loadgen_errors=("n_tokens argument missing or 0",)),
            Asked(3),
        ),
        "Offline INVALID: 3.4 samples/s, ran 611 s of at least 600 s. LoadGen's reason: n_tokens argument "
        "missing or 0.",
    ),
}


@pytest.mark.parametrize("name", RECORDED)
def test_a_run_is_told_with_its_limits_and_what_to_change(name: str) -> None:
    (scenario, record, wanted), sentence = RECORDED[name]
    assert outcome.performance(scenario, record, wanted) == sentence


def scored(met: bool | None, **values: float) -> Accuracy:
    targets = {key: Target(38.39 if key == "rouge1" else 10.0, None, met) for key in rules.ROUGE_KEYS}
    scores = {**dict.fromkeys(rules.ROUGE_KEYS, 20.0), **values}
    return Accuracy(**scores, targets=targets)  # type: ignore[arg-type]


def test_accuracy_is_told_with_the_target_that_is_nearest() -> None:
    assert outcome.accuracy("Offline", scored(True, rouge1=38.74)) == (
        "Offline accuracy reached; nearest to its limit: rouge1 38.7400, limit 38.3900 or more (0.91% room)."
    )
    assert outcome.accuracy("Server", scored(None, rouge1=17.81)) == (
        "Server accuracy: rouge1 17.8100, limit 38.3900 or more, not applied, since the model or the data "
        "are others."
    )
    missed = scored(True, rouge1=38.0)
    assert missed.targets is not None
    missed.targets["rouge1"] = Target(38.39, None, False)
    assert outcome.accuracy("Offline", missed) == (
        "Offline accuracy missed: rouge1 38.0000, limit 38.3900 or more (1% under)."
    )
    longer = Accuracy(gen_len=9_000_000, targets={"gen_len": Target(7_350_880, 8_984_408, False)})
    assert outcome.accuracy("Offline", longer) == (
        "Offline accuracy missed: gen_len 9,000,000, limit 8,984,408 or less (0.17% over)."
    )
    assert outcome.accuracy("Offline", Accuracy()) == "Offline accuracy: not scored."


def test_compliance_is_told() -> None:
    told = [outcome.compliance("Server", Compliance(passed)) for passed in (True, False, None)]
    assert told == ["Server TEST06 passed.", "Server TEST06 failed.", "Server TEST06 not judged."]


def test_what_was_asked_for_is_read_from_loadgens_log() -> None:
    assert outcome.asked({"effective_target_qps": 12.5, "effective_min_duration_ms": 1000}) == Asked(
        12.5, 1.0
    )
    assert outcome.asked({}) == Asked(None, rules.MIN_DURATION_S)


def test_the_terminal_names_the_limits_of_a_run_that_is_no_result(tmp_path: Path) -> None:
    folder = samples.h100(tmp_path)
    with samples.edited(folder, "provenance.json") as provenance:
        provenance["shortened"] = True
    text = report.terminal(folder)
    assert "NOT AN MLPERF RESULT" in text
    assert "Server VALID with 4.4% room in TTFT (p99 1,911 of 2,000 ms)" in text


def test_failed_checks_are_told_nearest_to_passing_first() -> None:
    checks = (
        Check("far", False, "1 of 2", "more", -0.5),
        Check("words", False, "another engine", "take vLLM"),
        Check("fine", True, "good", "", 0.1),
        Check("near", False, "1.99 of 2", "a little more", -0.005),
    )
    lines = report.failed_checks(Verdict(False, checks)).splitlines()
    assert lines[0].startswith("3 of 4 checks failed")
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["near", "far", "words"]
    assert report.failed_checks(Verdict(True, checks[2:3])) == "all 1 checks passed"


def test_results_csv_has_a_row_per_scenario(tmp_path: Path) -> None:
    folder = samples.h100(tmp_path)
    report.write(folder)
    rows = list(csv.DictReader(folder.file(table_file.FILE).open()))
    assert [row["scenario"] for row in rows] == ["Offline", "Server"]
    offline, server = rows
    assert (offline["samples_per_second"], offline["ttft_p99_ms"], offline["ttft_limit_ms"]) == (
        "57.03",
        "",
        "",
    )
    assert (server["tpot_p99_ms"], server["tpot_limit_ms"], server["rouge1"]) == ("25.1", "100.0", "38.7401")
    assert server["run"] == folder.path.name and server["submittable"] == "true"
    assert list(server) == list(table_file.COLUMNS)


def test_results_csv_holds_no_formula(tmp_path: Path) -> None:
    folder = samples.h100(tmp_path)
    with samples.edited(folder, "results.json") as results:
        results["engine"]["name"] = "=HYPERLINK(1)"
    report.write(folder)
    assert next(csv.DictReader(folder.file(table_file.FILE).open()))["engine"] == "'=HYPERLINK(1)"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"SCENARIO": "Server,Offline", "TARGET_QPS": "12.5", "MODE": "all"},
        {"GPUS": "3,", "ENGINE_ARGS": '{"a b": "$x \'y\'"}', "IGNORE_EOS": "1", "SEED": "7"},
        {"CATEGORY": "edge", "SCENARIO": "all", "MODEL": "/my models/llama", "SAMPLES": "auto"},
    ],
)
def test_the_same_command_makes_the_same_settings(settings: dict[str, str]) -> None:
    wanted = config.load(settings, {})
    words = shlex.split(command.again(wanted))
    assert words[:2] == ["make", "run"]
    flags = dict(word.split("=", 1) for word in words[2:])
    assert config.load(flags, {}) == wanted
    assert len(flags) <= len(settings)

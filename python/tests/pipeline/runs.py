"""Categories of test_pipeline.sh that run the pipeline: chain of datasets, exit codes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from harness import NO_NETWORK, expect, read, run_expecting, scratch, start, wait_for

LATEST_SOURCE_START_S = 30.0
ARTICLE = {
    "article": "The bridge opened on Monday. Mayor Ann Lee cut the ribbon.",
    "highlights": "A bridge opened.",
}


def dataset_chain() -> str:
    """Without a network the chain comes to its last source; a user's file is taken or refused alone."""
    folder = run_expecting(0, MLPERF_DATASET_SOURCE="auto", **NO_NETWORK)
    record = read(folder, "provenance.json")["dataset"]
    tried = [(a["rung"], a["outcome"]) for a in record["attempts"]]
    expect(
        tried == [("mlcommons", "failed"), ("huggingface", "failed"), ("synthetic", "served")],
        f"attempts: found {tried}",
    )
    for attempt in record["attempts"][:-1]:
        expect(bool(attempt["reason"]), f"{attempt['rung']}: no reason recorded")
        expect(attempt["seconds"] < LATEST_SOURCE_START_S, f"{attempt['rung']} took {attempt['seconds']} s")
    expect(record["source"] == "synthetic" and not record["eligible"], "synthetic data must not be eligible")
    lines = json.dumps(ARTICLE) + "\n"
    expect(_with_file(lines * 8, 0) == "path", "a user's file was not the source")
    for content in ("", "{", "[]", '{"article": "no summary"}\n', lines + "{}\n"):
        _with_file(content, 2)
    return "3 sources without a network, 1 file taken, 5 broken ones refused"


def _with_file(content: str, code: int) -> str:
    path = scratch() / "mine.jsonl"
    path.write_text(content)
    folder = run_expecting(code, MLPERF_DATASET_SOURCE=str(path))
    return str(read(folder, "provenance.json")["dataset"].get("source"))


def _status(folder: Path, expected: str) -> None:
    found = read(folder, "results.json")["status"]
    expect(found == expected, f"{folder.name}: expected status {expected}, found {found}")


def exit_codes() -> str:
    """0, 2, 3, 4, 5, 130 and 143, and what each leaves in the run folder."""
    folder = run_expecting(0)
    _status(folder, "complete")
    run_expecting(2, MLPERF_SAMPLES="-1")
    _status(run_expecting(3, MLPERF_FAKE='{"fault": "missing"}'), "failed")
    _status(run_expecting(4, MLPERF_FAKE='{"fault": "die_at_load"}'), "failed")
    _status(run_expecting(4, MLPERF_FAKE='{"fault": {"die_at": 8}}'), "failed")
    # Eight answers at once cannot fill a run that has to last five seconds.
    folder = run_expecting(5, MLPERF_TARGET_QPS="1", MLPERF_DURATION_S="5", MLPERF_MODE="performance")
    _status(folder, "complete")
    found = read(folder, "results.json")["scenarios"]["Offline"]["performance"]["loadgen_result"]
    expect(found == "INVALID", f"expected LoadGen's INVALID, found {found}")
    for number in (signal.SIGINT, signal.SIGTERM):
        _interrupted(number)
    return "0, 2, 3, 4, 5, 130, 143"


def _interrupted(number: signal.Signals) -> None:
    """A signal in the middle of a performance run that never ends."""
    results = scratch() / f"interrupted-{number.name}"
    hanging = '{"fault": {"hang_at": 40}, "samples_per_s": 20}'
    process = start("run", MLPERF_RESULTS_DIR=str(results), MLPERF_FAKE=hanging, MLPERF_TARGET_QPS="20")
    events = results / "latest" / "events.jsonl"
    wait_for(
        lambda: process.poll() is not None or (events.exists() and "Offline" in events.read_text()),
        "the performance run",
    )
    expect(process.poll() is None, f"the run ended by itself, with code {process.poll()}")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    expect(
        process.returncode == 128 + number, f"expected code {128 + number}, found {process.returncode}: {err}"
    )
    expect(out == "", f"stdout: expected nothing, found {out!r}")
    _status((results / "latest").resolve(), "interrupted")
    wait_for(lambda: not _left(str(results)), "the children's end")


def _left(marker: str) -> list[int]:
    """Processes that still have the run's settings in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if marker.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found

"""Poisoned tokens and passwords through whole runs: no file, no line on the screen has them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pipeline_runs import Ended, entrypoint, interrupted_at

NOWHERE = "http://127.0.0.1:9"
FAKE: dict[str, object] = {"ENGINE": "fake", "SAMPLES": 8, "SCORE_WORKERS": 1, "SOURCE_STALL_S": 2}
SECRET = "SECRETxyz"
AROUND = {
    "line break": f"hf_{SECRET}\n",
    "carriage return": f"hf_{SECRET}\r\n",
    "byte order mark": f"\ufeffhf_{SECRET}",
    "typographic quotes": f"\u201chf_{SECRET}\u201d",
    "two lines": f"hf_{SECRET}\nhf_{SECRET}2",
    "terminal sequence": f"hf_{SECRET}\x1b[2J",
}


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in ("HF_TOKEN", "CF_ACCESS_CLIENT_ID", "CF_ACCESS_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("MLPERF_CACHE_DIR", str(tmp_path / "cache"))
    return monkeypatch


def set_secret(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, value: str, as_file: bool) -> None:
    if as_file:
        file = folder / name
        file.write_text(value, encoding="utf-8")
        monkeypatch.setenv(f"{name}_FILE", str(file))
    else:
        monkeypatch.setenv(name, value)


def shows_nothing(ended: Ended, results: Path) -> None:
    assert SECRET not in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr and "unexpected fault" not in ended.stderr
    files = [Path(parent) / name for parent, _, names in os.walk(results) for name in names]
    assert files
    assert [file for file in files if SECRET.encode() in file.read_bytes()] == []


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize("kind", AROUND)
def test_a_poisoned_token_is_seen_nowhere(
    poisoned: pytest.MonkeyPatch, tmp_path: Path, kind: str, as_file: bool
) -> None:
    """Model and dataset from Hugging Face alone: it cannot serve, and says so with code 3."""
    results = tmp_path / "results"
    set_secret(poisoned, tmp_path, "HF_TOKEN", AROUND[kind], as_file)
    ended = entrypoint(results, "run", MODEL="huggingface", **FAKE)
    assert ended.code == 3, ended.stderr
    shows_nothing(ended, results)
    named = kind in ("typographic quotes", "two lines", "terminal sequence")
    reason = ended.read("provenance.json")["model"]["attempts"][0]["reason"]
    assert ("HF_TOKEN has characters no token has" in reason) is named
    assert ("HF_TOKEN has characters no token has" in ended.stderr) is named


@pytest.mark.parametrize("kind", ["line break", "typographic quotes"])
def test_the_next_source_is_tried_and_the_report_shows_no_secret(
    poisoned: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    results = tmp_path / "results"
    for name in ("HF_TOKEN", "CF_ACCESS_CLIENT_ID", "CF_ACCESS_CLIENT_SECRET"):
        set_secret(poisoned, tmp_path, name, AROUND[kind], as_file=False)
    poisoned.setenv("HUGGING_FACE_HUB_TOKEN", f"other-{SECRET}")
    poisoned.setenv("http_proxy", f"http://me:{SECRET}1@127.0.0.1:9")
    addresses = {
        "R2_BASE_URL": f"http://me:{SECRET}1@127.0.0.1:9/metadata",
        "R2_MODEL_URL": f"http://me:{SECRET}2@127.0.0.1:9/metadata",
        "MLC_REPO": f"http://me:{SECRET}3@127.0.0.1:9/scripts",
    }
    ended = entrypoint(results, "run", DATASET_SOURCE="auto", **FAKE, **addresses)
    assert ended.code == 0, ended.stderr
    shows_nothing(ended, results)
    shows_nothing(ended, tmp_path / "cache")
    tried = [attempt["rung"] for attempt in ended.read("provenance.json")["dataset"]["attempts"]]
    assert tried == ["mlcommons", "huggingface", "synthetic"]
    saved = ended.read("config.json")
    assert saved["r2_base_url"] == "http://127.0.0.1:9/metadata"
    assert saved["mlc_repo"] == "http://127.0.0.1:9/scripts"


def test_a_misspelt_name_is_said_once_with_the_right_one(
    poisoned: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    poisoned.setenv("HF_TOKE", f"hf_{SECRET}")
    ended = entrypoint(results, "run", MODEL="huggingface", **FAKE)
    assert ended.code == 3
    shows_nothing(ended, results)
    warnings = [line for line in ended.stderr.splitlines() if line.startswith("warning:")]
    assert warnings == ["warning: HF_TOKE is set, and nothing here reads it: HF_TOKEN is the name"]
    assert "HF_TOKE is set" in ended.read("provenance.json")["model"]["attempts"][0]["reason"]


def test_an_interrupted_run_shows_no_secret(poisoned: pytest.MonkeyPatch, tmp_path: Path) -> None:
    results = tmp_path / "results"
    poisoned.setenv("HF_TOKEN", AROUND["line break"])
    fake = json.dumps({"samples_per_s": 4})
    ended = interrupted_at("Offline performance", results, DATASET_SOURCE="synthetic", FAKE=fake, **FAKE)
    assert ended.code == 143, ended.stderr
    shows_nothing(ended, results)

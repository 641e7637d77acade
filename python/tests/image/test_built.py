"""What the image is: its user, its way in, its labels, its size, what it holds and what it must not."""

from __future__ import annotations

import json
import subprocess

import pytest

from .conftest import READ_ONLY, Image

# Bytes; the sizes that were promised.
SIZE_LIMIT = {"cpu": 2.5e9, "cuda": 10e9}

VERSIONS = """
import json, sys, torch, vllm
from pathlib import Path
from nltk.tokenize import sent_tokenize
print(json.dumps({
    "cuda": torch.version.cuda,
    "vllm": vllm.__version__,
    "loadgen": sorted(p.name for p in (Path(sys.prefix) / "loadgen").iterdir()),
    "sentences": len(sent_tokenize("Mr. Smith came. He left.")),
}))
"""


def test_user_init_and_entry_point(image: Image) -> None:
    config = image.inspect()["Config"]
    user, _, group = config["User"].partition(":")
    assert user.isdigit() and user != "0" and group.isdigit()
    assert config["Entrypoint"] == ["/usr/bin/tini", "-g", "--", "/app/entrypoint.sh"]


def test_health_check_waits_for_a_cold_load(image: Image) -> None:
    health = image.inspect()["Config"]["Healthcheck"]
    assert health["Test"] == ["CMD", "/app/entrypoint.sh", "health"]
    assert health["StartPeriod"] >= 15 * 60 * 1_000_000_000  # nanoseconds


def test_labels_carry_the_revision(image: Image) -> None:
    labels = image.inspect()["Config"]["Labels"]
    assert labels["org.opencontainers.image.revision"]
    assert "org.opencontainers.image.source" in labels
    environment = dict(entry.split("=", 1) for entry in image.inspect()["Config"]["Env"])
    assert environment["MLPERF_GIT_COMMIT"] == labels["org.opencontainers.image.revision"]


def test_size(image: Image) -> None:
    assert image.inspect()["Size"] < SIZE_LIMIT[image.target]


def test_contents_without_a_network(image: Image) -> None:
    """Byte code, LoadGen and NLTK's data are baked in: nothing is fetched, nothing is written."""
    options = ("--network", "none", "--user", "54321:54321", "--entrypoint", "python", *READ_ONLY)
    done = image.run("-c", VERSIONS, options=options)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["loadgen"] == ["5.1.2", "6.0.14", "6.0.17"]
    assert found["sentences"] == 2
    assert (found["cuda"] is None) == (image.target == "cpu")


def test_compiler_only_where_kernels_are_compiled(image: Image) -> None:
    done = image.run("-c", "command -v gcc", options=("--entrypoint", "bash"))
    assert (done.returncode == 0) == (image.target == "cuda")


def test_nothing_below_app_or_the_environment_can_be_written(image: Image) -> None:
    done = image.run("-c", "touch /app/x || touch /opt/venv/x", options=("--entrypoint", "bash"))
    assert done.returncode != 0


def test_no_secret_of_the_build_stays(image: Image) -> None:
    """The canary was in pip's settings, a secret of the build, under the name of a trusted host."""
    history = image.call("history", "--no-trunc", image.name)
    assert history.returncode == 0 and image.canary not in history.stdout
    pipe = f"docker save {image.name} | LC_ALL=C grep --text --count --fixed-strings {image.canary}"
    done = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, timeout=800)
    assert done.stdout.strip() == "0", "the build's secret is in a layer"
    assert done.stderr == ""


@pytest.mark.parametrize("user", ["10001:10001", "54321:54321", "0:0"])
def test_doctor_as_any_user_on_a_read_only_root(image: Image, user: str) -> None:
    options = ("--user", user, "--network", "none", "--cap-drop", "ALL", *READ_ONLY)
    done = image.run(
        "doctor", options=(*options, "--tmpfs", "/cache:mode=1777", "--tmpfs", "/results:mode=1777")
    )
    text = done.stdout + done.stderr
    assert done.returncode in (0, 3), text
    assert "6.0.17" in text and "Traceback" not in text

"""docker/build.sh and docker/run.sh with a stub of the engine: its flags, its recipe, its failures."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .conftest import ROOT, Sandbox

INFO = {"out": "ok\n"}


@pytest.fixture
def box(sandbox: Sandbox) -> Sandbox:
    for name in ("run.sh", "build.sh", "Dockerfile"):
        shutil.copy(ROOT / "docker" / name, sandbox.root / "docker" / name)
    (sandbox.root / "python/mlperf_llama").mkdir(parents=True)
    for name in ("LICENSE", "pyproject.toml"):
        shutil.copy(ROOT / name, sandbox.root / name)
    sandbox.stub("podman")
    return sandbox


def words(box: Sandbox, engine: str, verb: str) -> list[str]:
    """The last call of the engine's verb."""
    return list([call for call in box.words() if call[:2] == [engine, verb]][-1])


def test_further_flags_come_after_ours(box: Sandbox) -> None:
    settings = {"MLPERF_IMAGE": "an:image", "MLPERF_CONTAINER_ARGS": " --ulimit  memlock=-1 --network none"}
    done = box.run("docker/run.sh", "doctor", **settings)
    assert done.returncode == 0, done.stderr
    call = words(box, "docker", "run")
    assert call[-6:] == ["--ulimit", "memlock=-1", "--network", "none", "an:image", "doctor"]
    assert "MLPERF_CONTAINER_ARGS" not in call


@pytest.mark.parametrize(
    ("theirs", "ours"), [(0, 0), (3, 3), (5, 5), (125, 3), (126, 3), (127, 3), (137, 137)]
)
def test_the_engines_own_failure_is_something_missing(box: Sandbox, theirs: int, ours: int) -> None:
    box.on("docker run", code=theirs, err="setrlimit: operation not permitted\n", out="/results/1\n")
    done = box.run("docker/run.sh", "run", MLPERF_IMAGE="an:image")
    assert (done.returncode, done.stdout) == (ours, "/results/1\n")
    assert ("could not start the container" in done.stderr) == (125 <= theirs <= 127)


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_a_build_that_leaves_no_image_has_failed(box: Sandbox, engine: str) -> None:
    done = box.run("docker/build.sh", MLPERF_TARGET="cpu", MLPERF_DOCKER=engine)
    assert done.returncode == 4
    assert "expected " in done.stderr and "found none of these files" in done.stderr
    assert "built mlperf-llama" not in done.stderr


@pytest.mark.parametrize(("engine", "locked"), [("docker", True), ("podman", False)])
def test_podman_locks_no_cache(box: Sandbox, engine: str, locked: bool) -> None:
    steps = ("source docker/build.sh", "arguments=()", "scratch=$PWD", "client=$0", "add_recipe")
    script = "; ".join((*steps, 'printf "%s\\n" "${arguments[@]}"'))
    arguments = box.run("bash", "-c", script, engine).stdout.splitlines()
    recipe = Path(arguments[arguments.index("--file") + 1]).read_text()
    whole = (ROOT / "docker/Dockerfile").read_text()
    assert recipe == (whole if locked else whole.replace(",sharing=locked", ""))
    # The ignore file lies beside the Dockerfile, or is named.
    assert locked or "--ignorefile" in arguments

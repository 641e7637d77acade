"""pyproject.toml declares what the package imports, and the lock files hold what it declares."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

from mlperf_llama import __version__

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Distributions that are not called as the module they bring.
DISTRIBUTIONS = {"pynvml": "nvidia-ml-py", "cuda": "cuda-bindings"}
# torch follows from vLLM, which pins it; LoadGen has a lock file of its own, with a version per round.
FROM_ELSEWHERE = {"torch", "mlperf-loadgen"}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[=<>!\[; ]", requirement)[0].lower() for requirement in requirements}


def imported() -> dict[str, str]:
    """Distribution -> a file that imports it, anywhere in the package."""
    files = {}
    for path in sorted((ROOT / "python/mlperf_llama").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module or ""]
            else:
                continue
            for top in {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names):
                files[DISTRIBUTIONS.get(top, top.replace("_", "-"))] = str(path.relative_to(ROOT))
    return files


def test_every_import_is_declared() -> None:
    builds = names(EXTRAS["cpu"]) | names(EXTRAS["cuda"]) | names(EXTRAS["ray"])
    declared = names(PROJECT["dependencies"]) | builds | FROM_ELSEWHERE
    files = imported()
    assert {"vllm", "torch", "requests", "numpy"} <= files.keys()
    assert {name: path for name, path in files.items() if name not in declared} == {}


def locked(name: str) -> set[str]:
    lock = (ROOT / f"locks/{name}.lock").read_text()
    return set(re.findall(r"^([a-z0-9-]+)==\S+ \\\n    --hash=sha256:", lock, re.MULTILINE))


@pytest.mark.parametrize("build", ["cpu", "cuda"])
def test_what_is_declared_is_locked_with_hashes(build: str) -> None:
    assert names(PROJECT["dependencies"]) | names(EXTRAS[build]) <= locked(build)


def test_ray_stands_beside_both_builds() -> None:
    """Added with --no-deps to either: what else it asks for is there, and nothing there is replaced."""
    ray = locked("ray")
    assert names(EXTRAS["ray"]) <= ray
    # What ray 2.60.0 requires without an extra.
    needs = {"click", "filelock", "jsonschema", "msgpack", "packaging", "protobuf", "pyyaml", "requests"}
    for build in ("cpu", "cuda"):
        assert not ray & locked(build)
        assert needs <= ray | locked(build)


def test_the_version_stands_once() -> None:
    assert PROJECT["dynamic"] == ["version"] and "version" not in PROJECT
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)


def test_the_command_is_the_package_s_own() -> None:
    assert PROJECT["scripts"] == {"mlperf-llama": "mlperf_llama.__main__:main"}

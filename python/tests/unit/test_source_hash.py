"""The hash of the source covers every shipped file: kernels, presets, tables, scripts, locks and more."""

from __future__ import annotations

import os
import py_compile
import shutil
from pathlib import Path

import pytest

from mlperf_llama.records import source

ROOT = source.PACKAGE.parents[1]
CHANGED = (
    "python/mlperf_llama/engine/hopper/decode.cu",
    "python/mlperf_llama/engine/presets/h100.toml",
    "python/mlperf_llama/machine/gpus.toml",
    "python/mlperf_llama/report/published.json",
    "python/mlperf_llama/rules.py",
    "scripts/environment.sh",
    "entrypoint.sh",
    "Makefile",
    "docker/run.sh",
    "docker/Dockerfile",
    "locks/cuda.lock",
    "pyproject.toml",
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("checkout")
    for path in source.files(source.PACKAGE, ROOT):
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return copy


def hash_of(checkout: Path) -> str:
    return source.sha256_of(checkout / "python/mlperf_llama", checkout)


def test_a_copy_has_the_same_hash(checkout: Path) -> None:
    assert hash_of(checkout) == source.source_sha256()


@pytest.mark.parametrize("name", CHANGED)
def test_a_change_changes_it(name: str, checkout: Path) -> None:
    path, before = checkout / name, hash_of(checkout)
    content = path.read_bytes()
    path.write_bytes(content + b"\n")
    assert hash_of(checkout) != before
    path.write_bytes(content)
    assert hash_of(checkout) == before


def test_a_new_file_changes_it_and_what_python_makes_does_not(checkout: Path) -> None:
    package, before = checkout / "python/mlperf_llama", hash_of(checkout)
    made = package / "__pycache__/rules.cpython-311.pyc"
    made.parent.mkdir(exist_ok=True)
    made.write_bytes(b"x")
    assert hash_of(checkout) == before
    (package / "engine/more.cu").write_text("x")
    assert hash_of(checkout) != before
    (package / "engine/more.cu").unlink()


def test_bytecode_of_another_source_is_named(tmp_path: Path) -> None:
    """With the size and the time of the source it stands beside: Python takes it."""
    module = tmp_path / "limit.py"
    module.write_text("LIMIT = 9\n")
    kept = Path(py_compile.compile(str(module), doraise=True))
    times = module.stat()
    assert source.other_bytecode(tmp_path) == []
    module.write_text("LIMIT = 1\n")
    os.utime(module, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert source.other_bytecode(tmp_path) == ["limit.py (its bytecode is another's)"]
    os.utime(module, ns=(0, 0))
    assert source.other_bytecode(tmp_path) == []  # Python makes it again
    py_compile.compile(str(module), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    module.write_text("LIMIT = 2\n")
    assert source.other_bytecode(tmp_path) != []
    kept.write_bytes(b"x" * 20)
    assert source.other_bytecode(tmp_path) != []


@pytest.mark.parametrize("name", ["engine/pacing/__init__.pyc", "my__pycache__/__init__.py"])
def test_bytecode_that_python_imports_changes_it(name: str, checkout: Path) -> None:
    """A package of bytecode goes before the module of its name."""
    path, before = checkout / "python/mlperf_llama" / name, hash_of(checkout)
    path.parent.mkdir()
    path.write_bytes(b"x")
    assert hash_of(checkout) != before
    path.unlink()

"""What goes into the image: files that exist, that the ignore file lets in, that a new build is made for."""

from __future__ import annotations

import re

import pytest

from mlperf_llama.records import source

from .conftest import ROOT

DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
LET_IN = re.findall(r"^!(\S+)$", (ROOT / "docker/Dockerfile.dockerignore").read_text(), re.MULTILINE)
BOUND = re.findall(r"--mount=type=bind,source=(\S+),target=(\S+)", DOCKERFILE)
COPIED = [
    word
    for words in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    for word in words.split()
]


@pytest.mark.parametrize("name", sorted({*COPIED, *(file for file, _ in BOUND)}))
def test_what_the_dockerfile_reads_exists_and_is_let_in(name: str) -> None:
    assert (ROOT / name).exists()
    assert any(name == entry or name.startswith(f"{entry}/") for entry in LET_IN)


def test_all_that_is_let_in_exists_and_is_read() -> None:
    read = {*COPIED, *(file for file, _ in BOUND)}
    for entry in LET_IN:
        assert (ROOT / entry).exists(), entry
        assert any(entry == name or entry.startswith(f"{name}/") for name in read), entry


def test_a_bound_file_keeps_its_path_and_commands_run_from_there() -> None:
    assert BOUND and all(file == target for file, target in BOUND)
    called = re.findall(r"^    (\S+\.sh) /opt/venv (\w+)$", DOCKERFILE, re.MULTILINE)
    assert called == [("docker/layer.sh", "cpu"), ("docker/layer.sh", "cuda")]


def test_every_file_of_the_image_decides_whether_it_is_old() -> None:
    """docker/image.sh's `inputs`: a change of any of them makes `docker/run.sh` build again."""
    listed = re.search(r"files=\((.*?)\)", (ROOT / "docker/image.sh").read_text(), re.DOTALL)
    assert listed
    assert listed[1].split() == sorted(LET_IN)


def test_the_image_holds_all_that_the_hash_of_the_source_covers() -> None:
    """A run in the container and the checkout that packs it have one hash."""
    assert {*source.BESIDE, "python/mlperf_llama"} <= set(COPIED)
    held = {path.relative_to(ROOT).as_posix() for path in source.files(source.PACKAGE, ROOT)}
    assert {"scripts/native.sh", "docker/Dockerfile", "locks/cuda.lock", "Makefile"} <= held
    assert {f"python/mlperf_llama/engine/{name}" for name in ("presets/h100.toml", "hopper/gemm.cu")} <= held
    assert "python/mlperf_llama/machine/gpus.toml" in held

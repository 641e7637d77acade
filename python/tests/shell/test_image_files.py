"""What goes into the image: files that exist, that the ignore file lets in, that a new build is made for."""

from __future__ import annotations

import re

import pytest

from .conftest import ROOT

DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
LET_IN = re.findall(r"^!(\S+)$", (ROOT / "docker/Dockerfile.dockerignore").read_text(), re.MULTILINE)
BOUND = re.findall(r"--mount=type=bind,source=(\S+),target=(\S+)", DOCKERFILE)
COPIED = [
    word
    for words in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    for word in words.split()
]


@pytest.mark.parametrize("name", sorted({*COPIED, *(source for source, _ in BOUND)}))
def test_what_the_dockerfile_reads_exists_and_is_let_in(name: str) -> None:
    path = ROOT / name
    assert path.exists()
    assert any(entry == name or (path.is_dir() and entry.startswith(f"{name}/")) for entry in LET_IN)


def test_all_that_is_let_in_exists_and_is_read() -> None:
    read = {*COPIED, *(source for source, _ in BOUND)}
    for entry in LET_IN:
        assert (ROOT / entry).exists(), entry
        assert any(entry == name or entry.startswith(f"{name}/") for name in read), entry


def test_a_bound_file_keeps_its_path_and_commands_run_from_there() -> None:
    assert BOUND and all(source == target for source, target in BOUND)
    called = re.findall(r"^    (\S+\.sh) /opt/venv (\w+)$", DOCKERFILE, re.MULTILINE)
    assert called == [("docker/layer.sh", "cpu"), ("docker/layer.sh", "cuda")]


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_every_file_of_the_image_decides_whether_it_is_old(target: str) -> None:
    """docker/image.sh's `inputs`: a change of any of them makes `docker/run.sh` build again."""
    listed = re.search(r"files=\((.*?)\)", (ROOT / "docker/image.sh").read_text(), re.DOTALL)
    assert listed
    inputs = {word.strip('"').replace("$1", target) for word in listed[1].split()}
    other = {"cpu": "cuda", "cuda": "cpu"}[target]
    expected = {entry for entry in LET_IN if entry not in ("python/mlperf_llama", f"locks/{other}.lock")}
    assert inputs == {*expected, "docker/Dockerfile"}

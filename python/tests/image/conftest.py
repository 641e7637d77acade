"""The image under test, as docker/test-image.sh built it, and ways to run it."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
# What docs/container.md documents for a read-only root file system.
READ_ONLY = ("--read-only", "--tmpfs", "/tmp:rw,exec,mode=1777")


@dataclass
class Image:
    """One built image; `started` are the containers to remove in the end."""

    name: str
    target: str
    canary: str
    docker: str = "docker"
    started: list[str] = field(default_factory=list)

    def call(self, *words: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.docker, *words], capture_output=True, text=True, timeout=timeout_s)

    def run(self, *words: str, options: tuple[str, ...] = (), timeout_s: float = 300) -> Any:
        """`docker run --rm OPTIONS IMAGE WORDS` with no network unless the options give one."""
        return self.call("run", "--rm", *options, self.name, *words, timeout_s=timeout_s)

    def start(self, *words: str, options: tuple[str, ...] = ()) -> str:
        name = f"mlperf-llama-test-{uuid.uuid4().hex[:12]}"
        self.started.append(name)
        done = self.call("run", "--detach", "--name", name, *options, self.name, *words)
        assert done.returncode == 0, done.stderr
        return name

    def inspect(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.call("image", "inspect", self.name).stdout)[0]
        return found


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    name = os.environ.get("IMAGE_UNDER_TEST")
    if not name:
        pytest.skip("`make test-image` builds the image and runs these tests")
    found = Image(name, os.environ["IMAGE_TARGET"], os.environ["IMAGE_CANARY"])
    yield found
    if found.started:
        found.call("rm", "--force", *found.started)


@pytest.fixture
def cpu_image(image: Image) -> Image:
    if image.target != "cpu":
        pytest.skip("runs on the CPU image; this one needs an NVIDIA GPU to run")
    return image


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.image)
            item.add_marker(pytest.mark.timeout(900))

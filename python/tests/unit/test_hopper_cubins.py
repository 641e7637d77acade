"""Kept kernels: compiled once, and again wherever anything that decides them, or the entry itself, is not the
same. The compiler is a fake NVRTC."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlperf_llama.engine.hopper import cubins


class Compiler:
    """Counts what it compiles."""

    def __init__(self, cubin: bytes = b"cubin") -> None:
        self.cubin, self.calls = cubin, 0

    def __call__(self) -> bytes:
        self.calls += 1
        return self.cubin


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "cache" / "kernels"
    monkeypatch.setenv(cubins.VARIABLE, str(path))
    yield path


def test_a_kernel_is_compiled_once(folder: Path) -> None:
    compiler = Compiler()
    assert cubins.kept("a", compiler) == cubins.kept("a", compiler) == b"cubin"
    assert compiler.calls == 1
    assert cubins.kept("b", Compiler(b"other")) == b"other"
    assert sorted(path.name for path in folder.iterdir()) == ["a.cubin", "b.cubin"]


def test_without_a_folder_every_kernel_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cubins.VARIABLE, raising=False)
    compiler = Compiler()
    assert cubins.kept("a", compiler) == cubins.kept("a", compiler) == b"cubin"
    assert compiler.calls == 2


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "damage", [flipped, lambda c: c[:-1], lambda c: b"", lambda c: c[:32], lambda c: c + b"\0"]
)
def test_a_damaged_entry_is_compiled_again(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    cubins.kept("a", Compiler())
    path = folder / "a.cubin"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    compiler = Compiler()
    assert cubins.kept("a", compiler) == b"cubin" and compiler.calls == 1
    assert path.read_bytes() == whole


def test_a_folder_that_cannot_be_written_costs_compilations_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(cubins.VARIABLE, str(tmp_path / "file" / "kernels"))
    compiler = Compiler()
    assert cubins.kept("a", compiler) == cubins.kept("a", compiler) == b"cubin"
    assert compiler.calls == 2


def test_a_failed_compilation_keeps_nothing(folder: Path) -> None:
    def fail() -> bytes:
        raise RuntimeError("NVRTC: error")

    with pytest.raises(RuntimeError, match="NVRTC: error"):
        cubins.kept("a", fail)
    assert not folder.exists()


def test_the_key_changes_with_everything_that_decides_a_kernel() -> None:
    same = (b"source", ["-Da=1", "--std=c++17"], "NVRTC 13 0")
    others = [
        (b"source ", *same[1:]),
        (same[0], ["-Da=2", "--std=c++17"], same[2]),
        (same[0], ["-Da=1 --std=c++17"], same[2]),
        (same[0], ["-Da=1"], same[2]),
        (same[0], same[1], "NVRTC 13 1"),
    ]
    keys = {cubins.key(*each) for each in (same, *others)}
    assert len(keys) == 1 + len(others) and cubins.key(*same) in keys


def test_no_kernel_includes_a_file() -> None:
    sources = sorted(Path(cubins.__file__).parent.glob("*.cu"))
    assert sources and not [path.name for path in sources if "#include" in path.read_text()]


def _keep(letter: str, results: multiprocessing.SimpleQueue[bytes]) -> None:
    size = 1 << 20
    results.put(cubins.kept("a", lambda: letter.encode() * size)[-1:])


def test_several_processes_keep_one_whole_entry(folder: Path) -> None:
    context = multiprocessing.get_context("fork")
    results: multiprocessing.SimpleQueue[bytes] = context.SimpleQueue()
    processes = [context.Process(target=_keep, args=(letter, results)) for letter in "abcdef"]
    for process in processes:
        process.start()
    given = {results.get() for _ in processes}
    for process in processes:
        process.join()
    assert given <= {letter.encode() for letter in "abcdef"}
    compiler = Compiler()
    assert len(cubins.kept("a", compiler)) == 1 << 20 and compiler.calls == 0
    assert os.listdir(folder) == ["a.cubin"]

"""Chunks over processes: the same numbers, interrupts, killed workers, killed parents."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import score_support as support

from mlperf_llama.errors import BrokeError, Interrupted
from mlperf_llama.score import processes
from mlperf_llama.score.rouge import PairScore

pytestmark = pytest.mark.slow

Pairs = list[tuple[str, str]]


def ours(pairs: Pairs, workers: int | None) -> list[PairScore]:
    predictions, references = zip(*pairs, strict=True)
    return processes.score_pairs(predictions, references, workers, support.sentence_model())


def test_the_number_of_workers_changes_nothing() -> None:
    pairs = support.made_up_pairs(300, 5)
    alone = ours(pairs, 1)
    assert ours(pairs, 2) == alone
    assert ours(pairs, 3) == alone
    assert ours(pairs, None) == alone


def test_a_pair_scores_the_same_in_any_company() -> None:
    pairs = support.made_up_pairs(120, 6)
    order = random.Random(6).sample(range(len(pairs)), len(pairs))
    shuffled = ours([pairs[at] for at in order], 1)
    assert [shuffled[order.index(at)] for at in range(len(pairs))] == ours(pairs, 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_counts_up_to_the_total(workers: int) -> None:
    pairs, seen = support.made_up_pairs(150, 7), []
    predictions, references = zip(*pairs, strict=True)
    processes.score_pairs(
        predictions,
        references,
        workers,
        support.sentence_model(),
        lambda done, total: seen.append((done, total)),
    )
    assert seen == [(64, 150), (128, 150), (150, 150)]


def test_an_interrupt_drops_the_chunks_that_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scoring the rest before giving in would take minutes on a full run."""
    notes = tmp_path / "notes"
    monkeypatch.setenv("TEST_SCORE_NOTES", str(notes))
    monkeypatch.setattr(processes, "score_chunk", slow_chunk)

    def stop(done: int, total: int) -> None:
        raise Interrupted(signal.SIGTERM)

    texts = ["a"] * (100 * processes.CHUNK_PAIRS)
    with pytest.raises(Interrupted):
        processes.score_pairs(texts, texts, 2, support.sentence_model(), stop)
    assert 1 <= len(notes.read_text()) < 30


def slow_chunk(pairs: Pairs) -> list[PairScore]:
    with Path(os.environ["TEST_SCORE_NOTES"]).open("a") as notes:
        notes.write("x")
    time.sleep(0.2)
    return [PairScore((0.0,) * 4, 0)] * len(pairs)


def test_a_killed_worker_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "score_chunk", killed_worker)
    pairs = support.made_up_pairs(200, 9)
    with pytest.raises(BrokeError, match="SCORE_WORKERS"):
        ours(pairs, 2)


def killed_worker(pairs: Pairs) -> list[PairScore]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


# Ends or stops itself after the first chunk, having said who works for it.
PARENT = """
import os, signal, sys
from multiprocessing import active_children
from pathlib import Path
from mlperf_llama.score import processes

def stop(done, total):
    print(*[child.pid for child in active_children()], flush=True)
    {stop}

if __name__ == "__main__":
    try:
        processes.score_pairs(["a b. c"] * 9000, ["a"] * 9000, 2, Path(sys.argv[1]), stop)
    except KeyboardInterrupt:
        print("stopped")
"""


def run_parent(tmp_path: Path, stop: str) -> tuple[subprocess.CompletedProcess[str], list[int]]:
    """Run a parent of two workers in a process group of its own; gives the workers' ids too."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(stop=stop))
    package = Path(processes.__file__).resolve().parents[2]
    ended = subprocess.run(
        [sys.executable, script, support.sentence_model()],
        env={**os.environ, "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        timeout=120,
        start_new_session=True,
    )
    workers = [int(word) for word in ended.stdout.split() if word.isdigit()]
    assert workers, ended.stderr
    return ended, workers


def assert_gone(workers: list[int]) -> None:
    deadline = time.monotonic() + 30
    while any(alive(pid) for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.1)


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    _, workers = run_parent(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    assert_gone(workers)


def test_ctrl_c_reaches_the_parent_alone(tmp_path: Path) -> None:
    """The terminal sends it to the whole group; workers that die of it would fill the screen."""
    ended, workers = run_parent(tmp_path, "os.killpg(0, signal.SIGINT)")
    assert ended.stdout.splitlines()[-1] == "stopped"
    assert ended.stderr == ""
    assert_gone(workers)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("requested", "pairs", "expected"),
    [(1, 13368, 1), (8, 13368, 8), (8, 65, 2), (8, 3, 1), (None, 24, 1), (None, 0, 1)],
)
def test_worker_count(requested: int | None, pairs: int, expected: int) -> None:
    assert processes.worker_count(requested, pairs) == expected


def test_every_core_scores_a_full_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    assert processes.worker_count(None, 13368) == 6
    assert processes.worker_count(None, 2000) == 2

"""Pairs scored in chunks, over several processes, put back in order."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path

from ..errors import BrokeError
from ..machine import needs
from . import nltk_data
from .rouge import PairScore, RememberedStems, score_pair

Progress = Callable[[int, int], None]
Pair = tuple[str, str]
CHUNK_PAIRS = 64
# Below this many pairs a further process costs more to start than it saves.
PAIRS_WORTH_A_PROCESS = 1024


def score_pairs(
    predictions: Sequence[str],
    references: Sequence[str],
    workers: int | None,
    data: Path | None = None,
    progress: Progress | None = None,
) -> list[PairScore]:
    """Score every pair of raw texts; the result does not depend on `workers` (None: every core).

    `data` is the NLTK data folder (None: where NLTK looks by itself). `progress` gets
    (pairs done, pairs in all).
    """
    pairs = list(zip(predictions, references, strict=True))
    chunks = [pairs[start : start + CHUNK_PAIRS] for start in range(0, len(pairs), CHUNK_PAIRS)]
    count = worker_count(workers, len(pairs))
    if data:
        nltk_data.use(data)
    scores: list[PairScore] = []
    with closing(_spread(chunks, count, data) if count > 1 else _alone(chunks)) as scored:
        for chunk in scored:
            scores += chunk
            if progress:
                progress(len(scores), len(pairs))
    return scores


def worker_count(workers: int | None, pairs: int) -> int:
    """As many as requested, or as many as are worth starting; no more than there are chunks. One where the
    machine has no shared memory, which several speak through."""
    if needs.shared_memory():
        return 1
    if workers is not None:
        return max(1, min(workers, math.ceil(pairs / CHUNK_PAIRS)))
    return max(1, min(len(os.sched_getaffinity(0)), math.ceil(pairs / PAIRS_WORTH_A_PROCESS)))


@lru_cache(maxsize=1)
def _stems() -> RememberedStems:
    """One a process, for as long as it scores."""
    return RememberedStems()


def score_chunk(pairs: Sequence[Pair]) -> list[PairScore]:
    """Score (prediction, reference) pairs, in order."""
    stems = _stems()
    return [score_pair(prediction, reference, stems) for prediction, reference in pairs]


def _alone(chunks: Sequence[Sequence[Pair]]) -> Generator[list[PairScore], None, None]:
    yield from map(score_chunk, chunks)


def _spread(
    chunks: Sequence[Sequence[Pair]], count: int, data: Path | None
) -> Generator[list[PairScore], None, None]:
    """Chunks' scores in order. Spawned, not forked: the caller may hold an engine's threads."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, context, initializer=_start_worker, initargs=(data,)) as pool:
        try:
            with _signals_held_back():
                scored = pool.map(score_chunk, chunks)
            yield from scored
        except BrokenProcessPool:
            raise BrokeError(
                "scoring: expected every worker to finish, one was killed (out of memory?); "
                "set SCORE_WORKERS to a smaller number and score again"
            ) from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _signals_held_back() -> Generator[None, None, None]:
    """INT and TERM wait; a process started meanwhile never gets them, and so ends with its parent.

    A whole process group gets Ctrl-C. A worker that died of it would be reported as broken,
    with tracebacks over the one line that counts.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(data: Path | None) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if data:
        nltk_data.use(data)


def _end_with_parent() -> None:
    """The executor alone would leave its workers waiting when the parent is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

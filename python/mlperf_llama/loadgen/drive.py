"""One LoadGen run: starts its process, feeds the engine, reports progress, ends both cleanly."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ..engine import Engine, Limits
from ..errors import BrokeError, MissingError, UsageError
from ..records.events import Events
from ..records.requests import Requests
from ..records.schema import Driven, EventFields
from . import logs
from .plan import Plan
from .process import Child, started, write_spec
from .relay import Relay, SampleSource, check_order
from .sofar import SoFar, eta_s

log = logging.getLogger(__name__)

PROGRESS_S = 0.5
# Rates shown are those of the last few seconds.
RATE_WINDOW_S = 5.0
# Importing LoadGen takes well under a second; a loaded machine gets a minute.
START_S = 60.0
# With requests waiting, an engine that completes none for this long is taken to hang.
STALL_S = 900.0
# With nothing to wait for, LoadGen sends its next query or writes its logs within this time, and so many of
# its mean intervals, which chance alone exceeds once in 5e8 queries.
PAUSE_S, PAUSE_INTERVALS = 30.0, 20.0


@dataclass(frozen=True)
class DriveResult:
    """What a finished run did; its figures are in LoadGen's logs (see logs.performance). `timed_s`: the first
    query and the last answer, by the monotonic clock."""

    out_dir: Path
    samples: int
    tokens: int
    seconds: float
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    driven: Driven
    requests: Requests
    timed_s: tuple[float, float]


async def drive(
    engine: Engine,
    samples: SampleSource,
    limits: Limits,
    plan: Plan,
    out_dir: Path,
    events: Events,
    *,
    order: str = "as-is",
    conf_path: Path | None = None,
    stage: str | None = None,
    stall_s: float = STALL_S,
    loadgen_root: Path | None = None,
) -> DriveResult:
    """Run `plan` against `engine`, which lives on the running loop; may be called again.

    Logs go to `out_dir`, user.conf to `conf_path` (default: beside them). `order` is a name
    of relay.ORDERS, for Offline. MissingError: no such LoadGen; UsageError: `out_dir` cannot
    be written; BrokeError: LoadGen or the engine ended early. Whatever ends this coroutine
    ends LoadGen's process too, and leaves the logs as they are.
    """
    if plan.sample_count > samples.count:
        raise UsageError(f"dataset: expected {plan.sample_count} samples, found {samples.count}")
    check_order(order, plan)
    spec = write_spec(plan, out_dir.absolute(), conf_path, loadgen_root)
    relay = Relay(engine, samples, limits, plan, order)
    with quiet_collector(), started(spec) as child:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_unix_connection(lambda: relay, sock=child.sock)
        try:
            await _watch(relay, plan, out_dir, events, stage or f"{plan.scenario} {plan.mode}", stall_s)
            detail = await _settle(relay, child, plan, out_dir)
        finally:
            relay.close()
            transport.abort()
    for error in detail.errors:
        log.warning("loadgen_error text=%r folder=%s", error, out_dir)
    requests = relay.requests()
    return DriveResult(
        out_dir,
        relay.samples,
        relay.tokens,
        relay.seconds,
        detail.errors,
        detail.warnings,
        _driven(relay, requests),
        requests,
        ((relay.first or relay.last)[0], relay.last[0]),
    )


def _driven(relay: Relay, requests: Requests) -> Driven:
    """What was counted and timed here, beside LoadGen's own figures."""
    began, ended = relay.first or relay.last, relay.last
    return Driven(
        samples=relay.samples,
        tokens=relay.tokens,
        prompt_tokens=int(requests.prompt_tokens.sum(dtype=np.int64)),
        seconds=round(ended[0] - began[0], 3),
        wall_seconds=round(ended[1] - began[1], 3),
        began=datetime.fromtimestamp(began[1], UTC).isoformat(timespec="seconds"),
        loadgen=relay.loadgen,
    )


async def _watch(relay: Relay, plan: Plan, out_dir: Path, events: Events, stage: str, stall_s: float) -> None:
    """Wait for the run's end, with an event at most every half second."""
    start = changed = moved = time.monotonic()
    pause_s = PAUSE_S + PAUSE_INTERVALS / (plan.target_qps or 1.0)
    history = [(start, 0, 0)]
    sofar, seen, logged = SoFar(relay.timeline), (0, 0), 0
    events.emit(stage, **_counts(relay, plan))
    while not relay.outcome.done():
        await asyncio.wait([relay.outcome], timeout=PROGRESS_S)
        now = time.monotonic()
        if relay.samples != history[-1][1]:
            changed = now
            recent = [point for point in history if now - point[0] <= RATE_WINDOW_S]
            # One point from before the window, so that a lone response does not look like a burst.
            before = history[: len(history) - len(recent)][-1:]
            history = [*before, *recent, (now, relay.samples, relay.tokens)]
        if seen != (relay.issued, relay.samples):
            seen, moved = (relay.issued, relay.samples), now
            sofar.look()
            _show(relay, plan, events, stage, history, sofar)
        if not relay.ready and now - start > START_S:
            raise BrokeError(f"LoadGen {plan.loadgen_version}: expected it to start within {START_S:g} s")
        if relay.waiting and now - changed > stall_s:
            raise BrokeError(
                f"engine: expected a response within {stall_s:g} s, {relay.waiting} requests wait"
            )
        if relay.waiting or not relay.ready or logged != (logged := _log_bytes(out_dir)):
            moved = now
        elif now - moved > pause_s:
            raise BrokeError(
                f"LoadGen {plan.loadgen_version}: expected its next query or its end within {pause_s:.0f} s, "
                f"neither came after {relay.issued:,} of {plan.expected_queries:,}; was its clock set back?"
            )


def _log_bytes(folder: Path) -> int:
    """Size of LoadGen's logs so far."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _show(
    relay: Relay,
    plan: Plan,
    events: Events,
    stage: str,
    history: list[tuple[float, int, int]],
    sofar: SoFar,
) -> None:
    then, samples, tokens = history[0]
    now = history[-1][0]
    fields = _counts(relay, plan) | sofar.fields(plan.streaming)
    if now > then:
        fields["samples_per_s"] = round((relay.samples - samples) / (now - then), 2)
        fields["tokens_per_s"] = round((relay.tokens - tokens) / (now - then), 1)
    events.emit(stage, **fields)


def _counts(relay: Relay, plan: Plan) -> EventFields:
    elapsed_s = time.monotonic() - relay.first[0] if relay.first else 0.0
    total = max(plan.expected_queries, relay.issued)
    fields = EventFields(done=relay.samples, total=total, unit="samples")
    seconds = eta_s(plan, elapsed_s, relay.samples, relay.issued)
    if seconds is not None:
        fields["eta_s"] = round(seconds, 1)
    return fields


async def _settle(relay: Relay, child: Child, plan: Plan, out_dir: Path) -> logs.Detail:
    """The run's log; or raise what ended the run, if it was not LoadGen being done."""
    error = relay.outcome.exception()
    if isinstance(error, EOFError):
        raise await asyncio.to_thread(child.broke, plan.loadgen_version, out_dir)
    if error:
        raise error
    try:
        return logs.check_complete(out_dir, performance_run=plan.mode != "accuracy")
    except MissingError:
        # LoadGen ends as if all were well when it cannot open its files.
        reason = "; ".join(child.last_line()) or "it gave no reason"
        raise BrokeError(f"LoadGen {plan.loadgen_version} wrote no logs to {out_dir}: {reason}") from None


@contextmanager
def quiet_collector() -> Iterator[None]:
    """No garbage collection inside the timed path: with a model loaded a sweep takes long."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()

"""One member's process on its host, with its children: started, and ended when whoever asked for it is gone.

Every launcher starts this, whatever lies between it and the head, and keeps its standard input open. The
first line there is an `Order`; the input's end, a signal or the worker's own end then ends the whole: the
worker, its process group, and what it started outside of that. The secret in the order meets no command line.

Usage: python -m mlperf_llama.engine.replicas.supervisor
Exit code: the worker's; 128 and the signal's number where one ended it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import FrameType

import psutil

from ...machine.numa import cpus_beside
from ...machine.processes import (
    MODULE_COMMAND,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_PDEATHSIG,
    end_children,
    prctl,
)
from .protocol import HeadAddress, MemberSpec, worker_arguments, worker_environment

MODULE = __name__ if __name__ != "__main__" else "mlperf_llama.engine.replicas.supervisor"
# From TERM to KILL: an engine gives its memory back also when it is killed.
GRACE_S = 2.0
# An engine's processes keep about three cores busy: fewer beside its GPU than this are no help.
LEAST_CPUS = 4


@dataclass(frozen=True)
class Order:
    """`arguments`: what follows `python -m mlperf_llama`. `cpus`: to run on; None: those beside `gpu`."""

    arguments: list[str]
    environment: dict[str, str]
    gpu: str | None = None
    cpus: list[int] | None = None

    def to_line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"


def order_for(member: MemberSpec, head: HeadAddress) -> Order:
    cpus = None if member.cpus is None else list(member.cpus)
    return Order(worker_arguments(member, head), worker_environment(member, head), member.gpu, cpus)


class Supervised:
    """The worker, and the way to end it from any thread."""

    def __init__(self, order: Order) -> None:
        # What the worker leaves behind becomes this process's child, where it is found.
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        _stay_beside(order)
        self.process = subprocess.Popen(
            [*MODULE_COMMAND, "mlperf_llama", *order.arguments],
            # The head's settings come from the head: no .env that happens to lie here.
            env={**os.environ, "MLPERF_ENV_FILE": os.devnull, **order.environment},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )

    def end(self) -> None:
        """TERM to the worker's group, then KILL. A stopped process has to be continued to see TERM."""
        for number in (signal.SIGTERM, signal.SIGCONT):
            self._signal(number)
        deadline = time.monotonic() + GRACE_S
        while self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def wait(self) -> int:
        """The worker's end, and that of all it started."""
        code = self.process.wait()
        self._signal(signal.SIGKILL)
        _end_rest()
        return code


def _end_rest() -> None:
    """Kill every descendant, and again: what is killed may have been starting another. One that the kernel
    does not let go is left to it."""
    deadline = time.monotonic() + GRACE_S
    while psutil.Process().children(recursive=True) and time.monotonic() < deadline:
        end_children()
        time.sleep(0.02)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _stay_beside(order: Order) -> None:
    """Run on the CPUs that were named, else on those beside the GPU; memory is then taken there too."""
    cpus: Sequence[int] | None = order.cpus
    gpu = order.gpu or os.environ.get("CUDA_VISIBLE_DEVICES")
    if cpus is None and gpu:
        beside = cpus_beside(gpu) or ()
        cpus = beside if len(beside) >= LEAST_CPUS else None
    if cpus:
        # Where this host lacks them the kernel chooses.
        with suppress(OSError):
            os.sched_setaffinity(0, cpus)


def _end_with_parent() -> None:
    """In the worker, before it begins: it does not outlive this process, however that ends."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> int:
    line = sys.stdin.buffer.readline()
    if not line:
        print("supervisor: expected an order on standard input, found its end", file=sys.stderr)
        return 2
    supervised = Supervised(Order(**json.loads(line)))

    def stop(_number: int, _frame: FrameType | None) -> None:
        threading.Thread(target=supervised.end, daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)

    def end_with_input() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        supervised.end()

    threading.Thread(target=end_with_input, daemon=True).start()
    code = supervised.wait()
    if code < 0:
        print(f"the worker was ended by {signal.Signals(-code).name}", file=sys.stderr, flush=True)
        return 128 - code
    return code


if __name__ == "__main__":
    # Past threads that still read: nothing is left to close.
    status = main()
    sys.stderr.flush()
    os._exit(status)

"""A member's process on this side: the supervisor, or the command that reaches one on another host."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import psutil

from ...machine.processes import MODULE_COMMAND, PACKAGE_FOLDER, last_lines
from . import supervisor

# From the end of its input to the kill; more than the supervisor takes, and the way back from its host.
STOP_S = supervisor.GRACE_S + 2.0
LAST_LINES = 3
SUPERVISOR = [*MODULE_COMMAND, supervisor.MODULE]


def with_package(env: Mapping[str, str]) -> dict[str, str]:
    """An environment in which Python finds this package first."""
    path = os.pathsep.join(filter(None, [str(PACKAGE_FOLDER), env.get("PYTHONPATH")]))
    return {**env, "PYTHONPATH": path}


class MemberProcess:
    """Started with its order on standard input, which stays open for as long as the member is to live."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], order: bytes) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  (closed by kill)
        self._process = subprocess.Popen(
            command,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=self._output,
            # Ctrl-C at the terminal reaches the head only, which ends its members itself.
            start_new_session=True,
        )
        assert self._process.stdin
        # One that has ended already is seen by `failure`.
        with suppress(BrokenPipeError):
            self._process.stdin.write(order)
            self._process.stdin.flush()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def failure(self) -> str | None:
        """How it ended, and its last words; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        how = f"ended with code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
        printed = "; ".join(last_lines(self._output, LAST_LINES)) or "it printed nothing"
        return f"{how}: {printed}"

    def ask_to_end(self) -> None:
        assert self._process.stdin
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        # One that was stopped could not see it.
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """With its descendants, where it has not ended them as it was asked to. The last call."""
        if self.running:
            family = psutil.Process(self._process.pid).children(recursive=True)
            self._signal(signal.SIGKILL)
            for child in family:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            self._process.wait()
        self._output.close()

    def _signal(self, number: int) -> None:
        if self.running:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


def end_all(processes: Sequence[MemberProcess]) -> None:
    """End them all, side by side. Blocks for at most STOP_S."""
    for process in processes:
        process.ask_to_end()
    deadline = time.monotonic() + STOP_S
    while any(process.running for process in processes) and time.monotonic() < deadline:
        time.sleep(0.02)
    for process in processes:
        process.kill()

"""Launchers whose members are each behind one process of this host: local ones, ssh's and Slurm's.

All three give the order to the process's standard input, and its end ends the member with all it started.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence

from ...errors import MissingError
from ...machine.processes import PACKAGE_FOLDER
from .member_process import SUPERVISOR, MemberProcess, end_all, with_package
from .protocol import HeadAddress, MemberSpec
from .supervisor import order_for

# (host, words) -> the command here that runs the words there.
Way = Callable[[str, Sequence[str]], list[str]]
SSH_OPTIONS = (
    "-T",
    # A question for a password would wait for ever.
    "-oBatchMode=yes",
    "-oConnectTimeout=10",
    # A host that is cut off is noticed also while nothing is sent.
    "-oServerAliveInterval=5",
    "-oServerAliveCountMax=3",
)
SRUN_OPTIONS = (
    "--nodes=1",
    "--ntasks=1",
    # Beside the other members' steps, with the GPUs of the whole allocation: CUDA_VISIBLE_DEVICES chooses.
    "--overlap",
    # The supervisor chooses the CPUs.
    "--cpu-bind=none",
    "--quiet",
)


def local(_host: str, words: Sequence[str]) -> list[str]:
    return list(words)


def ssh(host: str, words: Sequence[str]) -> list[str]:
    """sshd gives one string to a shell, and nothing of this environment. The package is at the same path."""
    path = f"PYTHONPATH={PACKAGE_FOLDER}"
    return ["ssh", *SSH_OPTIONS, "--", host, f"exec env {shlex.quote(path)} {shlex.join(words)}"]


def srun(host: str, words: Sequence[str]) -> list[str]:
    return ["srun", *SRUN_OPTIONS, f"--nodelist={host}", *words]


class ProcessLauncher:
    """See protocol.Launcher. `way`: local, ssh or srun."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._processes: dict[int, MemberProcess] = {}

    async def start(self, members: Sequence[MemberSpec], head: HeadAddress) -> None:
        for member in members:
            command = self._way(member.host, SUPERVISOR)
            if shutil.which(command[0]) is None:
                raise MissingError(f"{member.name}: expected {command[0]}, which starts it, found none here")
            order = order_for(member, head).to_line()
            self._processes[member.index] = MemberProcess(command, with_package(os.environ), order)

    def failures(self) -> Mapping[int, str]:
        failures = {index: process.failure() for index, process in self._processes.items()}
        return {index: words for index, words in failures.items() if words is not None}

    async def stop(self) -> None:
        processes = list(self._processes.values())
        self._processes.clear()
        # To its end also where this coroutine is cancelled: nothing may stay behind.
        await asyncio.shield(asyncio.to_thread(end_all, processes))

"""What the head, the router and the launchers of replicas agree on.

A member is one engine on one GPU (or one group of GPUs that share a copy), in a process of its own: the
verb `worker`. It connects to the head, which hands it its settings and then requests. A launcher only
starts and ends those processes; requests never pass through it.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .. import Request

# The secret that lets a member in (credentials.secret reads it, or TOKEN_FILE): never on a command line.
TOKEN_NAME = "REPLICAS_TOKEN"
# The host of a member that others start: it says itself where it is.
UNKNOWN_HOST = "a host that is not known yet"


@dataclass(frozen=True)
class MemberSpec:
    """One member to start. `host`: empty for this one. `gpu`: its CUDA_VISIBLE_DEVICES, None for an engine
    without. `cpus`: those it may run on, None for all. `environment`: what it gets beside its own."""

    index: int
    host: str = ""
    gpu: str | None = None
    cpus: tuple[int, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How messages call it: member, host, GPU."""
        place = f" on {self.host or socket.gethostname()}"
        return f"member {self.index}{place}{f', GPU {self.gpu}' if self.gpu is not None else ''}"


@dataclass(frozen=True)
class HeadAddress:
    """Where members find the head, and the token that lets them in."""

    host: str
    port: int
    token: str = field(repr=False)


@dataclass(frozen=True)
class Listen:
    """Where the head listens, and what members are told to connect to; port 0: a free one."""

    bind: str = "127.0.0.1"
    announce: str = "127.0.0.1"
    port: int = 0


def worker_arguments(member: MemberSpec, head: HeadAddress) -> list[str]:
    """What follows `python -m mlperf_llama` to start a member; the token is not among it."""
    return ["worker", "--head", f"{head.host}:{head.port}", "--member", str(member.index)]


def worker_environment(member: MemberSpec, head: HeadAddress) -> dict[str, str]:
    """What a member's process gets beside the environment it inherits."""
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    gpu = {} if member.gpu is None else {"CUDA_VISIBLE_DEVICES": member.gpu, **order}
    return {**member.environment, **gpu, TOKEN_NAME: head.token}


class Router(Protocol):
    """Which member answers what. Pure: no clock, no socket, no task.

    Server, Interactive and SingleStream push: `assign` says where each request goes now. Offline pulls:
    `queue` takes requests, `pull` gives a member its next ones. Both tell `begun` at a request's first
    token, where there is one, and `done` at its end.
    """

    def add(self, member: int, rate_tokens_s: float, seats: int) -> None:
        """A member that serves: its prompt tokens per second as measured, sequences in one batch."""

    def remove(self, member: int) -> None:
        """It serves no more: what it had is forgotten, and comes again through `assign` or `queue`."""

    def assign(self, requests: Sequence[Request]) -> Mapping[int, list[Request]]:
        """Where each of these goes; every request stands with exactly one member."""

    def queue(self, requests: Sequence[Request]) -> None:
        """Requests for `pull`, in the order of submission (in a pass of the dataset, longest first)."""

    def pull(self, member: int, n: int) -> list[Request]:
        """The next requests for a member, at most n; empty where nothing waits or it holds enough."""

    def begun(self, member: int, request_id: int) -> None: ...

    def done(self, member: int, request_id: int) -> None: ...

    def clear(self) -> None:
        """Forget every request, as between two runs; the members stay."""


class Launcher(Protocol):
    """Starts members' processes, on this host or on others, and ends every one of them."""

    async def start(self, members: Sequence[MemberSpec], head: HeadAddress) -> None:
        """Start all; returns without waiting for them to connect. MissingError: what starts them is not
        here. BrokeError: a host refused, with its name and its words."""

    def failures(self) -> Mapping[int, str]:
        """Members whose process has ended, each with its exit and its last words, in one line."""

    async def stop(self) -> None:
        """End every process and its children, also after a failure; may be called twice."""

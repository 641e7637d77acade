"""Members on the GPUs of a Ray cluster: its start, its health, its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from types import ModuleType
from typing import TypeVar

from ...errors import BrokeError
from ...machine.driver import DriverError, limited
from ...records.codec import from_json
from ...records.schema import System
from . import ray_cluster
from .member_process import STOP_S
from .protocol import HeadAddress, MemberSpec
from .ray_cluster import ADDRESS, Crew
from .supervisor import order_for

# To connect to the cluster or to start one; to leave it.
CONNECT_S, LEAVE_S = 60.0, 15.0
T = TypeVar("T")


class RayLauncher:
    """See protocol.Launcher; made by `place`, which also says on which hosts and GPUs."""

    def __init__(self, ray: ModuleType, address: str, size: int = 1) -> None:
        self._ray, self._address, self._size = ray, address, size
        self._crew: Crew | None = None
        self._failures: dict[int, str] = {}

    @classmethod
    async def place(
        cls, env: Mapping[str, str], count: int | None, size: int = 1
    ) -> tuple[RayLauncher, list[MemberSpec], list[System]]:
        """An actor on every group of `size` GPUs of the cluster, or on `count` groups; the members, and of
        each its host with those GPUs. MissingError: no Ray, no cluster, too few GPUs; BrokeError: the actors
        did not start."""
        launcher = cls(ray_cluster.load(), env.get(ADDRESS) or "local", size)
        crew = await launcher._join(count)
        members = [MemberSpec(n, host, gpu or None) for n, (host, gpu, _) in enumerate(crew.places)]
        systems = [from_json(System, json.loads(text)) for _, _, text in crew.places]
        return launcher, members, systems

    async def _join(self, count: int | None) -> Crew:
        limit_s = CONNECT_S + ray_cluster.FREE_S + ray_cluster.ACTORS_S
        try:
            self._crew = crew = await _in_thread(limit_s, lambda: self._begin(count))
        except BaseException as error:
            await self.stop()
            if isinstance(error, DriverError):
                raise BrokeError(f"HOSTS=ray: {error}") from None
            raise
        return crew

    def _begin(self, count: int | None) -> Crew:
        if not self._ray.is_initialized():
            ray_cluster.connect(self._ray, self._address)
        return Crew(self._ray, count, self._size)

    async def start(self, members: Sequence[MemberSpec], head: HeadAddress) -> None:
        self._failures = {}
        # After a stop, as between two engines of one run, the GPUs are asked for again.
        crew = self._crew or await self._join(len(members))
        for member in members:
            order = order_for(member, head).to_line()
            future = crew.actors[member.index].run.remote(order).future()
            future.add_done_callback(self._note(crew, member))

    def _note(self, crew: Crew, member: MemberSpec) -> Callable[[Future[str]], None]:
        def ended(future: Future[str]) -> None:
            error = future.exception()
            words = f"its Ray actor ended: {ray_cluster.first_line(error)}" if error else future.result()
            if self._crew is crew:
                self._failures[member.index] = words

        return ended

    def failures(self) -> Mapping[int, str]:
        return dict(self._failures)

    async def stop(self) -> None:
        crew, self._crew = self._crew, None
        # Where the cluster does not answer the members end because their head is gone.
        with suppress(DriverError):
            await asyncio.shield(_in_thread(LEAVE_S + STOP_S, lambda: self._leave(crew)))

    def _leave(self, crew: Crew | None) -> None:
        if self._ray.is_initialized():
            if crew:
                crew.leave()
            self._ray.shutdown()


async def _in_thread(limit_s: float, call: Callable[[], T]) -> T:
    """Ray's calls block, and one to a cluster that is gone may never come back. In a thread Ray also leaves
    this process's handlers of signals alone."""
    return await asyncio.to_thread(limited, "Ray", call, limit_s)

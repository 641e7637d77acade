"""Members on the GPUs of a Ray cluster. Sole importer of ray.

Ray places one actor on each GPU and says when one dies. The actor starts the member's process, and nothing
else: the member then connects to the head by itself, and no query passes through Ray.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from types import ModuleType
from typing import Protocol, TypeVar

from ...errors import BrokeError, MissingError
from ...machine.driver import DriverError, limited
from .member_process import STOP_S, SUPERVISOR, MemberProcess, end_all, with_package
from .protocol import HeadAddress, MemberSpec
from .supervisor import order_for

ADDRESS = "RAY_ADDRESS"
# To connect to the cluster or to start one; until every actor runs; to leave it.
CONNECT_S, PLACE_S, LEAVE_S = 60.0, 90.0, 15.0
# What an engine's threads use of a host, at most: the others are left to whoever has them.
CPUS_PER_GPU = 4
# The cluster's object store holds nothing of ours; Ray wants no less.
STORE_BYTES = 80 << 20
T = TypeVar("T")


class _Ref(Protocol):
    """What a call of an actor's method will give."""

    def future(self) -> Future[str]: ...


class _Method(Protocol):
    def remote(self, *arguments: object) -> _Ref: ...


class _Actor(Protocol):
    """`Agent` where it runs."""

    place: _Method
    run: _Method
    stop: _Method


class Agent:
    """The actor. `run` lasts as long as the member does."""

    def __init__(self) -> None:
        self._process: MemberProcess | None = None
        self._ended = threading.Event()

    def place(self) -> tuple[str, str]:
        """Host, and the GPUs that Ray gave."""
        return socket.gethostname(), os.environ.get("CUDA_VISIBLE_DEVICES", "")

    def run(self, order: bytes) -> str:
        """How the member ended, and its last words."""
        self._process = process = MemberProcess(SUPERVISOR, with_package(os.environ), order)
        while (words := process.failure()) is None and not self._ended.wait(0.1):
            pass
        return words or "it was ended"

    def stop(self) -> None:
        self._ended.set()
        if self._process:
            end_all([self._process])


class RayLauncher:
    """See protocol.Launcher; made by `place`, which also says on which hosts and GPUs."""

    def __init__(self, ray: ModuleType) -> None:
        self._ray = ray
        self._agents: list[_Actor] = []
        self._group: object = None
        self._failures: dict[int, str] = {}
        self._stopping = False

    @classmethod
    async def place(cls, env: Mapping[str, str], count: int | None) -> tuple[RayLauncher, list[MemberSpec]]:
        """An actor on every GPU of the cluster, or on `count`. MissingError: no Ray, no cluster, too few
        GPUs; BrokeError: the actors did not start."""
        try:
            # Ray would report that it is used.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            import ray
        except ImportError as error:
            raise MissingError(
                f"HOSTS=ray: expected Ray, which cannot be imported here ({error}): make run HOSTS=ray "
                "installs it natively, elsewhere pip install --no-deps --require-hashes -r locks/ray.lock"
            ) from None
        launcher = cls(ray)
        try:
            address = env.get(ADDRESS) or "local"
            await _in_thread("Ray", CONNECT_S, lambda: _connect(ray, address))
            return launcher, await _in_thread("Ray", PLACE_S + 10, lambda: launcher._place(count))
        except BaseException as error:
            await launcher.stop()
            if isinstance(error, DriverError):
                raise BrokeError(f"HOSTS=ray: {error}") from None
            raise

    def _place(self, count: int | None) -> list[MemberSpec]:
        ray = self._ray
        slots = gpu_slots(ray.nodes())
        if len(slots) < (count or 1):
            raise MissingError(f"HOSTS=ray: expected {count or 'GPUs'} in the cluster, found {len(slots)}")
        slots = slots[:count]
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self._group = group = placement_group(
            [{"GPU": 1, "CPU": cpus} for _, cpus in slots],
            bundle_label_selector=[{"ray.io/node-id": node} for node, _ in slots],
        )
        if not group.wait(PLACE_S / 2):
            raise BrokeError(
                f"HOSTS=ray: expected {len(slots)} free GPUs in the cluster, not all were free within "
                f"{PLACE_S / 2:g} s: `ray status` shows who has them"
            )
        agent = ray.remote(Agent)
        for number, (_, cpus) in enumerate(slots):
            options = agent.options(
                num_gpus=1,
                num_cpus=cpus,
                # `stop` comes while `run` runs.
                max_concurrency=3,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    group, placement_group_bundle_index=number
                ),
            )
            self._agents.append(options.remote())
        answers = [one.place.remote() for one in self._agents]
        ready, _ = ray.wait(answers, num_returns=len(answers), timeout=PLACE_S / 2)
        if len(ready) < len(answers):
            raise BrokeError(
                f"HOSTS=ray: expected {len(answers)} actors, {len(ready)} started in {PLACE_S / 2:g} s"
            )
        try:
            return [MemberSpec(n, host, gpu or None) for n, (host, gpu) in enumerate(ray.get(answers))]
        except ray.exceptions.RayError as error:
            raise BrokeError(f"HOSTS=ray: an actor did not start: {_first_line(error)}") from None

    async def start(self, members: Sequence[MemberSpec], head: HeadAddress) -> None:
        for member in members:
            order = order_for(member, head).to_line()
            future: Future[str] = self._agents[member.index].run.remote(order).future()
            future.add_done_callback(self._note(member))

    def _note(self, member: MemberSpec) -> Callable[[Future[str]], None]:
        def ended(future: Future[str]) -> None:
            error = future.exception()
            words = f"its Ray actor ended: {_first_line(error)}" if error else future.result()
            if not self._stopping:
                self._failures[member.index] = words

        return ended

    def failures(self) -> Mapping[int, str]:
        return dict(self._failures)

    async def stop(self) -> None:
        self._stopping = True
        agents, self._agents = self._agents, []
        # Where the cluster does not answer the members end because their head is gone.
        with suppress(DriverError):
            await asyncio.shield(_in_thread("Ray", LEAVE_S + STOP_S, lambda: self._leave(agents)))

    def _leave(self, agents: Sequence[_Actor]) -> None:
        ray = self._ray
        if not ray.is_initialized():
            return
        if agents:
            ray.wait([one.stop.remote() for one in agents], num_returns=len(agents), timeout=STOP_S + 1)
        for one in agents:
            ray.kill(one)
        if self._group:
            ray.util.remove_placement_group(self._group)
        ray.shutdown()


def gpu_slots(nodes: Sequence[Mapping[str, object]]) -> list[tuple[str, int]]:
    """For each GPU its node's id and how many CPUs come with it, host by host."""
    slots: list[tuple[str, int]] = []
    for node in sorted(nodes, key=lambda node: (str(node["NodeManagerAddress"]), str(node["NodeID"]))):
        resources = node["Resources"]
        assert isinstance(resources, Mapping)
        gpus = int(resources.get("GPU", 0))
        if node["Alive"] and gpus:
            cpus = min(CPUS_PER_GPU, int(resources.get("CPU", 0)) // gpus)
            slots += [(str(node["NodeID"]), cpus)] * gpus
    return slots


def _connect(ray: ModuleType, address: str) -> None:
    """To a cluster, or to a new one of this host alone."""
    options: dict[str, object] = {"log_to_driver": False, "logging_level": "error"}
    if address == "local":
        options |= {"include_dashboard": False, "object_store_memory": STORE_BYTES}
    try:
        # The actors find this package at the path that it has here.
        ray.init(address, runtime_env={"env_vars": {"PYTHONPATH": _python_path()}}, **options)
    except (ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
        raise MissingError(
            f"{ADDRESS}={address}: expected a Ray cluster of this version, found: {_first_line(error)}"
        ) from None


def _python_path() -> str:
    return with_package(os.environ)["PYTHONPATH"]


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


async def _in_thread(name: str, limit_s: float, call: Callable[[], T]) -> T:
    """Ray's calls block, and one to a cluster that is gone may never come back. In a thread Ray also leaves
    this process's handlers of signals alone."""
    return await asyncio.to_thread(limited, name, call, limit_s)

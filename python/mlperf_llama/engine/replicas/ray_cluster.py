"""A Ray cluster's GPUs, with an actor on each, or on each group that shares one copy. Sole importer of ray.

The actor starts a member's process, and nothing else: the member then connects to the head by itself, and no
query passes through Ray.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

from ...errors import BrokeError, MissingError
from ...machine.gpus import VISIBLE
from .host_system import described
from .member_process import STOP_S, SUPERVISOR, MemberProcess, end_all, with_package
from .supervisor import Order

ADDRESS = "RAY_ADDRESS"
# Until the GPUs are free, and then until every actor runs.
FREE_S, ACTORS_S = 45.0, 60.0
# What an engine's threads use of a host, at most: the others are left to whoever has them.
CPUS_PER_GPU = 4
# The cluster's object store holds nothing of ours; Ray wants no less.
STORE_BYTES = 80 << 20


class Ref(Protocol):
    """What a call of an actor's method will give."""

    def future(self) -> Future[str]: ...


class Method(Protocol):
    def remote(self, *arguments: object) -> Ref: ...


class Actor(Protocol):
    """`Agent` where it runs."""

    place: Method
    run: Method
    stop: Method


class Agent:
    """The actor. `run` lasts as long as the member does."""

    def __init__(self) -> None:
        self._process: MemberProcess | None = None
        self._ended = threading.Event()

    def place(self) -> tuple[str, str, str]:
        """Host, the GPUs that Ray gave, and a system record of the host with them."""
        return socket.gethostname(), os.environ.get(VISIBLE, ""), described()

    def run(self, order: bytes) -> str:
        """How the member ended, and its last words."""
        # What Ray gave holds, also where the order is of an earlier start.
        parsed = Order(**json.loads(order))
        if os.environ.get(VISIBLE):
            parsed.environment[VISIBLE] = os.environ[VISIBLE]
        # Ray bounds the threads of what it starts; with the other launchers the engine decides.
        env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        self._process = process = MemberProcess(SUPERVISOR, with_package(env), parsed.to_line())
        while (words := process.failure()) is None and not self._ended.wait(0.1):
            pass
        return words or "it was ended"

    def stop(self) -> None:
        self._ended.set()
        if self._process:
            end_all([self._process])


def load() -> ModuleType:
    """Ray. MissingError: it is not installed."""
    # It would report that it is used.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingError(
            f"HOSTS=ray: expected Ray, which cannot be imported here ({error}): make run HOSTS=ray "
            "installs it natively, elsewhere pip install --no-deps --require-hashes -r locks/ray.lock"
        ) from None
    module: ModuleType = ray
    return module


def connect(ray: ModuleType, address: str) -> None:
    """To a cluster, or to a new one of this host alone."""
    options: dict[str, object] = {"log_to_driver": False, "logging_level": "error"}
    if address == "local":
        options |= {"include_dashboard": False, "object_store_memory": STORE_BYTES}
    # The actors find this package at the path that it has here.
    options["runtime_env"] = {"env_vars": {"PYTHONPATH": with_package(os.environ)["PYTHONPATH"]}}
    try:
        ray.init(address, **options)
    except (ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
        words = f"expected a Ray cluster of this version, found: {first_line(error)}"
        raise MissingError(f"{ADDRESS}={address}: {words}") from None


class Crew:
    """An actor on each group of `size` GPUs: `count` groups, or as many as the cluster's nodes have.
    `places`: of each host and GPUs, with the host's system record. MissingError: too few GPUs; BrokeError:
    the actors did not start."""

    def __init__(self, ray: ModuleType, count: int | None, size: int = 1) -> None:
        self._ray = ray
        slots = slots_of(ray.nodes(), size)
        if len(slots) < (count or 1):
            kind = f"groups of {size} GPUs on one node" if size > 1 else "GPUs"
            wanted = f"{count} {kind}" if count else kind
            raise MissingError(f"HOSTS=ray: expected {wanted} in the cluster, found {len(slots)}")
        slots = slots[:count]
        self.actors: list[Actor] = []
        self._group = self._reserve(slots)
        try:
            self.places = self._start(slots)
        except BaseException:
            self.leave()
            raise

    def _reserve(self, slots: Sequence[Slot]) -> object:
        from ray.util.placement_group import placement_group

        group = placement_group(
            [{"GPU": slot.gpus, "CPU": slot.cpus} for slot in slots],
            bundle_label_selector=[{"ray.io/node-id": slot.node} for slot in slots],
        )
        if not group.wait(FREE_S):
            self._ray.util.remove_placement_group(group)
            raise BrokeError(
                f"HOSTS=ray: expected {sum(slot.gpus for slot in slots)} free GPUs in the cluster, not all "
                f"were free within {FREE_S:g} s: `ray status` shows who has them"
            )
        reserved: object = group
        return reserved

    def _start(self, slots: Sequence[Slot]) -> list[tuple[str, str, str]]:
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        agent = self._ray.remote(Agent)
        for number, slot in enumerate(slots):
            there = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=number)
            # `stop` comes while `run` runs.
            options = agent.options(
                num_gpus=slot.gpus, num_cpus=slot.cpus, max_concurrency=3, scheduling_strategy=there
            )
            self.actors.append(options.remote())
        answers = [actor.place.remote() for actor in self.actors]
        ready, _ = self._ray.wait(answers, num_returns=len(answers), timeout=ACTORS_S)
        if len(ready) < len(answers):
            words = f"{len(ready)} started within {ACTORS_S:g} s"
            raise BrokeError(f"HOSTS=ray: expected {len(answers)} actors, {words}")
        try:
            places: list[tuple[str, str, str]] = self._ray.get(answers)
        except self._ray.exceptions.RayError as error:
            raise BrokeError(f"HOSTS=ray: an actor did not start: {first_line(error)}") from None
        return places

    def leave(self) -> None:
        """End the members, the actors, the reservation. Blocks for at most a little more than STOP_S."""
        if self.actors:
            ended = [actor.stop.remote() for actor in self.actors]
            self._ray.wait(ended, num_returns=len(ended), timeout=STOP_S + 1)
        for actor in self.actors:
            self._ray.kill(actor)
        self._ray.util.remove_placement_group(self._group)


@dataclass(frozen=True)
class Slot:
    """Of one member: its node's id, and what it reserves there."""

    node: str
    gpus: int
    cpus: int


def slots_of(nodes: Sequence[Mapping[str, object]], size: int = 1) -> list[Slot]:
    """A slot for each group of `size` GPUs, host by host; GPUs that make no whole group are left."""
    slots: list[Slot] = []
    for node in sorted(nodes, key=lambda node: (str(node["NodeManagerAddress"]), str(node["NodeID"]))):
        resources = node["Resources"]
        assert isinstance(resources, Mapping)
        gpus = int(resources.get("GPU", 0))
        if node["Alive"] and gpus:
            cpus = size * min(CPUS_PER_GPU, int(resources.get("CPU", 0)) // gpus)
            slots += [Slot(str(node["NodeID"]), size, cpus)] * (gpus // size)
    return slots


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__

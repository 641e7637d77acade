"""Members on other hosts, by the setting HOSTS: which there are, and what starts them."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from ...config import Config
from ...credentials import secret
from ...errors import BrokeError, MissingError, UsageError
from ...machine import gpus
from ...machine.processes import MODULE_COMMAND
from ...records.codec import from_json
from ...records.schema import Gpu, System
from ...settings import PREFIX
from . import host_system, plan
from .door import own_address
from .launch_none import NoLauncher
from .launch_processes import ProcessLauncher, Way, srun, ssh
from .member_process import with_package
from .protocol import TOKEN_NAME, UNKNOWN_HOST, Launcher, Listen, MemberSpec

RAY, SLURM, JOIN = "ray", "slurm", "join"
# Of a host's answer about itself: a driver that is slow, and a network that loses packets.
ANSWER_S = 60.0
# On every interface. Of both families at once each would get another free port.
ANYWHERE = "0.0.0.0"


@dataclass(frozen=True)
class Placed:
    """`gpus`: those of all members, in their order; `hosts`: what each is, by its name; `token`: where it was
    given to the members already."""

    launcher: Launcher
    members: list[MemberSpec]
    gpus: tuple[Gpu, ...]
    hosts: dict[str, System]
    listen: Listen
    token: str | None = None


async def place(config: Config, env: Mapping[str, str]) -> Placed:
    """The members on the hosts that HOSTS names. UsageError: a setting is wrong; MissingError: no such GPU,
    host or program; BrokeError: a host refused."""
    if config.hosts == RAY:
        return await _on_ray(config, env)
    if config.hosts == JOIN:
        return joining(config, env, gpus.describe(env).gpus)
    in_slurm, slurm = "SLURM_JOB_ID" in env, config.hosts == SLURM
    if slurm and not in_slurm:
        raise UsageError("HOSTS=slurm: expected to run inside an allocation (salloc, sbatch), found none")
    names = await asyncio.to_thread(_allocated, env) if slurm else config.hosts.split(",")
    way = srun if in_slurm else ssh
    systems = await asyncio.gather(*(asyncio.to_thread(_ask, way, name, env) for name in names))
    hosts = {name: used(config, name, system) for name, system in zip(names, systems, strict=True)}
    return Placed(
        ProcessLauncher(way),
        members_on(config, {name: system.gpus for name, system in hosts.items()}),
        tuple(gpu for system in hosts.values() for gpu in system.gpus),
        hosts,
        listen(config.head_address, names[0].rpartition("@")[2]),
    )


async def _on_ray(config: Config, env: Mapping[str, str]) -> Placed:
    from .launch_ray import RayLauncher
    from .ray_cluster import ADDRESS

    if isinstance(config.gpus, tuple):
        raise UsageError("GPUS: expected a count or all with HOSTS=ray, which chooses the GPUs")
    launcher, members, systems = await RayLauncher.place(env, *plan.groups(config, config.gpus))
    hosts: dict[str, System] = {}
    for member, system in zip(members, systems, strict=True):
        before = hosts.get(member.host)
        hosts[member.host] = replace(system, gpus=before.gpus + system.gpus) if before else system
    theirs = tuple(gpu for system in systems for gpu in system.gpus)
    towards = urlsplit(f"//{env[ADDRESS]}").hostname if env.get(ADDRESS) else "localhost"
    return Placed(launcher, members, theirs, hosts, listen(config.head_address, towards or "localhost"))


def joining(config: Config, env: Mapping[str, str], here: Sequence[Gpu]) -> Placed:
    """Members that others start. A GPU of this host stands for theirs: it decides their settings."""
    if not isinstance(config.gpus, int):
        raise UsageError("GPUS: expected how many members will join with HOSTS=join, found no count")
    if ":" not in (config.head_address or ""):
        raise UsageError(
            "HEAD_ADDRESS: expected HOST:PORT with HOSTS=join, where members join, found no port"
        )
    token = secret(TOKEN_NAME, env)
    if token is None:
        raise MissingError(f"HOSTS=join: expected the members' token in {TOKEN_NAME} or {TOKEN_NAME}_FILE")
    if not here and config.engine != "fake" and env.get(f"{PREFIX}TARGET", "").lower() != "cpu":
        raise MissingError("HOSTS=join: expected a GPU here too, of the members' kind, found none")
    members = [MemberSpec(index, UNKNOWN_HOST) for index in range(config.gpus)]
    where = listen(config.head_address, "")
    return Placed(NoLauncher(), members, tuple(here[:1]) * len(members), {}, where, token)


def used(config: Config, name: str, system: System) -> System:
    """A host with the GPUs that the run uses. MissingError: it has none, or too few."""
    if not system.gpus and config.engine != "fake":
        words = f": {system.gpu_failure}" if system.gpu_failure else ""
        raise MissingError(f"{name}: expected a GPU, found none that answers{words}")
    try:
        return replace(system, gpus=plan.chosen_gpus(config, system.gpus))
    except (MissingError, UsageError) as error:
        raise type(error)(f"{name}: {error}") from None


def members_on(config: Config, gpus_of: Mapping[str, Sequence[Gpu]]) -> list[MemberSpec]:
    """Each host's members, numbered through."""
    specs = [
        replace(spec, host=name) for name, gpus in gpus_of.items() for spec in plan.members(config, gpus)
    ]
    return [replace(spec, index=index) for index, spec in enumerate(specs)]


def listen(head_address: str | None, towards: str) -> Listen:
    """Where the head listens so that a host finds it."""
    host, _, port = (head_address or "").rpartition(":")
    if head_address:
        return Listen(ANYWHERE, host or port, int(port) if host else 0)
    here = towards == "localhost" or towards.startswith("127.")
    address = own_address(towards)
    if address.startswith("127.") and not here:
        # A name that only ssh or Slurm knows.
        address = own_address()
    return Listen("127.0.0.1" if here else ANYWHERE, address)


def _allocated(env: Mapping[str, str]) -> list[str]:
    listed = env.get("SLURM_JOB_NODELIST", "")
    code, out, err = _run(["scontrol", "show", "hostnames", listed], env)
    if code or not out.split():
        raise BrokeError(f"HOSTS=slurm: expected the hosts of {listed!r} from scontrol, found: {_last(err)}")
    return out.split()


def _ask(way: Way, host: str, env: Mapping[str, str]) -> System:
    """What a host says of itself."""
    code, out, err = _run(way(host, [*MODULE_COMMAND, host_system.__name__]), env)
    try:
        return from_json(System, json.loads(out))
    except (ValueError, TypeError):
        words = f"it ended with code {code}: {_last(err or out)}"
        raise BrokeError(f"{host}: expected it to say which GPUs it has, {words}") from None


def _run(command: Sequence[str], env: Mapping[str, str]) -> tuple[int, str, str]:
    try:
        done = subprocess.run(
            command,
            env=with_package(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
        )
    except FileNotFoundError:
        raise MissingError(f"HOSTS: expected {command[0]}, which reaches them, found none here") from None
    except subprocess.TimeoutExpired:
        return -1, "", f"no answer within {ANSWER_S:g} s"
    return done.returncode, done.stdout, done.stderr


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"

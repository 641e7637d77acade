"""Which members a run has, and what starts them, by the settings GPUS and HOSTS."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Mapping, Sequence

from ...errors import BrokeError, MissingError, UsageError
from ...machine import gpus
from . import host_gpus
from .launch_processes import ProcessLauncher, Way, local, srun, ssh
from .member_process import MODULE_COMMAND, with_package
from .protocol import Launcher, MemberSpec

RAY, SLURM = "ray", "slurm"
# Of a host's answer about its GPUs: a driver that hangs, and a network that loses packets.
ANSWER_S = 45.0
HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.@-]*[A-Za-z0-9_])?")


async def places(
    hosts: str, choice: str, env: Mapping[str, str], on_gpus: bool = True
) -> tuple[Launcher, list[MemberSpec]]:
    """What starts the members, and the members: one for each GPU that is used; for an engine that needs none
    (`on_gpus` False) as many on each host as the count that `choice` gives.

    `hosts`: empty for this host, ray, slurm (all of the allocation), or names with commas, through Slurm
    inside an allocation and through ssh elsewhere. `choice`: GPUS. UsageError: a setting is wrong;
    MissingError: no such GPU, host or program; BrokeError: a host refused.
    """
    if hosts == RAY:
        from .launch_ray import RayLauncher

        return await RayLauncher.place(env, _count(choice))
    if not hosts:
        return ProcessLauncher(local), members_on(
            {"": _here(choice, env)} if on_gpus else {"": _without(choice)}
        )
    in_slurm = "SLURM_JOB_ID" in env
    if hosts == SLURM and not in_slurm:
        raise UsageError("HOSTS=slurm: expected to run inside an allocation (salloc, sbatch), found none")
    names = await asyncio.to_thread(_allocated, env) if hosts == SLURM else host_names(hosts)
    way = srun if in_slurm else ssh
    if not on_gpus:
        return ProcessLauncher(way), members_on({name: _without(choice) for name in names})
    answers = await asyncio.gather(*(asyncio.to_thread(_ask, way, name, env) for name in names))
    here = {
        name: chosen(choice, listed, failure, name)
        for name, (listed, failure) in zip(names, answers, strict=True)
    }
    return ProcessLauncher(way), members_on(here)


def host_names(hosts: str) -> list[str]:
    """The names that HOSTS lists."""
    names = [name.strip() for name in hosts.split(",")]
    for name in names:
        if not HOST.fullmatch(name):
            raise UsageError(
                f"HOSTS: expected ray, slurm, or host names with commas, found {name!r} in {hosts!r}"
            )
    if len(set(names)) < len(names):
        raise UsageError(f"HOSTS: expected each host once, found {hosts}")
    return names


def chosen(choice: str, listed: Sequence[str], failure: str | None = None, host: str = "") -> list[str]:
    """The GPUs of a host that GPUS chooses among those that answer: all, how many, or which numbers."""
    where = f" on {host}" if host else ""
    if not listed:
        raise MissingError(f"GPUS: expected a GPU{where}, found none{f': {failure}' if failure else ''}")
    if choice in ("", "all"):
        return list(listed)
    words = [word.strip() for word in choice.split(",")]
    if not all(word.isdecimal() for word in words):
        raise UsageError(f"GPUS: expected all, a count, or numbers with commas, found {choice!r}")
    if len(words) == 1:
        count = int(words[0])
        if not 1 <= count <= len(listed):
            raise MissingError(f"GPUS: expected {count}{where}, found {len(listed)}: {', '.join(listed)}")
        return list(listed[:count])
    if len(set(words)) < len(words):
        raise UsageError(f"GPUS: expected each number once, found {choice}")
    absent = [word for word in words if word not in listed]
    if absent:
        raise MissingError(f"GPUS: expected GPU {', '.join(absent)}{where}, found {', '.join(listed)}")
    return words


def _here(choice: str, env: Mapping[str, str]) -> list[str]:
    found = gpus.describe(env)
    return chosen(choice, host_gpus.cuda_names(found), found.failure)


def _without(choice: str) -> list[None]:
    """Members of one host without a GPU."""
    return [None] * (_count(choice) or 1)


def _count(choice: str) -> int | None:
    if choice in ("", "all"):
        return None
    if not choice.isdecimal() or choice == "0":
        raise UsageError(
            f"GPUS: expected all or a count where nothing here chooses the GPUs, found {choice!r}"
        )
    return int(choice)


def members_on(gpus_of: Mapping[str, Sequence[str] | Sequence[None]]) -> list[MemberSpec]:
    """A member for each GPU of each host, numbered through."""
    pairs = [(host, gpu) for host, names in gpus_of.items() for gpu in names]
    return [MemberSpec(index, host, gpu) for index, (host, gpu) in enumerate(pairs)]


def _allocated(env: Mapping[str, str]) -> list[str]:
    listed = env.get("SLURM_JOB_NODELIST", "")
    code, out, err = _run(["scontrol", "show", "hostnames", listed], env)
    if code or not out.split():
        raise BrokeError(f"HOSTS=slurm: expected the hosts of {listed!r} from scontrol, found: {_last(err)}")
    return out.split()


def _ask(way: Way, host: str, env: Mapping[str, str]) -> tuple[list[str], str | None]:
    """The GPUs of a host, and its driver's own words where it fails."""
    code, out, err = _run(way(host, [*MODULE_COMMAND, host_gpus.__name__]), env)
    try:
        answer = json.loads(out)
        return [str(name) for name in answer["gpus"]], answer["failure"]
    except (ValueError, KeyError, TypeError):
        raise BrokeError(
            f"{host}: expected a list of its GPUs, it ended with code {code}: {_last(err or out)}"
        ) from None


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
        return -1, "", f"no answer in {ANSWER_S:g} s"
    return done.returncode, done.stdout, done.stderr


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"

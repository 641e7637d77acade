"""Hosts made of network namespaces: each has an address of its own, and a cable that can be cut.

What runs on one shares this machine's files and processes with the others, but reaches them by TCP alone,
through a bridge, with a delay on its cable where the kernel can. `ssh` is a stand-in that enters a namespace.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_network
from itertools import count
from pathlib import Path

# Of a namespace's name: it tells the processes on it too, by their environment.
HOST_NAME = "NAMESPACE_HOST"
RANGE, PREFIX = ip_network("198.18.0.0/15"), 28


def why_not() -> str | None:
    """Why there can be no namespaces here; None where there can."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    if not shutil.which("ip") or not shutil.which("tc"):
        return "needs ip and tc"
    probe = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    return f"no network namespaces here: {probe.stderr.strip()}" if probe.returncode else None


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


def _free_addresses(seed: int) -> list[str]:
    """Of a network that no other run of tests has, out of those that RFC 2544 keeps for tests."""
    taken = subprocess.run(["ip", "-4", "addr"], capture_output=True, text=True, check=True).stdout
    networks = 1 << (PREFIX - RANGE.prefixlen)
    while True:
        first = RANGE.network_address + (seed % networks) * (1 << (32 - PREFIX))
        if f" {first + 1}/" not in taken:
            return [str(first + number) for number in range(1, (1 << (32 - PREFIX)) - 1)]
        seed += 1


class Hosts:
    """`names`: those of the hosts, each a namespace behind its own cable; `head`: this side's address."""

    def __init__(self, tag: str, delay_ms: float) -> None:
        self.bridge, self.names, self._tag, self._delay_ms = f"b{tag}", list[str](), tag, delay_ms
        self.head, *self._addresses = _free_addresses(int(tag, 36))

    def add(self, number_of: int) -> None:
        _ip("link", "add", self.bridge, "type", "bridge")
        _ip("addr", "add", f"{self.head}/{PREFIX}", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")
        for number in range(number_of):
            name = f"h{self._tag}n{number}"
            _ip("netns", "add", name)
            self.names.append(name)
            _ip("link", "add", f"c{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", f"c{name}", "master", self.bridge, "up")
            _ip("-n", name, "addr", "add", f"{self._addresses[number]}/{PREFIX}", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
            netem = ["root", "netem", "delay", f"{self._delay_ms}ms"]
            delay = ["tc", "-n", name, "qdisc", "add", "dev", "eth0", *netem]
            # A kernel without netem has cables without delay.
            subprocess.run(delay, check=False, capture_output=True)

    def cut(self, name: str) -> None:
        """Pull the cable: what is sent from now on is lost, and no connection is told."""
        _ip("link", "del", f"c{name}")

    def processes(self, name: str) -> list[int]:
        listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
        return [int(pid) for pid in listed.stdout.split()]

    def enter(self, name: str) -> list[str]:
        """What runs a command there, in front of it."""
        return ["ip", "netns", "exec", name, "env", f"{HOST_NAME}={name}"]

    def ssh(self, folder: Path) -> Path:
        """A stand-in for ssh in a folder: a shell in a namespace, with a bare environment, as sshd's."""
        path = folder / "ssh"
        path.write_text(
            "#!/bin/sh\n"
            'while [ "$1" != -- ]; do shift; done\n'
            f'exec ip netns exec "$2" env -i HOME="$HOME" PATH="$PATH" {HOST_NAME}="$2" '
            f'MLPERF_ENV_FILE=/dev/null sh -c "$3"\n'
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def remove(self) -> None:
        for name in self.names:
            for pid in self.processes(name):
                subprocess.run(["kill", "-KILL", str(pid)], capture_output=True, check=False)
            subprocess.run(["ip", "link", "del", f"c{name}"], capture_output=True, check=False)
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self.bridge], capture_output=True, check=False)


_SERIAL = count()


@contextmanager
def hosts(number: int, delay_ms: float = 0.2) -> Iterator[Hosts]:
    """So many hosts, under names that no others have; the kernel takes a while to forget some."""
    made = Hosts(f"{os.getpid() % 10_000}x{next(_SERIAL)}", delay_ms)
    try:
        made.add(number)
        yield made
    finally:
        made.remove()


def left(made: Hosts, names: Sequence[str] | None = None) -> dict[str, list[int]]:
    """Processes that are still on hosts."""
    processes = {name: made.processes(name) for name in (names or made.names)}
    return {name: pids for name, pids in processes.items() if pids}

"""Random harm to whole runs, again and again: kills, interruptions, stops, a full disk, a failing network, a
wrong clock, two commands at once, members on other hosts. Nothing may be lost, mislabelled, hang or be left
behind; docs/reliability.md says what is promised.

Usage: scripts/chaos [--rounds N] [--first N] [--seed N] [--only NAME]
Each round follows from the seed and its number. What this machine cannot do is left out, and said: a small
disk needs root, a clock a C compiler, hosts network namespaces.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import chaos_harms
import chaos_rounds
import chaos_world
import clock_shim
from chaos_world import World

PURPOSE = "Random harm to whole runs; nothing may be lost, mislabelled, hang or be left behind."
Round = Callable[[World, random.Random, int], str]
ROUNDS: Mapping[str, Round] = {
    **{name: partial(chaos_rounds.harmed, name=name) for name in chaos_harms.HARMS},
    "network": chaos_rounds.cut_network,
    "cache": chaos_rounds.damaged_cache,
    "clock": chaos_rounds.wrong_clock,
    "two at once": chaos_rounds.second_run,
    "member": chaos_rounds.harmed_member,
}


def missing(world: World) -> dict[str, str]:
    """What cannot be done here, with the reason."""
    reasons = {
        "full disk": None if world.disk else "only root can mount a small disk",
        "clock": None if clock_shim.COMPILER else "no C compiler is here",
        "member": chaos_world.hosts_missing(),
    }
    return {name: reason for name, reason in reasons.items() if reason}


def play(world: World, names: list[str], seed: int, number: int) -> tuple[str, str, str]:
    """One round: its kind, what happened, and what went wrong."""
    draw = random.Random(f"{seed} {number}")
    name = draw.choice(names)
    try:
        return name, ROUNDS[name](world, draw, number), ""
    except Exception as error:
        return name, "", f"{type(error).__name__}: {error}"


def run(folder: Path, first: int, rounds: int, seed: int, only: str | None) -> int:
    """So many rounds; how many of them went wrong."""
    done, wrong = Counter[str](), Counter[str]()
    with chaos_world.made(folder) as world:
        reasons = missing(world)
        for name, reason in reasons.items():
            print(f"left out: {name} ({reason})", flush=True)
        names = [name for name in ROUNDS if name not in reasons and only in (None, name)]
        for number in range(first, first + rounds):
            began = time.monotonic()
            name, story, fault = play(world, names, seed, number)
            done[name] += 1
            wrong[name] += bool(fault)
            print(f"{number:4} {time.monotonic() - began:5.1f} s  {name}: {fault or story}", flush=True)
            if not fault:
                shutil.rmtree(folder / f"work/round-{number}", ignore_errors=True)
    for name, count in done.items():
        print(f"{count:4} {name}: {wrong[name] or 'none'} went wrong")
    print(f"{sum(done.values())} rounds with seed {seed}: {sum(wrong.values()) or 'none'} went wrong")
    return sum(wrong.values())


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=PURPOSE)
    parser.add_argument("--rounds", type=int, default=100, help="how many (default: %(default)s)")
    parser.add_argument("--first", type=int, default=1, help="number of the first one (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of all that is random (default: %(default)s)")
    parser.add_argument("--only", choices=sorted(ROUNDS), help="rounds of this kind alone")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        return min(1, run(Path(folder), chosen.first, chosen.rounds, chosen.seed, chosen.only))


if __name__ == "__main__":
    sys.exit(main())

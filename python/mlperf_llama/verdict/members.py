"""Checks of engines that share the work: alike, and what the head is: its release, its weights. What a member
says is its process's word; what it can be compared with stands at the head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..engine.hopper import bounds
from ..records.schema import Check, Member
from .check import check, first
from .evidence import Evidence
from .extension import EXTENSIONS

FIX = "have the same release, weights and settings on every host"


def checks(evidence: Evidence) -> list[Check]:
    """No check where there is one engine."""
    members = evidence.provenance.members
    if not members:
        return []
    faults = [*_unlike(members), *_other_than_head(members, evidence), *_unrecorded(members, evidence)]
    hosts = len({member.host for member in members})
    cards = ", ".join(sorted({gpu.name for member in members for gpu in member.gpus})) or "no GPU"
    alike = f"{len(members)} members on {hosts} {'host' if hosts == 1 else 'hosts'} ({cards}), all alike"
    return [check("members", not faults, first(faults) or alike, FIX)]


def _unlike(members: Sequence[Member]) -> Iterator[str]:
    values: dict[str, set[str | None]] = {
        "settings": {repr(sorted(member.settings.items())) for member in members},
        "engine version": {member.version for member in members},
        "code": {member.code_sha256 for member in members},
        "weights": {member.model_sha256 for member in members},
    }
    differing = [name for name, different in values.items() if len(different) > 1]
    if differing:
        yield f"{len(members)} members with unlike {', '.join(differing)}"


def _other_than_head(members: Sequence[Member], evidence: Evidence) -> Iterator[str]:
    """Members may be alike and still not what the head proved and recorded."""
    model = evidence.provenance.model
    for member in members:
        if member.code_sha256 not in evidence.sources[-1:]:
            yield f"member {member.index} ran another release than the head"
        # The fake engine loads no weights.
        proven = model.sha256 if model and evidence.engine_name != "fake" else None
        if member.model_sha256 != proven:
            yield f"member {member.index} loaded weights of {member.model_sha256}, {proven} were proven"
        if member.settings.get("worker_extension_cls") in EXTENSIONS and not (
            member.self_check and bounds.within(member.self_check)
        ):
            yield f"member {member.index} has no self-check of its kernels that passed"


def _unrecorded(members: Sequence[Member], evidence: Evidence) -> Iterator[str]:
    """What each was made of is judged as the head is: it must be on record."""
    processes = {process.member for process in evidence.environment.processes}
    loads = {load.member for load in evidence.engine_loads.loads}
    for member in members:
        if member.index not in processes:
            yield f"member {member.index}: its process is not recorded"
        if member.index not in loads:
            yield f"member {member.index}: its engine is not recorded"

"""Which engines a run has: GPUs chosen by GPUS, in groups of TENSOR_PARALLEL, a member each."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ...config import Config
from ...errors import MissingError, UsageError
from ...machine.gpus import VISIBLE
from ...records.schema import Gpu
from .protocol import MemberSpec


def degree(config: Config) -> int:
    """GPUs that share one copy of the model."""
    value = config.engine_args.get("tensor_parallel_size", config.tensor_parallel)
    return value if isinstance(value, int) and value > 0 else 1


def chosen_gpus(config: Config, gpus: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """Of those that CUDA will use, the ones that the run uses: whole groups. MissingError: fewer are here.

    The fake engine has none of its own: it is told of as many as GPUS names. Servers have theirs elsewhere.
    """
    wanted, size = config.gpus, degree(config)
    if config.endpoints:
        return ()
    if config.engine == "fake" or not gpus:
        if wanted is not None and config.engine != "fake":
            raise MissingError(f"GPUS: expected {_words(wanted)}, found no GPU that answers")
        return tuple(gpus)
    if wanted is None:
        whole = len(gpus) // size * size
        apart = all(gpu.source for gpu in gpus)
        return tuple(gpus[: whole if apart else size] or gpus)
    if isinstance(wanted, int):
        chosen = tuple(gpus[:wanted])
        if len(chosen) < wanted:
            raise MissingError(f"GPUS: expected {_words(wanted)}, found {len(chosen)} that answer")
    else:
        by_index = {gpu.index: gpu for gpu in gpus}
        absent = [str(index) for index in wanted if index not in by_index]
        if absent:
            here = ", ".join(map(str, by_index)) or "none"
            raise MissingError(f"GPUS: expected {_words(wanted)}, found {here}; absent: {', '.join(absent)}")
        chosen = tuple(by_index[index] for index in wanted)
    if len(chosen) % size:
        raise _no_multiple(len(chosen), size)
    return chosen


def groups(config: Config, count: int | None) -> tuple[int | None, int]:
    """How many groups of GPUs `count` GPUs make, None: all there are; and the size of a group."""
    size = degree(config)
    if count is not None and count % size:
        raise _no_multiple(count, size)
    return (None if count is None else count // size), size


def _no_multiple(count: int, size: int) -> UsageError:
    return UsageError(
        f"GPUS: expected groups of TENSOR_PARALLEL={size}, found {count} GPUs, which is no multiple"
    )


def _words(wanted: int | tuple[int, ...]) -> str:
    return f"{wanted} GPUs" if isinstance(wanted, int) else f"GPUs {', '.join(map(str, wanted))}"


def members(config: Config, gpus: Sequence[Gpu]) -> list[MemberSpec]:
    """A member for each group of GPUs; a single one, without a GPU, where there are none. `gpus`: the
    chosen ones. UsageError: CUDA alone knows which GPU is which."""
    if config.engine == "fake":
        wanted = config.gpus
        indices = range(wanted) if isinstance(wanted, int) else wanted or (0,)
        return [MemberSpec(number, gpu=str(index)) for number, index in enumerate(indices)]
    if not gpus:
        return [MemberSpec(0)]
    size = degree(config)
    groups = [gpus[start : start + size] for start in range(0, len(gpus) - size + 1, size)] or [gpus]
    if len(groups) > 1 and any(gpu.source is None for gpu in gpus):
        raise UsageError(
            "GPUS: expected GPUs that can be told apart, found CUDA_DEVICE_ORDER set: unset it, or set GPUS=1"
        )
    return [
        MemberSpec(number, gpu=",".join(map(_name, group)), cpus=None) for number, group in enumerate(groups)
    ]


def _name(gpu: Gpu) -> str:
    """As CUDA_VISIBLE_DEVICES names it: by the driver's number; an instance of MIG has none."""
    return gpu.uuid if gpu.mig and gpu.uuid else str(gpu.index)


def environment_of(member: MemberSpec, config: Config) -> dict[str, str]:
    """Of an engine in this process: with GPUS it sees the member's GPUs alone."""
    return {} if member.gpu is None or config.gpus is None else {VISIBLE: member.gpu}


def cpu_threads(count: int) -> int:
    """For each of `count` engines that compute on this host's CPUs."""
    return max(1, len(os.sched_getaffinity(0)) // count)

"""What a user is told whose GPU cannot hold an engine, in one line."""

from __future__ import annotations

import math

from .oom_fallback import SEQS, TOKENS, Load, Plan
from .oom_messages import Phase, Shortage

SMALLER = "take a GPU with more memory, 8-bit weights (QUANTIZATION) or more GPUs (TENSOR_PARALLEL)"
# What other processes hold is the cause from here on.
OTHERS_GIB = 1.0
# vLLM's share of the card never reaches all of it.
MOST_SHARE = 0.99


def advice(shortage: Shortage, plan: Plan, load: Load) -> str:
    """What is missing, and what would do."""
    if shortage.phase is Phase.STARTUP:
        return f"GPU memory: {_startup(shortage, load)}"
    missing = f"GPU memory: {max(plan.missing_gib, 0.01):.2f} GiB are missing {shortage.phase.value}"
    total, others = shortage.total or load.total_gib, shortage.others or 0.0
    if total and others > OTHERS_GIB:
        return f"{missing}, and other processes hold {others:.2f} of {total:.2f} GiB: end them"
    if shortage.phase is Phase.CACHE:
        return f"{missing}: {_least_share(shortage, plan, load)}"
    if shortage.phase is Phase.SERVING and total:
        most = math.floor(100 * (load.share - plan.wanted_gib / total)) / 100
        return f"{missing}: needs GPU_MEMORY_UTILIZATION of at most {most:.2f}"
    fixed = [name.upper() for name in (TOKENS, SEQS) if not load.may(name)]
    if shortage.phase is Phase.PROFILE and fixed:
        return f"{missing}: lower {' or '.join(fixed)}, or {SMALLER}"
    return f"{missing}: {_too_large(total)}"


def _startup(shortage: Shortage, load: Load) -> str:
    """Memory was missing before anything was loaded: others have it."""
    free, total = shortage.free or 0.0, shortage.total or math.inf
    taken = (
        f"other processes hold {shortage.others:.2f} of {total:.2f} GiB, and GPU_MEMORY_UTILIZATION "
        f"{load.share:g} asks for more than is left: end them"
    )
    least, most = _hundredths_up(load.least_gib / total), math.floor(100 * free / total) / 100
    if least > most:
        return f"{taken}; needs GPU_MEMORY_UTILIZATION of at least {least:.2f}, and {most:.2f} is left"
    return f"{taken}, or set GPU_MEMORY_UTILIZATION to at most {most:.2f} (needs at least {least:.2f})"


def _least_share(shortage: Shortage, plan: Plan, load: Load) -> str:
    total = shortage.total or load.total_gib
    if not total:
        return "needs a higher GPU_MEMORY_UTILIZATION"
    unchanged = _hundredths_up(load.share + plan.wanted_gib / total)
    least = _hundredths_up(load.share + (plan.wanted_gib - plan.given_gib) / total)
    if shortage.missing is None:
        # vLLM did not say how much: by the memory model alone.
        unchanged = least = max(least, _hundredths_up(load.least_gib / total))
    if least > MOST_SHARE:
        return _too_large(total)
    at_full_speed = f" ({unchanged:.2f} for full speed)" if least < unchanged <= MOST_SHARE else ""
    return f"needs GPU_MEMORY_UTILIZATION of at least {least:.2f}{at_full_speed}"


def _too_large(total: float | None) -> str:
    return f"the model is too large for {f'{total:.2f} GiB' if total else 'this GPU'}: {SMALLER}"


def _hundredths_up(share: float) -> float:
    return math.ceil(100 * share - 1e-9) / 100

"""How many of which GPU a load takes: by what this pipeline is expected to reach, and what was published."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .. import rules
from ..config import Config
from ..engine.preset import load_preset
from ..errors import UsageError
from ..machine import expected, gpu_table, roofline
from ..machine.expected import Expected
from ..machine.gpu_table import GpuSpec
from ..records.schema import Gpu
from . import published
from .published import Published

HEADS = ("GPU", "expected of one", "GPUs", "kW", "best published", "GPUs", "by")
# Published, but no whole card of the table: hosts of unlike GPUs.
UNLIKE = " + "


@dataclass(frozen=True)
class Fleet:
    """One kind of GPU, what each of it keeps up in queries/s, and the fastest published result of it."""

    card: GpuSpec
    speed: Expected | None
    best: Published | None

    def count(self, need: float) -> tuple[int, int] | None:
        """The fewest and the most GPUs that `need` takes; None where this pipeline does not run there."""
        if self.speed is None or self.card.maker != gpu_table.NVIDIA:
            return None
        return math.ceil(need / self.speed.high), math.ceil(need / self.speed.low)

    def published_count(self, need: float) -> int | None:
        rate = self.best.per_device if self.best else None
        return math.ceil(need / rate) if rate else None


def engine_of(card: GpuSpec) -> tuple[str, str]:
    """The precision and the kernels of a run on a card: its preset's, else what its cores multiply."""
    if card.preset:
        engine = load_preset(card.preset).engine
        return roofline.precision_of(engine, card) or "fp16", expected.kernels_of(engine)
    if "fp8" not in card.rates:
        return "int8", expected.VLLM
    # The KV cache is in 8 bits where vLLM's own choice of attention reads it (engine/derive.py).
    narrow = card.capability is None or 9.0 <= card.capability < 12.0
    return "fp8-kv8" if narrow else "fp8", expected.VLLM


def fleets(scenario: str) -> list[Fleet]:
    """Every card of the table, the fastest first."""
    best = _best_published(scenario)
    listed = [
        Fleet(card, expected.under_load(card, *engine_of(card), scenario), best.get(card.name))
        for card in gpu_table.specs()
    ]
    return sorted(listed, key=lambda fleet: -(fleet.speed.middle if fleet.speed else 0.0))


def _best_published(scenario: str) -> dict[str, Published]:
    """The fastest published result of each card."""
    fastest: dict[str, Published] = {}
    for result in published.comparable(rules.benchmark_name(rules.DATACENTER), scenario):
        card = None if UNLIKE in result.device else gpu_table.find_gpu(Gpu(name=result.device))
        if card is not None and result.kind == "accelerator":
            fastest.setdefault(card.name, result)
    return fastest


def text(need: float, config: Config) -> str:
    """The table for a load, in the settings' one scenario."""
    if not need > 0 or not math.isfinite(need):
        raise UsageError(f"--need: expected queries per second above 0, found {need:g}")
    known = rules.CATEGORY_SCENARIOS[rules.DATACENTER]
    if len(config.scenario) != 1 or config.scenario[0] not in known:
        listed, here = ", ".join(known), ", ".join(config.scenario)
        raise UsageError(f"SCENARIO: expected one of {listed} with --need, found {here}")
    scenario = config.scenario[0]
    rows = [HEADS, *(_row(fleet, need) for fleet in fleets(scenario))]
    widths = [max(len(row[n]) for row in rows) for n in range(len(HEADS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join([f"{need:g} queries/s in {scenario}:", "", *lines, "", *_notes()])


def _row(fleet: Fleet, need: float) -> tuple[str, ...]:
    count, best = fleet.count(need), fleet.best
    if fleet.card.maker != gpu_table.NVIDIA:
        ours = ("does not run there", "-", "-")
    elif fleet.speed is None or count is None:
        ours = ("too little memory", "-", "-")
    else:
        few, many = count
        watts = f"{many * fleet.card.power / 1000:.1f}"
        figures = fleet.speed.figures + (" (measured)" if fleet.speed.measured else "")
        ours = (figures, str(few) if few == many else f"{few} to {many}", watts)
    if best is None or best.per_device is None:
        return (fleet.card.name, *ours, "-", "-", "-")
    by = f"{best.submitter or 'not submitted'}, {best.round or '-'}, {best.framework}"
    return (fleet.card.name, *ours, f"{best.per_device:.1f}", str(fleet.published_count(need)), by)


def _notes() -> list[str]:
    return [
        "Expected, in queries/s: the shares of each card's limit that known runs of vLLM reached, at the",
        "precision of its preset (machine/known_runs.toml). kW: board power of the larger number of GPUs.",
        "Best published: of one GPU, often with 4-bit weights and TensorRT-LLM.",
    ]

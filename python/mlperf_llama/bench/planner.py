"""How long each run will take, said before it starts; by LoadGen's own arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import rules
from ..config import Config
from ..engine import settings, tuned
from ..loadgen import plan
from ..loadgen.plan import Plan
from ..machine import roofline
from ..machine.gpu_table import find_gpu
from ..records.schema import Gpu

# What engines reach of a card's limit before anybody tunes them, and how much of that Server and
# Interactive hold (published H100 and H200 results).
REACHED = 0.6
SHARE = {rules.OFFLINE: 1.0, rules.SERVER: 0.85, rules.INTERACTIVE: 0.7}
HEADS = ("scenario", "mode", "queries", "minutes", "at", "from")


def words(planned: Plan) -> str:
    """One run's size and time."""
    seconds = planned.expected_seconds
    time = "as long as the engine takes" if seconds is None else f"about {duration(seconds)}"
    return f"{planned.expected_queries:,} queries, {time}{_speed(planned)}"


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def _speed(planned: Plan) -> str:
    if planned.target_qps is not None:
        return f" at {planned.target_qps:g} queries/s"
    return f" at {planned.expected_latency_ms:g} ms each"


def table(config: Config, gpus: Sequence[Gpu]) -> str:
    """Every run that these settings ask for, as a full-length one (or of SAMPLES and DURATION_S)."""
    rows: list[Sequence[str]] = [HEADS]
    total = 0.0
    for scenario in config.scenario:
        speed, source = _known_speed(config, scenario, gpus)
        for mode in (m for m in rules.MODES if m in config.mode):
            planned = _planned(config, scenario, mode, speed)
            seconds = planned.expected_seconds if speed else None
            total += seconds or 0.0
            minutes = "?" if seconds is None else f"{seconds / 60:.1f}"
            at = _speed(planned).removeprefix(" at ") if speed else "?"
            queries = f"{planned.expected_queries:,}" if speed or mode != "performance" else "?"
            rows.append((scenario, mode, queries, minutes, at, source))
    widths = [max(len(row[n]) for row in rows) for n in range(len(HEADS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    end = f"{duration(total)} in all, without loading, warm-up and scoring" if total else ""
    return "\n".join([*(line.rstrip() for line in lines), *([end] if end else [])])


def _planned(config: Config, scenario: str, mode: str, speed: float | None) -> Plan:
    single = scenario == rules.SINGLE_STREAM
    return plan.make_plan(
        round=config.round,
        category=config.category,
        scenario=scenario,
        mode=mode,
        sample_count=config.samples or config.full_sample_count,
        full_sample_count=config.full_sample_count,
        duration_s=config.duration_s,
        target_qps=None if single else speed,
        expected_latency_ms=speed if single else None,
    )


def _known_speed(config: Config, scenario: str, gpus: Sequence[Gpu]) -> tuple[float | None, str]:
    """Queries a second, or SingleStream's milliseconds, and where they come from."""
    single = scenario == rules.SINGLE_STREAM
    given = config.expected_latency_ms if single else config.target_qps
    if given:
        return given, "your setting"
    name = gpus[0].name if gpus else None
    path = tuned.path_of(Path(config.results_dir), config, name)
    key = "expected_latency_ms" if single else "target_qps"
    for entry in tuned.entries(path):
        if entry.get(scenario, {}).get(key) and entry["identity"].get("round") == config.round:
            return float(entry[scenario][key]), f"tuned ({path.name})"
    guess = None if single or not gpus else _limit(config, gpus[0])
    if guess:
        return float(f"{REACHED * SHARE[scenario] * guess:.3g}"), "a share of the card's limit"
    return None, "measured by the warm-up"


def _limit(config: Config, gpu: Gpu) -> float | None:
    """Samples a second of the card at most, at the precision its preset sets."""
    card = find_gpu(gpu)
    engine = settings.choose(config, gpu).engine
    precision = roofline.precision_of(engine, card) or "fp16"
    found = roofline.predict(card, roofline.PRECISIONS[precision]) if card else None
    return found.limit if found else None

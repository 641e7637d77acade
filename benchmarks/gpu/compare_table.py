"""What compare_models.py's records say: steps by kind, the GPU's idle time, power and clock, the host.

A step is of prompts alone, of answers alone, or mixed. Its GPU time is that from the forward pass to the
sampled tokens; the GPU is idle from there to the next forward pass (but for the small kernels that prepare
it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Row = tuple[str, ...]
Arrays = Mapping[str, np.ndarray[Any, np.dtype[Any]]]
KINDS = ("prompt", "mixed", "answer")
# A gap longer than this counts as the host's; preparing a step takes the GPU less.
GAP_S = 0.0005
HOST = ("schedule_s", "execute_s", "sample_s", "update_s")


def kinds(steps: Arrays) -> np.ndarray[Any, np.dtype[Any]]:
    """Of each step, the index in KINDS."""
    answers = steps["sequences"] - steps["prompts"]
    return np.where(steps["prompts"] == 0, 2, np.where(answers > 0, 1, 0))


def summary(whole: Mapping[str, Any], steps: Arrays, gpu: Arrays) -> dict[str, Any]:
    """One point's figures."""
    kind, seconds = kinds(steps), steps["gpu_end"] - steps["gpu_begin"]
    gaps = np.maximum(steps["gpu_begin"][1:] - steps["gpu_end"][:-1], 0.0)
    wall, tokens = whole["wall_s"], whole["tokens"]
    figures: dict[str, Any] = {
        "tok_s": round(tokens / wall, 1),
        "tokens_per_answer_step": _mean(steps["sequences"], kind == 2),
        "idle_share": round(float(gaps.sum()) / wall, 4),
        "idle_share_answers": _gap_share(gaps, seconds, kind),
        "gaps": int((gaps > GAP_S).sum()),
        "largest_gaps_ms": [round(1000 * float(gap), 1) for gap in np.sort(gaps)[::-1][:5]],
        "core_share": round(whole["core"]["process_s"] / wall, 3),
        "core_main_share": round(whole["core"]["main_s"] / wall, 3),
        "front_share": round(whole["front"]["process_s"] / wall, 3),
        "joules_per_token": round(whole["energy_j"] / tokens, 4) if whole["energy_j"] else None,
        "fit": fit(steps, seconds, kind),
    }
    for number, name in enumerate(KINDS):
        figures[name] = _of_kind(steps, seconds, kind == number, gpu)
    figures["all"] = _readings(gpu, gpu["at"] >= 0) if len(gpu["at"]) else {}
    return figures


def _of_kind(steps: Arrays, seconds: Any, chosen: Any, gpu: Arrays) -> dict[str, Any]:
    if not chosen.any():
        return {"steps": 0}
    of_kind = {
        "steps": int(chosen.sum()),
        "gpu_ms": round(1000 * float(seconds[chosen].mean()), 3),
        "gpu_s": round(float(seconds[chosen].sum()), 3),
        "tokens": _mean(steps["tokens"], chosen),
        "host_ms": {name.removesuffix("_s"): _ms(steps[name], chosen) for name in HOST},
    }
    begin, end = steps["gpu_begin"][chosen], steps["gpu_end"][chosen]
    at = gpu["at"]
    place = np.searchsorted(begin, at, side="right") - 1
    inside = (place >= 0) & (at < end[np.maximum(place, 0)]) if len(at) else np.zeros(0, bool)
    return {**of_kind, **_readings(gpu, inside)}


def _readings(gpu: Arrays, chosen: Any) -> dict[str, Any]:
    if not chosen.any():
        return {}
    names = ("power_w", "instant_w", "sm_clock_mhz", "temperature_c")
    return {"readings": int(chosen.sum())} | {
        name: round(float(np.nanmean(gpu[name][chosen])), 1)
        for name in names
        if not np.isnan(gpu[name][chosen]).all()
    }


def fit(steps: Arrays, seconds: Any, kind: Any) -> dict[str, float]:
    """Least squares, of steps with prompts and of those without: ms each, us a prompt token and an answer."""
    coefficients: dict[str, float] = {}
    answers = steps["sequences"] - steps["prompts"]
    with_prompts = kind != 2
    if with_prompts.sum() >= 6:
        columns = np.stack([np.ones(len(seconds)), steps["tokens"] - answers, answers], axis=1)[with_prompts]
        base, prompt, answer = np.linalg.lstsq(columns, seconds[with_prompts], rcond=None)[0]
        coefficients |= {
            "mixed_ms": 1e3 * base,
            "us_a_prompt_token": 1e6 * prompt,
            "us_an_answer": 1e6 * answer,
        }
    if (~with_prompts).sum() >= 6:
        columns = np.stack([np.ones(len(seconds)), answers], axis=1)[~with_prompts]
        base, answer = np.linalg.lstsq(columns, seconds[~with_prompts], rcond=None)[0]
        coefficients |= {"alone_ms": 1e3 * base, "us_an_answer_alone": 1e6 * answer}
    return {name: round(float(value), 3) for name, value in coefficients.items()}


def _gap_share(gaps: Any, seconds: Any, kind: Any) -> float | None:
    """Idle time before steps of answers alone, of that and their own."""
    before = kind[1:] == 2
    if not before.any():
        return None
    idle = float(gaps[before].sum())
    return round(idle / (idle + float(seconds[1:][before].sum())), 4)


def _mean(values: Any, chosen: Any) -> float | None:
    return round(float(values[chosen].mean()), 1) if chosen.any() else None


def _ms(values: Any, chosen: Any) -> float:
    return round(1000 * float(values[chosen].mean()), 2)


def one_line(point: Mapping[str, Any]) -> str:
    total = point["all"]
    return (
        f"{point['point']['name']}: {point['tok_s']} tok/s, {point['wall_s']:.1f} s, idle "
        f"{100 * point['idle_share']:.1f}%, {total.get('power_w')} W, {total.get('sm_clock_mhz')} MHz"
    )


def tables(points: Sequence[Mapping[str, Any]]) -> str:
    """Speed; steps by kind; the host."""
    return "\n\n".join(_aligned(rows) for rows in (_speed(points), _steps(points), _host(points)))


def _speed(points: Sequence[Mapping[str, Any]]) -> list[Row]:
    rows = [_row("point", "tok/s", "wall s", "J/token", "W", "MHz", "C", "idle %", "before answers %",
                 "preempted", "first tokens")]  # fmt: skip
    for one in points:
        total = one["all"]
        rows.append(
            _row(
                one["point"]["name"],
                one["tok_s"],
                round(one["wall_s"], 2),
                one["joules_per_token"],
                *(total.get(name) for name in ("power_w", "sm_clock_mhz", "temperature_c")),
                _percent(one["idle_share"]),
                _percent(one["idle_share_answers"]),
                one["preemptions"],
                one["distinct"],
            )
        )
    return rows


def _steps(points: Sequence[Mapping[str, Any]]) -> list[Row]:
    rows = [_row("point", "kind", "steps", "tokens", "GPU ms", "GPU s", "W", "MHz", "schedule ms", "execute",
                 "sample", "update")]  # fmt: skip
    for one in points:
        for kind in KINDS:
            part = one[kind]
            if part["steps"]:
                watts = part.get("instant_w", part.get("power_w"))
                counts = [part[name] for name in ("steps", "tokens", "gpu_ms", "gpu_s")]
                clock = part.get("sm_clock_mhz")
                rows.append(
                    _row(one["point"]["name"], kind, *counts, watts, clock, *part["host_ms"].values())
                )
    return rows


def _host(points: Sequence[Mapping[str, Any]]) -> list[Row]:
    rows = [_row("point", "ms +", "us/prompt token", "us/answer", "alone: ms +", "us/answer", "core CPU",
                 "its thread", "front CPU", "gaps", "largest ms", "gc s")]  # fmt: skip
    fitted = ("mixed_ms", "us_a_prompt_token", "us_an_answer", "alone_ms", "us_an_answer_alone")
    for one in points:
        rows.append(
            _row(
                one["point"]["name"],
                *(one["fit"].get(name) for name in fitted),
                *(one[name] for name in ("core_share", "core_main_share", "front_share", "gaps")),
                " ".join(map(str, one["largest_gaps_ms"])),
                round(one["core"]["gc_s"], 2),
            )
        )
    return rows


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)


def _row(*cells: object) -> Row:
    return tuple("" if cell is None else str(cell) for cell in cells)


def _aligned(rows: Sequence[Row]) -> str:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )

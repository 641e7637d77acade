"""The calibration document that the closed division asks for: every scenario as it ran."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..records.files import write_text
from ..records.schema import Provided
from . import documents
from .selection import Selection

NAME = "calibration.md"


@dataclass(frozen=True)
class Used:
    """How the weights of one scenario's performance run were quantised."""

    scenario: str
    settings: Mapping[str, object]
    model: Provided


def write(selection: Selection, folder: Path, watermark: bool) -> None:
    used = [
        Used(scenario.name, run.settings_of(scenario), run.model)
        for run in selection.runs
        for scenario in run.scenarios
    ]
    write_text(folder / NAME, document(used, watermark))


def document(used: Sequence[Used], watermark: bool) -> str:
    """Every scenario as it ran; those that ran alike together."""
    texts: dict[str, list[str]] = {}
    for one in used:
        texts.setdefault("\n".join(_method(one)), []).append(one.scenario)
    lines = [documents.WATERMARK, ""] if watermark else []
    lines += ["# Calibration and quantisation", ""]
    for text, names in texts.items():
        lines += [f"## {', '.join(names)}", "", text, ""]
    return "\n".join(lines)


def _method(used: Used) -> Iterable[str]:
    settings, data_type = used.settings, documents.weight_data_types(used.settings)
    if documents.is_quantized(settings):
        data = (used.model.details or {}).get("calibration")
        yield (
            f"Weights are quantised to {data_type}. "
            f"Calibration data: {data or 'none: scales are computed at load and at run time'}."
        )
    else:
        yield f"Weights are used as published, in {data_type}. Nothing is calibrated."
    yield ""
    cache = settings.get("kv_cache_dtype") or "auto"
    yield "The KV cache has the activations' type." if cache == "auto" else f"The KV cache is {cache}."

"""The calibration document that the closed division asks for, and the scales that it tells of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..records import scales
from ..records.files import digest
from ..records.scales import Scales
from ..records.schema import Provided
from . import documents
from .selection import Selection

NAME = "calibration.md"


@dataclass(frozen=True)
class Used:
    """How the weights of one scenario's performance run were quantised. `scales` None: none was fixed."""

    scenario: str
    settings: Mapping[str, object]
    model: Provided
    scales: Scales | None = None
    scales_file: str = ""


def write(selection: Selection, folder: Path, watermark: bool) -> None:
    """The document, and beside it every file of scales that a run used."""
    used = []
    for run in selection.runs:
        path, record, name = run.folder.file(Scales.FILE), None, ""
        if path.is_file():
            record, name = scales.read(path), f"scales-{digest(path)[:12]}.json"
            (folder / name).write_bytes(path.read_bytes())
        for scenario in run.scenarios:
            used.append(Used(scenario.name, run.settings_of(scenario), run.model, record, name))
    (folder / NAME).write_text(document(used, watermark), encoding="utf-8")


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
    settings = used.settings
    if not documents.is_quantized(settings):
        yield (
            f"Weights are used as published, in {documents.weight_data_types(settings)}. "
            "Nothing is calibrated."
        )
    elif used.scales is None:
        data = (used.model.details or {}).get("calibration")
        yield (
            f"Weights are quantised to {documents.quantization(settings)}. "
            f"Calibration data: {data or 'none: scales are computed at load and at run time'}."
        )
    else:
        yield from _static(used.scales, used.scales_file)
    yield ""
    cache = settings.get("kv_cache_dtype") or "auto"
    yield "The KV cache has the activations' type." if cache == "auto" else f"The KV cache is {cache}."


def _static(record: Scales, name: str) -> Iterable[str]:
    articles = record.calibration
    origin = articles.uri or (f"revision {articles.revision}" if articles.revision else "a file")
    yield from (
        "Weights are quantised to fp8 (E4M3) while they load: one scale per matrix, its largest absolute",
        "value over 448. Output matrix and embedding stay in 16 bits.",
        "",
        "Scales of the inputs of matrices, of queries and of the KV cache are fixed before the run:",
        f"{record.method.name} (revision {record.method.revision}), one scale per tensor.",
        "",
        f"- Calibration data: {record.ids_count:,} articles of CNN/DailyMail's training part, from "
        f"{articles.source} ({origin}), SHA-256 {articles.sha256}",
        f"- Token ids of their prompts: SHA-256 {record.ids_sha256}",
        f"- Weights that they were run through: SHA-256 {record.model_sha256}",
        f"- Tokenizer: SHA-256 {record.tokenizer_sha256}",
        f"- Code: SHA-256 {record.code_sha256}; torch {record.torch} on {record.device}",
        f"- Values: {name}, beside this document",
    )

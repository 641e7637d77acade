"""Checks of FP8's scales: dynamic ones need no data; static ones come from the run's model and the official
calibration articles, and are those that the engine loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .. import rules
from ..errors import PipelineError
from ..records import scales
from ..records.files import digest
from ..records.scales import Scales
from ..records.schema import STATIC, Check, Provided, ScalesUsed
from ..sources import pins
from .check import check, first
from .evidence import Evidence


def checks(evidence: Evidence) -> list[Check]:
    used = evidence.provenance.scales
    if not _is_static(evidence):
        reason = f": {used.reason}" if used is not None and used.reason else ""
        nothing = "nothing is calibrated"
        return [
            Check("scales", True, f"dynamic, nothing calibrated{reason}"),
            Check("calibration_eligible", True, nothing),
        ]
    faults = list(_faults(evidence, used or ScalesUsed("not recorded")))
    detail = f"static, sha256 {used.sha256 if used else None}"
    return [
        check(
            "scales",
            not faults,
            first(faults) or detail,
            "run again: the run makes its own scales, with this code, from its own model",
        ),
        _articles(evidence.provenance.calibration or Provided()),
    ]


def _is_static(evidence: Evidence) -> bool:
    """Whether anything says so."""
    used = evidence.provenance.scales
    return (
        (used is not None and used.is_static)
        or evidence.run.file(Scales.FILE).exists()
        or any(
            s.get("quantization") == scales.QUANTIZATION
            for s in (*_loads(evidence), *evidence.every_settings)
        )
    )


def _loads(evidence: Evidence) -> list[Mapping[str, object]]:
    """The engine's arguments, each time that it was loaded."""
    return [load.arguments for load in evidence.engine_loads.loads]


def _articles(articles: Provided) -> Check:
    official = articles.eligible is True and bool(articles.sha256)
    return check(
        "calibration_eligible",
        official and articles.rows == rules.CALIBRATION_COUNT,
        articles.reason or f"{articles.source}, {articles.rows} articles, sha256 {articles.sha256}",
        "run with the official calibration articles (CALIBRATION=auto), or with SCALES=dynamic",
    )


def _faults(evidence: Evidence, used: ScalesUsed) -> Iterator[str]:
    """What keeps static scales from being the run's own, each with the field's name."""
    provenance = evidence.provenance
    model, articles = provenance.model or Provided(), provenance.calibration or Provided()
    if not used.is_static:
        yield f"mode {used.mode}, expected {STATIC}"
    path = evidence.run.file(Scales.FILE)
    layers = rules.MODEL_SHAPE.layers if model.eligible else None
    try:
        record = scales.read(path, layers)
        sha256 = digest(path)
    except (PipelineError, OSError) as error:
        yield str(error)
        return
    yield from _unequal("sha256", sha256, used.sha256)
    yield from _loaded(evidence, used)
    yield from _unequal("method", record.method, scales.METHOD)
    yield from _unequal("code_sha256", record.code_sha256, scales.code_sha256())
    yield from _unequal("model_sha256", record.model_sha256, model.sha256)
    yield from _unequal("tokenizer_sha256", record.tokenizer_sha256, used.tokenizer_sha256)
    if model.eligible and (model.details or {}).get("proof") == "SHA-256":
        yield from _unequal("tokenizer_sha256", record.tokenizer_sha256, pins.TOKENIZER)
    yield from _unequal("ids_sha256", record.ids_sha256, used.ids_sha256)
    yield from _unequal("ids_count", record.ids_count, used.ids_count)
    yield from _unequal("ids_count", record.ids_count, articles.rows)
    yield from _unequal("calibration.sha256", record.calibration.sha256, articles.sha256)
    yield from _unequal("calibration.source", record.calibration.source, articles.source)


def _loaded(evidence: Evidence, used: ScalesUsed) -> Iterator[str]:
    """The engine must have read this file, in every run."""
    for arguments in _loads(evidence):
        yield from _unequal("quantization", arguments.get("quantization"), scales.QUANTIZATION)
    for settings in evidence.every_settings:
        yield from _unequal("quantization", settings.get("quantization"), scales.QUANTIZATION)
        yield from _unequal("scales_sha256", settings.get("scales_sha256"), used.sha256)


def _unequal(name: str, value: object, expected: object) -> Iterator[str]:
    if value is None or value != expected:
        yield f"{name} {value}, expected {expected}"

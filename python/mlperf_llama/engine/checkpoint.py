"""What an engine asks of a checkpoint before it loads: its quantisation, and whether scales are its own."""

from __future__ import annotations

from pathlib import Path

from ..errors import UsageError
from ..records import scales
from ..records.files import object_or_empty


def quantization_of(model: Path) -> str | None:
    """The method in a checkpoint's config.json; None where there is none."""
    quantization = object_or_empty(model / "config.json").get("quantization_config")
    method = quantization.get("quant_method", "unknown") if isinstance(quantization, dict) else None
    return None if method is None else str(method)


def check_scales(path: str | None, model: Path) -> None:
    """UsageError where `path` is no file of static FP8 scales for a model, a folder with 16-bit weights."""
    if not path:
        name = scales.QUANTIZATION
        raise UsageError(f"quantization={name}: expected {scales.VARIABLE} to name a file, found nothing")
    if method := quantization_of(model):
        raise UsageError(f"{model}: expected 16-bit weights for the scales of {path}, found {method}")
    scales.read(Path(path), scales.layers_of(model))

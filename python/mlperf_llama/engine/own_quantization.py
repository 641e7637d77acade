"""What our quantisations made while vLLM loads 16-bit weights (int8.py, static_fp8.py) have in common."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch

from .hopper.compat import QuantizationConfig


class OwnQuantization(QuantizationConfig):  # type: ignore[misc]
    """One without files and settings in the checkpoint. `least_capability`: the first compute capability
    whose tensor cores multiply so, such as 8.9."""

    name: ClassVar[str]
    least_capability: ClassVar[float]

    @classmethod
    def get_name(cls) -> str:
        return cls.name

    @classmethod
    def get_supported_act_dtypes(cls) -> list[torch.dtype]:
        return [torch.bfloat16, torch.half]

    @classmethod
    def get_min_capability(cls) -> int:
        return round(10 * cls.least_capability)

    @classmethod
    def get_config_filenames(cls) -> list[str]:
        return []

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls()

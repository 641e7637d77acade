"""FP8 with fixed scales, made while vLLM loads 16-bit weights: `quantization="fp8-scales"`.

Scales of inputs and cache come from a file (records/scales.py), those of weights from the weights. What is
loaded then is, bit for bit, what vLLM makes of the FP8 checkpoint that `quantize` writes with those scales.
Importing this makes the name known to vLLM, in its own processes too: they unpickle `StaticFp8`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from ..records import scales
from . import fp8
from .derive import FP8_CAPABILITY
from .hopper.compat import (
    Attention,
    BaseKVCacheMethod,
    Fp8PerTensorOnlineLinearMethod,
    LinearBase,
    QuantizationConfig,
    get_tp_group,
    register_quantization_config,
    replace_parameter,
)
from .own_quantization import OwnQuantization

CACHE = ("k_scale", "v_scale", "q_scale")


def largest_of(weight: torch.Tensor, ranks: int) -> torch.Tensor:
    """A matrix's largest absolute value, also of its parts on other ranks, all of which load in one order."""
    low, high = weight.aminmax()
    largest = torch.maximum(-low, high).float()
    if ranks > 1:
        maximum = torch.distributed.ReduceOp.MAX
        torch.distributed.all_reduce(largest, maximum, group=get_tp_group().device_group)
    return largest


class StaticFp8Linear(Fp8PerTensorOnlineLinearMethod):  # type: ignore[misc]
    """One linear layer; q, k and v, and gate and up, are one, and have the same input."""

    act_q_static = True

    def __init__(self, input_scale: float) -> None:
        super().__init__()
        self.input_scale = input_scale
        # One scale per tensor, known before: inputs are then as weights are.
        self.activation_quant_key = self.weight_quant_key

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        if getattr(layer, "_already_called_process_weights_after_loading", False):
            return
        scale = fp8.scale_of(largest_of(layer.weight, layer.tp_size))
        replace_parameter(layer, "weight", fp8.to_fp8(layer.weight, scale).t())
        replace_parameter(layer, "weight_scale", scale)
        replace_parameter(layer, "input_scale", torch.full_like(scale, self.input_scale))
        self.fp8_linear.process_weights_after_loading(layer)
        layer._already_called_process_weights_after_loading = True


class ScaledCache(BaseKVCacheMethod):  # type: ignore[misc]
    """An attention layer's cache, and its queries where they meet the cache in FP8."""

    def __init__(self, config: QuantizationConfig, values: Mapping[str, float]) -> None:
        super().__init__(config)
        self.values = values

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        for name, value in self.values.items():
            # vLLM takes these away once it has read them.
            if (parameter := getattr(layer, name, None)) is not None:
                parameter.data.fill_(value)
        super().process_weights_after_loading(layer)


@register_quantization_config(scales.QUANTIZATION)
class StaticFp8(OwnQuantization):
    """Every linear layer and the cache; embedding and output matrix stay in 16 bits."""

    name, least_capability = scales.QUANTIZATION, FP8_CAPABILITY

    def __init__(self) -> None:
        super().__init__()
        self.path = os.environ[scales.VARIABLE]
        self.scales = dict(scales.read(Path(self.path)).scales)

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> StaticFp8Linear | ScaledCache | None:
        block, _, name = prefix.rpartition(".")
        if isinstance(layer, LinearBase):
            parts = fp8.JOINED.get(name, (name,))
            return StaticFp8Linear(max(self._scale(f"{block}.{part}.input_scale") for part in parts))
        if isinstance(layer, Attention):
            return ScaledCache(self, {name: self._scale(f"{block}.{name}") for name in CACHE})
        return None

    def _scale(self, name: str) -> float:
        if name not in self.scales:
            raise ValueError(f"{self.path}: expected {name}, found none")
        return self.scales[name]

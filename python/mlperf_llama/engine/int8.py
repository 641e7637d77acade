"""INT8 for GPUs whose tensor cores know no FP8: `quantization="int8"`, made while vLLM loads.

Weights get one scale per output channel, inputs one per token as they come: no data is needed,
nothing is calibrated. GEMMs run in the INT8 tensor cores, at twice the rate of 16 bits.
Importing this makes the name known to vLLM, in its own processes too: they unpickle `Int8`.
"""

from __future__ import annotations

from typing import Any

import torch

from .derive import INT8_CAPABILITY
from .hopper.compat import (
    LinearBase,
    LinearMethodBase,
    ModelWeightParameter,
    init_int8_linear_kernel,
    initialize_online_processing,
    register_quantization_config,
    replace_parameter,
)
from .own_quantization import OwnQuantization

NAME = "int8"
LARGEST = 127


def to_int8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(values, scale per output channel [rows, 1] in float32) of a matrix [rows, columns]."""
    scale = weight.abs().amax(dim=1, keepdim=True).float().clamp(min=1e-12) / LARGEST
    return torch.round(weight.float() / scale).clamp(-LARGEST, LARGEST).to(torch.int8), scale


class Int8Linear(LinearMethodBase):  # type: ignore[misc]
    """One linear layer; q, k and v, and gate and up, are one."""

    # vLLM then takes a layer's 16-bit weights to the card only while they are made smaller.
    uses_meta_device = True

    def create_weights(
        self,
        layer: torch.nn.Module,
        input_size_per_partition: int,
        output_partition_sizes: list[int],
        input_size: int,
        output_size: int,
        params_dtype: torch.dtype,
        **extra_weight_attrs: Any,
    ) -> None:
        layer.logical_widths = output_partition_sizes
        shape = (sum(output_partition_sizes), input_size_per_partition)
        weight = ModelWeightParameter(
            data=torch.empty(shape, device="meta", dtype=params_dtype),
            input_dim=1,
            output_dim=0,
            weight_loader=extra_weight_attrs.get("weight_loader"),
        )
        layer.register_parameter("weight", weight)
        self.kernel = init_int8_linear_kernel(
            is_channelwise=True,
            is_static_input_scheme=False,
            input_symmetric=True,
            module_name=type(self).__name__,
        )
        initialize_online_processing(layer)

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        if getattr(layer, "_already_called_process_weights_after_loading", False):
            return
        weight, scale = to_int8(layer.weight)
        replace_parameter(layer, "weight", weight)
        replace_parameter(layer, "weight_scale", scale)
        layer.input_scale = layer.input_zero_point = layer.azp_adj = None
        self.kernel.process_weights_after_loading(layer)
        layer._already_called_process_weights_after_loading = True

    def apply(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self.kernel.apply_weights(layer, x, bias)


@register_quantization_config(NAME)
class Int8(OwnQuantization):
    """Every linear layer; embedding and output matrix stay in 16 bits."""

    name, least_capability = NAME, INT8_CAPABILITY

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> LinearMethodBase | None:
        return Int8Linear() if isinstance(layer, LinearBase) else None

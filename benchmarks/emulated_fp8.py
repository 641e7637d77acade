"""FP8's numbers without FP8 products: a worker extension that rounds to E4M3 and multiplies in 16 bits.

    PYTHONPATH=benchmarks MLPERF_ENGINE_ARGS='{"worker_extension_cls": "emulated_fp8.Extension"}' \\
        ./entrypoint.sh run --mode accuracy --model stand-in --quantization int8 ...

Takes the place of INT8's arithmetic (engine/int8.py): a scale a weight matrix, a scale a token of the inputs.
"""

from __future__ import annotations

import torch
from vllm.model_executor.utils import replace_parameter

from mlperf_llama.engine import int8

E4M3 = torch.float8_e4m3fn
LARGEST = torch.finfo(E4M3).max


def rounded(values: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
    """What E4M3 keeps of values whose `largest` is its own largest."""
    scale = largest.float().clamp(min=1e-12) / LARGEST
    return ((values.float() / scale).to(E4M3).float() * scale).to(values.dtype)


def load(self: int8.Int8Linear, layer: torch.nn.Module) -> None:
    if not getattr(layer, "_already_called_process_weights_after_loading", False):
        replace_parameter(layer, "weight", rounded(layer.weight, layer.weight.abs().max()))
        layer._already_called_process_weights_after_loading = True


def apply(
    self: int8.Int8Linear, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    inputs = rounded(x, x.abs().amax(dim=-1, keepdim=True))
    return torch.nn.functional.linear(inputs, layer.weight, bias)


int8.Int8Linear.process_weights_after_loading = load  # type: ignore[method-assign]
int8.Int8Linear.apply = apply  # type: ignore[method-assign]


class Extension:
    """Mixed into vLLM's worker; adds nothing itself."""

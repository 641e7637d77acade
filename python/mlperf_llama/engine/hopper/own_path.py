"""A loaded model by vLLM's own classes, on the same weights, while self_check.py compares them.

`exact_attention` beside it: keys and values as they are, from no cache, in no pages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from . import attention, fused, mlp, model
from .compat import Attention, PerTensorTorchFP8ScaledMMLinearKernel

# Each is derived from the class of vLLM's that it stands for.
_CLASSES = (model.Attention, model.DecoderLayer, model.Model, model.LlamaForCausalLM, mlp.MLP)
# Read before extension.py puts its own in its place.
_SCALED_MM = PerTensorTorchFP8ScaledMMLinearKernel.apply_scaled_mm


@contextmanager
def own_path(network: torch.nn.Module) -> Iterator[None]:
    """While it lasts, modules are of vLLM's classes, eager, with rows in the checkpoint's order."""
    with ExitStack() as undo:
        for module in network.modules():
            if type(module) in _CLASSES:
                undo.callback(setattr, module, "__class__", type(module))
                module.__class__ = type(module).__bases__[0]
            if hasattr(module, "mlperf_row_order"):
                undo.callback(fused.reorder_rows, module)
                fused.restore_rows(module)
        kernel = PerTensorTorchFP8ScaledMMLinearKernel
        undo.callback(setattr, kernel, "apply_scaled_mm", kernel.apply_scaled_mm)
        kernel.apply_scaled_mm = _SCALED_MM
        # Small operations that vLLM compiles one by one outside of its compiled model.
        undo.enter_context(torch.compiler.set_stance("force_eager"))
        yield


@contextmanager
def exact_attention(network: torch.nn.Module, lengths: Sequence[int]) -> Iterator[None]:
    """While it lasts, attention is over whole sequences of these `lengths`, one behind the other in a step,
    with keys, values and queries unquantised."""
    layers: list[Any] = [module for module in network.modules() if isinstance(module, Attention)]
    for layer in layers:
        layer.forward = partial(_attend, layer, list(lengths))
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _attend(layer: Any, lengths: list[int], *states: torch.Tensor, **_: object) -> torch.Tensor:
    """Causal attention of [tokens, heads * head size] q, k and v."""
    heads = (layer.num_heads, layer.num_kv_heads, layer.num_kv_heads)
    # [heads, tokens, head size]
    q, k, v = (x.unflatten(-1, (n, -1)).transpose(0, 1) for x, n in zip(states[:3], heads, strict=True))
    outputs = []
    for queries, keys, values in zip(*(x.split(lengths, dim=1) for x in (q, k, v)), strict=True):
        output = scaled_dot_product_attention(
            queries[None], keys[None], values[None], is_causal=True, scale=layer.impl.scale, enable_gqa=True
        )
        outputs.append(output[0])
    return torch.cat(outputs, dim=1).transpose(0, 1).flatten(1)


def build(builder: Any, common: Any) -> Any:
    """A step's metadata by vLLM's own builder."""
    if isinstance(builder, attention.Builder):
        return super(attention.Builder, builder).build(0, common)
    return builder.build(0, common)

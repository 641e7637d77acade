"""A loaded model by vLLM's own classes, on the same weights, while self_check.py compares them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from . import attention, fused, mlp, model
from .compat import PerTensorTorchFP8ScaledMMLinearKernel

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


def build(builder: Any, common: Any) -> Any:
    """A step's metadata by vLLM's own builder."""
    if isinstance(builder, attention.Builder):
        return super(attention.Builder, builder).build(0, common)
    return builder.build(0, common)

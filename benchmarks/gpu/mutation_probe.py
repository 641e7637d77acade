"""Faults put into a loaded model, and what the self-check then finds, called from measure_self_check.py.

Imported through `worker_extension_cls`, in the worker's process. Custom operations and eager code look their
functions up at every call, so a function gets the changed code in place; what torch.compile has read stays
as it was.
"""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import CodeType
from typing import Any

import torch
from mutations import MUTATIONS, Mutation

from mlperf_llama.engine.hopper import cuda, extension, fused, kernels, self_check

PACKAGE = "mlperf_llama.engine.hopper"


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Of all functions and methods."""
    for part in code.co_consts:
        if isinstance(part, CodeType) and "<locals>" not in part.co_qualname:
            yield part
            yield from _codes(part)


def _change_python(mutation: Mutation, undo: ExitStack) -> None:
    module = importlib.import_module(f"{PACKAGE}.{Path(mutation.file).stem}")
    path = Path(str(module.__file__))
    text = path.read_text()
    before, after = (compile(t, str(path), "exec", dont_inherit=True) for t in (text, mutation.applied(text)))
    changed = 0
    for old, new in zip(_codes(before), _codes(after), strict=True):
        # A class's body holds its methods' code, and is gone.
        if old == new or old.co_flags & 1 == 0:
            continue
        function: Any = module
        for part in new.co_qualname.split("."):
            function = getattr(function, part)
        function = getattr(function, "__wrapped__", function)
        undo.callback(setattr, function, "__code__", function.__code__)
        function.__code__ = new
        changed += 1
    if not changed:
        raise ValueError(f"{mutation.name}: no function changed")


def _change_cuda(mutation: Mutation, undo: ExitStack, layers: list[Any]) -> None:
    own = cuda.source

    def source(*parts: str) -> bytes:
        own_parts = (own(part) for part in parts)
        return b"".join(
            mutation.applied(text.decode()).encode() if part == mutation.file else text
            for part, text in zip(parts, own_parts, strict=True)
        )

    # Kernels of before stay compiled for later.
    replaced: list[tuple[Any, str, Any]] = [(cuda, "source", source)]
    if mutation.file in ("decode.cu", "rope_cache.cu"):
        replaced += [(kernels, "_kernel", functools.cache(kernels._kernel.__wrapped__))]
        replaced += [(layer.mlperf, "_kernels", None) for layer in layers]
    else:
        replaced += [(fused, "_kernel", functools.cache(fused._kernel.__wrapped__))]
        replaced += [(fused, "_kernels", functools.cache(fused._kernels.__wrapped__))]
    for owner, name, value in replaced:
        undo.callback(setattr, owner, name, getattr(owner, name))
        setattr(owner, name, value)


@contextmanager
def changed(mutation: Mutation | None, layers: list[Any]) -> Iterator[None]:
    with ExitStack() as undo:
        if mutation and mutation.file.endswith(".py"):
            _change_python(mutation, undo)
        elif mutation:
            _change_cuda(mutation, undo, layers)
        yield


class Extension(extension.Extension):
    """The package's, and the same comparison with a fault in place."""

    def bench_compare(self: Any, name: str) -> dict[str, float] | None:
        """The self-check's figures with a mutation, or with none where `name` is empty."""
        began = time.perf_counter()
        mutation = next((each for each in MUTATIONS if each.name == name), None)
        with torch.inference_mode():
            if not hasattr(self, "bench_compared"):
                comparison = self_check.Comparison(self.model_runner, self.vllm_config)
                self.bench_compared = comparison, comparison.own_logits(), comparison.exact_logits()
            comparison, own, exact = self.bench_compared
            layers = self.vllm_config.compilation_config.static_forward_context.values()
            with changed(mutation, [layer for layer in layers if hasattr(layer, "mlperf")]):
                logits = comparison.extended_logits()
            figures = self_check.figures(logits, own, exact)
        return figures and {**figures, "seconds": time.perf_counter() - began}

    def bench_random_weights(self: Any) -> dict[str, float] | None:
        """The figures with weights as `MODEL=random-fp8` has them, which stay."""
        from mlperf_llama.engine import random_weights

        with torch.inference_mode():
            for name, tensor in self.model_runner.get_model().state_dict().items():
                flat = tensor.data if tensor.is_contiguous() else tensor.data.t()
                random_weights.fill(flat, name=name)
        figures: dict[str, float] | None = self.mlperf_self_check()
        return figures

"""FP8 products in one kernel with what follows them (hopper/gate_up.cu, qkv.cu), against separate ones.

`python measure_fused.py SPEC OUT`, as measure_products.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from llama_shape import lengths
from measure_products import LINEAR, operands
from one_step import KV, Batch, Q, error, say, sustained, turns

from mlperf_llama.engine.hopper import fused, products
from mlperf_llama.engine.hopper.kernels import Kernels


def gate_up() -> None:
    """Gate and up with activation and quantisation (hopper/gate_up.cu), against cuBLASLt's product alone."""
    n, k = LINEAR["gate_up"]
    order, ways = fused.gate_up_order(n).cuda(), list(fused.COSTS)
    # Sums of 4,096 products of values of sd 30 and 60 have an sd of 115,000; gate and up one of 2.
    scale, out_scale = torch.full((1,), 1 / 240, device="cuda"), torch.full((1,), 0.5, device="cuda")
    for rows in (160, 512, 768, 1029, 1792, 4535, 8301, 33000):
        a, w = operands(rows, n, k)
        turned = w.view(torch.uint8)[order].view(w.dtype)
        g, u = (a.float() @ w.float().t() * scale * scale).chunk(2, dim=1)
        wanted = torch.nn.functional.silu(g) * u
        alone: Callable[[], Any] = partial(products._run, a, w, scale, scale)
        calls: dict[str, Callable[[], Any]] = {"product alone": alone}
        for way in ways:
            out = torch.zeros(rows, n // 2, dtype=torch.float8_e4m3fn, device="cuda")
            run = partial(fused.gate_up, a, turned, scale, scale, out_scale, out, way)
            run()
            say("CHECK", f"gate and up {rows} rows, {way}", error=error(out.float() * out_scale, wanted))
            calls[f"fused {way}"] = run
        for title, call in [*calls.items(), ("product alone", alone)]:
            spent = sustained([call], 0.4)
            tflops = round(2 * rows * n * k / spent / 1e12)
            say("KERNEL", f"gate and up {rows} rows, {title}", us=round(1e6 * spent, 1), tflops=tflops)


def product_then_rope(
    a: torch.Tensor,
    w: torch.Tensor,
    scale: torch.Tensor,
    cos_sin: torch.Tensor,
    batch: Batch,
    kernels: Kernels,
) -> torch.Tensor:
    found = products._run(a, w, scale, scale)
    places = (batch.positions, cos_sin, batch.cache, batch.slots, batch.scale, batch.scale)
    kernels.rope_cache(found, *places, batch.tokens)
    return found


def qkv() -> None:
    """q, k, v, rotation and cache in one kernel (hopper/qkv.cu), against the product and rope_cache."""
    n, k = LINEAR["qkv"]
    scale, cos_sin = torch.full((1,), 1 / 240, device="cuda"), turns()
    order = fused.head_order(n).cuda()
    for answers, prompts in ((160, 0), (512, 0), (160, 2), (500, 8), (500, 36)):
        batch = Batch(answers, [int(n) for n in lengths(prompts, seed=5)] if prompts else [])
        rows, places = batch.tokens, (batch.positions, cos_sin, batch.slots, batch.scale, batch.scale)
        a, w = operands(rows, n, k)
        turned = w.view(torch.uint8)[order].view(w.dtype)
        two: Callable[[], Any] = partial(
            product_then_rope, a, w, scale, cos_sin, batch, Kernels(batch.cache, Q, KV)
        )
        wanted = two()
        calls: dict[str, Callable[[], Any]] = {"two kernels": two}
        for way in fused.COSTS:
            out = torch.zeros_like(wanted)
            run = partial(fused.qkv, a, turned, scale, scale, *places, out, batch.cache, rows, way)
            run()
            say("CHECK", f"q, k, v {rows} rows, {way}", error=error(out, wanted.float()))
            calls[f"fused {way}"] = run
        for title, call in [*calls.items(), ("two kernels", two)]:
            say("KERNEL", f"q, k, v {rows} rows, {title}", us=round(1e6 * sustained([call], 0.4), 1))


if __name__ == "__main__":
    torch.manual_seed(0)
    products.install()
    parts = {"gate_up": gate_up, "qkv": qkv}
    for part in json.loads(sys.argv[1]).get("only") or parts:
        parts[part]()

"""An FP8 GEMM in one kernel with what follows it (hopper/gate_up.cu, qkv.cu), against separate ones.

`python measure_fused.py SPEC OUT`, as measure_gemm.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from llama_shape import lengths
from measure_gemm import LINEAR, operands
from one_step import KV, Batch, Q, error, rotary_table, say, sustained

from mlperf_llama.engine.hopper import fused, gemm
from mlperf_llama.engine.hopper.kernels import Kernels


def gate_up() -> None:
    """Gate and up with activation and quantisation (hopper/gate_up.cu), against cuBLASLt's GEMM alone."""
    n, k = LINEAR["gate_up"]
    order, tile_configs = fused.gate_up_row_order(n).cuda(), list(fused.WAVE_COSTS)
    # Sums of 4,096 products of values of sd 30 and 60 have an sd of 115,000; gate and up one of 2.
    scale, out_scale = torch.full((1,), 1 / 240, device="cuda"), torch.full((1,), 0.5, device="cuda")
    for rows in (160, 512, 768, 1029, 1792, 4535, 8301, 33000):
        a, w = operands(rows, n, k)
        ordered = w.view(torch.uint8)[order].view(w.dtype)
        g, u = (a.float() @ w.float().t() * scale * scale).chunk(2, dim=1)
        wanted = torch.nn.functional.silu(g) * u
        alone: Callable[[], Any] = partial(gemm._run, a, w, scale, scale)
        calls: dict[str, Callable[[], Any]] = {"GEMM alone": alone}
        for tile_config in tile_configs:
            out = torch.zeros(rows, n // 2, dtype=torch.float8_e4m3fn, device="cuda")
            run = partial(fused.gate_up, a, ordered, scale, scale, out_scale, out, tile_config)
            run()
            say(
                "CHECK",
                f"gate and up {rows} rows, {tile_config}",
                error=error(out.float() * out_scale, wanted),
            )
            calls[f"fused {tile_config}"] = run
        for title, call in [*calls.items(), ("GEMM alone", alone)]:
            spent = sustained([call], 0.4)
            tflops = round(2 * rows * n * k / spent / 1e12)
            say("KERNEL", f"gate and up {rows} rows, {title}", us=round(1e6 * spent, 1), tflops=tflops)


def gemm_then_rope(
    a: torch.Tensor,
    w: torch.Tensor,
    scale: torch.Tensor,
    cos_sin: torch.Tensor,
    batch: Batch,
    kernels: Kernels,
) -> torch.Tensor:
    out = gemm._run(a, w, scale, scale)
    inputs = (batch.positions, cos_sin, batch.cache, batch.slots, batch.scale, batch.scale)
    kernels.rope_cache(out, *inputs, batch.tokens)
    return out


def qkv() -> None:
    """q, k, v, rotary embedding and cache in one kernel (hopper/qkv.cu), against the GEMM and rope_cache."""
    n, k = LINEAR["qkv"]
    scale, cos_sin = torch.full((1,), 1 / 240, device="cuda"), rotary_table()
    order = fused.head_row_order(n).cuda()
    for answers, prompts in ((160, 0), (512, 0), (160, 2), (500, 8), (500, 36)):
        batch = Batch(answers, [int(n) for n in lengths(prompts, seed=5)] if prompts else [])
        rows, inputs = batch.tokens, (batch.positions, cos_sin, batch.slots, batch.scale, batch.scale)
        a, w = operands(rows, n, k)
        ordered = w.view(torch.uint8)[order].view(w.dtype)
        two: Callable[[], Any] = partial(
            gemm_then_rope, a, w, scale, cos_sin, batch, Kernels(batch.cache, Q, KV)
        )
        wanted = two()
        calls: dict[str, Callable[[], Any]] = {"two kernels": two}
        for tile_config in fused.WAVE_COSTS:
            out = torch.zeros_like(wanted)
            run = partial(fused.qkv, a, ordered, scale, scale, *inputs, out, batch.cache, rows, tile_config)
            run()
            say("CHECK", f"q, k, v {rows} rows, {tile_config}", error=error(out, wanted.float()))
            calls[f"fused {tile_config}"] = run
        for title, call in [*calls.items(), ("two kernels", two)]:
            say("KERNEL", f"q, k, v {rows} rows, {title}", us=round(1e6 * sustained([call], 0.4), 1))


if __name__ == "__main__":
    torch.manual_seed(0)
    gemm.install()
    parts = {"gate_up": gate_up, "qkv": qkv}
    for part in json.loads(sys.argv[1]).get("only") or parts:
        parts[part]()

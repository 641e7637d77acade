"""A layer's FP8 GEMMs alone: by library, rows and algorithm, and beside attention.

`python measure_gemm.py SPEC OUT`, as measure_kernels.py. Everything is repeated long enough that the
card sits at its power limit, which is where the benchmark runs.
"""

from __future__ import annotations

import itertools
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from llama_shape import lengths
from one_step import KV, Batch, Calls, Q, error, say, sustained
from vllm import _custom_ops as ops

from mlperf_llama.engine.hopper import cublaslt, gemm
from mlperf_llama.engine.hopper.kernels import Kernels

LINEAR = {"qkv": (6144, 4096), "o": (4096, 4096), "gate_up": (28672, 4096), "down": (4096, 14336)}


def operands(rows: int, n: int, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    a, w = (torch.randn(size, k, device="cuda", dtype=torch.bfloat16) for size in (rows, n))
    return (a * 30).clamp(-440, 440).to(torch.float8_e4m3fn), (w * 60).clamp(-440, 440).to(
        torch.float8_e4m3fn
    )


def layer(rows: int, library: str) -> list[Callable[[], Any]]:
    """The four GEMMs of a layer; `library`: cutlass, cublaslt, or cublaslt fast."""
    one = torch.ones(1, device="cuda")
    calls: list[Callable[[], Any]] = []
    for n, k in LINEAR.values():
        a, w = operands(rows, n, k)
        if library == "cutlass":
            calls.append(partial(ops.cutlass_scaled_mm, a, w.t(), one, one, torch.bfloat16))
        else:
            scales = {"scale_a": one, "scale_b": one, "use_fast_accum": library.endswith("fast")}
            calls.append(partial(torch._scaled_mm, a, w.t(), out_dtype=torch.bfloat16, **scales))
    return calls


def flop(rows: int) -> int:
    return sum(2 * rows * n * k for n, k in LINEAR.values())


def libraries() -> None:
    for rows in (512, 2048, 4096, 8192):
        for library in ("cutlass", "cublaslt", "cublaslt fast"):
            spent = sustained(layer(rows, library), 0.6)
            say("KERNEL", f"gemms {rows} rows, {library}", tflops=round(flop(rows) / spent / 1e12))


def row_counts() -> None:
    """Whether a last wave of tiles, half empty, costs anything at the power limit (132 a wave)."""
    for rows in (3696, 3968, 4096, 4224, 4352, 4608, 4752, 5008, 5280, 5408, 6336, 6464, 8192, 8448, 8704):
        spent = sustained(layer(rows, "cublaslt fast"), 0.5)
        say("KERNEL", f"gemms {rows} rows", tflops=round(flop(rows) / spent / 1e12), us=round(1e6 * spent))


def algorithms(numbers: Sequence[int], heuristic_rows: int | None = None) -> None:
    """cuBLASLt's favourite for each GEMM, the heuristic's others, and the favourite once more.

    `heuristic_rows`: the others are the heuristic's for so many rows, as far as cuBLASLt supports them here.
    """
    one = torch.ones(1, device="cuda")
    workspace = torch.empty(cublaslt.WORKSPACE_BYTES, dtype=torch.uint8, device="cuda")
    for rows, (name, (n, k)) in itertools.product(numbers, LINEAR.items()):
        a, w = operands(rows, n, k)
        out = torch.empty(rows, n, dtype=torch.bfloat16, device="cuda")
        wanted = gemm.scaled(a, w, one, one)
        matmul = cublaslt.Matmul(rows, n, k)
        tried = matmul.heuristics(8)
        if heuristic_rows:
            others = cublaslt.Matmul(heuristic_rows, n, k).heuristics(8)
            tried = [tried[0], *(other for other in others if matmul.supports(other))]
        for number in [*range(len(tried)), 0]:
            out.zero_()
            spent = sustained([partial(matmul.run, a, w, one, one, out, tried[number], workspace)], 0.2)
            wrong = float((out.float() - wanted.float()).norm() / wanted.float().norm())
            rate, tile = round(2 * rows * n * k / spent / 1e12), tried[number].tile
            say("KERNEL", f"{name} {rows} rows, {number}", tflops=rate, tile=tile, error=wrong)


def then_add(call: Callable[[], Any], residual: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = call() + residual
    return out


def residuals() -> None:
    """The GEMMs behind attention and activation, alone, with the residual added by cuBLASLt's favourite
    and by the heuristic's for other numbers of rows, and alone once more."""
    one = torch.ones(1, device="cuda")
    workspace = torch.empty(cublaslt.WORKSPACE_BYTES, dtype=torch.uint8, device="cuda")
    for rows, name in itertools.product((512, 1029, 4089, 8301), ("o", "down")):
        n, k = LINEAR[name]
        a, w = operands(rows, n, k)
        plain: Callable[[], Any] = partial(gemm.scaled, a, w, one, one)
        # As large as their results, so that a sum without either shows.
        residual = plain().roll(1, 0)
        wanted, out = plain().float() + residual.float(), torch.empty_like(residual)
        matmul = cublaslt.Matmul(rows, n, k)
        others = cublaslt.Matmul(gemm.HEURISTIC_ROWS, n, k).heuristics(8) if rows > gemm.MIN_ROWS else []
        calls: dict[str, Callable[[], Any]] = {
            "alone": plain,
            "alone, then added": partial(then_add, plain, residual),
        }
        for number, algorithm in enumerate(
            [*matmul.heuristics(1), *(o for o in others if matmul.supports(o))]
        ):
            run = partial(matmul.run, a, w, one, one, out, algorithm, workspace, residual)
            run()
            say(
                "CHECK",
                f"{name} {rows} rows, residual {number}",
                error=error(out, wanted),
                tile=algorithm.tile,
            )
            calls[f"residual {number}, tile {algorithm.tile}"] = run
        for title, call in [*calls.items(), ("alone", plain)]:
            spent = sustained([call], 0.25)
            say("KERNEL", f"{name} {rows} rows, {title}", us=round(1e6 * spent, 1))


def beside_attention() -> None:
    """What two streams could gain: a layer's GEMMs, the attention of decode tokens and of prompts."""
    prompts = [int(n) for n in lengths(4, seed=5)]
    batch, side = Batch(508, prompts), torch.cuda.Stream(priority=-1)
    decode = partial(batch.decode, Kernels(batch.cache, Q, KV))

    def both(first: Calls, second: Calls) -> None:
        main = torch.cuda.current_stream()
        side.wait_stream(main)
        for call in first:
            call()
        with torch.cuda.stream(side):
            for call in second:
                call()
        main.wait_stream(side)

    for carved in (None, 16, 32, 48):
        torch._C._set_sm_carveout_experimental(carved)
        linear = layer(batch.tokens, "cublaslt fast")
        name = f"layer of {batch.tokens} rows, {carved or 'no'} multiprocessors left out"
        one = sustained(linear, 1.0)
        say("KERNEL", f"{name}, gemms", us=round(1e6 * one))
        orders: dict[str, Calls] = {
            "one after the other": [*linear, decode],
            "decode on a stream of its own": [partial(both, linear, [decode])],
        }
        for order, run in orders.items():
            spent = sustained(run, 1.0)
            say("KERNEL", f"{name}, gemms and decode, {order}", us=round(1e6 * spent))
    torch._C._set_sm_carveout_experimental(None)
    say("KERNEL", "decode alone", us=round(1e6 * sustained([decode], 1.0)))


if __name__ == "__main__":
    torch.manual_seed(0)
    parts: dict[str, Callable[[], None]] = {
        "libraries": libraries, "rows": row_counts, "beside": beside_attention,
        "algorithms": partial(algorithms, (512, 1024, 2048, 4096, 8448)),
        "residuals": residuals,
        "odd": partial(algorithms, (1029, 2051, 4089, 6327, 8301), gemm.HEURISTIC_ROWS),
    }  # fmt: skip
    for part in json.loads(sys.argv[1]).get("only") or parts:
        try:
            parts[part]()
        except RuntimeError:
            # The other parts may still tell something.
            traceback.print_exc()

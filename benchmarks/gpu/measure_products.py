"""A layer's FP8 products alone: by library, rows and algorithm, and beside attention.

`python measure_products.py SPEC OUT`, as measure_kernels.py. Everything is repeated long enough that the
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

from mlperf_llama.engine.hopper import cublaslt, products
from mlperf_llama.engine.hopper.kernels import Kernels

LINEAR = {"qkv": (6144, 4096), "o": (4096, 4096), "gate_up": (28672, 4096), "down": (4096, 14336)}


def operands(rows: int, n: int, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    a, w = (torch.randn(size, k, device="cuda", dtype=torch.bfloat16) for size in (rows, n))
    return (a * 30).clamp(-440, 440).to(torch.float8_e4m3fn), (w * 60).clamp(-440, 440).to(
        torch.float8_e4m3fn
    )


def layer(rows: int, how: str) -> list[Callable[[], Any]]:
    """The four products of a layer; `how`: cutlass, cublaslt, or cublaslt fast."""
    one = torch.ones(1, device="cuda")
    calls: list[Callable[[], Any]] = []
    for n, k in LINEAR.values():
        a, w = operands(rows, n, k)
        if how == "cutlass":
            calls.append(partial(ops.cutlass_scaled_mm, a, w.t(), one, one, torch.bfloat16))
        else:
            scales = {"scale_a": one, "scale_b": one, "use_fast_accum": how.endswith("fast")}
            calls.append(partial(torch._scaled_mm, a, w.t(), out_dtype=torch.bfloat16, **scales))
    return calls


def flop(rows: int) -> int:
    return sum(2 * rows * n * k for n, k in LINEAR.values())


def libraries() -> None:
    for rows in (512, 2048, 4096, 8192):
        for how in ("cutlass", "cublaslt", "cublaslt fast"):
            spent = sustained(layer(rows, how), 0.6)
            say("KERNEL", f"products {rows} rows, {how}", tflops=round(flop(rows) / spent / 1e12))


def row_counts() -> None:
    """Whether a last wave of tiles, half empty, costs anything at the power limit (132 a wave)."""
    for rows in (3696, 3968, 4096, 4224, 4352, 4608, 4752, 5008, 5280, 5408, 6336, 6464, 8192, 8448, 8704):
        spent = sustained(layer(rows, "cublaslt fast"), 0.5)
        say("KERNEL", f"products {rows} rows", tflops=round(flop(rows) / spent / 1e12), us=round(1e6 * spent))


def algorithms(numbers: Sequence[int], asked: int | None = None) -> None:
    """cuBLASLt's favourite for each product, the other proposals, and the favourite once more.

    `asked`: the others are those proposed for so many rows, as far as cuBLASLt accepts them here.
    """
    one = torch.ones(1, device="cuda")
    workspace = torch.empty(cublaslt.WORKSPACE_BYTES, dtype=torch.uint8, device="cuda")
    for rows, (name, (n, k)) in itertools.product(numbers, LINEAR.items()):
        a, w = operands(rows, n, k)
        out = torch.empty(rows, n, dtype=torch.bfloat16, device="cuda")
        wanted = products.scaled(a, w, one, one)
        product = cublaslt.Product(rows, n, k)
        tried = product.proposed(8)
        if asked:
            others = cublaslt.Product(asked, n, k).proposed(8)
            tried = [tried[0], *(other for other in others if product.takes(other))]
        for number in [*range(len(tried)), 0]:
            out.zero_()
            spent = sustained([partial(product.run, a, w, one, one, out, tried[number], workspace)], 0.2)
            wrong = float((out.float() - wanted.float()).norm() / wanted.float().norm())
            rate, tile = round(2 * rows * n * k / spent / 1e12), tried[number].tile
            say("KERNEL", f"{name} {rows} rows, {number}", tflops=rate, tile=tile, error=wrong)


def summed(call: Callable[[], Any], added: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = call() + added
    return found


def sums() -> None:
    """The products behind attention and activation, alone, with the residual added by cuBLASLt's favourite
    and by what it proposes for other numbers of rows, and alone once more."""
    one = torch.ones(1, device="cuda")
    workspace = torch.empty(cublaslt.WORKSPACE_BYTES, dtype=torch.uint8, device="cuda")
    for rows, name in itertools.product((512, 1029, 4089, 8301), ("o", "down")):
        n, k = LINEAR[name]
        a, w = operands(rows, n, k)
        plain: Callable[[], Any] = partial(products.scaled, a, w, one, one)
        # As large as the products, so that a sum without either shows.
        added = plain().roll(1, 0)
        wanted, out = plain().float() + added.float(), torch.empty_like(added)
        product = cublaslt.Product(rows, n, k)
        others = cublaslt.Product(products.ASKED_ROWS, n, k).proposed(8) if rows > products.MIN_ROWS else []
        calls: dict[str, Callable[[], Any]] = {
            "alone": plain,
            "alone, then added": partial(summed, plain, added),
        }
        for number, how in enumerate([*product.proposed(1), *(o for o in others if product.takes(o))]):
            run = partial(product.run, a, w, one, one, out, how, workspace, added)
            run()
            say("CHECK", f"{name} {rows} rows, sum {number}", error=error(out, wanted), tile=how.tile)
            calls[f"sum {number}, tile {how.tile}"] = run
        for title, call in [*calls.items(), ("alone", plain)]:
            spent = sustained([call], 0.25)
            say("KERNEL", f"{name} {rows} rows, {title}", us=round(1e6 * spent, 1))


def beside_attention() -> None:
    """What two streams could gain: a layer's products, the answers' attention and the prompts'."""
    prompts = [int(n) for n in lengths(4, seed=5)]
    batch, side = Batch(508, prompts), torch.cuda.Stream(priority=-1)
    answers = partial(batch.decode, Kernels(batch.cache, Q, KV))

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
        say("KERNEL", f"{name}, products", us=round(1e6 * one))
        orders: dict[str, Calls] = {
            "one after the other": [*linear, answers],
            "answers on a stream of their own": [partial(both, linear, [answers])],
        }
        for order, run in orders.items():
            spent = sustained(run, 1.0)
            say("KERNEL", f"{name}, products and answers, {order}", us=round(1e6 * spent))
    torch._C._set_sm_carveout_experimental(None)
    say("KERNEL", "answers alone", us=round(1e6 * sustained([answers], 1.0)))


if __name__ == "__main__":
    torch.manual_seed(0)
    parts: dict[str, Callable[[], None]] = {
        "libraries": libraries, "rows": row_counts, "beside": beside_attention,
        "algorithms": partial(algorithms, (512, 1024, 2048, 4096, 8448)),
        "sums": sums,
        "odd": partial(algorithms, (1029, 2051, 4089, 6327, 8301), products.ASKED_ROWS),
    }  # fmt: skip
    for part in json.loads(sys.argv[1]).get("only") or parts:
        try:
            parts[part]()
        except RuntimeError:
            # The other parts may still tell something.
            traceback.print_exc()

"""FP8 products alone at the power limit, by what is multiplied: `measure_codes.py SMALL FP8 ARTICLES OUT`.

SMALL is a 16-bit checkpoint of Llama-3.1-8B's shape, FP8 its static checkpoint. Weights and inputs of a
layer are the model's own (inputs: from text, by transformers), random as in `random-fp8`, or the model's own
shuffled. The same kernel does the same arithmetic in each case; only the bits differ, and with them the
power and the clock. Writes OUT/codes.jsonl and prints a table. Needs no vLLM.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from gpu_samples import GpuSamples

from mlperf_llama.engine.fp8 import FP8, FP8_MAX
from mlperf_llama.quantize.weights import Tensors

ROWS, SECONDS, SETTLE_S = 8192, 0.8, 0.3
# Products of a layer: the parts that are multiplied together, and where their input is seen.
PRODUCTS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "o": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
# (weights, inputs)
CASES = (
    ("random", "random"), ("own", "own"), ("random", "own"), ("own", "random"), ("own", "shuffled"),
    ("shuffled", "own"), ("random", "random"),
)  # fmt: skip
# As engine/random_weights.py makes them: weights' codes of sd 60; inputs of sd 1 over a scale of 0.03.
WEIGHT_SD, INPUT_SD = 60.0, 33.0


def inputs(model: Path, articles: Path, layers: list[int]) -> dict[str, torch.Tensor]:
    """bf16 inputs of each product of the layers, ROWS tokens of text: by the name of its first part."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForCausalLM.from_pretrained(model, dtype="auto").to("cuda").eval()
    prompt = tokenizer("The capital of France is", return_tensors="pt").to("cuda")
    said = network.generate(**prompt, max_new_tokens=24, do_sample=False)[0]
    print("it says:", repr(tokenizer.decode(said)), flush=True)
    by_name: dict[str, list[torch.Tensor]] = {}
    for number in layers:
        for parts in PRODUCTS.values():
            name = f"model.layers.{number}.{parts[0]}"
            kept = by_name.setdefault(name, [])
            network.get_submodule(name).register_forward_hook(
                lambda _, given, __, kept=kept: kept.append(given[0].flatten(0, 1))
            )
    count = 0
    with torch.inference_mode():
        for line in articles.read_text().splitlines():
            ids = tokenizer(json.loads(line)["article"], return_tensors="pt").input_ids.to("cuda")
            network.model(ids, use_cache=False)
            count += ids.shape[1]
            if count >= ROWS:
                break
    return {name: torch.cat(kept)[:ROWS] for name, kept in by_name.items()}


def codes(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return (values.float() / scale).clamp(-FP8_MAX, FP8_MAX).to(FP8)


def random_codes(like: torch.Tensor, sd: float) -> torch.Tensor:
    return (torch.randn(like.shape, device="cuda") * sd).clamp(-440, 440).to(FP8)


def shuffled(matrix: torch.Tensor) -> torch.Tensor:
    """Rows and columns in another order, each its own."""
    flat = matrix.view(torch.uint8)
    rows, columns = (torch.randperm(n, device="cuda") for n in flat.shape)
    return flat[rows][:, columns].contiguous().view(FP8)


def sustained(x: torch.Tensor, w: torch.Tensor) -> dict[str, Any]:
    """One product again and again, ten in a graph, once the clock has settled."""
    one = torch.ones((), device="cuda")

    def call() -> torch.Tensor:
        return torch._scaled_mm(x, w.t(), one, one, out_dtype=torch.bfloat16, use_fast_accum=True)

    call()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(10):
            call()
    _replay(graph, SETTLE_S)
    samples = GpuSamples()
    seconds = _replay(graph, SECONDS) / 10
    gpu = samples.stop()["columns"]
    flops = 2 * x.shape[0] * x.shape[1] * w.shape[0]
    means = {
        name: round(sum(column) / len(column), 1)
        for name, column in gpu.items()
        if name in ("instant_w", "sm_clock_mhz", "temperature_c") and column and None not in column
    }
    return {"us": round(1e6 * seconds, 1), "tflops": round(flops / seconds / 1e12, 1), **means}


def _replay(graph: Any, seconds: float) -> float:
    """Seconds that a replay took."""
    torch.cuda.synchronize()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        graph.replay()
        count += 1
        if count % 5 == 0:
            torch.cuda.synchronize()
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / count


def facts(matrix: torch.Tensor) -> dict[str, float]:
    """What the bits look like: zeros, and how many of the eight bits differ between neighbours of a row."""
    flat = matrix.view(torch.uint8)
    differing = flat[:, 1:] ^ flat[:, :-1]
    bits = sum(((differing >> bit) & 1).float().mean() for bit in range(8))
    return {"zeros": round(float((flat & 127 == 0).float().mean()), 4), "toggled": round(float(bits), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("small", "fp8", "articles", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--layers", default="4,20")
    given = parser.parse_args()
    layers = [int(n) for n in given.layers.split(",")]
    seen, source = inputs(given.small, given.articles, layers), Tensors(given.fp8)
    torch.cuda.empty_cache()
    torch.manual_seed(0)
    for number in layers:
        for product, parts in PRODUCTS.items():
            names = [f"model.layers.{number}.{part}" for part in parts]
            own_w = torch.cat([source[f"{name}.weight"].view(torch.uint8) for name in names]).cuda().view(FP8)
            own_x = codes(seen[names[0]], source[f"{names[0]}.input_scale"].cuda())
            w = {"own": own_w, "random": random_codes(own_w, WEIGHT_SD), "shuffled": shuffled(own_w)}
            x = {"own": own_x, "random": random_codes(own_x, INPUT_SD), "shuffled": shuffled(own_x)}
            for weights, given_x in CASES:
                row = {
                    "layer": number,
                    "product": product,
                    "weights": weights,
                    "inputs": given_x,
                    **sustained(x[given_x], w[weights]),
                    "w": facts(w[weights]),
                    "x": facts(x[given_x]),
                }
                with (given.out / "codes.jsonl").open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(*row.values(), flush=True)


if __name__ == "__main__":
    main()

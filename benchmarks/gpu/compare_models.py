"""Why one model is slower than another of its shape: `compare_models.py MODEL OUT --articles FILE`.

One engine, loaded once with MODEL (a static FP8 checkpoint of Llama-3.1-8B's shape), answers prompts of the
same lengths again and again: with its own weights, with those of `random-fp8` put in their place, and with
its own shuffled; with text and with random tokens; with other settings of the host. Each point is a bare
Offline pass. Per step it records host and GPU times (step_probe.py), and power and clock at 10 Hz
(gpu_samples.py).

POINTS are in order of use: the budget may cut the end. Writes OUT/points.jsonl (one line per point with its
summary) and OUT/steps.npz (every step and reading), and prints compare_table.py's tables.

Over 250 lines: the points, the weights they exchange and the pass that measures them are read together.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import compare_table
import numpy as np
from gpu_samples import GpuSamples
from llama_shape import lengths
from measure_engine import Sink

from mlperf_llama import config, rules
from mlperf_llama.engine import Limits, Request
from mlperf_llama.engine.preset import CPU, Preset, load_preset
from mlperf_llama.engine.settings import EngineSettings, ModelFacts, engine_settings
from mlperf_llama.engine.tuned import NONE
from mlperf_llama.engine.vllm import VllmEngine
from mlperf_llama.sources.model import shape

# In `stand-in-8b` and with random weights these are ids that never win, so that answers have 128 tokens and
# the host does all that it does for the real model.
NEVER = Limits(rules.MAX_NEW_TOKENS, rules.MIN_NEW_TOKENS, rules.EOS_IDS)
# The other ways to hold answers to 128 tokens.
HOLDS = {
    "never": NEVER,
    "ignore": Limits(rules.MAX_NEW_TOKENS, rules.MAX_NEW_TOKENS, ()),
    "least": Limits(rules.MAX_NEW_TOKENS, rules.MAX_NEW_TOKENS, (0, 2)),
}
HEAD, TAIL = rules.PROMPT_TEMPLATE.split("{article}")


@dataclass(frozen=True)
class Point:
    name: str
    weights: str = "loaded"
    prompts: str = "text"
    hold: str = "never"
    # The engine core's thread on a core of its own; no garbage collection, in either process.
    pinned: bool = False
    collect: bool = True
    # Offline's limits where not the preset's: gap_steps of Pacing, prompt tokens a step.
    gap: int | None = None
    prefill: int | None = None


RANDOM, TEXT = Point("random-fp8", "random", "tokens"), Point("stand-in-8b")
POINTS = (
    RANDOM,
    TEXT,
    dataclasses.replace(RANDOM, name="random-fp8 again"),
    dataclasses.replace(TEXT, name="stand-in-8b again"),
    Point("random weights, text", "random", "text"),
    Point("stand-in, random tokens", "loaded", "tokens"),
    Point("stand-in, shuffled", "shuffled", "text"),
    Point("stand-in, least tokens", hold="least"),
    Point("stand-in, pinned, no gc", pinned=True, collect=False),
    dataclasses.replace(RANDOM, name="random-fp8, third"),
    dataclasses.replace(TEXT, name="stand-in-8b, third"),
    # From 11 on: how Offline lets prompts in, with answers of 128 tokens and with answers that end.
    Point("128 tokens", hold="ignore"),
    Point("128 tokens, gap 4", hold="ignore", gap=4),
    Point("128 tokens, 65536 a step", hold="ignore", prefill=65536),
    Point("answers that end, gap 2", gap=2),
    Point("answers that end, gap 4", gap=4),
    Point("answers that end, gap 8", gap=8),
    Point("128 tokens, again", hold="ignore"),
)


class Prompts:
    """`count` prompts with the benchmark's lengths: random tokens, or text in the reference's template."""

    def __init__(self, count: int, articles: Path | None, model: Path, longest: int) -> None:
        self.lengths = np.minimum(lengths(count), longest)
        draw = np.random.default_rng(11)
        self.tokens = [draw.integers(1000, 127000, n).tolist() for n in self.lengths]
        self.text = self._text(articles, model, draw) if articles else []

    def _text(self, articles: Path, model: Path, draw: np.random.Generator) -> list[list[int]]:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        rows = [json.loads(line)["article"] for line in articles.read_text().splitlines()]
        head, tail, *bodies = (
            prompts.ids for prompts in tokenizer.encode_batch([HEAD, TAIL, *rows], add_special_tokens=False)
        )
        stream = np.concatenate(bodies)
        stream = np.concatenate((stream, stream[: int(self.lengths.max())]))
        ends = np.cumsum([0, *map(len, bodies)])[:-1]
        prompts = []
        for n in self.lengths:
            # From an article's beginning, and on into the next where it is short.
            begin, body = int(draw.choice(ends)), max(1, int(n) - len(head) - len(tail))
            prompts.append([*head, *stream[begin : begin + body].tolist(), *tail][: int(n)])
        return prompts


def settings_of(model: Path, preset: Preset, on_cpu: bool) -> EngineSettings:
    """What the pipeline asks vLLM for."""
    known = json.loads((model / "config.json").read_text())
    longest = min(rules.MAX_MODEL_LEN, int(known["max_position_embeddings"]))
    facts = ModelFacts(
        str(model),
        longest,
        quantized="quantization_config" in known,
        random_weights=bool(known.get("random_weights")),
    )
    cpus = len(os.sched_getaffinity(0))
    return engine_settings(config.load({}, {}), preset, NONE, facts, on_gpu=not on_cpu, cpu_threads=cpus)


class Comparison:
    def __init__(self, given: argparse.Namespace) -> None:
        self.out: Path = given.out
        preset = load_preset(given.preset)
        on_cpu = given.preset == CPU
        wanted = settings_of(given.model, preset, on_cpu)
        self.offline = wanted.scenarios[rules.OFFLINE]
        # With the scheduler that is watched.
        watched = {"scheduler_cls": f"step_probe.{'Sync' if on_cpu else 'Async'}"}
        arguments = {**wanted.arguments, **watched, **given.engine}
        self.prompts = Prompts(
            given.samples, given.articles, given.model, arguments["max_model_len"] - rules.MAX_NEW_TOKENS
        )
        vocabulary = json.loads((given.model / "config.json").read_text())["vocab_size"]
        if vocabulary < shape.CONFIG["vocab_size"]:  # a rehearsal
            self.prompts.tokens = [[t % vocabulary for t in prompt] for prompt in self.prompts.tokens]
        self.engine = VllmEngine(arguments, given.cache_dir, wanted.environment)
        self.summaries: list[dict[str, Any]] = []
        self.arrays: dict[str, Any] = {}
        self._weights = "loaded"
        self._cpus = sorted(os.sched_getaffinity(0))

    async def utility(self, name: str, *given: Any) -> Any:
        return await self.engine._utility(name, *given)

    async def run(self, points: Sequence[Point], ends: float) -> None:
        info = await self.engine.start(lambda _: None)
        print(f"engine up in {info.load_s} s, {json.dumps(info.details)}", flush=True)
        await self._limit(Point("warm"))
        await self._answer(self._requests(Point("warm"), 300), NEVER)
        longest = 0.0
        for point in points:
            if time.monotonic() + longest > ends:
                print(f"left out for want of time: {point.name}", flush=True)
                continue
            began = time.monotonic()
            await self._one(point)
            longest = max(longest, time.monotonic() - began)
        await self.engine.close()

    def _requests(self, point: Point, count: int | None = None) -> list[Request]:
        prompts = self.prompts.text if point.prompts == "text" and self.prompts.text else self.prompts.tokens
        return [Request(n, prompt) for n, prompt in enumerate(prompts[:count])]

    async def _answer(self, requests: list[Request], limits: Limits) -> Sink:
        sink = Sink(len(requests))
        self.engine.submit(requests, limits, False, sink)
        await sink.done
        return sink

    async def _limit(self, point: Point) -> None:
        limits, pacing = self.offline, self.offline.pacing
        if point.gap is not None:
            pacing = dataclasses.replace(pacing, gap_steps=point.gap)
        await self.engine.set_limits(limits.max_num_seqs, point.prefill or limits.prefill_tokens)
        await self.engine.set_pacing(pacing)

    async def _one(self, point: Point) -> None:
        await self._limit(point)
        if point.weights != self._weights:
            seconds = await self.utility("bench_use_weights", point.weights)
            print(f"weights {point.weights} in {seconds:.1f} s", flush=True)
            self._weights = point.weights
        await self._place(point)
        requests = self._requests(point)
        began = await self.utility("bench_watch_steps")
        before = await self.utility("mlperf_counters")
        spent, started = (time.process_time(), time.thread_time()), time.perf_counter()
        samples = GpuSamples()
        sink = await self._answer(requests, HOLDS[point.hold])
        wall = time.perf_counter() - started
        readings = samples.stop()
        front = {
            "process_s": time.process_time() - spent[0],
            "main_s": time.thread_time() - spent[1],
        }
        after, steps = await self.utility("mlperf_counters"), await self.utility("bench_take_steps")
        whole = {
            "point": dataclasses.asdict(point),
            "wall_s": wall,
            "tokens": sink.tokens,
            "preemptions": after["preemptions"] - before["preemptions"],
            "energy_j": readings["energy_j"],
            "core": steps["spent"],
            "front": front,
            "distinct": len(set(sink.first.values())),
        }
        self._keep(whole, steps["columns"], readings["columns"], began)

    async def _place(self, point: Point) -> None:
        """Where the two processes run, and whether they collect garbage."""
        cpus = self._cpus
        half = max(1, len(cpus) // 2)
        core, front = (cpus[:half], cpus[half:] or cpus) if point.pinned else (cpus, cpus)
        await self.utility("bench_pin", core, point.collect, point.pinned)
        os.sched_setaffinity(0, front)
        gc.collect()
        (gc.enable if point.collect else gc.disable)()

    def _keep(self, whole: dict[str, Any], steps: Any, readings: Any, began: float) -> None:
        number = len(self.summaries)
        steps = {name: np.asarray(column) for name, column in steps.items()}
        readings = {name: np.asarray(column, dtype=float) for name, column in readings.items()}
        readings["at"] = readings["at"] - began
        self.arrays |= {f"{number}.step.{name}": column for name, column in steps.items()}
        self.arrays |= {f"{number}.gpu.{name}": column for name, column in readings.items()}
        summary = {**whole, **compare_table.summary(whole, steps, readings)}
        self.summaries.append(summary)
        with (self.out / "points.jsonl").open("a") as file:
            file.write(json.dumps(summary) + "\n")
        # A call that is cut off leaves what was measured.
        np.savez_compressed(self.out / "steps.npz", **self.arrays)
        print(compare_table.one_line(summary), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--articles", type=Path, help="JSON Lines with article; none: random tokens for text")
    parser.add_argument("--samples", type=int, default=1536)
    parser.add_argument("--preset", default="h100")
    parser.add_argument("--points", default="", help="numbers of POINTS, with commas; default all")
    parser.add_argument("--budget-s", type=float, default=1e9, help="no point is begun that would end later")
    parser.add_argument("--cache-dir", type=Path, default=os.environ.get("MLPERF_CACHE_DIR", "/tmp/cache"))
    parser.add_argument("--engine", type=json.loads, default={}, help="further arguments of vLLM")
    given = parser.parse_args()
    ends = time.monotonic() + given.budget_s
    given.out.mkdir(parents=True, exist_ok=True)
    chosen = [POINTS[int(n)] for n in given.points.split(",")] if given.points else POINTS
    comparison = Comparison(given)
    asyncio.run(comparison.run(chosen, ends))
    text = compare_table.tables(comparison.summaries)
    (given.out / "table.txt").write_text(text + "\n")
    print(text, flush=True)


if __name__ == "__main__":
    main()

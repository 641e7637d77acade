"""What the self-check finds in a sound model and in one with faults: `measure_self_check.py KIND MODEL OUT`.

KIND: `static` (MODEL is a checkpoint of `quantize`) or `dynamic` (16-bit weights, made smaller while they
load). Loads the engine as the pipeline does, prints the self-check of the load, then its figures for each
mutation (mutations.py) that it may see, and again without one. Appends lines to OUT/self_check.jsonl. Exit
codes: 0 the sound model passed before and after and every mutation was caught; 1 otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from pathlib import Path

from compare_models import settings_of
from mutations import MUTATIONS

from mlperf_llama.engine import hopper
from mlperf_llama.engine.hopper import bounds
from mlperf_llama.engine.preset import CPU, load_preset
from mlperf_llama.engine.vllm import VllmEngine

COLUMNS = f"{'':50} {'mean':>9} {'largest':>9} {'own mean':>9} {'own largest':>11} {'s':>6}"


class Measurement:
    def __init__(self, given: argparse.Namespace) -> None:
        self.kind, self.out, self.failed = given.kind, given.out, 0
        on_cpu = given.preset == CPU
        wanted = settings_of(given.model, load_preset(given.preset), on_cpu)
        # On a CPU the preset asks for none.
        extended = hopper.with_extension({**wanted.arguments, "worker_extension_cls": hopper.EXTENSION})
        # That one and the means to compare with faults count as the package's own.
        hopper.EXTENSION = "mutation_probe.Extension"
        arguments = {**extended, "worker_extension_cls": hopper.EXTENSION, **given.engine}
        self.engine = VllmEngine(arguments, given.cache_dir, wanted.environment)
        self.ends = time.monotonic() + given.budget_s

    async def run(self) -> None:
        began = time.monotonic()
        info = await self.engine.start(lambda _: None)
        print(
            f"{self.kind}: loaded in {info.load_s} s, started in {time.monotonic() - began:.1f} s", flush=True
        )
        print(f"self-check of the load: {info.self_check}", COLUMNS, sep="\n", flush=True)
        await self._one("none", "", sound=True)
        for mutation in MUTATIONS:
            if self.kind not in mutation.models:
                continue
            if time.monotonic() > self.ends:
                print(f"{mutation.name:50} left out for want of time", flush=True)
                continue
            await self._one(mutation.name, mutation.name, sound=False)
        await self._one("none, again", "", sound=True)
        if self.kind == "static":
            by_worker = await self.engine._llm.collective_rpc("bench_random_weights")
            print(f"with random weights: {by_worker[0]}", flush=True)
        await self.engine.close()

    async def _one(self, title: str, name: str, sound: bool) -> None:
        try:
            measured = (await self.engine._llm.collective_rpc("bench_compare", args=(name,)))[0]
        except Exception as error:
            print(f"{title:50} {str(error)[:120]!r}", flush=True)
            self.failed += sound
            return
        figures = {"prompts": 0, "steps": 0, "compared": 0, **measured}
        passed = bounds.record(hopper.EXTENSION, figures).passed
        self.failed += passed is not sound
        words = {(True, True): "passed", (False, True): "REFUSED", (True, False): "NOT CAUGHT"}
        columns = [f"{measured[name]:9.4f}" for name in ("mean", "largest", "own_mean")]
        line = f"{title:50} {' '.join(columns)} {measured['own_largest']:11.4f} {measured['seconds']:6.1f}"
        print(line, words.get((passed, sound), "caught"), flush=True)
        with (self.out / "self_check.jsonl").open("a") as file:
            file.write(
                json.dumps({"kind": self.kind, "mutation": title, "passed": passed, **measured}) + "\n"
            )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=("static", "dynamic"))
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset", default="h100")
    parser.add_argument("--budget-s", type=float, default=1e9, help="no mutation is begun later")
    parser.add_argument("--cache-dir", type=Path, default=os.environ.get("MLPERF_CACHE_DIR", "/tmp/cache"))
    parser.add_argument("--engine", type=json.loads, default={}, help="further arguments of vLLM")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    measurement = Measurement(given)
    asyncio.run(measurement.run())
    return 1 if measurement.failed else 0


if __name__ == "__main__":
    sys.exit(main())

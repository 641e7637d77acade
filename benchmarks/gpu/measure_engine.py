"""One engine of a plan, loaded once, and its points: `python measure_engine.py SPEC OUT` (main.py starts it).

A point is one of
  offline   the bare engine: all prompts at once, no LoadGen
  profile   the same, with the kernels of `at` = [start, seconds] and where the GPU stood still
  first     log the first tokens of some prompts, to compare engines
  loadgen   through LoadGen and the driver: `scenario`, `samples`, `duration`, `qps`
Limits of a point: `seqs`, `prefill` (prompt tokens a step), `whole` (prompts are not split) and `gap`
(engine/pacing.py). A `qps` of [a, b] is a if the last such run was VALID, else b.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from gpu_power import Power
from llama_shape import Samples, model_dir

from mlperf_llama import rules
from mlperf_llama.engine import Limits, Request, Tokens, hopper
from mlperf_llama.engine.pacing import Pacing
from mlperf_llama.engine.vllm import VllmEngine
from mlperf_llama.loadgen import logs
from mlperf_llama.loadgen.drive import drive
from mlperf_llama.loadgen.plan import make_plan
from mlperf_llama.records.codec import to_json
from mlperf_llama.records.events import Events

LIMITS = Limits(rules.MAX_NEW_TOKENS, rules.MIN_NEW_TOKENS, rules.EOS_IDS)
TOTAL = rules.SAMPLE_COUNT[rules.DATACENTER]


def arguments(spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    """vLLM's arguments: the pipeline's fixed ones under the plan's."""
    given = {
        "model": str(model_dir(folder, spec.get("quantization", "fp8-static"), spec.get("shape", {}))),
        "load_format": "dummy",
        "dtype": "bfloat16",
        "kv_cache_dtype": "fp8",
        "max_model_len": rules.MAX_MODEL_LEN,
        "enable_prefix_caching": False,
        "skip_tokenizer_init": True,
        "disable_log_stats": True,
        "scheduler_cls": "engine_probe.Async",
        **spec.get("engine", {}),
    }
    fast = {"worker_extension_cls": hopper.EXTENSION} if spec.get("fast", True) else {}
    return hopper.with_extension({**given, **fast})


class Sink:
    """Collects answers; the future ends with the last one."""

    def __init__(self, count: int) -> None:
        self.missing, self.tokens = count, 0
        self.first: dict[int, int] = {}
        self.ends: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def first_token(self, request_id: int, token: int) -> None: ...

    def completed(self, request_id: int, tokens: Tokens) -> None:
        self.ends.append(time.perf_counter())
        self.first[request_id] = tokens[0]
        self.tokens += len(tokens)
        self.missing -= 1
        if not self.missing:
            self.done.set_result(None)

    def failed(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Bench:
    def __init__(self, spec: dict[str, Any], out: Path) -> None:
        self.spec, self.out = spec, out
        self.valid: dict[str, bool] = {}
        self.engine = VllmEngine(arguments(spec, out / "model"), Path("/tmp/cache"), spec.get("env", {}))

    async def utility(self, name: str, *given: Any) -> Any:
        return await self.engine._utility(name, *given)

    async def run(self) -> None:
        info = await self.engine.start(lambda _: None)
        print(f"ENGINE UP {info.load_s} s {json.dumps(info.settings)}", flush=True)
        await self.offline({"n": self.spec.get("warm", 300)})
        for number, point in enumerate(self.spec["points"]):
            await self.engine.set_limits(point.get("seqs"), point.get("prefill"))
            whole, gap = point.get("whole", False), point.get("gap", 0)
            await self.engine.set_pacing(Pacing(whole, gap))
            before = await self.utility("mlperf_counters")
            await self.utility("bench_notes")
            power = Power()
            try:
                row = await getattr(self, point["do"])({**point, "number": number})
            except Exception as error:
                # The other points may still tell something.
                traceback.print_exc()
                row = {"error": repr(error)[:300]}
            row = {**row, **power.stop(), **_steps(await self.utility("bench_notes"), row)}
            after = await self.utility("mlperf_counters")
            row["preemptions"] = after["preemptions"] - before["preemptions"]
            row["kv_cache_tokens"] = after["kv_cache_tokens"]
            row = {"name": self.spec["name"], **point, **row, "load_s": info.load_s}
            with (self.out / "results.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(
                "POINT",
                json.dumps({k: v for k, v in row.items() if k not in ("kernels", "idle")}),
                flush=True,
            )
        await self.engine.close()

    async def offline(self, point: dict[str, Any]) -> dict[str, Any]:
        samples = Samples(point["n"])
        order = sorted(range(samples.count), key=lambda i: -samples.lengths[i])
        order = order if point.get("order") == "longest-first" else list(range(samples.count))
        requests = [Request(i, samples.prompt(i)) for i in order]
        sink, started = Sink(len(requests)), time.perf_counter()
        self.engine.submit(requests, LIMITS, False, sink)
        profile = asyncio.create_task(self._profile(*point["at"])) if "at" in point else None
        await sink.done
        wall = time.perf_counter() - started
        row: dict[str, Any] = {
            "wall_s": round(wall, 2),
            "tok_s": round(sink.tokens / wall, 1),
            "tokens": sink.tokens,
        }
        row |= {"mean_prompt": round(float(samples.lengths.mean()), 1)}
        row["steady_tok_s"] = _steady(sink.ends, point["seqs"]) if point.get("seqs") else None
        if profile:
            row["profile_s"], row["kernels"], row["idle"] = await profile
        return {**row, "full_tok_s": None, "first": sink.first} if point.get("keep") else row

    async def profile(self, point: dict[str, Any]) -> dict[str, Any]:
        return await self.offline(point)

    async def first(self, point: dict[str, Any]) -> dict[str, Any]:
        row = await self.offline({**point, "keep": True})
        return {"first": [row["first"][i] for i in range(point["n"])]}

    async def _profile(self, start_s: float, seconds: float) -> Any:
        await asyncio.sleep(start_s)
        await self.utility("bench_profile_switch", True)
        await asyncio.sleep(seconds)
        return await self.utility("bench_profile_switch", False)

    async def loadgen(self, point: dict[str, Any]) -> dict[str, Any]:
        """LoadGen's own figures; the logs' summary is kept beside."""
        qps = point["qps"]
        if isinstance(qps, list):
            qps = qps[0 if self.valid.get(point["scenario"]) else 1]
        # Poisson arrivals of a short run stray; a little more than one pass would make it two.
        samples = point.get("samples") or int(1.08 * qps * point["duration"])
        planned = make_plan(
            "v6.1",
            rules.DATACENTER,
            point["scenario"],
            "performance",
            samples,
            TOTAL,
            point["duration"],
            qps,
        )
        folder = self.out / f"{self.spec['name']}-{point['number']}-{point['scenario']}"
        root = Path(self.spec["loadgen_root"])
        order = point.get("order", "as-is")
        result = await drive(
            self.engine,
            Samples(samples),
            LIMITS,
            planned,
            folder,
            Events(None),
            order=order,
            loadgen_root=root,
        )
        found = {"qps": qps, **to_json(logs.performance(folder, point["scenario"]))}
        self.valid[point["scenario"]] = found["loadgen_result"] == "VALID"
        row = {"tok_s": found["tokens_per_second"], "wall_s": result.seconds, "tokens": result.tokens}
        return {**row, **found, "errors": list(result.errors)[:3], "warnings": list(result.warnings)[:3]}


def _steady(ends: list[float], max_num_seqs: int) -> float | None:
    """Tokens a second between whole rounds of the batch, the first left out, while requests still wait."""
    last = (len(ends) - max_num_seqs) // max_num_seqs * max_num_seqs
    if last <= max_num_seqs:
        return None
    return round((last - max_num_seqs) * rules.MAX_NEW_TOKENS / (ends[last - 1] - ends[max_num_seqs - 1]), 1)


def _steps(noted: list[tuple[float, int, int, int]], row: dict[str, Any]) -> dict[str, Any]:
    """Steps while requests waited, and what that rate makes of the whole set."""
    full = [step for step in noted if step[3]]
    if len(full) < 20:
        return {"steps": len(noted)}
    seconds = full[-1][0] - full[0][0]
    rate = sum(step[1] for step in full[:-1]) / seconds
    found = {
        "steps": len(noted),
        "step_tokens": round(statistics.mean(step[1] for step in full)),
        "running": round(statistics.mean(step[2] for step in full)),
        "step_ms": round(1000 * seconds / (len(full) - 1), 1),
    }
    if row.get("mean_prompt") and row["tokens"]:
        # Prompt and answer tokens of a sample; the last token is never fed back.
        fed = row["mean_prompt"] + rules.MAX_NEW_TOKENS - 1
        count = row["tokens"] / rules.MAX_NEW_TOKENS
        left = (TOTAL - count) * fed / rate
        found["full_set_tok_s"] = round(TOTAL * rules.MAX_NEW_TOKENS / (row["wall_s"] + left), 1)
    return found


if __name__ == "__main__":
    asyncio.run(Bench(json.loads(sys.argv[1]), Path(sys.argv[2])).run())

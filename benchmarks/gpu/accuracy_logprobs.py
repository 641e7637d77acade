"""How near each precision's answers come to 16 bits': `accuracy_logprobs.py MODEL OUT --articles FILE`.

MODEL is a folder with 16-bit weights. Each of PRECISIONS loads it in a process of its own, as the pipeline
would with the preset, answers the articles, and gives the log probability of each token of bf16's answers
behind the same tokens (forced: read as a prompt) and of its own answers (decoded: by the cache). Static
scales are --scales, or made first, as a run makes them, from --calibration or from synthetic articles.

Writes OUT/scales.json, OUT/PRECISION.json (answers and log probabilities), OUT/PRECISION.log,
OUT/accuracy.json, and prints accuracy_table.py's table. One precision's failure leaves the others.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import accuracy_table

from mlperf_llama import config, rules
from mlperf_llama.engine import hopper
from mlperf_llama.engine.hopper import compat
from mlperf_llama.engine.preset import CPU, Preset, load_preset
from mlperf_llama.engine.settings import EngineSettings, ModelFacts, engine_settings
from mlperf_llama.engine.tuned import NONE
from mlperf_llama.engine.vllm import VllmEngine
from mlperf_llama.quantize import scales
from mlperf_llama.records import scales as records
from mlperf_llama.records.files import digest
from mlperf_llama.records.schema import Provided
from mlperf_llama.sources import model as models
from mlperf_llama.sources.dataset import grammar, prepare
from mlperf_llama.sources.dataset.prepare import Samples

# Articles of the seed are those of MODEL's trial runs; scales come from others.
SEED, CALIBRATION_SEED = 0, 1


@dataclass(frozen=True)
class Precision:
    """`engine` over the preset's; None takes an argument away. `eager`: nothing is compiled, which saves a
    minute where no speed is measured."""

    name: str
    engine: dict[str, Any]
    static: bool = False
    eager: bool = True


OWN_PATH = {"worker_extension_cls": None}
EXTENDED = {"worker_extension_cls": hopper.EXTENSION}
# In order of use: the first is what the others are compared with.
PRECISIONS = (
    Precision("bf16", {**OWN_PATH, "quantization": None, "kv_cache_dtype": "auto"}),
    Precision("fp8-static", {**EXTENDED, "quantization": "fp8"}, static=True, eager=False),
    Precision("fp8-vllm", {**OWN_PATH, "quantization": "fp8"}),
    Precision("fp8-dynamic", {**EXTENDED, "quantization": "fp8"}, eager=False),
    Precision("int8", {**OWN_PATH, "quantization": "int8", "kv_cache_dtype": "auto"}),
    Precision("fp8-static-vllm", {**OWN_PATH, "quantization": "fp8"}, static=True),
)
BY_NAME = {precision.name: precision for precision in PRECISIONS}


def samples_of(given: argparse.Namespace, path: Path, count: int) -> Samples:
    # An answer is read as a prompt, too, behind which vLLM gives one token.
    longest = min(rules.MAX_MODEL_LEN, positions_of(given.model)) - rules.MAX_NEW_TOKENS - 1
    return prepare.prepare(path, given.model, given.cache_dir, count, False, longest, use_cache=False)


def positions_of(model: Path) -> int:
    return int(json.loads((model / "config.json").read_text())["max_position_embeddings"])


def articles_of(source: Path | None, count: int, seed: int, file: Path) -> Path:
    """`count` articles in `file`: those of `source`, and synthetic ones behind them."""
    lines = source.read_text(encoding="utf-8").splitlines()[:count] if source else []
    rows = (grammar.article(seed, index) for index in range(count - len(lines)))
    lines += [json.dumps({"article": row.article, "highlights": row.reference}) for row in rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def make_scales(given: argparse.Namespace) -> None:
    """As a run makes them; the weights go unhashed, as no run is to take the file."""
    began = time.monotonic()
    file = articles_of(
        given.calibration, given.calibration_count, CALIBRATION_SEED, given.out / "calibration.jsonl"
    )
    samples = samples_of(given, file, given.calibration_count)
    prompts = [samples.prompt(index) for index in range(samples.count)]
    articles = Provided(source="file" if given.calibration else "synthetic", sha256=digest(file))
    wanted = scales.identity("0" * 64, given.model, articles, prompts)
    record = scales.make(given.model, wanted, prompts, os.environ, lambda done, total: None)
    records.write(record, given.out / records.Scales.FILE)
    print(f"scales from {len(prompts)} prompts in {time.monotonic() - began:.1f} s", flush=True)


def settings_of(given: argparse.Namespace, precision: Precision) -> EngineSettings:
    """What the pipeline asks vLLM for."""
    preset = load_preset(given.preset)
    # Log probabilities of whole prompts take memory beside the cache.
    engine = {
        **preset.engine,
        **precision.engine,
        "gpu_memory_utilization": given.memory,
        "dtype": "bfloat16",
    }
    if given.preset == CPU:
        engine.pop("gpu_memory_utilization")
    if precision.eager:
        engine["enforce_eager"] = True
        engine.pop("compilation_config", None)
    engine = {name: value for name, value in engine.items() if value is not None}
    preset = Preset(preset.name, engine, preset.environment, preset.scenarios)
    longest = min(rules.MAX_MODEL_LEN, positions_of(given.model))
    file = (given.scales or given.out / records.Scales.FILE) if precision.static else None
    return engine_settings(
        config.load({}, {}), preset, NONE, ModelFacts(str(given.model), longest),
        on_gpu=given.preset != CPU, cpu_threads=len(os.sched_getaffinity(0)), scales=file,
    )  # fmt: skip


class Measured:
    """One engine; its answers and log probabilities by article."""

    def __init__(self, given: argparse.Namespace, precision: Precision) -> None:
        wanted = settings_of(given, precision)
        self.engine = VllmEngine(wanted.arguments, given.cache_dir, wanted.environment)
        self.offline = wanted.scenarios[rules.OFFLINE]
        self.stop_ids = list(models.stop_ids(given.model))
        self._serial = 0

    async def run(self, prompts: list[list[int]], forced: list[list[int]] | None) -> dict[str, Any]:
        """`forced`: answers to read; None: this engine's own."""
        info = await self.engine.start(lambda message: print(message, flush=True))
        await self.engine.set_limits(self.offline.max_num_seqs, self.offline.prefill_tokens)
        await self.engine.set_pacing(self.offline.pacing)
        answers = await asyncio.gather(*(self._answer(prompt) for prompt in prompts))
        tokens = forced or [answer["tokens"] for answer in answers]
        pairs = zip(prompts, tokens, strict=True)
        read = await asyncio.gather(*(self._read(prompt, answer) for prompt, answer in pairs))
        await self.engine.close()
        return {
            "engine": {**info.settings, **info.details, "version": info.version, "load_s": info.load_s},
            "answers": [answer["tokens"] for answer in answers],
            "decoded": [answer["logprobs"] for answer in answers],
            "forced": read,
        }

    async def _generate(self, prompt: list[int], **parameters: Any) -> Any:
        from vllm import SamplingParams

        self._serial += 1
        greedy = SamplingParams(temperature=0.0, detokenize=False, **parameters)
        outputs = self.engine._llm.generate(
            compat.tokens_input(list(prompt)), greedy, request_id=f"accuracy-{self._serial}"
        )
        return [output async for output in outputs][-1]

    async def _answer(self, prompt: list[int]) -> dict[str, Any]:
        limits = {"max_tokens": rules.MAX_NEW_TOKENS, "min_tokens": rules.MIN_NEW_TOKENS}
        output = await self._generate(prompt, logprobs=0, stop_token_ids=self.stop_ids, **limits)
        completion = output.outputs[0]
        tokens = list(completion.token_ids)
        steps = zip(tokens, completion.logprobs, strict=True)
        return {"tokens": tokens, "logprobs": [step[token].logprob for token, step in steps]}

    async def _read(self, prompt: list[int], answer: list[int]) -> list[float]:
        output = await self._generate([*prompt, *answer], prompt_logprobs=0, max_tokens=1)
        steps = output.prompt_logprobs[len(prompt) :]
        return [step[token].logprob for token, step in zip(answer, steps, strict=True)]


def measure(given: argparse.Namespace) -> None:
    """One precision, in this process."""
    samples = samples_of(given, given.out / "articles.jsonl", given.count)
    prompts = [samples.prompt(index) for index in range(samples.count)]
    base = given.out / f"{PRECISIONS[0].name}.json"
    forced = None if given.one == PRECISIONS[0].name else json.loads(base.read_text())["answers"]
    measured = asyncio.run(Measured(given, BY_NAME[given.one]).run(prompts, forced))
    (given.out / f"{given.one}.json").write_text(json.dumps(measured))


def in_child(given: argparse.Namespace, name: str, seconds: float) -> str | None:
    """Why a precision gave nothing; None where it did. Its memory is free again behind it."""
    began = time.monotonic()
    command = [sys.executable, __file__, *sys.argv[1:], "--one", name]
    with (given.out / f"{name}.log").open("w") as log:
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = child.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"cut off after {seconds:.0f} s"
        finally:
            # vLLM's own processes, which would keep the card's memory, too.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    print(f"{name}: {time.monotonic() - began:.1f} s, exit code {code}", flush=True)
    return None if code == 0 else f"exit code {code}: {last_error(given.out / f'{name}.log')}"


def last_error(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if "Error" in line]
    return lines[-1][-240:] if lines else "no word"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--articles", type=Path, help="JSON Lines; where too few, synthetic ones follow")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--scales", type=Path, help="a run's scales.json; default: made here")
    parser.add_argument("--calibration", type=Path, help="JSON Lines to make scales from")
    parser.add_argument("--calibration-count", type=int, default=200)
    parser.add_argument("--precisions", default=",".join(BY_NAME), help="with commas")
    parser.add_argument("--preset", default="h100")
    parser.add_argument("--memory", type=float, default=0.85, help="vLLM's share of the card")
    parser.add_argument("--budget-s", type=float, default=1e9, help="nothing goes on beyond")
    parser.add_argument("--cache-dir", type=Path, default=os.environ.get("MLPERF_CACHE_DIR", "/tmp/cache"))
    parser.add_argument("--one", choices=BY_NAME, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure_all(given: argparse.Namespace) -> None:
    """Each precision in a process of its own, and the table."""
    # Told to stop, it ends its child first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    ends = time.monotonic() + given.budget_s
    given.out.mkdir(parents=True, exist_ok=True)
    articles_of(given.articles, given.count, SEED, given.out / "articles.jsonl")
    names = [PRECISIONS[0].name, *(n for n in given.precisions.split(",") if n != PRECISIONS[0].name)]
    if not given.scales and any(BY_NAME[name].static for name in names):
        make_scales(given)
    failed = {}
    for name in names:
        left = ends - time.monotonic()
        reason = in_child(given, name, min(left, 1e6)) if left > 0 else "no time was left"
        if reason:
            failed[name] = reason
            print(f"{name}: {reason}", flush=True)
        # A call that is cut off leaves what was measured.
        accuracy_table.write(given.out, given.model, given.cache_dir, names, failed)
    print(accuracy_table.table(json.loads((given.out / accuracy_table.FILE).read_text())), flush=True)


def main() -> None:
    given = arguments()
    if given.one:
        measure(given)
    else:
        measure_all(given)


if __name__ == "__main__":
    main()

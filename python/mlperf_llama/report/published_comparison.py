"""What a run is compared with: published results, and the limit of its own GPU."""

from __future__ import annotations

from .. import rules
from ..machine import expected, roofline
from ..machine.expected import Expected
from ..machine.gpu_table import GpuSpec, find_gpu
from . import published
from .blocks import NOTHING, Block, Table, Text, number
from .run import Run

GPU_LIMIT_HEADS = (
    "precision",
    "what binds",
    "limit",
    "at sustained clocks",
    "without overlap",
    "expected",
    "this run reached",
)


def published_results(run: Run) -> list[Block]:
    """Where the run stands among published results, per device; or why it stands nowhere."""
    if run.not_eligible():
        return [
            Text(
                "Not set beside published results: only eligible runs of the real model on the real set are."
            )
        ]
    return [_scenario(run, name) for name in run.scenarios]


def _scenario(run: Run, name: str) -> Block:
    reasons = published.why_not(run, name)
    performance = run.scenarios[name].performance
    if reasons or performance is None:
        return Text(f"{name} is not set beside published results. {' '.join(reasons)}")
    others = published.best_of_each_device(published.comparable(rules.benchmark_name(run.category), name))
    if not others:
        return Text(f"{name}: no throughput was published for it.")
    rate = performance.samples_per_second / run.gpus_used
    lines = [(p.per_device or 0.0, _published_row(p)) for p in others]
    lines.append((rate, ("this run", run.gpus[0].name, NOTHING, number(rate), number(rate * 128, 0), "")))
    rows = tuple(row for _, row in sorted(lines, key=lambda line: line[0], reverse=True))
    heads = ("who", "device", "round", "samples/s per device", "× 128", "with")
    note = "The best published result of each device; samples/s × 128 is the one fair unit in tokens."
    return Table(heads, rows, "lllrrl", f"Beside published results, {name}", note)


def _published_row(p: published.Published) -> tuple[str, ...]:
    rate = p.per_device or 0.0
    who = p.submitter or ("not submitted" if p.division == "unsubmitted" else "published")
    return (who, p.device, p.round or NOTHING, number(rate), number(rate * 128, 0), p.framework)


def gpu_limit(run: Run) -> list[Block]:
    """What share of the GPU's limit Offline reached, and what binds."""
    offline = run.scenarios.get(rules.OFFLINE)
    if not run.gpus_used or offline is None or offline.performance is None:
        return []
    if not published.has_the_shape(run.provenance.model):
        return [Text("No roofline: the model has not the shape of Llama-3.1-8B.")]
    gpu = find_gpu(run.gpus[0])
    precision = roofline.precision_of(run.engine_settings, gpu)
    if gpu is None or precision is None:
        missing = "the card's data sheet" if gpu is None else "the engine's precision"
        return [Text(f"No roofline: {missing} is not in the table.")]
    rate = offline.performance.samples_per_second / run.gpus_used
    kernels = expected.kernels_of(run.engine_settings)
    rows = [
        _limit_row(limit, expected.offline(gpu, name, kernels), rate if name == precision else None)
        for name in dict.fromkeys((precision, "fp16", "int8", "fp8-kv8"))
        if (limit := _limit(run, gpu, name))
    ]
    prompt = f"{roofline.PROMPT_MEAN:g} tokens"
    note = f"Samples/s of one {gpu.name} by its data sheet; prompts of {prompt} on average."
    note += " Expected: what known runs reached of the limit without overlap."
    if speed := expected.offline(gpu, precision, kernels):
        note += f" At {precision}: {speed.source}."
    return [Table(GPU_LIMIT_HEADS, tuple(rows), "llrrrrr", "Against the card's limit (Offline)", note)]


def _limit(run: Run, gpu: GpuSpec, precision: str) -> roofline.Prediction | None:
    max_num_seqs = run.engine.settings.get("max_num_seqs")
    return roofline.predict(
        gpu,
        roofline.PRECISIONS[precision],
        max_num_seqs=max_num_seqs if isinstance(max_num_seqs, int) else None,
    )


def _limit_row(limit: roofline.Prediction, speed: Expected | None, rate: float | None) -> tuple[str, ...]:
    """`rate`: this run's samples/s of one GPU, where it ran at this precision."""
    reached = f"{100 * limit.share(rate):.0f}%" if rate is not None else NOTHING
    sustained = number(limit.sustained) if limit.sustained else NOTHING
    likely = speed.words.removesuffix(" samples/s") if speed else NOTHING
    speeds = (number(limit.limit), sustained, number(limit.serial), likely)
    return (limit.precision, limit.binds, *speeds, reached)

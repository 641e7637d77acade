"""A run against the limit of its own GPU."""

from __future__ import annotations

from .. import rules
from ..machine import expected, roofline
from ..machine.expected import Expected
from ..machine.gpu_table import GpuSpec, find_gpu
from . import published, roofline_chart
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


def blocks(run: Run) -> list[Block]:
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
    title = "Against the card's limit (Offline)"
    table = Table(GPU_LIMIT_HEADS, tuple(rows), "llrrrrr", title, note, folded=True)
    limit = _limit(run, gpu, precision)
    return [roofline_chart.chart(gpu, limit, rate), table] if limit and rate > 0 else [table]


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
    likely = speed.figures if speed else NOTHING
    speeds = (number(limit.limit), sustained, number(limit.serial), likely)
    return (limit.precision, limit.binds, *speeds, reached)

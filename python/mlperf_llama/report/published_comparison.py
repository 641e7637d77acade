"""What a run stands beside: published results, and the limit of its own card."""

from __future__ import annotations

from .. import rules
from ..machine import roofline
from ..machine.gpu_table import find_gpu
from ..records.schema import Gpu
from . import published
from .blocks import NOTHING, Block, Table, Text, number
from .record import Record, mapping


def published_results(record: Record) -> list[Block]:
    """Where the run stands among published results, per device; or why it stands nowhere."""
    if record.not_eligible():
        return [
            Text(
                "Not set beside published results: only eligible runs of the real model on the real set are."
            )
        ]
    blocks: list[Block] = []
    for name, found in record.scenarios.items():
        reasons = published.why_not(record, name)
        if reasons:
            why = " ".join(reasons)
            blocks.append(Text(f"{name} is not set beside published results. {why}"))
            continue
        mine = found["performance"]["samples_per_second"] / record.gpus_used
        others = published.best_of_each_device(
            published.comparable(rules.benchmark_name(record.category), name)
        )
        if not others:
            blocks.append(Text(f"{name}: no throughput was published for it."))
            continue
        lines = [(p.per_device or 0.0, _published_row(p)) for p in others]
        device = str(record.gpus[0].get("name"))
        lines.append((mine, ("this run", device, NOTHING, number(mine), number(mine * 128, 0), "")))
        rows = tuple(row for _, row in sorted(lines, key=lambda line: line[0], reverse=True))
        heads = ("who", "device", "round", "samples/s a device", "× 128", "with")
        note = "The best published result of each device; samples/s × 128 is the one fair unit in tokens."
        blocks.append(Table(heads, rows, "lllrrl", f"Beside published results, {name}", note))
    return blocks


def _published_row(p: published.Published) -> tuple[str, ...]:
    rate = p.per_device or 0.0
    who = p.submitter or ("not submitted" if p.division == "unsubmitted" else "published")
    return (who, p.device, p.round or NOTHING, number(rate), number(rate * 128, 0), p.framework)


def card_limit(record: Record) -> list[Block]:
    """What share of the card's limit Offline reached, and what binds."""
    performance = mapping(record.scenarios.get(rules.OFFLINE, {}).get("performance"))
    speed = performance.get("samples_per_second")
    if not record.gpus_used or not isinstance(speed, int | float):
        return []
    if not published.has_the_shape(mapping(record.provenance.get("model"))):
        return [Text("No roofline: the model has not the shape of Llama-3.1-8B.")]
    first = record.gpus[0]
    card = find_gpu(
        Gpu(name=str(first.get("name")), memory_gib=first.get("memory_gib"), mig=first.get("mig"))
    )
    settings = mapping(record.engine.get("settings"))
    precision = roofline.precision_of({**record.config, **settings}, card)
    if card is None or precision is None:
        missing = "the card's data sheet" if card is None else "the engine's precision"
        return [Text(f"No roofline: {missing} is not in the table.")]
    rows = []
    for name in dict.fromkeys((precision, "fp16", "int8", "fp8-kv8")):
        found = roofline.predict(card, roofline.PRECISIONS[name], max_num_seqs=settings.get("max_num_seqs"))
        if found is None:
            continue
        reached = f"{100 * found.share(speed / record.gpus_used):.0f}%" if name == precision else NOTHING
        measured = number(found.sustained) if found.sustained else NOTHING
        rows.append((name, found.binds, number(found.limit), measured, number(found.serial), reached))
    heads = ("precision", "what binds", "limit", "at sustained clocks", "without overlap", "this run reached")
    prompt = f"{roofline.PROMPT_MEAN:g} tokens"
    note = f"Samples/s of one {card.name} by its data sheet; prompts of {prompt} on average."
    if card.name == "A30":
        note += " An earlier private run on an A30 measured 3.40 samples/s at fp16."
    return [Table(heads, tuple(rows), "llrrrr", "Against the card's limit (Offline)", note)]

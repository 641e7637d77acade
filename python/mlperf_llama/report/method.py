"""The report's second and third part: how it was done, and where everything lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config import current_names
from ..machine import gpus
from ..records.schema import Gpu
from ..settings import TABLE
from . import charts
from .answer import checks
from .blocks import Block, Section, Table, Text, number, word
from .record import Record, mapping

FILES = {
    "results.json": "the numbers",
    "verdict.json": "submittable or not, and every check",
    "provenance.json": "dataset, model, round, every rung tried",
    "tuning.json": "every load and setting tried, with forecasts",
    "config.json": "the settings, resolved",
    "system.json": "host, GPU, driver, versions, commit",
    "events.jsonl": "progress over time",
    "run.log": "the engine's and LoadGen's output",
    "report.html": "this report with charts",
}
WARN_COUNTERS = {
    "preemptions": "Requests were computed twice: lower MAX_NUM_SEQS or raise GPU_MEMORY_UTILIZATION.",
}


def _pairs(title: str, pairs: Mapping[str, Any], folded: bool = False) -> Table:
    rows = tuple((key, word(value)) for key, value in pairs.items() if value not in (None, "", [], {}))
    return Table(("", ""), rows, "ll", title, folded=folded)


def _served(record: Record, kind: str) -> list[Block]:
    """Which rung served, what it is, and every rung tried with its reason."""
    part = mapping(record.provenance.get(kind))
    known = {
        "served by": part.get("source"),
        "path": part.get("path"),
        "SHA-256": part.get("sha256"),
        "rows": part.get("rows"),
        "revision": part.get("revision"),
        "eligible": part.get("eligible"),
        "why not eligible": part.get("reason"),
        **{k: v for k, v in mapping(part.get("details")).items() if not isinstance(v, dict | list)},
    }
    blocks: list[Block] = [_pairs(kind.capitalize(), known)]
    attempts = [a for a in part.get("attempts") or [] if isinstance(a, dict)]
    rows = tuple(
        (word(a.get("rung")), word(a.get("outcome")), number(a.get("seconds"), 1), word(a.get("reason")))
        for a in attempts
    )
    if rows:
        heads = ("rung", "outcome", "seconds", "why it was left")
        blocks.append(Table(heads, rows, "llrl", f"Rungs tried for the {kind}, in order"))
    else:
        blocks.append(Text(f"No rung was tried for the {kind}.", "warn"))
    return blocks


def changed_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that are not at their defaults."""
    found = {}
    config = current_names(config)
    for setting in TABLE:
        name = setting.name.lower()
        default = setting.read(setting.default)
        given = config.get(name, default)
        given = tuple(given) if isinstance(given, list) else given
        if given != default:
            found[setting.name] = given
    return found


def _system(record: Record) -> list[Block]:
    host = record.system
    cpu, memory = mapping(host.get("cpu")), mapping(host.get("memory"))
    system, machine = mapping(host.get("os")), mapping(host.get("machine"))
    git, container = mapping(host.get("git")), mapping(host.get("container"))
    first = record.gpus[0] if record.gpus else {}
    commit = git.get("commit")
    known = {
        "GPU": gpus.summary([Gpu(name=str(gpu.get("name"))) for gpu in record.gpus]),
        "GPU memory": f"{first['memory_gib']} GiB each" if first.get("memory_gib") else None,
        "driver, CUDA": ", ".join(str(first[k]) for k in ("driver", "cuda") if first.get(k)),
        "power limit": f"{first['power_limit_w']} W" if first.get("power_limit_w") else None,
        "machine": " ".join(str(v) for v in machine.values() if v),
        "CPU": cpu.get("model"),
        "sockets, cores, threads": ", ".join(word(cpu.get(k)) for k in ("sockets", "cores", "threads"))
        if cpu
        else None,
        "memory": f"{memory['total_gib']} GiB" if memory.get("total_gib") else None,
        "system": " ".join(str(v) for v in (system.get("name"), system.get("kernel")) if v),
        "in a container": container.get("inside"),
        "image": container.get("image_id"),
        "commit": f"{commit}{' with local changes' if git.get('dirty') else ''}" if commit else None,
    }
    blocks: list[Block] = [_pairs("System", known)]
    versions = mapping(host.get("packages"))
    if versions:
        blocks.append(_pairs("Package versions", versions, folded=True))
    return blocks


def _stages(record: Record) -> list[Block]:
    rows = []
    for stage, events in charts.by_stage(record.events).items():
        last = next((e for e in reversed(events) if e.get("done") is not None), {})
        amount = f"{last.get('done')} of {last.get('total')} {last.get('unit', '')}".strip() if last else ""
        rows.append((stage, number(events[-1]["at"] - events[0]["at"], 1), word(amount)))
    if not rows:
        return []
    note = "From the stage's first event to its last."
    return [Table(("stage", "seconds", "done"), tuple(rows), "lrl", "Where the time went", note)]


def _warnings(record: Record) -> list[Block]:
    """Last, each with a remedy."""
    found = []
    counters = [mapping(record.results.get("counters"))]
    for scenario in record.scenarios.values():
        counters += [mapping(mapping(part).get("counters")) for part in scenario.values()]
    for name, remedy in WARN_COUNTERS.items():
        total = sum(c[name] for c in counters if isinstance(c.get(name), int | float))
        if total > 0:
            found.append(f"{name}: {total:g}. {remedy}")
    if mapping(record.system.get("git")).get("dirty"):
        found.append(
            "The code had changes that no commit holds: commit them, so that the run can be repeated."
        )
    return [Text(text, "warn") for text in found]


def how(record: Record) -> Section:
    engine = record.engine
    known = {
        "engine": " ".join(str(engine[k]) for k in ("name", "version") if engine.get(k)),
        "loaded in": f"{number(engine.get('load_s'), 1)} s" if engine.get("load_s") is not None else None,
        "round": record.round,
        "LoadGen": record.provenance.get("loadgen_version"),
        "category": record.category,
        "samples": record.provenance.get("samples"),
        "shortest duration": f"{record.provenance['duration_s']:g} s"
        if isinstance(record.provenance.get("duration_s"), int | float)
        else None,
        "started": record.results.get("started"),
        "finished": record.results.get("finished"),
    }
    blocks: list[Block] = [
        *charts.latencies(record),
        *charts.over_time(record),
        _pairs("Engine and run", known),
    ]
    settings = mapping(engine.get("settings"))
    if settings:
        blocks.append(_pairs("Engine settings, as used", settings, folded=True))
    changed = changed_settings(record.config) if record.config else {}
    if changed:
        blocks.append(_pairs("Settings that are not at their defaults", changed))
    blocks += [*_served(record, "model"), *_served(record, "dataset"), *_system(record), *_stages(record)]
    rows = tuple(
        (word(c.get("name")), "passed" if c.get("passed") is True else "failed", word(c.get("detail")))
        for c in checks(record)
    )
    if rows:
        blocks.append(Table(("check", "", "found"), rows, "lll", f"All {len(rows)} checks", folded=True))
    return Section("How it was done", (*blocks, *_warnings(record)))


def where(record: Record) -> Section:
    """Files that are there, beside the report; no absolute path, so that a folder can be moved."""
    rows = [(name, text) for name, text in FILES.items() if (record.path / name).exists()]
    for scenario in record.scenarios:
        for log in sorted((record.path / scenario).rglob("mlperf_log_summary.txt")):
            folder = log.parent.relative_to(record.path)
            rows.append((str(folder) + "/", f"LoadGen's logs: {_mode(folder)}"))
    again = Text(
        "To score, judge or draw again without a GPU: `make report`. "
        "To set two runs side by side: `make compare A= B=`."
    )
    return Section("Where it lies", (Table(("file", "what"), tuple(rows), "ll"), again))


def _mode(folder: Path) -> str:
    return next((p for p in folder.parts if p in ("performance", "accuracy", "TEST06")), folder.name)

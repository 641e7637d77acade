"""The report's second and third part: how it was done, and where everything lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..config import Config
from ..loadgen import logs
from ..machine import gpus
from ..records import codec
from ..records.events import FILE as EVENTS
from ..records.files import JsonObject
from ..records.run_folder import TUNING
from ..records.scales import Scales
from ..records.schema import Gpu, Provenance, Provided, Results, System, Verdict
from ..settings import TABLE
from .answer import checks
from .blocks import Block, Section, Table, Text, time, word
from .events import by_stage
from .run import Run

FILES = {
    Results.FILE: "the numbers",
    Verdict.FILE: "submittable or not, and every check",
    Provenance.FILE: "dataset, model, round, every source tried",
    TUNING: "every load and setting tried, with forecasts",
    Scales.FILE: "FP8's static scales, and what they were made of",
    Config.FILE: "the settings, resolved",
    System.FILE: "host, GPU, driver, versions, commit",
    EVENTS: "progress over time",
    "run.log": "the engine's and LoadGen's output",
    "report.html": "this report with charts",
}
WARN_COUNTERS = {
    "preemptions": "Requests were computed twice: lower MAX_NUM_SEQS or raise GPU_MEMORY_UTILIZATION.",
}


def _pairs(title: str, pairs: Mapping[str, object], folded: bool = False) -> Table:
    rows = tuple((key, word(value)) for key, value in pairs.items() if value not in (None, "", [], {}, ()))
    return Table(("", ""), rows, "ll", title, folded=folded)


def _provided(kind: str, provided: Provided) -> list[Block]:
    """Which source served, what it is, and every source tried with its reason."""
    details = provided.details or {}
    facts = {
        "source": provided.source,
        "path": provided.path,
        "SHA-256": provided.sha256,
        "rows": provided.rows,
        "revision": provided.revision,
        "eligible": provided.eligible,
        "why not eligible": provided.reason,
        **{k: v for k, v in details.items() if not isinstance(v, dict | list)},
    }
    blocks: list[Block] = [_pairs(kind.capitalize(), facts)]
    rows = tuple((a.rung, a.outcome, time(a.seconds), word(a.reason)) for a in provided.attempts)
    if rows:
        heads = ("source", "outcome", "time", "reason")
        blocks.append(Table(heads, rows, "llrl", f"Sources of the {kind}, in the order tried"))
    else:
        blocks.append(Text(f"No source was tried for the {kind}.", "warn"))
    return blocks


def changed_settings(config: Config) -> JsonObject:
    """Settings that are not at their defaults."""
    values = {setting.name: getattr(config, setting.name.lower()) for setting in TABLE}
    return {s.name: values[s.name] for s in TABLE if values[s.name] != s.read(s.default)}


def _system(run: Run) -> list[Block]:
    system = run.system
    cpu, memory, git, container = system.cpu, system.memory, system.git, system.container
    machine = (system.machine.maker, system.machine.product)
    topology = (cpu.sockets, cpu.cores, cpu.threads)
    facts = {
        "GPU": gpus.summary(run.gpus),
        **_first_gpu(run),
        "machine": " ".join(name for name in machine if name),
        "CPU": cpu.model,
        "sockets, cores, threads": ", ".join(map(word, topology)) if any(topology) else None,
        "memory": f"{memory.total_gib} GiB" if memory.total_gib else None,
        "system": " ".join(name for name in (system.os.name, system.os.kernel) if name),
        "in a container": container.inside,
        "image": container.image_id,
        "commit": f"{git['commit']}{' with local changes' if git.get('dirty') else ''}"
        if git.get("commit")
        else None,
    }
    blocks: list[Block] = [_pairs("System", facts), *_members(run)]
    if system.packages:
        blocks.append(_pairs("Package versions", system.packages, folded=True))
    return blocks


def _members(run: Run) -> list[Block]:
    """Engines that shared the work; nothing where there was one."""
    rows = tuple(
        (
            str(member.index),
            member.host,
            ", ".join(str(gpu.index) for gpu in member.gpus),
            gpus.summary(member.gpus),
            word(member.cpus),
            time(member.load_s),
        )
        for member in run.provenance.members or ()
    )
    heads = ("member", "host", "GPU", "kind", "CPUs", "loaded in")
    return [Table(heads, rows, "llllrr", "Engines that shared the work")] if rows else []


def _first_gpu(run: Run) -> dict[str, str | None]:
    if not run.gpus:
        return {}
    first = run.gpus[0]
    return {
        "GPUs chosen by": run.system.gpu_choice,
        "GPU memory": _memory_of(first),
        "driver, CUDA": ", ".join(version for version in (first.driver, first.cuda) if version),
        "power limit": f"{first.power_limit_w} W" if first.power_limit_w else None,
    }


def _memory_of(gpu: Gpu) -> str | None:
    if gpu.memory_gib is None:
        return None
    return f"{gpu.memory_gib} GiB, {'shared with the system' if gpu.shared_memory else 'each'}"


def _stages(run: Run) -> list[Block]:
    rows = []
    for stage, events in by_stage(run.events).items():
        last = next((e.event for e in reversed(events) if "done" in e.event), None)
        done = f"{last['done']} of {last.get('total')} {last.get('unit', '')}".strip() if last else ""
        rows.append((stage, time(events[-1].at_s - events[0].at_s), word(done)))
    if not rows:
        return []
    note = "From the stage's first event to its last."
    return [Table(("stage", "time", "done"), tuple(rows), "lrl", "Time of each stage", note)]


def _warnings(run: Run) -> list[Block]:
    """Last, each with a remedy."""
    warnings = []
    parts = [p for s in run.scenarios.values() for p in (s.performance, s.accuracy, s.compliance)]
    counters = [part.counters for part in parts if part and part.counters]
    for name, remedy in WARN_COUNTERS.items():
        total = sum(values.get(name, 0) for values in counters)
        if total > 0:
            warnings.append(f"{name}: {total:g}. {remedy}")
    lost = [one for s in run.scenarios.values() for one in (s.accuracy and s.accuracy.lost_members) or ()]
    warnings += [
        f"{one.name} was lost: {one.cause}. Its {one.unfinished} unfinished samples went to the others."
        for one in lost
    ]
    if run.system.git.get("dirty"):
        warnings.append(
            "The code had changes that no commit holds: commit them, so that the run can be repeated."
        )
    elif run.system.git and not run.system.git.get("commit"):
        warnings.append("No commit is known of this code: run a git checkout, or an image built from one.")
    return [Text(text, "warn") for text in warnings]


def _seconds(value: float | None) -> str | None:
    return None if value is None else time(value)


def _engine_and_run(run: Run) -> Table:
    engine, provenance = run.engine, run.provenance
    duration_s = provenance.duration_s
    check = engine.self_check
    facts = {
        "engine": " ".join(name for name in (engine.name, engine.version) if name),
        "imported in": _seconds(engine.import_s),
        "loaded in": _seconds(engine.load_s),
        "checked in": _seconds(check.seconds if check else None),
        "first answer after": _seconds(engine.first_query_s),
        "round": run.round,
        "LoadGen": provenance.loadgen_version,
        "category": run.category,
        "samples": provenance.samples,
        "shortest duration": time(duration_s) if duration_s is not None else None,
        "started": run.results.started,
        "finished": run.results.finished,
    }
    return _pairs("Engine and run", facts)


def how(run: Run) -> Section:
    blocks: list[Block] = [_engine_and_run(run)]
    if run.engine.settings:
        blocks.append(_pairs("Engine settings, as used", run.engine.settings, folded=True))
    changed = changed_settings(run.config) if run.config else {}
    if changed:
        blocks.append(_pairs("Settings that are not at their defaults", changed))
    for kind, provided in (("model", run.provenance.model), ("dataset", run.provenance.dataset)):
        blocks += _provided(kind, provided or Provided())
    if run.provenance.calibration:
        blocks += _provided("calibration articles", run.provenance.calibration)
    if run.provenance.scales:
        blocks.append(_pairs("Scales of FP8", codec.to_json(run.provenance.scales)))
    blocks += [*_system(run), *_stages(run)]
    rows = tuple((c.name, "passed" if c.passed else "failed", word(c.detail)) for c in checks(run))
    if rows:
        blocks.append(
            Table(("check", "outcome", "result"), rows, "lll", f"All {len(rows)} checks", folded=True)
        )
    return Section("Method", (*blocks, *_warnings(run)))


def where(run: Run) -> Section:
    """Files that are there, beside the report; no absolute path, so that a folder can be moved."""
    rows = [(name, text) for name, text in FILES.items() if (run.path / name).exists()]
    for scenario in run.scenarios:
        for summary in sorted((run.path / scenario).rglob(logs.SUMMARY)):
            folder = summary.parent.relative_to(run.path)
            rows.append((str(folder) + "/", f"LoadGen's logs: {_mode(folder)}"))
    again = Text(
        "To score, judge or draw again without a GPU: `make report`. "
        "To set two runs side by side: `make compare A= B=`."
    )
    return Section("Files", (Table(("file", "what"), tuple(rows), "ll"), again))


def _mode(folder: Path) -> str:
    return next((p for p in folder.parts if p in ("performance", "accuracy", "TEST06")), folder.name)

"""Checks of what was measured twice: LoadGen's samples, tokens, seconds and dates against this package's own,
the engine's counters against both, and the speed against what the cards could do at most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from .. import rules
from ..loadgen import logs
from ..loadgen.accuracy_log import Response
from ..machine import roofline
from ..machine.gpu_table import GpuSpec, find_gpu
from ..records.schema import Accuracy, Check, Compliance, Driven, Performance
from . import performance
from .check import check
from .evidence import Evidence, ModeLogs, ScenarioEvidence

# Two measurements of one thing may differ by this share. Seconds also by what starting and ending take.
SHARE, SLACK_S = 0.01, 1.0
# LoadGen dates the start of its process, this package the first query.
DATE_SLACK_S = 120.0
# Cards clock above the rate that their data sheets give.
ABOVE_SHEET = 1.1
FIX_COUNT = "run again; what LoadGen, this package and the engine counted must be one run's"
FIX_CLOCK = "run again with one clock for every process, and nothing that sets it meanwhile"


@dataclass(frozen=True)
class Pair:
    """Two values of one thing, and whose they are."""

    what: str
    theirs: float | None
    ours: float

    def fault(self, slack: float = 0.0) -> str:
        if self.theirs is None:
            return f"{self.what}: not logged, here {self.ours:.10g}"
        if abs(self.theirs - self.ours) <= max(SHARE * abs(self.ours), slack):
            return ""
        return f"{self.what} {self.theirs:.10g}, here {self.ours:.10g}"


def checks(scenario: ScenarioEvidence, mode: str, log: ModeLogs, evidence: Evidence) -> list[Check]:
    """Counts and clocks of one LoadGen run."""
    part: Performance | Accuracy | Compliance | None = getattr(scenario.recorded, mode)
    driven, prefix = part.driven if part else None, f"{scenario.name}.{mode}"
    if part is None or driven is None:
        missing = "what this package counted and timed is not recorded"
        return [Check(f"{prefix}.{name}", False, missing, FIX_COUNT) for name in ("counted", "clock")]
    engine = evidence.engine_name
    counts = _engine_faults(part.counters or {}, driven, engine)
    if mode == "performance":
        counts += _loadgen_faults(log, driven)
    counts += _library_faults(driven, evidence)
    clocks = [*_clock_faults(scenario, mode, log, driven), *_date_faults(log, driven, evidence)]
    good = f"{driven.samples} samples, {driven.tokens} tokens, {driven.seconds:g} s, twice"
    return [
        check(f"{prefix}.counted", not counts, "; ".join(counts) or good, FIX_COUNT),
        check(f"{prefix}.clock", not clocks, "; ".join(clocks) or good, FIX_CLOCK),
    ]


def counted_log(prefix: str, logged: Sequence[Response], driven: Driven | None) -> Check:
    """The accuracy log holds what this package handed on."""
    if driven is None:
        return Check(f"{prefix}.handed_on", False, "what this package counted is not recorded", FIX_COUNT)
    pairs = [
        Pair("responses in the log", len(logged), driven.samples),
        Pair("tokens in the log", sum(len(r.tokens) for r in logged), driven.tokens),
    ]
    faults = [fault for pair in pairs if (fault := pair.fault())]
    good = f"{driven.samples} responses of {driven.tokens} tokens"
    return check(f"{prefix}.handed_on", not faults, "; ".join(faults) or good, FIX_COUNT)


def _loadgen_faults(log: ModeLogs, driven: Driven) -> list[str]:
    """LoadGen's samples and tokens, out of the rates that it logs."""
    samples = (log.number("result_query_count") or 0) * (log.number("generated_samples_per_query") or 0)
    mean = performance.mean_tokens(log)
    pairs = [
        Pair("LoadGen's samples", samples, driven.samples),
        Pair("LoadGen's tokens", None if mean is None else mean * samples, driven.tokens),
    ]
    return [fault for pair in pairs if (fault := pair.fault())]


def _engine_faults(counters: Mapping[str, float], driven: Driven, engine: str | None) -> list[str]:
    """The engine's counters: it must have computed every prompt, and every token but the last of each."""
    pairs = [
        Pair(f"the engine's {name}", counters[name], ours)
        for name, ours in (("requests", driven.samples), ("generation_tokens", driven.tokens))
        if name in counters
    ]
    faults = [fault for pair in pairs if (fault := pair.fault())]
    scheduled = counters.get("scheduled_tokens")
    if scheduled is None:
        return faults if pairs or engine == "fake" else [*faults, "the engine counted nothing"]
    least = driven.prompt_tokens + driven.tokens - driven.samples
    if scheduled < (1 - SHARE) * least:
        faults.append(f"the engine computed {scheduled:.10g} tokens, prompts and answers have {least}")
    return faults


def _library_faults(driven: Driven, evidence: Evidence) -> list[str]:
    """LoadGen's process loaded the library that was checked against its wheel."""
    packages = [p for process in evidence.environment.processes for p in process.packages]
    checked = {p.file for p in packages if p.name == "mlperf_loadgen"}
    return [] if driven.loadgen in checked else [f"LoadGen from {driven.loadgen or 'an unknown file'}"]


def _clock_faults(scenario: ScenarioEvidence, mode: str, log: ModeLogs, driven: Driven) -> list[str]:
    pairs = [
        Pair("LoadGen's seconds", log.detail.measured_s if log.detail else None, driven.seconds),
        Pair("wall-clock seconds", driven.wall_seconds, driven.seconds),
    ]
    if mode == "performance" and scenario.name == rules.OFFLINE:
        latency_ns = log.number("result_max_latency_ns")
        pairs.append(
            Pair(
                "LoadGen's longest latency", None if latency_ns is None else latency_ns / 1e9, driven.seconds
            )
        )
    return [fault for pair in pairs if (fault := pair.fault(SLACK_S))]


def _date_faults(log: ModeLogs, driven: Driven, evidence: Evidence) -> list[str]:
    """LoadGen's date against ours, and ours within the run's own begin and end."""
    theirs, ours = _date(log.get("test_datetime")), _date(driven.began)
    if ours is None or theirs is None:
        return [f"LoadGen's date {log.get('test_datetime')}, here {driven.began}"]
    faults = []
    if abs((theirs - ours).total_seconds()) > DATE_SLACK_S:
        faults.append(f"LoadGen's date {theirs.isoformat()}, here {ours.isoformat()}")
    began, ended = _date(evidence.results.started), _date(evidence.results.finished)
    if (began and ours < began) or (ended and ours > ended):
        faults.append(f"began {ours.isoformat()}, outside of the run's {began} to {ended}")
    return faults


def _date(text: object) -> datetime | None:
    """A time in UTC; one without a zone is taken as UTC."""
    try:
        date = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def roofline_limit(scenario: ScenarioEvidence, evidence: Evidence) -> Check:
    """No faster than the cards' data sheets allow, all of them together."""
    name = f"{scenario.name}.roofline"
    rate = scenario.performance.number(logs.SAMPLES_PER_SECOND[scenario.name])
    cards = [find_gpu(gpu) for gpu in evidence.system.gpus]
    known = [card for card in cards if card is not None]
    recorded = scenario.recorded.performance
    driven = recorded.driven if recorded else None
    if not known or len(known) < len(cards) or driven is None or rate is None or not driven.samples:
        return check(name, True, "no limit is known of what this ran on", "")
    settings = (scenario.recorded.engine_settings or {}).get("performance") or (
        evidence.results.engine.settings if evidence.results.engine else {}
    )
    limit = sum(_limit(card, settings, driven) for card in known)
    detail = f"{rate:.6g} samples/s, the limit of {len(known)} x {known[0].name} is {limit:.6g}"
    return check(
        name,
        rate <= limit * ABOVE_SHEET,
        detail,
        "run again; nothing computes the model faster than the card's data sheet allows",
    )


def _limit(card: GpuSpec, settings: Mapping[str, object], driven: Driven) -> float:
    """Samples per second at the precision that the engine used; at the fastest where it is not known."""
    mean = driven.prompt_tokens / driven.samples
    prompt = (mean, roofline.PROMPT_SD * mean / roofline.PROMPT_MEAN)
    used = roofline.precision_of(settings, card)
    precisions = [roofline.PRECISIONS[used]] if used else list(roofline.PRECISIONS.values())
    answer = max(1, round(driven.tokens / driven.samples))
    predictions = (roofline.predict(card, p, prompt=prompt, new_tokens=answer) for p in precisions)
    return max((p.limit for p in predictions if p), default=float("inf"))

"""Reads LoadGen's detail log. Validity and every figure come from there; none is recomputed.

Each line is `:::MLLOG ` and a JSON object with key, value and metadata. Key names:
mlcommons/inference loadgen/results.cc and test_settings_internal.cc.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .. import rules
from ..errors import BrokeError, MissingError
from ..records.files import refuse_other_than_file
from ..records.schema import Performance

DETAIL, SUMMARY, ACCURACY = "mlperf_log_detail.txt", "mlperf_log_summary.txt", "mlperf_log_accuracy.json"
MARK = ":::MLLOG "
# What every line begins with where MLPerf Endpoints made the log.
ENDPOINTS_MARK = ":::ENDPTS"
# LoadGen writes these as often as it has something to say; of another key MLCommons' parser takes the first.
REPEATED = ("generic_message", "warning_", "error_")
POWER_TIME = "%m-%d-%Y %H:%M:%S.%f"
SAMPLES_PER_SECOND = {
    rules.OFFLINE: "result_samples_per_second",
    rules.SERVER: "result_completed_samples_per_sec",
    rules.INTERACTIVE: "result_completed_samples_per_sec",
    rules.SINGLE_STREAM: "result_qps_with_loadgen_overhead",
}
TTFT_P99 = "result_first_token_99.00_percentile_latency_ns"
TPOT_P99 = "result_time_per_output_token_99.00_percentile_ns"
LATENCY_P90 = "result_90.00_percentile_latency_ns"


@dataclass(frozen=True)
class Detail(Mapping[str, object]):
    """The last value of every key, and each error's and warning's text in order.

    `faults`: what keeps the log from being one that LoadGen wrote and MLCommons' parser reads as it is read
    here.
    """

    path: Path
    entries: dict[str, object]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    faults: tuple[str, ...] = ()

    def __getitem__(self, key: str) -> object:
        return self.entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def seeds(self) -> tuple[object, object, object]:
        """qsl, sample_index and schedule seeds, in the order of rules.Round."""
        qsl, index, schedule = (f"effective_{name}_rng_seed" for name in ("qsl", "sample_index", "schedule"))
        return self.need(qsl), self.need(index), self.need(schedule)

    @property
    def validity(self) -> str | None:
        """VALID or INVALID; None in accuracy mode, or when LoadGen did not come to its end."""
        return self.text("result_validity") or None

    @property
    def invalid_reasons(self) -> tuple[str, ...]:
        """LoadGen's recommendations, and the early-stopping verdicts that failed."""
        if self.validity != "INVALID":
            return ()
        texts = [self.text("result_invalid_reason")]
        if self.get("early_stopping_met") is False:
            outcomes = (self.text(f"early_stopping_{kind}result") for kind in ("", "ttft_", "tpot_"))
            texts += [text for text in outcomes if "Run successful" not in text]
        return tuple(" ".join(t.replace(" * ", " ").split()) for t in texts if t.strip())

    @property
    def measured_s(self) -> float | None:
        """Seconds between LoadGen's own marks of the timed run's begin and end; None without them."""
        try:
            begin, end = (
                datetime.strptime(self.text(key), POWER_TIME) for key in ("power_begin", "power_end")
            )
        except ValueError:
            return None
        return (end - begin).total_seconds()

    def text(self, key: str) -> str:
        """A value as text; empty where it is not in the log."""
        return str(self.get(key, ""))

    def number(self, key: str) -> float | None:
        """A value that is a number; None where it is another or not in the log."""
        value = self.get(key)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def need(self, key: str) -> object:
        """A value that a whole log has; BrokeError without it."""
        if key not in self.entries:
            raise BrokeError(
                f"{self.path}: expected {key}, found none; LoadGen did not finish, or the disk is full"
            )
        return self.entries[key]

    def need_number(self, key: str) -> float:
        """A number that a whole log has; BrokeError without it."""
        value, number = self.need(key), self.number(key)
        if number is None:
            raise BrokeError(f"{self.path}: expected a number for {key}, found {value!r}")
        return number


def read_detail(folder: Path) -> Detail:
    """Parse the detail log in `folder`. Broken lines (a killed run's last) are left out, and counted."""
    path = folder / DETAIL
    refuse_other_than_file(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise MissingError(f"{path}: expected LoadGen's detail log, found none; run LoadGen first") from None
    text = content.decode(encoding="utf-8", errors="replace")
    lines = [line.rstrip() for line in io.StringIO(text, newline=None)]
    mark = _mark(lines[0] if lines else "")
    values: dict[str, object] = {}
    errors, warnings, broken, repeated = [], [], 0, dict[str, None]()
    for line in (line for line in lines if line.startswith(mark)):
        try:
            entry = json.loads(line.removeprefix(mark))
            key, value, metadata = entry["key"], entry["value"], entry["metadata"]
            is_error, is_warning = metadata.get("is_error"), metadata.get("is_warning")
            before, values[key] = values.get(key, value), value
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            broken += 1
            continue
        if before != value and not str(key).startswith(REPEATED):
            repeated[str(key)] = None
        if is_error:
            errors.append(str(value))
        elif is_warning:
            warnings.append(str(value))
    faults = _faults(content, lines, broken, list(repeated))
    return Detail(path, values, tuple(errors), tuple(warnings), faults)


def _mark(first: str) -> str:
    return ENDPOINTS_MARK if first.startswith(ENDPOINTS_MARK) else MARK.strip()


def _faults(content: bytes, lines: list[str], broken: int, repeated: list[str]) -> tuple[str, ...]:
    """Each fault of a log in words. MLCommons' parser raises at the first three."""
    first = lines[0] if lines else ""
    if first.startswith(ENDPOINTS_MARK):
        kind = (
            f"made by MLPerf Endpoints ({ENDPOINTS_MARK}), not by LoadGen, whose logs the checks here are for"
        )
    else:
        kind = "" if first.startswith(MARK.strip()) else f"its first line does not begin with {MARK.strip()}"
    return tuple(
        fault
        for fault in (
            kind,
            "" if _is_utf8(content) else "it is not UTF-8",
            f"{broken} broken line{'s' if broken > 1 else ''}" if broken else "",
            f"{', '.join(repeated[:3])} stated twice, with other values" if repeated else "",
        )
        if fault
    )


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def performance(folder: Path, scenario: str) -> Performance:
    """The figures of a performance run. Those that do not apply are None."""
    detail = read_detail(folder)
    validity = str(detail.need("result_validity"))
    offline, single = scenario == rules.OFFLINE, scenario == rules.SINGLE_STREAM
    tokens_key = "result_tokens_per_second" if offline else "result_completed_tokens_per_second"
    return Performance(
        samples_per_second=detail.need_number(SAMPLES_PER_SECOND[scenario]),
        tokens_per_second=detail.need_number(tokens_key),
        total_time_seconds=total_time_s(detail, scenario),
        samples_processed=samples_processed(detail),
        loadgen_result=validity,
        ttft_p99_ms=None if offline else _ms(detail, TTFT_P99),
        tpot_p99_ms=None if offline else _ms(detail, TPOT_P99),
        latency_p90_ms=_ms(detail, LATENCY_P90) if single else None,
        invalid_reasons=detail.invalid_reasons,
        loadgen_errors=detail.errors,
    )


def samples_processed(detail: Detail) -> int:
    """Queries that ran, times the samples in each (Offline: one query)."""
    return int(detail.need_number("result_query_count") * detail.need_number("generated_samples_per_query"))


def total_time_s(detail: Detail, scenario: str) -> float:
    """From LoadGen's start to the last completion, in seconds."""
    if scenario == rules.OFFLINE:
        return detail.need_number("result_max_latency_ns") / 1e9
    for key in ("power_begin", "power_end"):
        detail.need(key)
    seconds = detail.measured_s
    if seconds is None:
        raise BrokeError(f"{detail.path}: expected the times power_begin and power_end, found others")
    return round(seconds, 3)


def _ms(detail: Detail, key: str) -> float:
    return detail.need_number(key) / 1e6


def last_errors(folder: Path, count: int = 3) -> list[str]:
    """The last error lines of a run that broke; empty where there is no log."""
    try:
        return list(read_detail(folder).errors[-count:])
    except MissingError:
        return []


def check_complete(folder: Path, performance_run: bool) -> Detail:
    """BrokeError unless LoadGen wrote its logs to their end (a full disk cuts them silently)."""
    detail = read_detail(folder)
    if performance_run:
        detail.need("result_validity")
    path = folder / ACCURACY
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 8))
        if not stream.read().rstrip().endswith(b"]"):
            raise BrokeError(f"{path}: expected a closed JSON list, found a cut-off file; is the disk full?")
    return detail

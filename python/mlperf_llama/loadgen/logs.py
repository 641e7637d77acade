"""Reads LoadGen's detail log. Validity and every figure come from there; none is recomputed.

Each line is `:::MLLOG ` and a JSON object with key, value and metadata. Key names:
mlcommons/inference loadgen/results.cc and test_settings_internal.cc.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from .. import rules
from ..errors import BrokeError, MissingError
from ..records.schema import Performance

DETAIL, SUMMARY, ACCURACY = "mlperf_log_detail.txt", "mlperf_log_summary.txt", "mlperf_log_accuracy.json"
MARK = ":::MLLOG "
POWER_TIME = "%m-%d-%Y %H:%M:%S.%f"
SAMPLES_PER_SECOND = {
    rules.OFFLINE: "result_samples_per_second",
    rules.SERVER: "result_completed_samples_per_sec",
    rules.INTERACTIVE: "result_completed_samples_per_sec",
    rules.SINGLE_STREAM: "result_qps_with_loadgen_overhead",
}


@dataclass(frozen=True)
class Detail(Mapping[str, Any]):
    """The last value of every key, and each error's and warning's text in order."""

    path: Path
    entries: dict[str, Any]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]

    def __getitem__(self, key: str) -> Any:
        return self.entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def effective(self) -> dict[str, Any]:
        """The settings LoadGen ran with, without their prefix."""
        return {k.removeprefix("effective_"): v for k, v in self.items() if k.startswith("effective_")}

    @property
    def seeds(self) -> tuple[int, int, int]:
        """qsl, sample_index and schedule seeds, in the order of rules.Round."""
        qsl, index, schedule = (f"effective_{name}_rng_seed" for name in ("qsl", "sample_index", "schedule"))
        return self.need(qsl), self.need(index), self.need(schedule)

    @property
    def validity(self) -> str | None:
        """VALID or INVALID; None in accuracy mode, or when LoadGen did not come to its end."""
        return self.get("result_validity")

    @property
    def invalid_reasons(self) -> tuple[str, ...]:
        """LoadGen's recommendations, and the early-stopping verdicts that failed."""
        if self.validity != "INVALID":
            return ()
        texts = [self.get("result_invalid_reason", "")]
        if self.get("early_stopping_met") is False:
            found = (self.get(f"early_stopping_{kind}result", "") for kind in ("", "ttft_", "tpot_"))
            texts += [text for text in found if "Run successful" not in text]
        return tuple(" ".join(t.replace(" * ", " ").split()) for t in texts if t.strip())

    def need(self, key: str) -> Any:
        if key not in self.entries:
            raise BrokeError(
                f"{self.path}: expected {key}, found none; LoadGen did not finish, or the disk is full"
            )
        return self.entries[key]


def read_detail(folder: Path) -> Detail:
    """Parse the detail log in `folder`. Broken lines (a killed run's last) are left out."""
    path = folder / DETAIL
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise MissingError(f"{path}: expected LoadGen's detail log, found none; run LoadGen first") from None
    values: dict[str, Any] = {}
    errors, warnings = [], []
    for line in text.splitlines():
        _, mark, body = line.partition(MARK)
        try:
            entry = json.loads(body) if mark else {}
            key, value, metadata = entry["key"], entry["value"], entry["metadata"]
        except (ValueError, KeyError):
            continue
        values[key] = value
        if metadata.get("is_error"):
            errors.append(str(value))
        elif metadata.get("is_warning"):
            warnings.append(str(value))
    return Detail(path, values, tuple(errors), tuple(warnings))


def performance(folder: Path, scenario: str) -> Performance:
    """The `performance` record of results.json. Figures that do not apply are null."""
    detail = read_detail(folder)
    validity = detail.need("result_validity")
    offline, single = scenario == rules.OFFLINE, scenario == rules.SINGLE_STREAM
    tokens_key = "result_tokens_per_second" if offline else "result_completed_tokens_per_second"
    return Performance(
        samples_per_second=detail.need(SAMPLES_PER_SECOND[scenario]),
        tokens_per_second=detail.need(tokens_key),
        total_time_seconds=total_time_s(detail, scenario),
        samples_processed=samples_processed(detail),
        loadgen_result=validity,
        ttft_p99_ms=None if offline else _ms(detail, "result_first_token_99.00_percentile_latency_ns"),
        tpot_p99_ms=None if offline else _ms(detail, "result_time_per_output_token_99.00_percentile_ns"),
        latency_p90_ms=_ms(detail, "result_90.00_percentile_latency_ns") if single else None,
        invalid_reasons=detail.invalid_reasons,
        loadgen_errors=detail.errors,
    )


def samples_processed(detail: Detail) -> int:
    """Queries that ran, times the samples in each (Offline: one query)."""
    return int(detail.need("result_query_count") * detail.need("generated_samples_per_query"))


def total_time_s(detail: Detail, scenario: str) -> float:
    """From LoadGen's start to the last completion, in seconds."""
    if scenario == rules.OFFLINE:
        return float(detail.need("result_max_latency_ns") / 1e9)
    begin, end = (datetime.strptime(detail.need(k), POWER_TIME) for k in ("power_begin", "power_end"))
    return round((end - begin).total_seconds(), 3)


def _ms(detail: Detail, key: str) -> float:
    return float(detail.need(key) / 1e6)


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

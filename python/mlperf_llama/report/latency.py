"""Latencies of a run's requests: percentiles as LoadGen takes them, distributions, goodput. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ..records.requests import Requests

Values: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.float64]]"
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
# Of a distribution: finer where the limits bind.
SHARES = np.concatenate(
    [np.arange(0, 0.9, 0.01), np.arange(0.9, 0.99, 0.002), np.arange(0.99, 1.0001, 0.0002)]
)
TTFT, TPOT, WHOLE = "TTFT", "TPOT", "end to end"


@dataclass(frozen=True)
class Latencies:
    """Milliseconds of every answered request, in the order of arrival; `ttft_ms` and `tpot_ms` are None where
    no first token was asked for (Offline). `unanswered`: requests without an answer."""

    requests: Requests
    whole_ms: Values
    ttft_ms: Values | None
    tpot_ms: Values | None
    unanswered: int

    @property
    def kinds(self) -> dict[str, Values]:
        """Those that were measured, by name."""
        named = {TTFT: self.ttft_ms, TPOT: self.tpot_ms, WHOLE: self.whole_ms}
        return {name: values for name, values in named.items() if values is not None and len(values)}


def of(requests: Requests) -> Latencies:
    """TPOT is the time after the first token over the tokens after it, as LoadGen has it (results.cc); an
    answer of one token has none, which counts as 0."""
    answered = np.isfinite(requests.arrival_s) & np.isfinite(requests.end_s)
    kept = Requests(**{name: getattr(requests, name)[answered] for name in requests.__dataclass_fields__})
    whole = 1000 * (kept.end_s - kept.arrival_s)
    first = 1000 * (kept.first_token_s - kept.arrival_s)
    streamed = len(first) > 0 and bool(np.isfinite(first).all())
    after = (whole - first) / np.maximum(1, kept.answer_tokens - 1)
    return Latencies(
        requests=kept,
        whole_ms=whole,
        ttft_ms=first if streamed else None,
        tpot_ms=after if streamed else None,
        unanswered=len(requests) - len(kept),
    )


def percentile(values: Values, percent: float) -> float:
    """LoadGen's: of the sorted values the one at count x share (results.cc), without interpolation."""
    place = min(len(values) - 1, int(len(values) * percent / 100))
    return float(np.partition(values, place)[place])


def distribution(values: Values) -> list[tuple[float, float]]:
    """(value, percent of the requests that took at most so long), rising; at most a few hundred points."""
    ordered = np.sort(values)
    places = np.unique(np.minimum(len(ordered) - 1, (SHARES * len(ordered)).astype(int)))
    return [(float(ordered[n]), 100 * (n + 1) / len(ordered)) for n in places]


def within(latencies: Latencies, limits_ms: tuple[float, float]) -> float | None:
    """The share of all requests whose TTFT and TPOT are both inside the limits; None without first tokens."""
    if latencies.ttft_ms is None or latencies.tpot_ms is None:
        return None
    good = (latencies.ttft_ms <= limits_ms[0]) & (latencies.tpot_ms <= limits_ms[1])
    return float(good.sum() / (len(good) + latencies.unanswered))


def worst(latencies: Latencies, limits_ms: tuple[float, float] | None, count: int) -> list[int]:
    """Places of the requests that came nearest to their limits, or went furthest over; without limits, of
    those that took longest."""
    score = latencies.whole_ms
    if limits_ms and latencies.ttft_ms is not None and latencies.tpot_ms is not None:
        score = np.maximum(latencies.ttft_ms / limits_ms[0], latencies.tpot_ms / limits_ms[1])
    return [int(n) for n in np.argsort(-score, kind="stable")[:count]]

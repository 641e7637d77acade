"""tuning.json: every probe, kept as soon as it has ended, so that a search can go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..records.run_folder import RunFolder
from .estimate import CONFIRM, Seen
from .forecast import Bound, Forecast

FILE = "tuning.json"


def is_tuning(run: RunFolder) -> bool:
    return run.file(FILE).is_file()


def begin(run: RunFolder, search: Sequence[str]) -> None:
    """Make a run folder a tuning's."""
    run.write_raw(FILE, {"search": list(search), "scenarios": {}})


def scenario(run: RunFolder, name: str) -> dict[str, Any]:
    return dict(run.read_raw(FILE)["scenarios"].get(name, {}))


def put(run: RunFolder, name: str, **parts: Any) -> None:
    """Replace parts of one scenario's record."""
    scenarios = dict(run.read_raw(FILE)["scenarios"])
    scenarios[name] = {**scenarios.get(name, {}), **parts}
    run.merge(FILE, scenarios=scenarios)


def add_probe(run: RunFolder, name: str, probe: Mapping[str, Any]) -> None:
    put(run, name, probes=[*scenario(run, name).get("probes", []), dict(probe)])


def next_folder(run: RunFolder, name: str) -> Path:
    """Where the next probe's logs go; a probe that was interrupted leaves its own behind."""
    number = 1
    while (folder := run.scenario(name) / "tuning" / f"probe_{number:02d}").exists():
        number += 1
    return folder


def seen(probe: Mapping[str, Any]) -> Seen:
    """A kept probe, as the search reads it."""
    found = probe.get("forecast")
    forecast = None
    if found:
        bounds = {key: Bound(**found[key]) for key in ("ttft_ms", "tpot_ms", "ttft_qps")}
        forecast = Forecast(**bounds, tpot_qps=found["tpot_qps"], full=found.get("full", False))
    return Seen(probe["kind"], probe["qps"], forecast, probe.get("loadgen_result") == "VALID")


def plain(forecast: Forecast) -> dict[str, Any]:
    return asdict(forecast)


def rows(name: str, record: Mapping[str, Any], limits: tuple[float, float]) -> list[dict[str, Any]]:
    """The table of one search: load, p99 latencies as LoadGen measured them, room to the limits."""
    found = []
    for probe in record.get("probes", []):
        ttft, tpot = probe.get("ttft_p99_ms"), probe.get("tpot_p99_ms")
        margin = None
        if ttft is not None and tpot is not None:
            margin = 100 * (1 - max(ttft / limits[0], tpot / limits[1]))
        said = probe.get("loadgen_result") if probe["kind"] == CONFIRM else None
        found.append(
            {
                "scenario": name,
                "kind": probe["kind"],
                "qps": probe["qps"],
                "seconds": probe.get("seconds"),
                "ttft_p99_ms": ttft,
                "tpot_p99_ms": tpot,
                "margin_percent": margin,
                "verdict": "crashed" if probe.get("error") else said,
            }
        )
    return found

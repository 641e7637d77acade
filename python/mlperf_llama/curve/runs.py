"""The official client, run point by point: a point that is complete is not run again."""

from __future__ import annotations

import logging
import shutil
import subprocess
from pathlib import Path

from ..errors import BrokeError, MissingError
from ..records.files import object_or_empty, write_text
from .points import Curve, Point

log = logging.getLogger(__name__)

# The command that mlcommons/endpoints installs; it needs Python 3.12 and an environment of its own.
CLIENT = "inference-endpoint"
MEASURED = "curve.md"
GET_CLIENT = (
    "it comes from a checkout of mlcommons/endpoints, with Python 3.12, in an environment of its own "
    f"(docs/endpoints.md): put its {CLIENT} on PATH and run this again"
)
SUMMARY, ACCURACY = "performance/result_summary.json", "accuracy/accuracy_results.json"


def run(curve: Curve, folder: Path) -> None:
    """Every point that is missing, in order. MissingError: no client, which leaves the plan; BrokeError: the
    client ended with an error, which leaves what is complete."""
    client = shutil.which(CLIENT)
    missing = [point for point in curve.points if not _is_complete(folder, point)]
    if missing and client is None:
        raise MissingError(
            f"{folder}: the plan is there; expected the command {CLIENT}, found none: {GET_CLIENT}"
        )
    for point in missing:
        assert client
        log.warning("endpoints point=%s", point.name)
        mode = ["--mode", "both"] if point.accuracy else []
        command = [client, "benchmark", "from-config", "--config", str(folder / f"{point.name}.yaml"), *mode]
        code = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
        if code or not _is_complete(folder, point):
            raise BrokeError(
                f"{CLIENT}: expected complete results in {folder / point.name}, found "
                f"{f'exit code {code}' if code else 'none'}; run this again to go on from there"
            )
    write_text(folder / MEASURED, _table(curve, folder))


def _is_complete(folder: Path, point: Point) -> bool:
    scored = (folder / point.name / ACCURACY).is_file() or not point.accuracy
    return scored and tokens_per_s(folder, point) is not None


def tokens_per_s(folder: Path, point: Point) -> float | None:
    """Output tokens over the run's seconds, as the checker computes it; None while it is not complete."""
    summary = object_or_empty(folder / point.name / SUMMARY)
    lengths, duration_ns = summary.get("output_sequence_lengths"), summary.get("duration_ns")
    total = lengths.get("total") if isinstance(lengths, dict) else None
    if summary.get("complete") is not True or not isinstance(total, int | float):
        return None
    return total / (duration_ns / 1e9) if isinstance(duration_ns, int | float) and duration_ns > 0 else None


def _table(curve: Curve, folder: Path) -> str:
    rows = []
    for point in curve.points:
        rate = tokens_per_s(folder, point)
        rows.append(f"| {point.name} | {point.concurrency} | {point.region} | {rate:,.1f} |")
    heads = ["| point | requests at once | region | tokens/s |", "| --- | ---: | --- | ---: |"]
    return "\n".join(["# MLPerf Endpoints, measured", "", *heads, *rows, ""])

"""The harness of two checkouts, in turns on one machine, as ratios.

    python benchmarks/side_by_side.py BEFORE [AFTER] [--repeat 9] [--record]

Each run is a process of its own with the benchmarks/harness.py of its checkout. CPU time per sample is of the
process that holds the engine; it hangs less on what else the machine does than samples/s. The ratio is that
of the medians (AFTER over BEFORE), with the middle half of the ratios of each pair; for CPU time also that of
the lowest of each, which other work on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import harness

HERE = Path(__file__).resolve().parent
ONE_RUN = """
import asyncio, json, sys, tempfile, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import harness
from mlperf_llama import rules
figures = {}
for scenario in (rules.OFFLINE, rules.SERVER):
    plan = harness.plan_of("v6.1", scenario)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.process_time()
        measured = harness.through_harness(plan, Path(folder))
        seconds = time.process_time() - begun
        figures[f"{scenario}, CPU us per sample"] = 1e6 * seconds / plan.expected_queries
    figures |= {f"{scenario}, {key}": value for key, value in measured.items() if key in KEYS}
print(json.dumps(figures))
"""
KEYS = ("samples_per_s", "added_p50_ms")


def one_run(checkout: Path) -> dict[str, float]:
    code = ONE_RUN.replace("KEYS", repr(KEYS))
    done = subprocess.run(
        [sys.executable, "-c", code, str(checkout / "benchmarks")], capture_output=True, text=True, check=True
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(before: Path, after: Path, repeat: int) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Pairs of runs; which one is first takes turns."""
    pairs = []
    for number in range(repeat):
        if number % 2:
            second = one_run(after)
            pairs.append((one_run(before), second))
        else:
            pairs.append((one_run(before), one_run(after)))
    return pairs


def table(pairs: list[tuple[dict[str, float], dict[str, float]]], load: float) -> str:
    rows = []
    for key in pairs[0][0]:
        before, after = (statistics.median(pair[side][key] for pair in pairs) for side in (0, 1))
        lowest = [min(pair[side][key] for pair in pairs) for side in (0, 1)]
        least = f"{lowest[1] / lowest[0]:.3f}" if "CPU" in key else ""
        low, _, high = statistics.quantiles([pair[1][key] / pair[0][key] for pair in pairs], n=4)
        spread = f"{after / before:.3f} ({low:.3f} to {high:.3f})"
        rows.append(f"| {key} | {before:,.6g} | {after:,.6g} | {spread} | {least} |")
    machine = f"{harness.cpu_name()}, {os.cpu_count()} cores, load average {load:.2f} at the start"
    return "\n".join(
        [
            f"### Harness of two checkouts, {datetime.now(UTC):%Y-%m-%d}",
            "",
            f"{machine}, {len(pairs)} pairs. `{shlex.join(['python', *sys.argv])}`",
            "",
            "| | before | after | after / before (middle half of the pairs) | of the lowest |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("before", type=Path, help="a checkout")
    parser.add_argument("after", type=Path, nargs="?", default=HERE.parent, help="default: this one")
    parser.add_argument("--repeat", type=int, default=9, help="pairs of runs (default 9)")
    parser.add_argument("--record", action="store_true", help="append the table to RESULTS.md")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    harness.publish(table(measure(options.before, options.after, options.repeat), load), options.record)


if __name__ == "__main__":
    main()

"""Runs a plan on a GPU host and prints a table: `python main.py PLAN OUT [--budget-s S]`.

A plan is a JSON list. `{"do": "kernels"}`, `{"do": "gemm"}` and `{"do": "fused"}` measure kernels alone
(measure_kernels.py, measure_gemm.py, measure_fused.py); anything else is an engine (measure_engine.py).
Each has a process of its own, so that its memory is freed. `unless` names an entry of the plan: the engine
runs only if that one failed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# Memory of an engine that has just ended comes back within this time.
PAUSE_S = 5.0
LEAST_S = 45.0
COLUMNS = (
    ("name", 16), ("do", 8), ("scenario", 11), ("seqs", 5), ("prefill", 7), ("n", 6), ("qps", 5),
    ("tok_s", 8), ("steady_tok_s", 12), ("full_set_tok_s", 14), ("loadgen_result", 14), ("ttft_p99_ms", 11),
    ("tpot_p99_ms", 11), ("step_tokens", 11), ("running", 7), ("power_w", 7), ("sm_clock_mhz", 12),
    ("preemptions", 11),
)  # fmt: skip


def run_one(spec: dict[str, Any], out: Path, limit_s: float) -> bool:
    """One entry of the plan; whether it ended well. Its output goes to OUT/log.txt."""
    script = f"measure_{spec.get('do', 'engine')}.py"
    command = [sys.executable, str(HERE / script), json.dumps(spec), str(out)]
    path = os.pathsep.join([str(HERE), str(HERE.parents[1] / "python"), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **spec.get("env", {})}
    with (out / "log.txt").open("a") as log:
        start = log.tell()
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=env, start_new_session=True
        )
        try:
            code: int | str = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = "timeout"
        # The engine's own processes are in its group.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    lines = (out / "log.txt").read_text(errors="replace")[start:].splitlines()
    shown = [line for line in lines if line.startswith(("ENGINE UP", "KERNEL", "CHECK"))]
    print(f"--- {spec.get('name', script)}: {code}", *shown, sep="\n", flush=True)
    if code != 0:
        print(*(line[:240] for line in lines[-45:]), sep="\n", flush=True)
    return code == 0


def table(out: Path) -> str:
    path = out / "results.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    text = [" ".join(f"{name[:width]:>{width}}" for name, width in COLUMNS)]
    for row in rows:
        cells = ("" if row.get(name) is None else str(row[name])[:width] for name, width in COLUMNS)
        text.append(" ".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, COLUMNS, strict=True)))
    for row in rows:
        if row.get("kernels"):
            busy = sum(kernel[2] for kernel in row["kernels"])
            text.append(f"{row['name']}: kernels busy {busy:.3f} s of {row['profile_s']:.3f} s")
            text += [
                f"  {100 * s / row['profile_s']:5.1f}% {count:6d} x {1e6 * s / count:8.1f} us  {name[:100]}"
                for name, count, s in row["kernels"][:16]
            ]
            text += [
                f"  {100 * s / row['profile_s']:5.2f}% {count:6d} x {1e6 * s / count:8.1f} us idle: {a} | {b}"
                for a, b, count, s in row["idle"]
            ]
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plan", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--budget-s", type=float, default=1e9, help="stop everything after this time")
    parser.add_argument("--loadgen-root", default=str(Path(sys.prefix) / "loadgen"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    started, failed = time.monotonic(), set()
    for spec in json.loads(given.plan.read_text()):
        name = spec.get("name", "kernels")
        left = given.budget_s - (time.monotonic() - started)
        if left < LEAST_S or ("unless" in spec and spec["unless"] not in failed):
            print(f"--- {name}: left out, {left:.0f} s left", flush=True)
            continue
        if not run_one({"loadgen_root": given.loadgen_root, **spec}, given.out, left):
            failed.add(name)
        time.sleep(PAUSE_S)
    text = table(given.out)
    (given.out / "table.txt").write_text(text + "\n")
    print(
        text, f"failed: {sorted(failed) or 'none'}; {time.monotonic() - started:.0f} s", sep="\n", flush=True
    )


if __name__ == "__main__":
    main()

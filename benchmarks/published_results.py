"""Make report/published.json: every published result of llama3.1-8b and its edge category, by round.

    python benchmarks/published_results.py v5.1=CHECKOUT v6.0=CHECKOUT v6.1=benchmarks/published_v6.1.toml

CHECKOUT: a git repository in MLCommons' layout (a bare one serves too), read at HEAD. A .toml file stands
for a round whose repository is not at hand. Other rounds and unsubmitted results stay as they are.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TypeAlias

Row: TypeAlias = dict[str, object]
FILE = Path(__file__).parents[1] / "python/mlperf_llama/report/published.json"
# division / submitter / results / system / benchmark / scenario, and the log of the run that counts.
RESULT = re.compile(
    r"(?P<folder>(?P<division>closed|open)/(?P<submitter>[^/]+)/results/(?P<system>[^/]+)/"
    r"(?P<benchmark>llama3[._]1-8b(?:-edge)?)/(?P<scenario>[^/]+))/performance/run_1/mlperf_log_summary\.txt"
)
SCENARIOS = {s.lower(): s for s in ("Offline", "Server", "Interactive", "SingleStream")}
NUMBER = r"\s*:\s*([\d.]+)$"
FIGURES = {
    "samples_per_second": r"^(?:Completed s|S)amples per second" + NUMBER,
    "tokens_per_second": r"^(?:Completed t|T)okens per second" + NUMBER,
    "ttft_p99_ms": r"^99\.00 percentile first token latency \(ns\)" + NUMBER,
    "tpot_p99_ms": r"^99\.00 percentile time to output token \(ns\)" + NUMBER,
    "latency_p90_ms": r"^90\.0th percentile latency \(ns\)" + NUMBER,
}
# Keys that results from elsewhere may lack.
ABSENT: Row = {"nodes": 1, "weights": None, "tokens_per_sample": None}
# A framework that lists more than these characters is cut after its second part.
LONGEST_FRAMEWORK = 60
ABOUT = (
    "Published MLPerf Inference results of llama3.1-8b, for a whole system; devices: GPUs, else CPUs.",
    "Made by benchmarks/published_results.py from each round's summary logs, system files and measurements.",
    "`source`: the log in https://github.com/mlcommons/inference_results_<round>. v6.0 and v6.1 were read "
    "from public forks of these (gbeezybez at 232fbf90, intel-ai-tce at 5174fca8).",
    "tokens_per_sample: as logged; 129 is text that was tokenised again. samples/s (x 128) compare.",
)


def git(repository: Path, *arguments: str) -> str:
    """What git prints of the repository."""
    command = ["git", "-C", str(repository), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def figures(log: str) -> dict[str, float | None]:
    """The figures of a summary log; latencies in ms with one decimal."""
    values: dict[str, float | None] = {}
    for name, pattern in FIGURES.items():
        match = re.search(pattern, log, re.MULTILINE)
        value = float(match[1]) if match else None
        values[name] = round(value / 1e6, 1) if value is not None and name.endswith("_ms") else value
    return values


def row(round_name: str, place: dict[str, str], machine: Row, measured: dict[str, float | None]) -> Row:
    """One result as the file holds it."""
    samples, tokens = measured["samples_per_second"], measured["tokens_per_second"]
    scenario = SCENARIOS[place["scenario"].lower()]
    return {
        "round": round_name,
        "division": place["division"],
        "benchmark": place["benchmark"].replace("llama3_1", "llama3.1"),
        "scenario": scenario,
        **machine,
        **measured,
        "tokens_per_sample": round(tokens / samples, 1) if samples and tokens else None,
        "source": place["source"],
    }


def spelled(name: str) -> str:
    """A device's name in one spelling: logs have Nvidia and NVIDIA, INTEL(R) and Intel(R)."""
    name = re.sub(r"^Nvidia ", "NVIDIA ", name).replace("INTEL(R) XEON(R)", "Intel(R) Xeon(R)")
    return name.replace("Arc(TM) Pro ", "Arc Pro(R) ")


def machine_of(system: dict[str, object], folder: str, weights: object) -> Row:
    """The machine of a system file: accelerators, or CPUs where it has none."""
    nodes = int(str(system.get("number_of_nodes") or 1))
    counted = str(system.get("accelerators_per_node") or "0")
    accelerators = int(counted) if counted.isdigit() else 0
    name = str(system["accelerator_model_name" if accelerators else "host_processor_model_name"])
    framework = str(system["framework"])
    if len(framework) > LONGEST_FRAMEWORK:
        framework = ", ".join(framework.split(", ")[:2]).partition(":")[0]
    per_node = accelerators or int(str(system["host_processors_per_node"]))
    return {
        "submitter": str(system["submitter"]).replace("_", " "),
        "system": folder,
        "device": spelled(name),
        "kind": "accelerator" if accelerators else "cpu",
        "nodes": nodes,
        "devices": per_node * nodes,
        "framework": framework,
        "weights": weights or None,
    }


def of_checkout(round_name: str, repository: Path) -> list[Row]:
    """Every VALID result in a repository."""
    paths = git(repository, "ls-tree", "-r", "--name-only", "HEAD").splitlines()
    rows = []
    for path in paths:
        match = RESULT.fullmatch(path)
        if not match:
            continue
        log = git(repository, "show", f"HEAD:{path}")
        if "Result is : VALID" not in log:
            continue
        place = {**match.groupdict(), "source": path}
        file = f"{place['division']}/{place['submitter']}/systems/{place['system']}.json"
        system = git(repository, "show", f"HEAD:{file}")
        weights = weights_of(repository, paths, place)
        rows.append(
            row(round_name, place, machine_of(json.loads(system), place["system"], weights), figures(log))
        )
    return rows


def weights_of(repository: Path, paths: list[str], place: dict[str, str]) -> object:
    """The weights' precision, from the measurements: since v6.0 beside the results, before in a tree."""
    current = f"{place['folder']}/measurements.json"
    older = place["folder"].replace("/results/", "/measurements/") + f"/{place['system']}.json"
    path = next((p for p in (current, older) if p in paths), None)
    if path is None:
        return None
    try:
        return json.loads(git(repository, "show", f"HEAD:{path}")).get("weight_data_types")
    except ValueError:
        return None


def of_figures(round_name: str, file: Path) -> list[Row]:
    """The results of a .toml file."""
    rows = []
    for system in tomllib.loads(file.read_text(encoding="utf-8"))["system"]:
        machine: Row = {
            "submitter": system["submitter"].replace("_", " "),
            "system": system["system"],
            "device": spelled(system["device"]),
            "kind": system.get("kind", "accelerator"),
            "nodes": system.get("nodes", 1),
            "devices": system["devices"],
            "framework": system["framework"],
            "weights": system["weights"],
        }
        for scenario, *values in system["results"]:
            benchmark = system.get("benchmark_folder", "llama3.1-8b")
            place = {
                "division": system.get("division", "closed"),
                "benchmark": benchmark,
                "scenario": scenario,
            }
            place["folder"] = (
                f"{place['division']}/{system['submitter']}/results/{system['system']}/{benchmark}/{scenario}"
            )
            file_name = system.get("source_file", "run_1/mlperf_log_summary.txt")
            place["source"] = f"{place['folder']}/performance/{file_name}"
            rows.append(row(round_name, place, machine, _listed(scenario, values)))
    return rows


def _listed(scenario: str, values: list[float]) -> dict[str, float | None]:
    """A line of the .toml file as figures; a 0 is what was not measured."""
    if scenario == "SingleStream":
        return {**dict.fromkeys(FIGURES), "latency_p90_ms": round(values[0] / 1e6, 1)}
    samples, tokens, ttft_ns, tpot_ns = (value or None for value in values)
    return {
        "samples_per_second": samples,
        "tokens_per_second": tokens,
        "ttft_p99_ms": round(ttft_ns / 1e6, 1) if ttft_ns else None,
        "tpot_p99_ms": round(tpot_ns / 1e6, 1) if tpot_ns else None,
        "latency_p90_ms": None,
    }


def main(arguments: list[str]) -> int:
    if not arguments or any("=" not in argument for argument in arguments):
        print(__doc__, file=sys.stderr)
        return 2
    rows = [{**ABSENT, **kept} for kept in json.loads(FILE.read_text(encoding="utf-8"))["results"]]
    for argument in arguments:
        round_name, _, place = argument.partition("=")
        read = of_figures if place.endswith(".toml") else of_checkout
        rows = [kept for kept in rows if kept["round"] != round_name] + read(round_name, Path(place))
    rows.sort(key=lambda r: [str(r[key] or "~") for key in ("round", "division", "submitter", "source")])
    lines = ",\n    ".join(json.dumps(r, ensure_ascii=False) for r in rows)
    about = json.dumps(ABOUT, ensure_ascii=False)
    FILE.write_text(
        f'{{\n  "schema_version": 1,\n  "about": {about},\n  "results": [\n    {lines}\n  ]\n}}\n'
    )
    print(f"{len(rows)} results in {FILE}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Checks of a tree's metadata: system description, measurements, README, truncated log."""

from __future__ import annotations

import re
from pathlib import Path

from ..loadgen import logs
from ..records.files import JsonObject, object_or_empty
from ..records.schema import Check
from ..verdict.check import check
from . import description, documents, folders, overrides, truncation
from .layout import Layout
from .selection import CLOSED, SELFTEST

# submission_checker/constants.py, SYSTEM_IMP_REQUIRED_FILES.
MEASUREMENTS = (
    "input_data_types", "retraining", "starting_weights_filename", "weight_data_types",
    "weight_transformations",
)  # fmt: skip
# checker: REQUIRED_POWER_FILES, REQUIRED_PERF_FILES and REQUIRED_PERF_POWER_FILES.
POWER = ("client.json", "client.log", "ptd_logs.txt", "server.json", "server.log")
RANGING = (logs.SUMMARY, logs.DETAIL, "spl.txt")
REDO = "pack the run again"


def system(layout: Layout, category: str) -> list[Check]:
    """The system description: all keys, those that need a meaning filled, the folder's own names, and values
    of the kinds that MLCommons' checker can work with."""
    data = object_or_empty(layout.system_json)
    name, fix = "system", "write what is missing into system.toml and pack again"
    if not data:
        return [Check(name, False, f"no {layout.system_json.name} that can be read", fix)]
    absent = [key for key in description.KEYS if key not in data]
    empty = [key for key in description.missing(data) if key in data]
    mismatches, values = _mismatches(data, layout, category), _values(data)
    return [
        check(
            f"{name}.keys",
            not absent,
            f"missing: {', '.join(absent) or 'none'} of {len(description.KEYS)}",
            fix,
        ),
        check(f"{name}.filled", not empty, f"empty: {', '.join(empty) or 'none'}", fix),
        check(f"{name}.names", not mismatches, "; ".join(mismatches) or "as the folders say", REDO),
        check(f"{name}.values", not values, "; ".join(values) or "numbers and texts where they must be", fix),
        _watermark(layout, str(data)),
        *_overrides(data),
    ]


def _mismatches(data: JsonObject, layout: Layout, category: str) -> list[str]:
    """What the folder, the benchmark or the list of states says otherwise."""
    own = {"division": layout.division, "submitter": layout.submitter}
    mismatches = [
        f"{k} {data.get(k)}, folder {v}" for k, v in own.items() if _text(data.get(k)).lower() != v.lower()
    ]
    kind = data.get("system_type")
    if kind not in folders.SYSTEM_TYPES:
        mismatches.append(f"system_type {kind}, one of {'; '.join(folders.SYSTEM_TYPES)}")
    elif category not in str(kind).split(","):
        mismatches.append(f"system_type {kind}, benchmark of the {category}")
    if _text(data.get("status")).lower() not in description.STATUSES:
        mismatches.append(f"status {data.get('status')}, one of {', '.join(description.STATUSES)}")
    return mismatches


def _values(data: JsonObject) -> list[str]:
    """Whole numbers where MLCommons' checker counts, texts where it joins, and no network mode."""
    faults = [
        f"{key} {data.get(key)}, expected a whole number"
        for key in ("number_of_nodes", "accelerators_per_node")
        if data.get(key) and not re.fullmatch(r"\s*\d+\s*", str(data.get(key)))
    ]
    faults += [
        f"{key} is no text" for key in ("hw_notes", "sw_notes") if not isinstance(data.get(key, ""), str)
    ]
    if data.get("is_network"):
        faults.append(f"is_network {data['is_network']}: leave it out, it is for the network division")
    return faults


def _overrides(data: JsonObject) -> list[Check]:
    """What stands over the measurement must say what was measured, what is stated, and why."""
    if overrides.RECORDED not in data:
        return []
    faults, sentences = overrides.read(data[overrides.RECORDED])
    words = "; ".join(faults or sentences)
    return [check("system.overrides", not faults, words, "give each override its reason")]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _watermark(layout: Layout, text: str) -> Check:
    """A self-test may not be handed in, under any name or division."""
    marked = documents.WATERMARK in text or any(
        documents.WATERMARK in p.read_text(encoding="utf-8", errors="replace")
        for p in layout.home.rglob("README.md")
        if p.is_file() and layout.source not in p.parents  # a pipe would be waited for
    )
    passed = not marked or (layout.submitter == SELFTEST and layout.division != CLOSED)
    return check("watermark", passed, "self-test" if marked else "none", "pack runs of a real engine")


def calibration(layout: Layout) -> Check:
    names = (
        sorted(p.name for p in layout.documentation.glob("calib*")) if layout.documentation.is_dir() else []
    )
    return check(
        "calibration",
        bool(names),
        f"documentation: {', '.join(names) or 'no calibration document'}",
        REDO,
    )


def bandwidth(layout: Layout) -> Check:
    """The rules ask it of datacenter systems, under any name that says so."""
    names = sorted(p.name for p in layout.documentation.glob("*") if "bandwidth" in p.name.lower())
    return check(
        "bandwidth",
        bool(names),
        f"documentation: {', '.join(names) or 'no bandwidth description'}",
        "write documentation/bandwidth.md: network interfaces, and the ingress that the throughput needs",
    )


def power(layout: Layout, scenario: str) -> list[Check]:
    """A power measurement that is there must be whole; its numbers only MLCommons' checker judges."""
    run = layout.performance(scenario)
    folder = run.parent / "power"
    if not folder.exists():
        return []
    expected = [folder / name for name in POWER]
    expected += [run / "spl.txt", *(run.parent / "ranging" / name for name in RANGING)]
    missing = [f"{path.parent.name}/{path.name}" for path in expected if not path.is_file()]
    return [
        check(
            f"{scenario}.power",
            not missing,
            f"missing: {', '.join(missing)}" if missing else "every file of a power measurement",
            "take the folder performance/power out, or add what MLPerf's power measurement wrote",
        )
    ]


def measurements(layout: Layout, scenario: str) -> list[Check]:
    """measurements.json with its five keys, and user.conf and README.md that say something."""
    folder, path = layout.measurements(scenario), layout.measurements_json(scenario)
    data = object_or_empty(path)
    empty = [key for key in MEASUREMENTS if not data.get(key)]
    files = [folder / name for name in ("user.conf", "README.md")]
    missing = [file.name for file in files if not file.is_file() or not file.stat().st_size]
    return [
        check(
            f"{scenario}.measurements",
            not empty,
            f"{path.name}: missing or empty: {', '.join(empty) or 'none'}",
            REDO,
        ),
        check(
            f"{scenario}.metadata",
            not missing,
            f"missing or empty: {', '.join(missing) or 'none'}",
            REDO,
        ),
    ]


def truncated_log(folder: Path, prefix: str, sha256: str | None) -> list[Check]:
    """A small log with LoadGen's begin and end, and a hash that can be the whole one's."""
    path = folder / logs.ACCURACY
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    size = len(text.encode())
    whole = text.lstrip().startswith("[") and text.rstrip().endswith("]")
    real = bool(sha256 and re.fullmatch(r"[0-9a-f]{64}", sha256))
    return [
        check(
            f"{prefix}.truncated",
            0 < size <= truncation.LARGEST and whole,
            f"{size} bytes, at most {truncation.LARGEST}, begins and ends as LoadGen's: {whole}",
            REDO,
        ),
        check(f"{prefix}.hash", real, f"hash={sha256}", REDO),
    ]

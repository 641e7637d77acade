"""The bandwidth description that the rules ask of datacenter systems: what the network could bring in and
take out, against what the measured throughput needs.

Source: mlcommons/inference_policies inference_rules.adoc, appendix "Datacenter bandwidth requirements".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .. import rules
from ..records.files import write_text
from ..records.schema import Check, NetworkInterface, Performance, Scenario
from ..verdict.check import check
from . import documents
from .selection import Selection

NAME = "bandwidth.md"
# Ingress is throughput x longest input x size of a token id; the published submissions take 2,560 tokens of
# 4 bytes, a little above the set's longest prompt of 2,540.
INPUT_TOKENS, TOKEN_BYTES = 2560, 4
INGRESS_BYTES = INPUT_TOKENS * TOKEN_BYTES
EGRESS_BYTES = rules.MAX_NEW_TOKENS * TOKEN_BYTES


def measured(selection: Selection) -> dict[str, float]:
    """Samples per second by scenario, as LoadGen measured them."""
    recorded = {
        name: run.evidence.results.scenarios.get(name, Scenario()).performance
        for name, run in selection.scenarios.items()
    }
    return {name: p.samples_per_second for name, p in recorded.items() if isinstance(p, Performance)}


def total_mbit_s(network: tuple[NetworkInterface, ...]) -> int:
    """What the interfaces that tell their speed do together; 0 where none does."""
    return sum(card.speed_mbit_s or 0 for card in network)


def needed_mbit_s(samples_per_s: float, sample_bytes: int = INGRESS_BYTES) -> float:
    return samples_per_s * sample_bytes * 8 / 1e6


def check_bandwidth(selection: Selection) -> Check:
    """The network must bring in what the fastest scenario takes; passed where no speed is told."""
    total = total_mbit_s(selection.first.evidence.system.network)
    needed = max(map(needed_mbit_s, measured(selection).values()), default=0.0)
    detail = f"{needed:.1f} Mbit/s of prompts, " + (f"{total} Mbit/s" if total else "speed not told")
    return check(
        "bandwidth",
        not total or needed <= total,
        detail,
        "the rules ask for a network that brings in what is measured: pack a run of a system that has it",
    )


def write(selection: Selection, values: Mapping[str, object], folder: Path, watermark: bool) -> None:
    network = selection.first.evidence.system.network
    text = document(network, str(values.get("host_networking") or ""), measured(selection))
    write_text(folder / NAME, (f"{documents.WATERMARK}\n\n" if watermark else "") + text)


def document(network: tuple[NetworkInterface, ...], described: str, throughput: Mapping[str, float]) -> str:
    """Interfaces, formulas, and for each scenario what it takes of them."""
    total = total_mbit_s(network)
    lines = ["# Network bandwidth", "", "| interface | speed |", "| --- | --- |"]
    lines += [f"| {card.name} | {_speed(card.speed_mbit_s)} |" for card in network]
    lines += ["| none was found | |"] if not network else []
    lines += ["", f"Together: {_speed(total or None)}. As described: {described or 'nothing'}.", ""]
    lines += [
        f"Ingress is throughput x {INPUT_TOKENS:,} tokens x {TOKEN_BYTES} bytes = throughput x "
        f"{INGRESS_BYTES:,} bytes; egress, {rules.MAX_NEW_TOKENS} tokens at most, "
        f"throughput x {EGRESS_BYTES} bytes.",
        "",
        "| scenario | measured, samples/s | ingress, Mbit/s | egress, Mbit/s | share of the network |",
        "| --- | --- | --- | --- | --- |",
    ]
    for scenario, samples_per_s in throughput.items():
        ingress, egress = needed_mbit_s(samples_per_s), needed_mbit_s(samples_per_s, EGRESS_BYTES)
        share = f"{ingress / total:.2%}" if total else "not known"
        lines.append(f"| {scenario} | {samples_per_s:.2f} | {ingress:.2f} | {egress:.2f} | {share} |")
    if total:
        highest = total * 1e6 / 8 / INGRESS_BYTES
        lines += ["", f"The network could bring in {highest:,.0f} samples/s at most."]
    return "\n".join(lines) + "\n"


def _speed(mbit_s: int | None) -> str:
    return "not told by the machine" if mbit_s is None else f"{mbit_s / 1000:g} Gbit/s"

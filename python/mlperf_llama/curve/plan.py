"""The plan of a curve: its points, how long each takes, and the client's file for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..config import Config
from ..engine.preset import DEFAULT_MAX_NUM_SEQS, choose_preset
from ..errors import UsageError
from ..machine import roofline
from ..machine.gpu_table import find_gpu
from ..records.files import write_text
from ..records.schema import Gpu
from . import client_file
from .points import DATASET, DURATION_S, HIGH, OFFLINE, PASSES, REGIONS, Curve, Point, levels, region_of

FOLDER, PLAN = "endpoints", "plan.md"


def make(config: Config, gpus: Sequence[Gpu], folder: Path) -> Curve:
    """Plan the curve, and write its files into `folder`: plan.md, and one of the client for each point. A
    file that is there and says otherwise is of another plan: UsageError."""
    curve = plan(config, next(iter(gpus), None))
    folder.mkdir(parents=True, exist_ok=True)
    address = f"http://{config.serve_address}"
    for point in curve.points:
        path, text = folder / f"{point.name}.yaml", client_file.text(point, address, folder / point.name)
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            raise UsageError(
                f"{path}: expected the file of this plan, found another one; a curve has one configuration: "
                "set CONCURRENCY and SERVE_ADDRESS as before, or RESULTS_DIR to another folder"
            )
        write_text(path, text)
    write_text(folder / PLAN, markdown(curve))
    return curve


def plan(config: Config, gpu: Gpu | None) -> Curve:
    """Seven numbers of requests at once, and Offline."""
    preset = choose_preset(config, gpu)
    most = config.max_num_seqs or int(preset.engine.get("max_num_seqs", DEFAULT_MAX_NUM_SEQS))
    lowest, highest = config.concurrency or (16, max(most, 64))
    scored: set[str] = set()
    points = []
    for concurrency in levels(lowest, highest):
        region = region_of(concurrency, lowest, highest)
        # 4.3: exactly one accuracy run for each region.
        first = region not in scored
        scored.add(region)
        rate = _rate(preset.engine, gpu, concurrency)
        points.append(_point(f"c{concurrency:05d}", concurrency, region, rate, first))
    rate = _rate(preset.engine, gpu, highest)
    return Curve((*points, _point(OFFLINE, DATASET, OFFLINE, rate, True)))


def _point(name: str, concurrency: int, region: str, rate: float | None, accuracy: bool) -> Point:
    duration_s = DURATION_S.get(region, DURATION_S[HIGH])
    passes = max(
        PASSES if rate is None or region in REGIONS else 1, math.ceil(duration_s * (rate or 0) / DATASET)
    )
    seconds = None if rate is None else (passes + accuracy) * DATASET / rate
    return Point(name, concurrency, region, passes * DATASET, duration_s, accuracy, seconds)


def _rate(engine: Mapping[str, object], gpu: Gpu | None, concurrency: int) -> float | None:
    """Samples/s with so many sequences at once, by the data sheet, reading and computing one after the other;
    None where the card or the precision is not known."""
    card = find_gpu(gpu) if gpu else None
    precision = roofline.precision_of(engine, card) if card else None
    if card is None or precision is None:
        return None
    predicted = roofline.predict(card, roofline.PRECISIONS[precision], max_num_seqs=concurrency)
    return predicted.serial if predicted else None


def markdown(curve: Curve) -> str:
    hours = (
        "not known before it is measured"
        if curve.hours is None
        else f"at least {curve.hours:.1f} hours, at the speed that the GPU's data sheet allows"
    )
    rows = [
        f"| {p.name} | {p.concurrency} | {p.region} | {p.samples:,} | {p.min_duration_s:g} | "
        f"{'yes' if p.accuracy else ''} | {'' if p.seconds is None else f'{p.seconds / 60:.0f}'} |"
        for p in curve.points
    ]
    return "\n".join(
        [
            "# The curve of MLPerf Endpoints",
            "",
            f"{len(curve.points)} points; time: {hours}.",
            "",
            "| point | requests at once | region | samples | shortest steady state, s | accuracy | minutes |",
            "| --- | ---: | --- | ---: | ---: | --- | ---: |",
            *rows,
            "",
        ]
    )

"""Two results, and repeats of each: one sentence first, then figures, what differs, and both curves.

Says first whether the two can be compared, and why not. In Server and Interactive the rate is
what was asked for: there latencies and their limits are compared, or what tuning both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ...records.files import write_text
from .. import html, markdown
from ..blocks import NOTHING, Banner, Block, Chart, Document, Section, Table, Text, number, word
from . import curves, sentences
from .differences import Difference, difference, every_difference, mean_of, shared_scenarios
from .reading import read, read_group
from .sides import FIGURES, Group, differing, not_comparable, notes

__all__ = ["document", "folders", "groups", "read", "summary", "text", "write_page"]
SETTINGS = ("setting ", "engine setting ")
# Settings that say where something lies or what is shown, and nothing about the run.
PLACES = frozenset({"results_dir", "cache_dir", "verbosity", "system_file", "inference_dir"})


def folders(listed: str) -> list[Path]:
    """One folder, or several with commas between them; a folder whose name has commas is taken as it is."""
    whole = Path(listed).expanduser()
    parts = [part.strip() for part in listed.split(",") if part.strip()]
    return [whole] if whole.exists() or not parts else [Path(part) for part in parts]


def groups(first: Sequence[Path], second: Sequence[Path]) -> tuple[Group, Group]:
    return read_group("A", first), read_group("B", second)


def text(a: Group, b: Group) -> str:
    """The comparison as Markdown."""
    return markdown.render(document(a, b))


def write_page(path: Path, a: Group, b: Group) -> None:
    """The comparison as an HTML page with both curves."""
    write_text(path, html.render(document(a, b, curves.charts(a, b))))


def document(a: Group, b: Group, charts: Sequence[Chart] = ()) -> Document:
    """The comparison as data."""
    reasons = not_comparable(a.first, b.first)
    results = [sentences.sentence(a, b, name) for name in shared_scenarios(a, b)]
    scores = [text for name in shared_scenarios(a, b) if (text := sentences.accuracy(a, b, name))]
    settings = _settings(a, b)
    changed = f"Settings that differ: {settings}." if settings else "No setting differs."
    remarks = notes(a, b)
    lines = (*(results if reasons else results[1:]), *scores, changed, *remarks)
    title = "Not comparable" if reasons else results[0]
    tone = "bad" if reasons else ("warn" if remarks else "good")
    banner = Banner(title, (*reasons, *lines), tone)
    sections = (Section("Side by side", (*_figures(a, b), *charts, _differences(a, b))),)
    return Document("Comparison", f"{a.title} · {b.title}", banner, "", sections)


def _settings(a: Group, b: Group) -> str:
    """The settings that differ, each once: SAMPLES 24 → 64."""
    names: dict[str, str] = {}
    for key, (first, second) in differing(a.first, b.first).items():
        prefix = next((p for p in SETTINGS if key.startswith(p)), None)
        if prefix:
            names.setdefault(key.removeprefix(prefix), f"{word(first)} → {word(second)}")
    return ", ".join(f"{name} {change}" for name, change in names.items() if name not in PLACES)


def _ratio(both: Difference) -> str:
    first, second = both.means
    return f"{second / first:.3f}" if first else NOTHING


def _figures(a: Group, b: Group) -> list[Block]:
    blocks: list[Block] = []
    for name in dict.fromkeys([*a.first.scenarios, *b.first.scenarios]):
        alone = a if not b.measured(name) else b if not a.measured(name) else None
        blocks.append(Text(f"{name} was run by {alone.first.name} alone.") if alone else _table(a, b, name))
    return blocks


def _table(a: Group, b: Group, scenario: str) -> Table:
    """One scenario's figures; with repeats their means, and how far chance alone sets these apart."""
    columns = 5 if len(a.sides) > 1 or len(b.sides) > 1 else 4
    validity = [word(group.measured(scenario)[0].validity) for group in (a, b)]
    rows: list[tuple[str, ...]] = [("LoadGen says", *validity, NOTHING, NOTHING)]
    for key, (unit, digits) in FIGURES.items():
        both = difference(a, b, scenario, key)
        means = tuple(mean_of(group, scenario, key) for group in (a, b))
        if means == (None, None):
            continue
        ratio = _ratio(both) if both else NOTHING
        noise = f"±{sentences.percent(both.noise)}" if both and both.noise is not None else NOTHING
        rows.append((unit, *(number(mean, digits) for mean in means), ratio, noise))
    heads = ("", a.letter, b.letter, "B / A", "noise")[:columns]
    return Table(heads, tuple(row[:columns] for row in rows), "lrrrr"[:columns], scenario)


def _differences(a: Group, b: Group) -> Table:
    facts = differing(a.first, b.first)
    rows = tuple((key, word(first), word(second)) for key, (first, second) in facts.items())
    note = "A dash: not recorded there."
    return Table(("fact", a.letter, b.letter), rows, "lll", "What differs", note)


def summary(a: Group, b: Group) -> str:
    """The comparison as JSON: what document() says, with every repeat's value."""
    reasons = not_comparable(a.first, b.first)
    scenarios = {
        name: {
            "sentence": sentences.sentence(a, b, name),
            "accuracy": sentences.accuracy(a, b, name),
            "requested_qps": {g.letter.lower(): [m.requested_qps for m in g.measured(name)] for g in (a, b)},
            "tuned": {g.letter.lower(): [m.tuned for m in g.measured(name)] for g in (a, b)},
            "figures": {d.key: _plain(d) for d in every_difference(a, b, name)},
        }
        for name in shared_scenarios(a, b)
    }
    facts = differing(a.first, b.first)
    whole = {
        "schema_version": 1,
        "a": [side.name for side in a.sides],
        "b": [side.name for side in b.sides],
        "comparable": not reasons,
        "reasons": reasons,
        "notes": notes(a, b),
        "scenarios": scenarios,
        "differing": {key: {"a": first, "b": second} for key, (first, second) in facts.items()},
    }
    return json.dumps(whole, indent=2, default=str)


def _plain(both: Difference) -> dict[str, object]:
    """`change` and `noise` as fractions: 0.01 is 1%."""
    return {
        "unit": both.unit,
        "a": list(both.a),
        "b": list(both.b),
        "change": both.change,
        "noise": both.noise,
        "beyond_noise": both.beyond,
    }

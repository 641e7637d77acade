"""A Document as Markdown (GitHub's tables). Every recorded word is escaped."""

from __future__ import annotations

import re
from dataclasses import replace

from ..credentials.redaction import visible
from . import blocks
from .blocks import Bars, Block, Chart, Document, Folded, Items, Table, Text

MARKS = {"good": "✅ ", "bad": "❌ ", "warn": "⚠️ ", "plain": ""}
# What Markdown would read as its own; the backtick stays in our own sentences, see `prose`.
SPECIAL = re.compile(r"([\\*_\[\]<>|#~`])")


def escape(text: str) -> str:
    """Text that shows as it is."""
    return SPECIAL.sub(r"\\\1", text)


def prose(text: str) -> str:
    """Text on one line: `code` keeps its meaning, all else shows as it is."""
    line = " ".join(visible(text).split())
    parts = line.split("`")
    if len(parts) % 2 == 0:
        return escape(line)
    # A bar would end a table's cell, also inside code.
    return "`".join(p.replace("|", "\\|") if n % 2 else escape(p) for n, p in enumerate(parts))


def table(block: Table) -> list[str]:
    if block.folded:
        return _details(block.title, table(replace(block, title="", folded=False)))
    lines = [f"**{prose(block.title)}**", ""] if block.title else []
    if not block.rows:
        return [*lines, "none", ""]
    lines.append("| " + " | ".join(prose(h) for h in block.headers) + " |")
    lines.append("| " + " | ".join("---:" if a == "r" else "---" for a in block.align) + " |")
    lines += ["| " + " | ".join(prose(c) for c in row) + " |" for row in block.rows]
    return [*lines, "", *([prose(block.note), ""] if block.note else [])]


def _details(title: str, lines: list[str]) -> list[str]:
    return ["<details>", f"<summary>{blocks.escape(title)}</summary>", "", *lines, "</details>", ""]


def _bars(block: Bars) -> list[str]:
    name, about, value = block.headers
    rows = tuple((bar.name, bar.about, bar.text) for bar in block.bars)
    return table(Table((name, about, value), rows, "llr", block.title, block.note))


def _block(block: Block) -> list[str]:
    match block:
        case Text(text, tone):
            return [MARKS[tone] + prose(text), ""]
        case Items(items):
            return [*(f"- {prose(item)}" for item in items), ""]
        case Chart(_, _, description):
            return [f"{prose(description)} (drawn in report.html)", ""]
        case Bars():
            return _bars(block)
        case Folded(title, folded):
            return _details(title, [line for one in folded for line in _block(one)])
        case Table():
            return table(block)


def render(document: Document) -> str:
    banner = document.banner
    lines = [f"# {prose(document.title)}", "", prose(document.subtitle), ""]
    lines += [f"> ## {MARKS[banner.tone]}{prose(banner.title)}"]
    lines += [line for text in banner.lines for line in (">", f"> {prose(text)}")]
    lines.append("")
    for section in document.sections:
        lines += [f"## {prose(section.title)}", ""]
        for block in section.blocks:
            lines += _block(block)
    return "\n".join(lines).rstrip() + "\n"

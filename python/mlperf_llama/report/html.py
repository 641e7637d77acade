"""A Document as one HTML file: nothing from outside it, light and dark, for wide pages, phones and print.

Its one script reads values off the curves; without it everything is there to see. The page's policy lets no
other script run.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from .blocks import TONES, Bars, Block, Chart, Document, Folded, Items, Section, Table, Text, escape

STYLE, SCRIPT = (Path(__file__).with_name(name) for name in ("page.css", "page.js"))
# Cells with more characters may break anywhere, and get a width that words fit in.
LONG = 24


def prose(text: str) -> str:
    """Escaped text; `code` in our own sentences becomes code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return "".join(f"<code>{escape(p)}</code>" if n % 2 else escape(p) for n, p in enumerate(parts))


def _cell(text: str, align: str, heads_row: bool) -> str:
    long = "long" if align == "l" and len(text) > LONG else ""
    kinds = [k for k in ("r" if align == "r" else "", long, TONES.get(text, "")) if k]
    kind = f' class="{" ".join(kinds)}"' if kinds else ""
    if heads_row:
        return f'<th scope="row"{kind}>{prose(text)}</th>'
    return f"<td{kind}>{prose(text)}</td>"


def _table(block: Table) -> str:
    if not block.rows:
        return f"<h3>{prose(block.title)}</h3><p>none</p>"
    head = ""
    if any(block.headers):
        # A column without a name is told by its cells; an empty header would be read out as one.
        cells = (
            f'<th scope="col" class="{a}">{prose(h)}</th>' if h else "<td></td>"
            for h, a in zip(block.headers, block.align, strict=True)
        )
        head = f"<thead><tr>{''.join(cells)}</tr></thead>"
    body = "".join(f"<tr{_mine(row)}>{_row(row, block.align)}</tr>" for row in block.rows)
    kind = "pairs" if not head else "grid"
    table = f'<table class="{kind}">{head}<tbody>{body}</tbody></table>'
    whole = _scrolled(table, block.title or "table")
    whole += f'<p class="note">{prose(block.note)}</p>' if block.note else ""
    if block.folded:
        return _details(block.title, whole, "printed" if block.printed else "")
    return (f"<h3>{prose(block.title)}</h3>" if block.title else "") + whole


def _row(row: tuple[str, ...], align: str) -> str:
    return "".join(_cell(c, a, heads_row=n == 0) for n, (c, a) in enumerate(zip(row, align, strict=True)))


def _scrolled(table: str, title: str) -> str:
    """A table that is wider than a phone scrolls by itself, by keyboard too."""
    return f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(title)}">{table}</div>'


def _details(title: str, content: str, kind: str = "") -> str:
    return f'<details class="{kind}"><summary>{prose(title)}</summary>{content}</details>'


def _mine(row: tuple[str, ...]) -> str:
    return ' class="mine"' if row[0] == "this run" else ""


def _bars(block: Bars) -> str:
    highest = max(bar.value for bar in block.bars) or 1.0
    rows = []
    for bar in block.bars:
        about = f' <span class="about">{prose(bar.about)}</span>' if bar.about else ""
        width = f"{max(0.5, 100 * bar.value / highest):.1f}%"
        rows.append(
            f'<tr{" class=mine" if bar.mine else ""}><th scope="row">{prose(bar.name)}{about}</th>'
            f'<td><span class="length" style="width:{width}"></span></td>'
            f'<td class="r">{prose(bar.text)}</td></tr>'
        )
    name, about, value = block.headers
    head = f'<th scope="col">{prose(name)} <span class="about">{prose(about)}</span></th><td></td>'
    table = f'<table class="bars"><thead><tr>{head}<th scope="col" class="r">{prose(value)}</th></tr></thead>'
    table += f"<tbody>{''.join(rows)}</tbody></table>"
    note = f'<p class="note">{prose(block.note)}</p>' if block.note else ""
    return f"<h3>{prose(block.title)}</h3>{table}{note}"


def _block(block: Block) -> str:
    match block:
        case Text(text, tone):
            return f'<p class="{tone}">{prose(text)}</p>'
        case Items(items):
            return "<ul>" + "".join(f"<li>{prose(i)}</li>" for i in items) + "</ul>"
        case Chart(title, svg, _):
            return f"<figure><figcaption>{prose(title)}</figcaption>{svg}</figure>"
        case Bars():
            return _bars(block)
        case Folded(title, blocks):
            return _details(title, "".join(_block(b) for b in blocks))
        case Table():
            return _table(block)


def _section(section: Section) -> str:
    blocks = "".join(_block(b) for b in section.blocks)
    return f'<section id="{section.anchor}"><h2>{prose(section.title)}</h2>{blocks}</section>'


def _contents(document: Document) -> str:
    """Links to the sections."""
    links = "".join(f'<li><a href="#{s.anchor}">{prose(s.title)}</a></li>' for s in document.sections)
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>'


def _watermark(text: str) -> str:
    """Text across the page, behind all else; each printed page repeats fixed elements."""
    if not text:
        return ""
    lines = f'<span data-text="{escape(text)}"></span>' * 12
    return f'<div class="watermark" aria-hidden="true">{lines}</div>'


def _head(title: str, script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return (
        '<meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title}</title><style>\n{STYLE.read_text(encoding='utf-8')}</style>"
    )


def render(document: Document) -> str:
    script = SCRIPT.read_text(encoding="utf-8")
    banner = document.banner
    lines = "".join(f"<p>{prose(line)}</p>" for line in banner.lines)
    return (
        '<!doctype html>\n<html lang="en"><head>'
        f"{_head(f'{escape(document.title)}: {escape(banner.title)}', script)}</head><body>"
        f"{_watermark(document.watermark)}<main><header><h1>{prose(document.title)}</h1>"
        f'<p class="subtitle">{prose(document.subtitle)}</p></header>'
        f'<div class="banner {banner.tone}"><strong>{prose(banner.title)}</strong>{lines}</div>'
        f"{_contents(document)}{''.join(_section(s) for s in document.sections)}</main>"
        f"<script>{script}</script></body></html>\n"
    )

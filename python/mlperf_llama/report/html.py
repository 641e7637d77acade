"""A Document as one HTML file: no script, no external asset, light and dark, fit for print."""

from __future__ import annotations

from pathlib import Path

from .blocks import TONES, Block, Chart, Document, Items, Section, Table, Text, escape


def prose(text: str) -> str:
    """Escaped text; `code` in our own sentences becomes code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return "".join(f"<code>{escape(p)}</code>" if n % 2 else escape(p) for n, p in enumerate(parts))


def _cell(text: str, align: str) -> str:
    kinds = [k for k in ("r" if align == "r" else "", TONES.get(text, "")) if k]
    kind = f' class="{" ".join(kinds)}"' if kinds else ""
    return f"<td{kind}>{prose(text)}</td>"


def _table(block: Table) -> str:
    if not block.rows:
        return f"<h3>{prose(block.title)}</h3><p>none</p>"
    head = ""
    if any(block.headers):
        cells = (f'<th class="{a}">{prose(h)}</th>' for h, a in zip(block.headers, block.align, strict=True))
        head = f"<thead><tr>{''.join(cells)}</tr></thead>"
    body = "".join(
        f"<tr{_mine(row)}>" + "".join(_cell(c, a) for c, a in zip(row, block.align, strict=True)) + "</tr>"
        for row in block.rows
    )
    kind = "pairs" if not head else "grid"
    whole = f'<div class="scroll"><table class="{kind}">{head}<tbody>{body}</tbody></table></div>'
    whole += f'<p class="note">{prose(block.note)}</p>' if block.note else ""
    if block.folded:
        return f"<details><summary>{prose(block.title)}</summary>{whole}</details>"
    return (f"<h3>{prose(block.title)}</h3>" if block.title else "") + whole


def _mine(row: tuple[str, ...]) -> str:
    return ' class="mine"' if row[0] == "this run" else ""


def _block(block: Block) -> str:
    match block:
        case Text(text, tone):
            return f'<p class="{tone}">{prose(text)}</p>'
        case Items(items):
            return "<ul>" + "".join(f"<li>{prose(i)}</li>" for i in items) + "</ul>"
        case Chart(title, svg, _):
            return f"<figure><figcaption>{prose(title)}</figcaption>{svg}</figure>"
        case Table():
            return _table(block)


def _section(section: Section) -> str:
    return f"<section><h2>{prose(section.title)}</h2>{''.join(_block(b) for b in section.blocks)}</section>"


def _watermark(text: str) -> str:
    """Text across the page, behind all else; each printed page repeats fixed elements."""
    if not text:
        return ""
    lines = "".join(f"<span>{escape(text)}</span>" for _ in range(12))
    return f'<div class="watermark" aria-hidden="true">{lines}</div>'


def render(document: Document) -> str:
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    banner = document.banner
    lines = "".join(f"<p>{prose(line)}</p>" for line in banner.lines)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(document.title)}: {escape(banner.title)}</title>"
        f"<style>\n{style}</style></head><body>"
        f"{_watermark(document.watermark)}<main><header><h1>{prose(document.title)}</h1>"
        f'<p class="subtitle">{prose(document.subtitle)}</p></header>'
        f'<div class="banner {banner.tone}" role="status"><strong>{prose(banner.title)}</strong>{lines}</div>'
        f"{''.join(_section(s) for s in document.sections)}</main></body></html>\n"
    )

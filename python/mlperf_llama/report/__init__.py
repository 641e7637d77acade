"""The report of one run: report.md and report.html, and a summary for the terminal.

From saved records alone; it measures nothing. A partial run renders with what is there.
"""

from __future__ import annotations

from ..records.files import write_text
from ..records.run_folder import RunFolder
from . import answer, html, markdown, method, record, summary, tuning
from .blocks import Document

NOT_A_RESULT = "Not an MLPerf result"


def build(found: record.Record) -> Document:
    """The whole report as data."""
    names = ", ".join(found.scenarios) or "no scenario"
    return Document(
        title="MLPerf Inference, Llama-3.1-8B",
        subtitle=f"{names} · round {found.round} · {found.category} · {found.path.name} · {found.status}",
        banner=answer.banner(found),
        watermark=NOT_A_RESULT if found.not_eligible() else "",
        sections=(*tuning.sections(found), answer.section(found), method.how(found), method.where(found)),
    )


def write(run: RunFolder) -> None:
    """Write report.md and report.html into the run folder."""
    document = build(record.read(run))
    # HTML first: the Markdown report lists it among the files.
    write_text(run.file("report.html"), html.render(document))
    write_text(run.file("report.md"), markdown.render(document))


def terminal(run: RunFolder, colour: bool = False) -> str:
    """The answer in a few lines, for stderr at the end of a run."""
    return summary.render(record.read(run), colour)

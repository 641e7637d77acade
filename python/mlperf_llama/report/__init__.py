"""The report of one run: report.md, report.html and results.csv, and a summary for the terminal.

From saved records alone; it measures nothing. A partial run renders with what is there.
"""

from __future__ import annotations

from dataclasses import replace

from ..records.files import write_text
from ..records.run_folder import RunFolder
from ..records.schema import Verdict
from . import answer, energy, html, latencies, markdown, method, summary, table_file, timelines, tuning
from .blocks import Document
from .run import Run, read


def build(run: Run, remarks: tuple[str, ...] = (), price_per_hour: float | None = None) -> Document:
    """The whole report as data. `remarks`: more lines under its answer; `price_per_hour`: of the machine, in
    place of the run's own."""
    banner = answer.banner(run)
    searches = tuning.sections(RunFolder(run.path))
    names = ", ".join(run.scenarios) or "no scenario"
    return Document(
        title="MLPerf Inference, Llama-3.1-8B",
        subtitle=f"{names} · round {run.round} · {run.category} · {run.path.name} · {run.results.status}",
        banner=replace(banner, lines=(*banner.lines, *remarks)),
        watermark=answer.NOT_A_RESULT if run.not_eligible() else "",
        sections=(
            *searches,
            answer.section(run),
            *latencies.section(run),
            *timelines.section(run),
            *energy.section(run, price_per_hour),
            method.how(run),
            method.where(run),
        ),
    )


def write(folder: RunFolder, remarks: tuple[str, ...] = (), price_per_hour: float | None = None) -> None:
    """Write results.csv, report.html and report.md into the run folder."""
    run = read(folder)
    document = build(run, remarks, price_per_hour)
    write_text(folder.file(table_file.FILE), table_file.render(run))
    # HTML first: the Markdown report lists it among the files.
    write_text(folder.file("report.html"), html.render(document))
    write_text(folder.file("report.md"), markdown.render(document))


def failed_checks(judged: Verdict) -> str:
    """The failed checks for the terminal, nearest to passing first."""
    return summary.failed_checks(judged)


def terminal(folder: RunFolder, colour: bool = False) -> str:
    """The answer in a few lines, for stderr at the end of a run."""
    return summary.render(read(folder), colour)

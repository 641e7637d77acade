"""The report's page in headless Chromium: on a phone and a wide screen, light, dark and printed, by keyboard.

Needs Playwright (`pip install playwright`) and Debian's chromium; axe-core comes from npm, and AXE_CORE names
its axe.min.js. Without them these tests are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import report_samples as samples
from test_report_sections import png_size, whole_run

from mlperf_llama import report
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.report import compare, history

pytestmark = pytest.mark.slow
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium")
PROBE = Path(__file__).with_name("page_probe.js").read_text(encoding="utf-8")
ROOT = Path(__file__).parents[3]
WIDTHS = (390, 1280)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium here")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A run with everything, one that failed a check, and one that is no result."""
    root = tmp_path_factory.mktemp("pages")
    no_result = samples.standin(root / "stand-in")
    failed = [
        {"name": f"Offline.check.{n}", "passed": False, "detail": "ab" * 32, "fix": "run it again"}
        for n in range(50)
    ]
    with samples.edited(no_result, "verdict.json") as verdict:
        verdict["checks"] = failed
    runs: dict[str, RunFolder] = {
        "whole": whole_run(root / "whole", gpus=2, count=2000),
        "failed": samples.h100(root / "failed", submittable=False),
        "no result": no_result,
    }
    for run in runs.values():
        report.write(run)
    compared = root / "compared.html"
    compare.write_page(compared, *(compare.groups([runs["whole"].path], [runs["failed"].path])))
    others = {"compared": compared.as_uri(), "history": history.write(root / "whole").as_uri()}
    return {name: run.file("report.html").as_uri() for name, run in runs.items()} | others


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["whole", "failed", "no result", "compared", "history"])
def test_nothing_is_too_small_cut_or_beside_the_page(
    browser, pages: dict[str, str], name: str, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(pages[name])
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert page.evaluate(PROBE) == {"width": 0, "small": [], "broken": [], "beside": []}
    shown = {chart.get_attribute("class") for chart in page.query_selector_all("svg") if chart.is_visible()}
    assert shown <= {"chart narrow" if width == 390 else "chart wide"}
    assert faults == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["whole", "no result"])
def test_axe_finds_no_violation(browser, pages: dict[str, str], name: str, width: int, scheme: str) -> None:
    axe = os.environ.get("AXE_CORE")
    if not axe or not Path(axe).is_file():
        pytest.skip("AXE_CORE names no axe.min.js (npm install axe-core)")
    # The page's own policy would keep axe out.
    context = browser.new_context(viewport={"width": width, "height": 900}, bypass_csp=True)
    page = context.new_page()
    media = {"media": "print"} if scheme == "print" else {"color_scheme": scheme}
    page.emulate_media(**media)
    page.goto(pages[name])
    page.add_script_tag(path=axe)
    violations = page.evaluate("axe.run().then((found) => found.violations)")
    lines = [f"{v['id']}: {node['html'][:120]}" for v in violations for node in v["nodes"][:2]]
    assert lines == []
    context.close()


def test_values_are_read_by_pointer_and_by_keyboard(browser, pages: dict[str, str]) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(pages["whole"])
    plot = page.locator("figure:has-text('Server: requests waiting and running') .plot")
    said = plot.locator(".reading")
    plot.scroll_into_view_if_needed()
    plot.locator("svg.wide").hover()
    assert "running" in said.inner_text() and "waiting for the first token" in said.inner_text()
    page.mouse.move(0, 0)
    assert said.inner_text() == ""
    plot.focus()
    page.keyboard.press("ArrowRight")
    first = said.inner_text()
    assert first.startswith("0 s: ")
    page.keyboard.press("End")
    assert said.inner_text() not in ("", first)
    page.keyboard.press("ArrowLeft")
    assert plot.locator("svg.wide line.cursor").count() == 1
    page.close()


def test_print_unfolds_the_failed_checks(browser, pages: dict[str, str]) -> None:
    page = browser.new_page(viewport={"width": 720, "height": 1000})
    page.goto(pages["no result"])
    row = page.locator("details.printed td", has_text="run it again").first
    assert not row.is_visible()
    page.emulate_media(media="print")
    assert row.is_visible() and page.locator("details.printed tbody tr").count() == 50
    assert page.evaluate(PROBE)["small"] == []
    assert page.pdf(format="A4")[:5] == b"%PDF-"
    page.close()


def test_without_scripts_everything_is_there_to_see(browser, pages: dict[str, str]) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 900})
    page = context.new_page()
    page.goto(pages["whole"])
    assert page.locator("svg.narrow").first.is_visible() and page.locator("table.bars").first.is_visible()
    context.close()


def test_the_picture_of_the_docs_can_be_made_again(tmp_path: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("there is no chromium here")
    made, shown = tmp_path / "report.png", ROOT / "docs/report.png"
    command = [
        sys.executable,
        "benchmarks/report_screenshot.py",
        "python/tests/recorded/fake-server",
        str(made),
    ]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": "python"}, check=True, timeout=120)
    assert png_size(made) == png_size(shown)
    # A page without its style or its charts is far smaller.
    assert 0.7 < made.stat().st_size / shown.stat().st_size < 1.4

"""The report of a run: what it says, that it says it first, and that it holds whatever lies in the folder."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import report_samples as samples

from mlperf_llama import report
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.report import events, markdown
from mlperf_llama.report.blocks import number


def written(run: RunFolder) -> tuple[str, str]:
    """report.md and report.html, freshly written."""
    report.write(run)
    return run.file("report.md").read_text(encoding="utf-8"), run.file("report.html").read_text(
        encoding="utf-8"
    )


class Page(HTMLParser):
    """Which tags and attributes a page uses, and whether every tag that opens closes."""

    VOID = ("meta", "line", "circle", "rect", "polyline", "polygon", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_a_stand_in_run_says_first_that_it_is_no_result(tmp_path: Path) -> None:
    text, page = written(samples.standin(tmp_path))
    top = text.split("## Result")[0]
    assert "Not an MLPerf result" in top and "Submittable" not in text
    assert "stand-in" in top and "synthetic" in top and "24 of 13368 samples, 10 of 600 seconds" in top
    assert 'class="watermark"' in page and page.count("Not an MLPerf result") > 5
    assert "Not set beside published results" in text and "Among published results" not in text
    assert "roofline" not in text.lower() and "Against the card" not in text


def test_how_soon_the_engine_answered_is_told_in_parts(tmp_path: Path) -> None:
    text, _ = written(samples.standin(tmp_path))
    parts = {"imported in": "3.4 s", "loaded in": "31 s", "first answer after": "42 s"}
    assert all(re.search(rf"{name} *\| *{time}", text) for name, time in parts.items())
    assert "checked in" not in text


def test_targets_are_not_applied_to_what_is_not_eligible(tmp_path: Path) -> None:
    text, _ = written(samples.standin(tmp_path))
    assert "| rouge1 | 21.0412 | 38.3914 | — |" in text
    assert "missed" not in text and "reached" not in text
    assert "60.0921 by word overlap: not ROUGE." in text


def test_an_eligible_run_is_answered_with_its_targets_and_its_place(tmp_path: Path) -> None:
    text, page = written(samples.h100(tmp_path))
    assert text.index("Submittable") < text.index("## Result") < text.index("## Method")
    assert text.index("## Method") < text.index("## Files")
    assert "watermark" not in page.split("</style>")[1]
    assert "| Server | VALID | 46.61 | 5 941.0 | 1 911.2 of 2000 | 25.1 of 100 |" in text
    assert "| rouge2 | 15.8922 | 15.7484 | reached |" in text
    rows = text.split("Among published results, Offline")[1].splitlines()
    mine = next(n for n, line in enumerate(rows) if line.startswith("| this run"))
    assert rows[mine].endswith("| 7 300 |") and "H200-SXM" in rows[mine - 1], "slower than the H200 record"
    # 57.03 of 130.44 samples/s.
    assert re.search(r"\| fp8-kv8 \| compute \| 130\.44 \|.*\| 44% \|", text)


def test_a_missed_target_is_called_missed(tmp_path: Path) -> None:
    run = samples.h100(tmp_path)
    with samples.edited(run, "results.json") as results:
        accuracy = results["scenarios"]["Offline"]["accuracy"]
        accuracy.update(rouge1=38.39, gen_len=8_984_409)
        accuracy["targets"]["rouge1"]["met"] = accuracy["targets"]["gen_len"]["met"] = False
    text, _ = written(run)
    offline = text.split("Accuracy, Offline")[1].split("Accuracy, Server")[0]
    assert "| rouge1 | 38.3900 | 38.3914 | missed |" in offline
    assert "8 984 409" in offline and offline.count("missed") == 2


def test_targets_are_the_scorers_own(tmp_path: Path) -> None:
    run = samples.h100(tmp_path)
    with samples.edited(run, "results.json") as results:
        bounds = {"rouge1": {"low": 50.0, "high": None, "met": False}}
        results["scenarios"]["Offline"]["accuracy"]["targets"] = bounds
    text, _ = written(run)
    assert "| rouge1 | 38.7401 | 50.0000 | missed |" in text
    assert "| rouge2 | 15.8922 | — | — |" in text, "the report decides nothing"


def test_loadgens_own_reasons_are_shown(tmp_path: Path) -> None:
    run = samples.h100(tmp_path)
    with samples.edited(run, "results.json") as results:
        results["scenarios"]["Server"]["performance"].update(
            loadgen_result="INVALID", invalid_reasons=["Reduce target QPS"], loadgen_errors=["no tokens"]
        )
    answer = written(run)[0].split("## Method")[0]
    assert "LoadGen's INVALID: Reduce target QPS" in answer and "LoadGen's error: no tokens" in answer


def test_code_in_a_sentence_keeps_its_spaces_and_its_bars() -> None:
    assert markdown.prose("run `make  doctor` _now_") == r"run `make doctor` \_now\_"
    assert markdown.prose("`a|b` c|d") == r"`a\|b` c\|d"
    assert markdown.prose("one ` alone") == r"one \` alone"


def test_failed_checks_stand_in_the_answer_with_their_remedy(tmp_path: Path) -> None:
    text, _ = written(samples.h100(tmp_path, submittable=False))
    assert "Not submittable" in text.split("## Result")[0]
    assert "| Server: TEST06 | not run | add MODE=compliance |" in text


def test_every_source_tried_stands_with_its_reason(tmp_path: Path) -> None:
    text, _ = written(samples.standin(tmp_path))
    assert r"| mlcommons | failed | 0.4 s | needs CF\_ACCESS\_CLIENT\_ID |" in text
    assert "| stand-in | served | 12 s | — |" in text


def test_an_interrupted_run_renders_with_what_is_there(tmp_path: Path) -> None:
    text, page = written(samples.interrupted(tmp_path))
    assert "This run was interrupted" in text and "| Offline | not run |" in text
    assert "provenance.json is not there" in text and "No source was tried for the model" in text
    assert Page(page).open == []


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        ("results.json", '{"scenarios": {"Offline": {"performance": {"samples_per_second": "57"}}}}'),
        ("verdict.json", '{"submittable": true, "checks": [{"name": "seal"}]}'),
        ("provenance.json", '{"model": {"source": "path", "attempts": 3}}'),
        ("system.json", '{"gpus": "H100"}'),
        ("config.json", '{"scenario": "Offline", "tensor_parallel": "two"}'),
    ],
)
@pytest.mark.parametrize("broken", ["", "[1, 2]", '{"cut": ', "types"])
def test_a_broken_record_leaves_a_gap_and_no_submittable(
    tmp_path: Path, name: str, contents: str, broken: str
) -> None:
    run = samples.h100(tmp_path)
    run.file(name).write_text(contents if broken == "types" else broken)
    text, _ = written(run)
    assert name in text.split("Missing records")[1]
    if name not in ("system.json", "config.json"):
        assert "✅ Submittable" not in text


def test_keys_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    run = samples.h100(tmp_path)
    for name in ("config.json", "system.json", "provenance.json", "results.json", "verdict.json"):
        with samples.edited(run, name) as record:
            record["of_a_later_version"] = {"x": 1}
    text, _ = written(run)
    assert "✅ Submittable" in text and "Missing records" not in text


def test_an_empty_folder_renders(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    text, _ = written(run)
    assert "This folder holds no results" in text
    assert "Not an MLPerf result" in text


def test_the_page_is_self_contained_and_well_formed(tmp_path: Path) -> None:
    _, page = written(samples.h100(tmp_path))
    read = Page(page)
    assert read.open == []
    assert not {"link", "img", "iframe", "object"} & set(read.tags)
    outward = ("src", "xlink:href", "action", "data")
    assert not [a for a in read.attributes if a[0] in outward or a[0].startswith("on")]
    links = [value for name, value in read.attributes if name == "href"]
    anchors = [value for name, value in read.attributes if name == "id"]
    assert links == [f"#{anchor}" for anchor in anchors] and "#method" in links
    assert "url(" not in page and "@import" not in page
    assert "prefers-color-scheme: dark" in page and "@media print" in page
    # Roofline, two latencies, throughput, power, temperature, each for a wide page and for a phone.
    assert read.tags.count("svg") == 2 * 6


def test_the_pages_policy_lets_its_own_script_run_and_no_other(tmp_path: Path) -> None:
    _, page = written(samples.h100(tmp_path))
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page
    assert not re.search(
        r"innerHTML|insertAdjacent|eval|document\.write|http(?!://www\.w3\.org/2000/svg)", script
    )


def test_nothing_recorded_is_taken_for_markup(tmp_path: Path) -> None:
    run = samples.standin(tmp_path)
    evil = "<script>alert(1)</script> | `a` [x](http://y) **b**"
    with samples.edited(run, "provenance.json") as provenance:
        provenance["dataset"]["attempts"][0]["reason"] = evil + "\n# heading"
        provenance["model"]["reason"] = evil
    with samples.edited(run, "results.json") as results:
        results["engine"]["name"] = '"><svg onload=alert(1)>'
    samples.write_events(run.file("events.jsonl"), [
        (n, {"stage": "</svg><script>", "tokens_per_s": n}) for n in range(9)])  # fmt: skip
    text, page = written(run)
    assert Page(page).tags.count("script") == 1 and Page(page).open == []
    assert not [a for a in Page(page).attributes if a[0].startswith("on")]
    row = next(line for line in text.splitlines() if line.startswith("| mlcommons") and "alert" in line)
    assert r"\<script\>" in row and len(re.findall(r"(?<!\\)\|", row)) == 5, "no cell more, no line more"
    assert "\n# heading" not in text


def test_the_terminal_gets_the_answer_in_a_few_lines(tmp_path: Path) -> None:
    plain = report.terminal(samples.standin(tmp_path / "a"))
    assert "\x1b" not in plain and "NOT AN MLPERF RESULT" in plain
    assert "1.87 samples/s" in plain and "rouge1 21.0412" in plain and plain.endswith("report.html")
    coloured = report.terminal(samples.h100(tmp_path / "b"), colour=True)
    assert "\x1b[32mSUBMITTABLE" in coloured and "1 911 ms TTFT p99" in coloured
    assert max(len(t.splitlines()) for t in (plain, coloured)) <= 14


@pytest.mark.parametrize(
    ("part", "change", "word"),
    [
        ("results.json", {"engine": {"name": "fake"}}, "fake"),
        ("provenance.json", {"shortened": True}, "shortened"),
        ("config.json", {"ignore_eos": True}, "past their end tokens"),
        ("provenance.json", {"model": {"source": "path", "eligible": None}}, "not eligible"),
        ("provenance.json", {"model": {"source": "path", "eligible": "yes"}}, "No model"),
        ("provenance.json", {"dataset": {}}, "No dataset"),
    ],
)
def test_whatever_the_verdict_says_an_ineligible_run_is_no_result(
    tmp_path: Path, part: str, change: dict[str, object], word: str
) -> None:
    run = samples.h100(tmp_path)
    with samples.edited(run, part) as record:
        record.update(change)
    text, page = written(run)
    top = text.split("## Result")[0]
    assert "Not an MLPerf result" in top and word in top
    assert 'class="watermark"' in page
    mine = [line for line in text.splitlines() if line.startswith("| this run")]
    assert all(line.startswith("| this run: not an MLPerf result |") for line in mine)
    assert not mine or "not verified by MLCommons" in text


def test_a_run_that_is_not_valid_is_no_result_among_others(tmp_path: Path) -> None:
    run = samples.h100(tmp_path)
    with samples.edited(run, "results.json") as results:
        results["scenarios"]["Server"]["performance"]["loadgen_result"] = "INVALID"
    text, _ = written(run)
    offline, server = text.split("Among published results, ")[1:]
    assert "| this run |" in offline and "| this run: not an MLPerf result |" in server
    assert "LoadGen did not call the performance run VALID" in server.split("verified by MLCommons")[1]


def test_preemptions_and_uncommitted_changes_are_warned_of_last(tmp_path: Path) -> None:
    run = samples.h100(tmp_path)
    with samples.edited(run, "results.json") as results:
        results["scenarios"]["Server"]["performance"]["counters"] = {"preemptions": 17}
    with samples.edited(run, "system.json") as system:
        system["git"]["dirty"] = True
    text, _ = written(run)
    warnings = text.split("</details>")[-1].split("## Files")[0]
    assert "preemptions: 17." in warnings and "no commit holds" in warnings


def test_only_settings_that_were_changed_are_listed(tmp_path: Path) -> None:
    text, _ = written(samples.standin(tmp_path))
    listed = text.split("Settings that are not at their defaults")[1].split("**Model**")[0]
    assert re.findall(r"^\| ([A-Z_\\]+) \|", listed, re.M) == ["SAMPLES", "DTYPE"]


def test_events_survive_a_cut_line_and_foreign_ones(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    samples.write_events(path, [(0, {"stage": "a"}), (5, {"stage": "a", "done": 1})])
    with path.open("a") as stream:
        stream.write('{"stage": "no time"}\n[]\n{"time": "2026-')
    read = events.read_events(path)
    assert [timed.at_s - read[0].at_s for timed in read] == [0.0, 5.0]


def test_gpus_in_use_come_from_the_engine(tmp_path: Path) -> None:
    run = samples.h100(tmp_path)
    with samples.edited(run, "system.json") as system:
        system["gpus"] *= 8
    assert report.read(run).gpus_used == 1
    with samples.edited(run, "results.json") as results:
        results["engine"]["settings"].update(tensor_parallel_size=2, data_parallel_size=2)
    assert report.read(run).gpus_used == 4
    text, _ = written(run)
    assert "| this run | 4 x NVIDIA H100 80GB HBM3 | 1 825 |" in text, "57.03 samples/s over four GPUs"


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (3928450.0, 1, "3 928 450"),
        (5777.08, 1, "5 777.1"),
        (0.003067, 1, "0.003"),
        (0.0, 1, "0.0"),
        (13368, 2, "13 368"),
        (None, 2, "—"),
        (True, 2, "—"),
        ("7", 2, "—"),
    ],
)
def test_numbers(value: object, digits: int, text: str) -> None:
    assert number(value, digits) == text
